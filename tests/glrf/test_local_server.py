from pathlib import Path

import pytest

from glrf.local_server import LocalServer, local_server
from glrf_client import models
from ser_core.errors import NotReady


async def test_it_is_ready_inside(server: LocalServer) -> None:
    (model,) = await models(server.url)
    assert (model.name, model.default, model.segment_ms) == ("tiny", True, 2000)


def test_a_server_that_does_not_come_up_has_the_last_word(tmp_path: Path) -> None:
    with (
        pytest.raises(NotReady, match=r"status 1: glrf: .*no \.onnx model"),
        local_server({"GLRF_MODEL_DIR": str(tmp_path)}),
    ):
        raise AssertionError("it came up")


def test_one_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(NotReady, match="not ready after 0 s"), local_server(start_timeout_s=0):
        raise AssertionError("it came up")


def test_its_process_is_its_own(server: LocalServer) -> None:
    assert "serve\0--host\x00127.0.0.1" in Path(f"/proc/{server.pid}/cmdline").read_text()
