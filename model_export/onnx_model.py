"""The one door of this package to onnxruntime."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime

from ser_core.errors import ModelCorrupt, ModelNotFound
from ser_core.features import Float32
from ser_core.model_file import INPUT_NAME, OUTPUT_NAME, ModelSpec


class OnnxModel:
    """A model file, run on one CPU thread.

    Raises `ModelNotFound`, `ModelCorrupt`, `ModelIncompatible` or `SelfTestFailed`.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ModelNotFound(f"model file {path} does not exist", remedy="give an .onnx file")
        content = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
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
        self.spec = ModelSpec.from_metadata(self._session.get_modelmeta().custom_metadata_map)
        self.spec.check_self_test(self.run(self.spec.self_test_features()))

    def run(self, features: Float32) -> Float32:
        """`(n, n_frames, n_mfcc)` to logits `(n, n_labels)`."""
        (logits,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: features})
        return np.asarray(logits, np.float32)
