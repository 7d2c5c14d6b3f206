"""A network in another precision: how it is made, and how far it moves from what float32 says.

int8 is ONNX Runtime's static quantisation of the convolutions alone: weights by channel,
activations by one scale each, found on real segments. Quantised matrix products save no time here
and move the logits twice as far (benchmarks/RESULTS.md).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from model_export.corpora import Recording, labels_by_corpus
from model_export.evaluation import ScoreSegments, report, score_recording
from ser_core.errors import BadParameter
from ser_core.features import Float32
from ser_core.model_file import INPUT_NAME, ModelSpec

#: Segments, at most, that int8's scales are found on.
N_CALIBRATION = 512
#: Recordings, at most, that the two precisions are compared on.
N_COMPARED = 1000
#: From here on a move of UA in any corpus is too much, as a share of 1.
UA_MOVED = 0.005
#: Of the self-test of int8 and fp16: what another kind of CPU or GPU may round otherwise.
TOLERANCE = 0.05

_BATCH = 16


class _Segments(CalibrationDataReader):
    def __init__(self, segments: Float32) -> None:
        self._batches: Iterator[Float32] = iter(
            segments[start : start + _BATCH] for start in range(0, len(segments), _BATCH)
        )

    def get_next(self) -> dict[str, Float32] | None:  # type: ignore[override]
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def quantise(
    plain: Path, out: Path, segments: Float32, operators: tuple[str, ...] = ("Conv",)
) -> None:
    """Writes the model file `plain` to `out`, its `operators` in 8 bits, its metadata as they were.

    `segments` float32 `(n, n_frames, n_mfcc)` are what the scales are found on.
    """
    logging.disable(logging.WARNING)  # the advice to let the graph be optimised first: it is
    try:
        quantize_static(
            plain,
            out,
            _Segments(segments),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            per_channel=True,
            # Weights of 7 bits: two products of 8 overflow what AVX2 without VNNI adds them up in.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)


@dataclass(frozen=True)
class Comparison:
    """What two precisions of one network make of the same recordings; UA is a share of 1."""

    n_recordings: int
    ua: dict[str, tuple[float, float]]
    logits_moved: float

    @property
    def ua_moved(self) -> float:
        """The largest move of UA, in any corpus or in all together."""
        return max(abs(after - before) for before, after in self.ua.values())

    def check(self, precision: str) -> None:
        """Raises `BadParameter` where UA moved too far."""
        if self.ua_moved < UA_MOVED:
            return
        corpus, (before, after) = max(
            self.ua.items(), key=lambda item: abs(item[1][1] - item[1][0])
        )
        raise BadParameter(
            f"{precision} moves UA in {corpus} from {before:.1%} to {after:.1%}, on "
            f"{self.n_recordings} recordings (allowed: less than {UA_MOVED * 100:g} points)",
            remedy="export it as fp32",
        )


def compare(
    before: ScoreSegments, after: ScoreSegments, recordings: list[Recording], spec: ModelSpec
) -> Comparison:
    """Both through the pipeline that serves streams, on the same recordings.

    Raises `BadParameter` where there are none.
    """
    if not recordings:
        raise BadParameter(
            "there is no recording to compare the precisions on",
            remedy="give a manifest with recordings of the split's dev or train speakers",
        )
    moved = 0.0

    def watched(features: Float32) -> Float32:
        nonlocal moved
        logits = after(features)
        moved = max(moved, float(abs(logits - before(features)).max()))
        return logits

    corpora = labels_by_corpus(recordings, spec.labels)
    step = -(-len(recordings) // N_COMPARED)
    chosen = recordings[::step]
    reports = [
        report([(one, score_recording(one, spec, score)) for one in chosen], corpora)
        for score in (before, watched)
    ]
    flat = [{**found["corpora"], "all": found["all"]} for found in reports]
    ua = {corpus: (flat[0][corpus]["ua"], flat[1][corpus]["ua"]) for corpus in flat[0]}
    return Comparison(len(chosen), ua, moved)
