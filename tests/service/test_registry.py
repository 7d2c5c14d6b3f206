from pathlib import Path

import pytest

from ser_core.errors import BadParameter, ModelError, ModelNotFound
from service.inference.backend import Backend
from service.inference.onnx import OnnxBackend
from service.registry import ModelRegistry
from tests.service.running import GatedBackend
from tests.synthetic import model_spec, write_model


def models(*names: str) -> list[Backend]:
    specs = [model_spec(name, version) for name, _, version in (n.partition("@") for n in names)]
    return [GatedBackend(spec) for spec in specs]


def test_by_name_by_version_and_by_default() -> None:
    registry = ModelRegistry(models("a@1.10.0", "a@1.9.0", "a@1.10.0-rc1"))
    assert registry.find("a@1.9.0").spec.version == "1.9.0"
    assert registry.find("a").spec.version == "1.10.0"
    assert registry.find(None) is registry.find("a")
    assert [backend.spec.version for backend in registry] == ["1.9.0", "1.10.0-rc1", "1.10.0"]


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(BadParameter, match="'b'") as caught:
        ModelRegistry(models("a@1")).find("b")
    assert "a@1" in caught.value.remedy


def test_the_house_model_is_the_default_of_several() -> None:
    assert ModelRegistry(models("a@1", "glrf@1")).default.spec.name == "glrf"
    assert ModelRegistry(models("a@1", "glrf@1"), "a").default.spec.name == "a"
    with pytest.raises(ModelNotFound, match="default"):
        ModelRegistry(models("a@1", "b@1"))
    with pytest.raises(ModelNotFound, match="'c'"):
        ModelRegistry(models("a@1"), "c")


def test_two_files_of_one_name() -> None:
    with pytest.raises(ModelError, match="both a@1"):
        ModelRegistry(models("a@1", "a@1"))


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no \.onnx model") as caught:
        ModelRegistry.load(tmp_path, OnnxBackend.load)
    assert "GLRF_MODEL_DIR" in caught.value.remedy
    write_model(tmp_path / "a.onnx", model_spec("a"))
    write_model(tmp_path / "b.onnx", model_spec("b"))
    registry = ModelRegistry.load(tmp_path, lambda path: OnnxBackend.load(path, "cpu"), "b")
    assert {backend.spec.name for backend in registry} == {"a", "b"}
