"""Batches through fixed buffers on the device, one set for each batch size: how a GPU is fed.

Memory is taken once, and a CUDA graph, which replays what was recorded at fixed addresses, is
possible. A batch goes into the smallest size that holds it. Not run on a GPU yet: what is tested is
that on the CPU, where buffers work too, padded batches give what unpadded ones do.
"""

import threading
from typing import Any

import numpy as np

from ser_core.features import Float32
from ser_core.model_file import INPUT_NAME, OUTPUT_NAME, ModelSpec


def batch_sizes(max_batch: int) -> list[int]:
    """The sizes that there are buffers for: powers of two, and `max_batch` itself."""
    sizes = [1]
    while sizes[-1] < max_batch:
        sizes.append(min(2 * sizes[-1], max_batch))
    return sizes


class _Slot:
    """Buffers of one batch size, bound to the session."""

    def __init__(self, session: Any, spec: ModelSpec, size: int, device: str) -> None:
        import onnxruntime  # not with this module, as it may not be installed at all

        self.host = np.zeros((size, spec.n_frames, spec.features.n_mfcc), np.float32)
        self.features = onnxruntime.OrtValue.ortvalue_from_numpy(self.host, device, 0)
        logits = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            [size, len(spec.labels)], np.float32, device, 0
        )
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input(INPUT_NAME, self.features)
        self.binding.bind_ortvalue_output(OUTPUT_NAME, logits)
        self.options = onnxruntime.RunOptions()
        # One CUDA graph for each size; means nothing where graphs are not enabled.
        self.options.add_run_config_entry("gpu_graph_id", str(size))


class Buffers:
    """Scores on `session` through buffers on `device` (`cuda` or `cpu`).

    Each thread has a set of its own, so that workers' batches run side by side, each on a stream of
    CUDA; `one_at_a_time` is for CUDA graphs, which are not recorded side by side.
    """

    def __init__(
        self,
        session: Any,
        spec: ModelSpec,
        max_batch: int,
        device: str,
        *,
        one_at_a_time: bool = False,
    ) -> None:
        self.sizes = batch_sizes(max_batch)
        self._session, self._spec, self._device = session, spec, device
        self._own = threading.local()
        self._turn = threading.Lock() if one_at_a_time else None

    def warm_up(self) -> None:
        """Makes the calling thread's buffers, and lets CUDA make what it needs for each size."""
        for size in self.sizes:
            # A CUDA graph is recorded at a size's second or third run.
            for _ in range(3 if self._turn is not None else 1):
                self._part(self._slot(size).host)

    def score(self, features: Float32) -> Float32:
        """Features `(n, n_frames, n_mfcc)`, any n, to logits `(n, n_labels)`, both float32."""
        most = self.sizes[-1]
        parts = [
            self._part(features[start : start + most]) for start in range(0, len(features), most)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, features: Float32) -> Float32:
        if self._turn is None:
            return self._run(features)
        with self._turn:
            return self._run(features)

    def _run(self, features: Float32) -> Float32:
        n = len(features)
        slot = self._slot(next(size for size in self.sizes if size >= n))
        # What an earlier batch left in the other rows is scored again and told to nobody.
        slot.host[:n] = features
        slot.features.update_inplace(slot.host)
        self._session.run_with_iobinding(slot.binding, slot.options)
        return slot.binding.copy_outputs_to_cpu()[0][:n].copy()

    def _slot(self, size: int) -> _Slot:
        slots: dict[int, _Slot] | None = getattr(self._own, "slots", None)
        if slots is None:
            slots = self._own.slots = {}
        if size not in slots:
            slots[size] = _Slot(self._session, self._spec, size, self._device)
        return slots[size]
