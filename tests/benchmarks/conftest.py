from pathlib import Path

import pytest

from tests.synthetic import write_model


@pytest.fixture(autouse=True)
def model_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Servers and peers find the tiny model."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_model(folder / "tiny.onnx")
    monkeypatch.setenv("GLRF_MODEL_DIR", str(folder))
    return folder
