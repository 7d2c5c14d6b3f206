"""An utterance of any length as one vector: what a support vector machine is given.

`mfcc`: statistics of the MFCC that the networks hear. `egemaps`: the 88 functionals of eGeMAPSv02
(Eyben et al., 2016) from openSMILE. `whisper`: the mean frame of Whisper tiny.en's frozen encoder.
The silence at a recording's edges is left in for all, as for GLRF; but for `whisper-speech`, which
GLRF can be taught by: mean and standard deviation of the encoder's frames of the speech alone.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from model_export import whisper
from model_export.corpora import Recording, load, read_manifest
from model_export.extras import needed
from model_export.mel import feature_spec
from ser_core.features import FeatureSpec, Float32, mfcc
from ser_core.labels import LABELS
from ser_core.segments import SegmentSpec

Input = Literal["mfcc", "egemaps", "whisper", "whisper-speech"]

_PERCENTILES = (5, 95)
#: openSMILE has no functionals of less than 60 ms.
_EGEMAPS_SAMPLES: Final = FeatureSpec.sample_rate_hz // 10


@dataclass(frozen=True)
class Functionals:
    """`of` maps samples `(n,)`, n >= 1, at `rate_hz` to float32 `(d,)`.

    `key` names everything that the numbers depend on. `parameters` are frozen weights behind it,
    `macs` their cost on a 2 s segment: 0 for MFCC, which no model of the lab counts, and `None` for
    signal processing that multiplications don't measure.
    """

    key: str
    input: str
    parameters: int
    macs: int | None
    of: Callable[[Float32], Float32]
    rate_hz: int = FeatureSpec.sample_rate_hz


def functionals(kind: Input, features: FeatureSpec) -> Functionals:
    """The vector of that name; `features` are the MFCC for `mfcc`, and nothing to the others.

    Raises `SerError`, naming the extra, where what it needs is not installed, and `ModelCorrupt`
    for other weights than the pinned ones.
    """
    match kind:
        case "mfcc":
            return mfcc_statistics(features)
        case "egemaps":
            return egemaps(needed("opensmile", "egemaps"))
        case "whisper":
            return whisper_mean(whisper.load_encoder())
        case "whisper-speech":
            return whisper_speech(whisper.load_encoder())


def mfcc_statistics(features: FeatureSpec) -> Functionals:
    sizes = (features.sample_rate_hz, features.frame_samples, features.hop_samples)
    spec = hashlib.sha256(repr(sizes).encode() + features.mel_filters.tobytes())

    def of(samples: Float32) -> Float32:
        missing = max(0, features.frame_samples - len(samples))
        return statistics(mfcc(np.pad(samples, (0, missing)), features))

    return Functionals(
        key=f"mfcc-{features.n_mfcc}-{spec.hexdigest()[:16]}",
        input=f"{5 * features.n_mfcc} statistics of {features.n_mfcc} MFCC, the utterance",
        parameters=0,
        macs=0,
        of=of,
        rate_hz=features.sample_rate_hz,
    )


def statistics(features: Float32) -> Float32:
    """MFCC `(T, n_mfcc)`, T >= 1, to statistics `(5 * n_mfcc,)`.

    Mean, standard deviation and 5-95 % range, then mean and standard deviation of the
    frame-to-frame difference.
    """
    delta = np.diff(features, axis=0, prepend=features[:1])
    low, high = np.percentile(features, _PERCENTILES, axis=0)
    parts = (features.mean(0), features.std(0), high - low, delta.mean(0), delta.std(0))
    return np.concatenate(parts).astype(np.float32)


def egemaps(opensmile: Any) -> Functionals:
    """From the module `opensmile`."""
    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.Functionals,
    )

    def of(samples: Float32) -> Float32:
        padded = np.pad(samples, (0, max(0, _EGEMAPS_SAMPLES - len(samples))))
        return smile.process_signal(padded, FeatureSpec.sample_rate_hz).to_numpy(np.float32)[0]

    return Functionals(
        key=f"egemaps-v02-opensmile-{opensmile.__version__}",
        input="88 functionals of eGeMAPSv02, the utterance",
        parameters=0,
        macs=None,
        of=of,
    )


def whisper_mean(encoder: whisper.Encoder) -> Functionals:
    return Functionals(
        key=f"whisper-mean-{whisper.SHA256[:16]}",
        input=f"mean of {whisper.WIDTH} outputs of Whisper tiny.en's encoder, the utterance",
        parameters=whisper.n_parameters(),
        macs=whisper.n_macs(SegmentSpec.segment_samples),
        of=lambda samples: whisper.mean_frame(samples, encoder),
    )


def whisper_speech(encoder: whisper.Encoder) -> Functionals:
    return Functionals(
        key=f"whisper-speech-{whisper.SHA256[:16]}",
        input=f"mean and deviation of {whisper.WIDTH} outputs of Whisper tiny.en's encoder, speech",
        parameters=whisper.n_parameters(),
        macs=whisper.n_macs(SegmentSpec.segment_samples),
        of=lambda samples: whisper.speech_statistics(samples, encoder),
    )


def vectors(
    recordings: list[Recording],
    functionals: Functionals,
    cache: Path | None = None,
    on_recording: Callable[[], None] | None = None,
) -> Float32:
    """Each recording's vector, `(n, d)`; `on_recording` is called after each.

    With `cache`, a folder, a vector is computed once for what is in the file, wherever the file
    lies; processes may share it. A vector there that cannot be read is computed anew.
    """
    rows: list[Float32] = []
    for recording in recordings:
        rows.append(_vector(recording.path, functionals, cache))
        if on_recording is not None:
            on_recording()
    return np.stack(rows)


def embed(
    kind: Input,
    manifest: Path,
    data: Path,
    out: Path,
    on_recording: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a manifest's vectors as `paths` (`Recording.name`) and `stats`, float32 `(n, d)`.

    Raises `BadParameter` for the manifest, and what `functionals` raises.
    """
    recordings = read_manifest(manifest, data, LABELS)
    n_done = 0

    def advance() -> None:
        nonlocal n_done
        n_done += 1
        if on_recording is not None:
            on_recording(n_done, len(recordings))

    heard = functionals(kind, feature_spec(64, 40, 50.0, 7_600.0))
    stats = vectors(recordings, heard, None, advance)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_suffix(".partial")
    with unfinished.open("wb") as file:
        np.savez(file, paths=np.array([r.name for r in recordings]), stats=stats)
    unfinished.replace(out)


def _vector(path: Path, functionals: Functionals, cache: Path | None) -> Float32:
    if cache is None:
        return functionals.of(load(path, functionals.rate_hz))
    kept = cache / functionals.key / f"{hashlib.sha256(path.read_bytes()).hexdigest()}.npy"
    try:
        return np.load(kept, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there yet, or half written
        vector = functionals.of(load(path, functionals.rate_hz))
    kept.parent.mkdir(parents=True, exist_ok=True)
    unfinished = kept.with_suffix(f".{os.getpid()}")
    with unfinished.open("wb") as file:
        np.save(file, vector)
    unfinished.replace(kept)
    return vector
