"""What can be told of the input before the network hears it: level, clipping, bandwidth, noise.

A segment of digital silence or of noise far below any speech is `no_speech`, and never scored.
Where speech begins and ends is `ser_core.endpointing`'s.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from ser_core.features import FeatureSpec, Float32, quantile

#: A segment whose loudest hop is below this is no speech. Quiet corpora speak at about -45 dBFS.
NO_SPEECH_DBFS = -70.0
#: Share of samples at full scale from which a segment is told to be clipped, and warned of.
CLIPPED_SHARE = 0.10
CLIPPING_WARNING_SHARE = 0.001
#: Mean as a share of full scale from which a constant offset is warned of.
DC_WARNING = 0.05

#: Speech that is less than this above the noise between the words is warned of.
LOW_SNR_DB = 12.0

#: G.711's is 0.980 (mu-law) and 0.984 (A-law); a resampler leaves clipped tops a little below.
_FULL_SCALE = 0.975
#: Bands in Hz that a telephone passes, and that it does not.
_TELEPHONE_HZ, _ABOVE_HZ = (300, 3_400), (4_400, 7_000)
#: The upper band's loudest this far below the lower one's, per bin: wideband speech never is.
_NARROWBAND_DB = 45.0
#: So much loud audio is heard before anything is said of it.
_JUDGED_AFTER_S = 3.0
_ACTIVE_DB, _NOISE_QUANTILE, _NOISE_RISE_DB_S = 4.0, 0.1, 1.0


@dataclass(frozen=True, slots=True)
class InputLevel:
    """Of one segment: `level_dbfs` is the loudest hop's RMS without its mean, in dB re 1.0."""

    level_dbfs: float
    clipped_share: float
    dc: float

    @property
    def is_silent(self) -> bool:
        return self.level_dbfs < NO_SPEECH_DBFS


class LevelMeter:
    """Accepts samples one hop at a time and tells the levels of the last `n_hops` hops."""

    def __init__(self, n_hops: int) -> None:
        self._hops: deque[tuple[float, int, float, int]] = deque(maxlen=n_hops)

    def accept(self, samples: Float32) -> InputLevel:
        """Takes float32 `(n,)`; returns the level of the segment that ends with them.

        A flush may leave less than a frame, of which nothing is told: no samples change nothing.
        """
        if len(samples):
            mean = float(np.add.reduce(samples) / np.float32(len(samples)))
            centred = samples - np.float32(mean)
            power = float(np.dot(centred, centred)) / len(samples)
            n_clipped = 0
            if max(float(samples.max()), -float(samples.min())) >= _FULL_SCALE:
                n_clipped = int(np.count_nonzero(np.abs(samples) >= _FULL_SCALE))
            self._hops.append((power, n_clipped, mean * len(samples), len(samples)))
        if not self._hops:
            return InputLevel(level_dbfs=-math.inf, clipped_share=0.0, dc=0.0)
        n_samples = sum(hop[3] for hop in self._hops)
        loudest = max(hop[0] for hop in self._hops)
        return InputLevel(
            level_dbfs=10 * math.log10(loudest) if loudest > 0 else -math.inf,
            clipped_share=sum(hop[1] for hop in self._hops) / n_samples,
            dc=sum(hop[2] for hop in self._hops) / n_samples,
        )


class SpectrumMeter:
    """Accepts the power spectra of frames; tells whether speech is narrowband or near the noise.

    Both look at what stands out of the quietest that was heard lately. All memory is in `state`.
    """

    def __init__(self, features: FeatureSpec) -> None:
        def bins(edges_hz: tuple[int, int]) -> slice:
            first, last = (
                round(edge * features.frame_samples / features.sample_rate_hz) for edge in edges_hz
            )
            return slice(first, last)

        self._low, self._high = bins(_TELEPHONE_HZ), bins(_ABOVE_HZ)
        self._can_tell_bandwidth = features.sample_rate_hz >= 2 * _ABOVE_HZ[1]
        self._hop_s = features.hop_samples / features.sample_rate_hz
        window_power = float(np.square(features.window).sum())
        self._silence_db = NO_SPEECH_DBFS + 10 * math.log10(window_power)
        self._noise_db: float | None = None
        self._active_s = self._active_db = 0.0
        self._low_db = self._high_db = -math.inf

    def accept(self, power: Float32) -> None:
        """Takes `(n_frames, n_bins)`."""
        if not len(power):
            return
        low_db = _decibels(power[:, self._low])
        quiet_db = max(float(quantile(low_db, _NOISE_QUANTILE)), self._silence_db)
        risen_db = math.inf
        if self._noise_db is not None:
            risen_db = self._noise_db + _NOISE_RISE_DB_S * self._hop_s * len(power)
        self._noise_db = round(min(quiet_db, risen_db), 3)
        active = low_db > self._noise_db + _ACTIVE_DB
        n_active = int(np.count_nonzero(active))
        if not n_active:
            return
        new_s = n_active * self._hop_s
        # A mean of the last ten seconds or so.
        share = new_s / min(self._active_s + new_s, 10.0)
        self._active_db += share * (float(low_db[active].mean()) - self._active_db)
        self._active_s = min(self._active_s + new_s, 10.0)
        self._low_db = max(self._low_db, float(low_db.max()))
        if self._can_tell_bandwidth:
            self._high_db = max(self._high_db, float(_decibels(power[:, self._high]).max()))

    @property
    def is_narrowband(self) -> bool:
        """Whether nothing that was heard lies above 4 kHz."""
        return (
            self._can_tell_bandwidth
            and self._active_s >= _JUDGED_AFTER_S
            and self._high_db < self._low_db - _NARROWBAND_DB
        )

    @property
    def snr_db(self) -> float | None:
        """What stands out over the noise, in dB; `None` until enough was heard."""
        if self._noise_db is None or self._active_s < _JUDGED_AFTER_S:
            return None
        return self._active_db - self._noise_db

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as JSON."""
        return {
            "noise_db": self._noise_db,
            "active_s": self._active_s,
            "active_db": self._active_db,
            "low_db": max(self._low_db, -1e9),
            "high_db": max(self._high_db, -1e9),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        noise_db = state["noise_db"]
        self._noise_db = None if noise_db is None else float(noise_db)
        self._active_s, self._active_db = float(state["active_s"]), float(state["active_db"])
        self._low_db, self._high_db = float(state["low_db"]), float(state["high_db"])


def _decibels(power: Float32) -> Float32:
    """Mean of each frame's bins in dB."""
    mean = np.add.reduce(power, axis=1) / np.float32(power.shape[1])
    return 10 * np.log10(np.maximum(mean, 1e-12))
