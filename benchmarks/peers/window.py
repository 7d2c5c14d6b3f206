"""What every server behind HTTP POST computes of one window: our features, our model file.

So the servers differ in what they do around it, and in nothing else. The threads of ONNX Runtime
are this service's own setting too: one, that does not spin.
"""

import base64
import binascii
from collections.abc import Sequence

import numpy as np
from typing_extensions import TypedDict  # that of `typing` is not pydantic's before Python 3.12

from glrf.training import shipped_model
from ser_core.features import Float32, mfcc
from ser_core.posteriors import named
from service.inference.onnx import OnnxBackend

#: What the servers may gather into one run of the network: this service's own limit.
MAX_BATCH = 16
#: How long a server that waits for a batch waits: the value of LitServe's and Ray's documentation.
BATCH_TIMEOUT_S = 0.01


class Answer(TypedDict):
    """What is told of a window."""

    label: str
    scores: dict[str, float]


class WindowModel:
    """The shipped model, or the one in `GLRF_MODEL_DIR`, for windows of raw PCM."""

    def __init__(self) -> None:
        self._backend = OnnxBackend.load(shipped_model(), "cpu", max_batch=MAX_BATCH)
        self.spec = self._backend.spec

    def logits(self, windows: Sequence[bytes]) -> Float32:
        """Windows of 16-bit little-endian PCM at 16 kHz to logits `(n, n_labels)`.

        Raises `ValueError` for a window of another length than the model's segment.
        """
        n_bytes = 2 * self.spec.segments.segment_samples
        if any(len(window) != n_bytes for window in windows):
            raise ValueError(f"a window is {n_bytes} bytes of 16-bit PCM")
        features = [mfcc(samples_of(window), self.spec.features) for window in windows]
        return self._backend.score(np.stack(features))

    def answers(self, windows: Sequence[bytes]) -> list[Answer]:
        """Calibrated scores of each window, and the largest's label."""
        labels = self.spec.labels
        rows = self.spec.calibration.scores(self.logits(windows))
        return [Answer(label=labels[int(row.argmax())], scores=named(row, labels)) for row in rows]


def samples_of(pcm: bytes) -> Float32:
    """16-bit little-endian PCM to float32 `(n,)` in [-1, 1)."""
    return np.multiply(np.frombuffer(pcm, "<i2"), np.float32(1 / 32768), dtype=np.float32)


def from_base64(text: str) -> bytes:
    """Raises `ValueError`."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
