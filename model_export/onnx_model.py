"""Model files on this side: run by onnxruntime, and described by their spec."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from ser_core.errors import ModelCorrupt, ModelNotFound
from ser_core.features import Float32
from ser_core.model_file import INPUT_NAME, OUTPUT_NAME, ModelSpec


class Network:
    """The network of a file on the CPU, whatever its metadata say.

    Raises `ModelNotFound` or `ModelCorrupt`.
    """

    def __init__(self, path: Path, n_threads: int = 1) -> None:
        if not path.is_file():
            raise ModelNotFound(f"model file {path} does not exist", remedy="give an .onnx file")
        content = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base but this
            raise ModelCorrupt(
                f"{path} is not an ONNX model that can be loaded: {error}",
                remedy="export it again",
            ) from error
        self.sha256 = hashlib.sha256(content).hexdigest()

    def run(self, features: Float32) -> Float32:
        """`(n, n_frames, n_mfcc)` to logits `(n, n_labels)`."""
        (logits,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: features})
        return np.asarray(logits, np.float32)


class OnnxModel(Network):
    """A model file whose self-test has passed.

    Raises `ModelIncompatible` or `SelfTestFailed` besides.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.spec = ModelSpec.from_metadata(self._session.get_modelmeta().custom_metadata_map)
        self.spec.check_self_test(self.run(self.spec.self_test_features()))


def describe(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Makes the spec all the metadata that the model has.

    The exporter notes the source lines of each node, with the paths of the machine that it ran on.
    """
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    for part in (model, graph, *graph.node, *graph.initializer, *values):
        del part.metadata_props[:]
    for key, value in spec.to_metadata().items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
