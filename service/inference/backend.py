"""What the service asks of an inference engine; `onnx` is the one there is."""

from typing import Protocol

from ser_core.features import Float32
from ser_core.model_file import ModelSpec


class Backend(Protocol):
    """A loaded model. `score` is called from worker threads, several at a time."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def sha256(self) -> str:
        """Of the model file, hexadecimal."""
        ...

    @property
    def device(self) -> str:
        """Where the network really runs: `cpu` or `cuda`."""
        ...

    @property
    def providers(self) -> tuple[str, ...]:
        """The engine's execution providers, those that really run first."""
        ...

    def enter_thread(self) -> None:
        """Prepares the calling thread, which will score."""
        ...

    def score(self, features: Float32) -> Float32:
        """Features `(batch, n_frames, n_mfcc)` to logits `(batch, n_labels)`, both float32."""
        ...
