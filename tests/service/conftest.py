from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.service.running import RunningServer
from tests.synthetic import write_model


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny.onnx")
    return folder


@pytest.fixture(scope="session")
def settings(model_dir: Path) -> Settings:
    return Settings(model_dir=model_dir, port=0, device="cpu", max_batch=4)


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[RunningServer]:
    with RunningServer(settings) as running:
        yield running
