"""Where somebody speaks: 10 ms frames to yes or no.

`EnergyDetector` compares the spectrum, which the features need anyway, with a noise floor that it
learns; `ser_core.silero` is the other detector. Both are `Detector`s, and `ser_core.endpointing`
makes utterances of what they say.
"""

import math
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ser_core.features import FeatureSpec, Float32, quantile

DetectorName = Literal["energy", "silero"]
Flags = NDArray[np.bool_]

#: What a detector that hears samples is given of those before a step.
CONTEXT_S = 0.384

#: Band edges in Hz: about a Bark each, where speech has its energy and a telephone line passes it.
_EDGES_HZ = (80, 200, 320, 440, 600, 800, 1000, 1280, 1600, 2000, 2600, 3200, 4000)
#: Mean log likelihood ratio of a frame (see `accept`) from which it is speech.
_SPEECH_SCORE = 0.3
#: A band's power over the floor counts up to this (13 dB): one loud band alone is no speech.
_MAX_RATIO = 20.0
#: No floor is below that of white noise at this level: a silent room's hiss is no speech.
_LOWEST_FLOOR_DBFS = -65.0
_FIRST_FLOOR_DBFS = -42.0
#: A hop's floor: this quantile of its frames, and by how much that is below a steady noise's mean.
_QUANTILE, _QUANTILE_BIAS_DB = 0.2, 1.0
#: What varies by less than this within a step is steady, no speech: the floor follows soon.
_STEADY_DB = 2.0
#: How a floor moves: down by this share of the way in a step; up by so many dB a second.
_FALL_SHARE = 0.7
_RISE_STEADY_DB_S, _RISE_STEADY_BAND_DB_S, _RISE_DB_S, _RISE_IN_SPEECH_DB_S = 20.0, 10.0, 4.0, 1.0
_SPEECH_SHARE = 0.2
_TINY = 1e-9


class Detector(Protocol):
    """Says which frames of a stream are speech, one step of frames after the other."""

    def accept(self, audio: Float32, power: Float32) -> Flags:
        """Takes a step's new frames as power spectrum `(n_frames, n_bins)`, and as samples `(n,)`.

        The samples reach up to `CONTEXT_S` further back. Returns bool `(n_frames,)`.
        """
        ...

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as JSON, besides the last two seconds of audio."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken, at a step's end."""
        ...


class EnergyDetector:
    """Band energies against an adaptive noise floor.

    Its memory is one floor a band, moved once a step. A statistical model as in Sohn, Kim and Sung,
    "A statistical model-based voice activity detection" (1999), with the maximum-likelihood
    estimate of the signal-to-noise ratio; the floor is a quantile's, as in Stahl, Fischer and
    Bippus, "Quantile based noise estimation" (2000).
    """

    def __init__(self, features: FeatureSpec) -> None:
        edges = np.ceil(np.array(_EDGES_HZ) * features.frame_samples / features.sample_rate_hz)
        edges = np.minimum(edges, features.frame_samples // 2 + 1).astype(int)
        edges = np.unique(edges)
        self._edges = edges
        self._hop_s = features.hop_samples / features.sample_rate_hz
        self._widths = np.diff(edges).astype(np.float64)
        window_power = float(np.square(features.window).sum())

        def white_db(dbfs: float) -> float:
            return dbfs + 10 * float(np.log10(window_power))

        self._lowest_db = white_db(_LOWEST_FLOOR_DBFS)
        self._first_db = white_db(_FIRST_FLOOR_DBFS)
        self._floor_db: NDArray[np.float64] | None = None

    def accept(self, audio: Float32, power: Float32) -> Flags:
        """See `Detector`; the spectrum is enough."""
        del audio
        bands = np.add.reduceat(power[:, : self._edges[-1]], self._edges[:-1], axis=1)
        level_db = 10 * np.log10(np.maximum(_smooth(bands / self._widths), _TINY))
        heard_db = quantile(level_db, _QUANTILE) + _QUANTILE_BIAS_DB
        centred_db = level_db - np.add.reduce(level_db, axis=0) / len(level_db)
        spread_db = np.sqrt(np.add.reduce(np.square(centred_db), axis=0) / len(level_db))
        is_steady = bool(spread_db @ self._widths < _STEADY_DB * self._widths.sum())
        known_db = self._floor_db
        if known_db is None:  # the first noise heard; but who speaks at once is not noise
            known_db = heard_db if is_steady else np.minimum(heard_db, self._first_db)
        floor_db = np.maximum(np.minimum(known_db, heard_db), self._lowest_db)
        # Log likelihood ratio of speech and noise against noise, bands weighted by their bins.
        ratio = np.exp((level_db - floor_db) * (math.log(10) / 10))
        ratio = np.minimum(np.maximum(ratio, 1), _MAX_RATIO)
        score = (ratio - np.log(ratio) - 1) @ self._widths / self._widths.sum()
        is_speech: Flags = score > _SPEECH_SCORE
        speech_share = np.count_nonzero(is_speech) / len(is_speech)
        rise_db_s = _RISE_IN_SPEECH_DB_S if speech_share > _SPEECH_SHARE else _RISE_DB_S
        rises_db_s = np.where(spread_db < _STEADY_DB, _RISE_STEADY_BAND_DB_S, rise_db_s)
        if is_steady:
            rises_db_s[:] = _RISE_STEADY_DB_S
        fallen_db = known_db + _FALL_SHARE * (heard_db - known_db)
        risen_db = np.minimum(heard_db, known_db + len(power) * self._hop_s * rises_db_s)
        # Rounded, so that a state stays short.
        moved_db = np.where(heard_db < known_db, fallen_db, risen_db).astype(np.float64)
        self._floor_db = np.round(moved_db, 3)
        return is_speech

    def state(self) -> dict[str, Any]:
        """See `Detector`."""
        floor_db = self._floor_db
        return {"floor_db": None if floor_db is None else [float(value) for value in floor_db]}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Detector`."""
        floor_db = state["floor_db"]
        self._floor_db = None if floor_db is None else np.array(floor_db, np.float64)


def _smooth(bands: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean over three frames, within the step alone: so nothing is carried from step to step."""
    padded = np.concatenate((bands[:1], bands, bands[-1:])).astype(np.float64)
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3
