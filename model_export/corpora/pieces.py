"""Any folder of recordings as pieces of speech without labels, for `glrf pretrain`."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from model_export.corpora.audio import load
from model_export.corpora.manifest import Recording
from ser_core.errors import BadParameter, InputError
from ser_core.features import Float32
from ser_core.labels import NEUTRAL

RATE_HZ: Final = 16_000
_STEP_SAMPLES: Final = 160
_STEPS_S: Final = RATE_HZ // _STEP_SAMPLES
#: Of a piece, in steps: the longest, the least that a cut leaves before it, the least that is kept.
_LONGEST, _BEFORE_CUT, _SHORTEST = 10 * _STEPS_S, 3 * _STEPS_S, _STEPS_S
_PAUSE: Final = _STEPS_S // 5
_MARGIN: Final = _STEPS_S // 10
#: Amplitudes: what is quieter than the loud parts by 34 dB is an edge, and than -50 dB nothing.
_EDGE, _NOTHING = 0.02, 0.003


@dataclass(frozen=True)
class Pool:
    """`recordings` are the pieces.

    Files left out are no audio, silent, too short or doubles, or have a name that is not UTF-8.
    """

    recordings: list[Recording]
    n_files: int
    n_left_out: int


def cut_folder(
    root: Path,
    out: Path,
    corpus: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> Pool:
    """Writes the pieces of all recordings below `root` as FLAC of 16 kHz to `out/corpus`.

    A file's folder, as seen from `root`, is taken for its speaker, `corpus` right in `root`. Any
    audio is taken that the service reads. Names start from `out`; the label is neutral, as a
    manifest wants one. Raises `BadParameter` where `out/corpus` is there already, and for a
    `corpus` that is no name of a folder there.
    """
    if corpus in ("", ".", "..") or corpus != corpus.strip() or Path(corpus).name != corpus:
        raise BadParameter(
            f"{corpus!r} is no name of a corpus", remedy="give one by --corpus, without '/'"
        )
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    if (out / corpus).exists():
        raise BadParameter(
            f"{out / corpus} is there already", remedy="delete it, or give another --corpus"
        )
    recordings: list[Recording] = []
    known: set[bytes] = set()
    n_left_out = 0
    for n_done, path in enumerate(paths, start=1):
        found = list(_pieces_of(path, known))
        n_left_out += not found
        where = path.relative_to(root)
        speaker = "-".join(where.parent.parts).strip() or corpus
        for number, piece in enumerate(found):
            name = f"{corpus}/{where.as_posix()}-{number:03}.flac"
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(out / name, piece, RATE_HZ, subtype="PCM_16")
            duration_s = len(piece) / RATE_HZ
            recordings.append(
                Recording(out / name, corpus, speaker, NEUTRAL, duration_s, name=name)
            )
        if on_progress is not None:
            on_progress(n_done, len(paths))
    return Pool(recordings, len(paths), n_left_out)


def _pieces_of(path: Path, known: set[bytes]) -> Iterator[Float32]:
    try:
        str(path).encode()  # a manifest's names are UTF-8
        samples = load(path, RATE_HZ)
    except (InputError, UnicodeEncodeError):
        return
    digest = hashlib.sha256(samples.tobytes()).digest()
    if digest not in known:
        known.add(digest)
        yield from pieces(samples)


def pieces(samples: Float32) -> Iterator[Float32]:
    """Speech of 1 to 10 s out of `(n,)` at 16 kHz; longer speech is cut where it is quietest."""
    n_steps = len(samples) // _STEP_SAMPLES
    steps = samples[: n_steps * _STEP_SAMPLES].reshape(n_steps, _STEP_SAMPLES)
    amplitude = np.sqrt(np.square(steps, dtype=np.float64).mean(axis=1))
    if not n_steps or (loud := np.percentile(amplitude, 95)) < _NOTHING:
        return
    for first, last in _extents(amplitude, loud * _EDGE):
        yield samples[first * _STEP_SAMPLES : last * _STEP_SAMPLES]


def _extents(amplitude: NDArray[np.float64], edge: float) -> Iterator[tuple[int, int]]:
    smooth = np.convolve(amplitude, np.ones(_PAUSE) / _PAUSE, "same")
    first, end = 0, len(amplitude)
    while first < end:
        last = end
        if end - first > _LONGEST:
            at = first + _BEFORE_CUT
            last = at + int(smooth[at : first + _LONGEST].argmin())
        heard = np.flatnonzero(amplitude[first:last] > edge)
        if len(heard):
            begin = max(first, first + int(heard[0]) - _MARGIN)
            stop = min(last, first + int(heard[-1]) + 1 + _MARGIN)
            if stop - begin >= _SHORTEST:
                yield begin, stop
        first = last
