import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glrf.demonstration import FOLDER
from glrf.local_server import LocalServer, local_server
from tests.synthetic import write_model

CLIP = FOLDER / "clip.flac"


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny.onnx")
    return folder


@pytest.fixture(autouse=True)
def settings(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the tiny model, and print to 200 columns."""
    monkeypatch.setenv("GLRF_MODEL_DIR", str(model_dir))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def server(model_dir: Path) -> Iterator[LocalServer]:
    # Batches of other sizes may round otherwise, and equal is to mean equal.
    with local_server({"GLRF_MODEL_DIR": str(model_dir), "GLRF_MAX_BATCH": "1"}) as running:
        yield running


@pytest.fixture
def cli() -> CliRunner:
    return CliRunner()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Makes a package look as if it were not installed."""

    def hide(module: str) -> None:
        monkeypatch.setitem(sys.modules, module, None)

    return hide
