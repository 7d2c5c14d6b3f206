"""What a frozen encoder hears in every 40 ms of a recording, for a network to be pretrained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_export import whisper
from model_export.arrays import read_arrays
from model_export.corpora import Recording, load, read_manifest
from ser_core.errors import BadParameter
from ser_core.labels import LABELS

#: Two of Whisper's frames.
FRAME_S: Final = 2 * whisper.FRAME_SAMPLES / whisper.RATE_HZ
N_COMPONENTS: Final = 128


@dataclass(frozen=True)
class TeacherFrames:
    """A teacher's frames of recordings, one after the other.

    `frames` float16 `(n, d)`, `lengths` int64 `(n_recordings,)`, each at least 1, that sum to n.
    """

    frames: Tensor
    lengths: Tensor

    def at(self, recording: Tensor, seconds: Tensor) -> Tensor:
        """The frames of those moments: int `(S,)`, float `(S, T)` to float32 `(S, T, d)`.

        After a recording's end it is its last one that is told.
        """
        first = (self.lengths.cumsum(0) - self.lengths)[recording.cpu()]
        last = self.lengths[recording.cpu()] - 1
        number = (seconds.cpu() / FRAME_S).long().clamp(min=0)
        number = torch.minimum(number, last[:, None]) + first[:, None]
        return self.frames[number].to(seconds.device, torch.float32)


def write_frames(
    manifest: Path,
    data: Path,
    out: Path,
    on_recording: Callable[[int, int], None] | None = None,
    encoder: whisper.Encoder | None = None,
) -> None:
    """Writes a manifest's frames as `paths` (`Recording.name`), `lengths` and `frames`.

    Whisper's frames, two and two, standardised over the whole manifest, are given by their 128
    principal components, scaled alike so that their mean square is 1: float16 `(n, 128)`, 25 of
    them a second, some 23 MB an hour. While they are made they are held in memory, 70 MB an hour.
    Half a second of silence stands behind each recording, and only its first 29.5 s are heard.

    Raises `BadParameter` for the manifest, and what `whisper.load_encoder` raises.
    """
    recordings = read_manifest(manifest, data, LABELS)
    encoder = encoder or whisper.load_encoder()
    heard: list[NDArray[np.float16]] = []
    for n_done, recording in enumerate(recordings, start=1):
        samples = load(recording.path, whisper.RATE_HZ)
        heard.append(whisper.pooled_frames(samples, encoder).astype(np.float16))
        if on_recording is not None:
            on_recording(n_done, len(recordings))
    frames = _components(heard)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_suffix(".partial")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            paths=np.array([r.name for r in recordings]),
            lengths=np.array([len(one) for one in heard], np.int64),
            frames=frames,
        )
    unfinished.replace(out)


def _components(heard: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    n = sum(map(len, heard))
    width = heard[0].shape[1]
    total, products = np.zeros(width), np.zeros((width, width))
    for one in heard:
        exact = one.astype(np.float64)
        total += exact.sum(axis=0)
        products += exact.T @ exact
    mean = total / n
    covariance = products / n - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
    variances, directions = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    largest = slice(None, -N_COMPONENTS - 1, -1)  # eigh gives the smallest first
    scale = 1 / np.sqrt(max(variances[largest].mean(), 1e-12))
    basis = (directions[:, largest] / deviation[:, None] * scale).astype(np.float32)
    centre = (mean @ basis).astype(np.float32)
    return np.concatenate(
        [(one.astype(np.float32) @ basis - centre).astype(np.float16) for one in heard]
    )


def read_frames(path: Path, recordings: Sequence[Recording]) -> TeacherFrames:
    """The frames of those recordings, in their order, from a file of `write_frames`.

    Raises `BadParameter` for a file that is none, and where a recording is missing.
    """
    remedy = "make them with glrf embed --vector whisper-frames, from this manifest"
    try:
        paths, lengths, frames = read_arrays(path, "paths", "lengths", "frames")
    except (OSError, ValueError) as error:
        raise BadParameter(f"{path} holds no frames: {error}", remedy=remedy) from error
    if not (
        frames.ndim == 2
        and paths.shape == lengths.shape == (lengths.size,)
        and lengths.dtype.kind in "iu"
        and lengths.min(initial=0) >= 0
        and lengths.sum() == len(frames)
    ):
        raise BadParameter(f"{path}: its frames are not as many as it says", remedy=remedy)
    parts = np.split(frames, np.cumsum(lengths)[:-1])
    own = dict(zip(map(str, paths), parts, strict=True))
    missing = [r.name for r in recordings if not len(own.get(r.name, ()))]
    if missing:
        raise BadParameter(
            f"no frames of {missing[0]} and {len(missing) - 1} others", remedy=remedy
        )
    taken = [own[r.name] for r in recordings]
    return TeacherFrames(
        torch.from_numpy(np.concatenate(taken)),
        torch.tensor([len(one) for one in taken]),
    )
