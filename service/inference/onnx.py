"""A model file run by ONNX Runtime."""

import hashlib
import logging
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ser_core.errors import DeviceUnavailable, ModelCorrupt, ModelIncompatible, ModelNotFound
from ser_core.features import Float32
from ser_core.model_file import INPUT_NAME, OUTPUT_NAME, ModelSpec
from service.inference.buffers import Buffers, batch_sizes

Device = Literal["cpu", "cuda", "auto"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

log = logging.getLogger(__name__)


class OnnxBackend:
    """A model that was loaded, warmed up and found to reproduce its self-test. Use `load`."""

    def __init__(
        self, session: Any, spec: ModelSpec, sha256: str, buffers: Buffers | None = None
    ) -> None:
        self._session = session
        self._buffers = buffers
        self.spec = spec
        self.sha256 = sha256
        self.providers: tuple[str, ...] = tuple(session.get_providers())

    @classmethod
    def load(
        cls,
        path: Path,
        device: Device = "auto",
        n_threads: int = 1,
        max_batch: int = 16,
        *,
        cuda_graphs: bool = False,
    ) -> "OnnxBackend":
        """Reads a file, checks it against its own metadata, warms it up, runs its self-test.

        Raises `ModelNotFound`, `ModelCorrupt`, `ModelIncompatible` or `SelfTestFailed`; with
        `device="cuda"`, `DeviceUnavailable` where the network would not run on CUDA. `auto`
        takes CUDA where it works and else says in the log that it does not. An fp16 model runs on
        CUDA only, and is refused elsewhere by the same error.
        """
        refuse_both_runtimes()
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ModelNotFound(
                f"there is no model file {path}",
                remedy="give the path of a file written by `glrf export`",
            ) from error
        except OSError as error:
            raise ModelCorrupt(
                f"{path} cannot be read: {error.strerror}", remedy="check the file's permissions"
            ) from error
        session = _open(data, path, device, n_threads, cuda_graphs)
        spec = ModelSpec.from_metadata(session.get_modelmeta().custom_metadata_map)
        _check_signature(session, spec, path)
        on_cuda = CUDA in session.get_providers()
        if spec.precision == "fp16" and not on_cuda:
            raise DeviceUnavailable(
                f"{path} is of precision fp16, which is for CUDA; on a CPU fp32 is faster",
                remedy="run it on CUDA (pip install glrf[gpu]), or export it as fp32 or int8",
            )
        buffers = None
        if on_cuda:
            buffers = Buffers(session, spec, max_batch, "cuda", one_at_a_time=cuda_graphs)
        backend = cls(session, spec, hashlib.sha256(data).hexdigest(), buffers)
        backend._warm_up(max_batch)
        return backend

    @property
    def device(self) -> str:
        """`cuda` or `cpu`, as it turned out."""
        return "cuda" if CUDA in self.providers else "cpu"

    def enter_thread(self) -> None:
        """On CUDA buffers, handles and graphs are a thread's own, and made at its first runs."""
        if self._buffers is not None:
            self._buffers.warm_up()

    def score(self, features: Float32) -> Float32:
        """Features `(batch, n_frames, n_mfcc)` to logits `(batch, n_labels)`, both float32."""
        if self._buffers is not None:
            return self._buffers.score(features)
        return self._session.run([OUTPUT_NAME], {INPUT_NAME: features})[0]

    def _warm_up(self, max_batch: int) -> None:
        # The first run of a batch size plans its memory (and on CUDA picks its kernels): pay for
        # that before the first client. Every size is checked, as one may take another kernel.
        features = self.spec.self_test_features()
        for n in batch_sizes(max_batch):
            logits = self.score(np.repeat(features, n, axis=0))
            if logits.shape != (n, len(self.spec.labels)):
                raise ModelIncompatible(
                    f"the network gives logits of shape {logits.shape} for a batch of {n}",
                    remedy="export the model again with `glrf export`",
                )
            for row in logits:
                self.spec.check_self_test(row[None])


def refuse_both_runtimes() -> None:
    """Raises `DeviceUnavailable` when both wheels are installed.

    They hold the same package and overwrite each other without a word; which one then runs,
    and on what device, depends on the order of installation.
    """
    if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
        raise DeviceUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other",
            remedy="uninstall both, then install one: pip install glrf[cpu] or glrf[gpu]",
        )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _open(data: bytes, path: Path, device: Device, n_threads: int, cuda_graphs: bool) -> Any:
    ort = _import_runtime()
    wants_cuda = device != "cpu"
    if wants_cuda and CUDA in ort.get_available_providers():
        ort.preload_dlls()
        # HEURISTIC: an exhaustive search would run again for each new batch size.
        options_of_cuda = {"cudnn_conv_algo_search": "HEURISTIC"}
        if cuda_graphs:
            options_of_cuda["enable_cuda_graph"] = "1"
        providers = [(CUDA, options_of_cuda), CPU]
    else:
        providers = [CPU]
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads take whole cores while nothing is to be done.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own exceptions share no base but this
        reason = str(error).strip().splitlines() or [type(error).__name__]
        if cuda_graphs and "graph" in reason[0].lower() and "cuda" in reason[0].lower():
            raise DeviceUnavailable(
                f"{path} cannot be recorded as CUDA graphs: {reason[0]}",
                remedy="set GLRF_CUDA_GRAPHS=false",
            ) from error
        raise ModelCorrupt(
            f"{path} is not a model that ONNX Runtime can load: {reason[0]}",
            remedy="copy the file again, or write it anew with `glrf export`",
        ) from error
    # A wheel lists CUDA as available on hosts without it, and then runs on the CPU without an
    # exception: only the session's own providers tell the truth.
    if wants_cuda and CUDA not in session.get_providers():
        if device == "cuda":
            raise DeviceUnavailable(
                "CUDA was asked for, but ONNX Runtime cannot use it here "
                f"(providers: {', '.join(session.get_providers())})",
                remedy="install glrf[gpu] and a driver for its CUDA, or use the device cpu or auto",
            )
        log.info("CUDA cannot be used here: %s runs on the CPU", path.name)
    return session


def _import_runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceUnavailable(
            "ONNX Runtime is not installed",
            remedy="install one of its wheels: pip install glrf[cpu] or glrf[gpu]",
        ) from error
    return onnxruntime


def _check_signature(session: Any, spec: ModelSpec, path: Path) -> None:
    """The network's inputs and outputs against its metadata; symbolic dimensions fit anything."""
    sides = (
        (session.get_inputs(), INPUT_NAME, (None, spec.n_frames, spec.features.n_mfcc)),
        (session.get_outputs(), OUTPUT_NAME, (None, len(spec.labels))),
    )
    for found, name, shape in sides:
        if [tensor.name for tensor in found] != [name]:
            raise ModelIncompatible(
                f"{path}: the tensors are {[tensor.name for tensor in found]}, not {name!r} alone",
                remedy="export the model again with `glrf export`",
            )
        fits = len(found[0].shape) == len(shape) and all(
            not isinstance(size, int) or size == due
            for size, due in zip(found[0].shape, shape, strict=True)
        )
        if found[0].type != "tensor(float)" or not fits:
            raise ModelIncompatible(
                f"{path}: {name!r} is {found[0].type} {found[0].shape}, but the metadata's feature "
                f"spec and labels need tensor(float) {list(shape)}",
                remedy="export the model again with `glrf export`",
            )
