import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from ser_core.errors import (
    DeviceUnavailable,
    ModelCorrupt,
    ModelIncompatible,
    ModelNotFound,
    SelfTestFailed,
)
from ser_core.features import FeatureSpec
from service.inference.buffers import Buffers
from service.inference.onnx import CPU, CUDA, Device, OnnxBackend
from tests import synthetic
from tests.synthetic import write_model


def test_load_reads_the_file_and_scores(tmp_path: Path) -> None:
    spec = write_model(tmp_path / "m.onnx")
    backend = OnnxBackend.load(tmp_path / "m.onnx", "cpu", max_batch=2)
    features = np.random.default_rng(0).standard_normal((3, spec.n_frames, 13), np.float32)
    np.testing.assert_allclose(backend.score(features), synthetic.logits(features), atol=1e-6)
    assert (backend.spec.name, backend.device) == ("tiny", "cpu")
    assert backend.providers == (CPU,)
    assert len(backend.sha256) == 64


def test_batch_equals_single(tmp_path: Path) -> None:
    spec = write_model(tmp_path / "m.onnx")
    backend = OnnxBackend.load(tmp_path / "m.onnx", "cpu")
    features = np.random.default_rng(1).standard_normal((16, spec.n_frames, 13), np.float32)
    singles = np.concatenate([backend.score(row[None]) for row in features])
    np.testing.assert_allclose(backend.score(features), singles, atol=1e-6)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model file .*none\.onnx"):
        OnnxBackend.load(tmp_path / "none.onnx")


def test_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelCorrupt, match="cannot be read"):
        OnnxBackend.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_cut_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.onnx"
    write_model(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelCorrupt):
        OnnxBackend.load(path, "cpu")


def test_onnx_without_our_metadata(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_model(path)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ModelCorrupt, match="no 'glrf' metadata"):
        OnnxBackend.load(path, "cpu")


def test_network_of_another_feature_spec(tmp_path: Path) -> None:
    """The metadata says 12 MFCCs, the network takes 13."""
    path = tmp_path / "m.onnx"
    write_model(path)
    other = replace(
        synthetic.model_spec(), features=FeatureSpec(synthetic.mel_filters(), n_mfcc=12)
    )
    model = onnx.load(path)
    model.metadata_props[0].value = other.to_metadata()["glrf"]
    onnx.save(model, path)
    with pytest.raises(ModelIncompatible, match="feature spec") as caught:
        OnnxBackend.load(path, "cpu")
    assert "glrf export" in caught.value.remedy


def test_features_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_model(path)
    model = onnx.load(path)
    model.metadata_props[0].value = model.metadata_props[0].value.replace('"mfcc"', '"wavelet"')
    onnx.save(model, path)
    with pytest.raises(ModelIncompatible, match="kind"):
        OnnxBackend.load(path, "cpu")


def test_other_tensor_names(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_model(path)
    model = onnx.load(path)
    model.graph.input[0].name = model.graph.node[0].input[0] = "audio"
    onnx.save(model, path)
    with pytest.raises(ModelIncompatible, match="'audio'"):
        OnnxBackend.load(path, "cpu")


def test_wrong_weights_fail_the_self_test(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_model(path, synthetic.model_spec(seed=0), seed=1)
    with pytest.raises(SelfTestFailed, match="self-test"):
        OnnxBackend.load(path, "cpu")


def test_cuda_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU wheel on a host without CUDA lists it, opens the session, and runs on the CPU."""
    write_model(tmp_path / "m.onnx")
    _pretend_gpu_wheel(monkeypatch)
    with pytest.raises(DeviceUnavailable, match="CUDA was asked for"):
        OnnxBackend.load(tmp_path / "m.onnx", "cuda")


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_half_precision_is_refused_on_a_cpu(tmp_path: Path, device: Device) -> None:
    write_model(tmp_path / "m.onnx", replace(synthetic.model_spec(), precision="fp16"))
    with pytest.raises(DeviceUnavailable, match="precision fp16") as caught:
        OnnxBackend.load(tmp_path / "m.onnx", device)
    assert "export it as fp32 or int8" in caught.value.remedy


def test_on_cuda_segments_go_through_buffers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the session is asked for and how it is fed; the CPU plays the GPU."""
    asked: list[Any] = []

    class Gpu(onnxruntime.InferenceSession):
        def __init__(self, model: bytes, options: Any, providers: list[Any]) -> None:
            asked.append(providers)
            super().__init__(model, options, providers=[CPU])

        def get_providers(self) -> list[str]:
            return [CUDA, CPU]

    def on_cpu(*given: Any, **named: Any) -> Buffers:
        session, spec, max_batch, _ = given
        return Buffers(session, spec, max_batch, "cpu", **named)

    _pretend_gpu_wheel(monkeypatch)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Gpu)
    monkeypatch.setattr("service.inference.onnx.Buffers", on_cpu)
    spec = write_model(tmp_path / "m.onnx", replace(synthetic.model_spec(), precision="fp16"))
    backend = OnnxBackend.load(tmp_path / "m.onnx", "cuda", max_batch=2, cuda_graphs=True)
    ((name, options), _) = asked[0]
    assert (name, options["enable_cuda_graph"]) == (CUDA, "1")
    features = np.random.default_rng(0).standard_normal((5, spec.n_frames, 13), np.float32)
    np.testing.assert_allclose(backend.score(features), synthetic.logits(features), atol=1e-5)
    assert backend.device == "cuda"
    OnnxBackend.load(tmp_path / "m.onnx", "cuda")
    assert "enable_cuda_graph" not in asked[1][0][1]


def test_a_network_that_cuda_graphs_cannot_hold_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise RuntimeError("This session cannot use the graph capture feature of the CUDA EP")

    write_model(tmp_path / "m.onnx")
    _pretend_gpu_wheel(monkeypatch)
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuses)
    with pytest.raises(DeviceUnavailable, match="graph capture") as caught:
        OnnxBackend.load(tmp_path / "m.onnx", "cuda", cuda_graphs=True)
    assert "GLRF_CUDA_GRAPHS=false" in caught.value.remedy
    with pytest.raises(ModelCorrupt):
        OnnxBackend.load(tmp_path / "m.onnx", "cuda")


def test_auto_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(tmp_path / "m.onnx")
    _pretend_gpu_wheel(monkeypatch)
    with caplog.at_level("INFO"):
        assert OnnxBackend.load(tmp_path / "m.onnx", "auto").device == "cpu"
    assert "runs on the CPU" in caplog.text


def _pretend_gpu_wheel(monkeypatch: pytest.MonkeyPatch) -> None:

    class CpuOnly(onnxruntime.InferenceSession):
        def __init__(self, data: bytes, options: Any, providers: list[Any]) -> None:
            super().__init__(data, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", CpuOnly)


def test_both_wheels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "m.onnx")
    monkeypatch.setattr(metadata, "distribution", lambda name: object())
    with pytest.raises(DeviceUnavailable, match="both installed"):
        OnnxBackend.load(tmp_path / "m.onnx", "cpu")


def test_no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceUnavailable, match="not installed"):
        OnnxBackend.load(tmp_path / "m.onnx", "cpu")
