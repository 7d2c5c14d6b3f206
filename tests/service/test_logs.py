"""What is logged, and how: nothing that an address may hold."""

import json
import re
import subprocess
import sys

import pytest

_LOGGED = """
import logging
from service import logs
logs.begin({level!r}, "worker-3", {as_!r})
logging.getLogger("httpx").info("POST http://host/hook?token=SECRET")
logging.getLogger("httpcore.http11").debug("b'/hook?token=SECRET'")
logging.getLogger("service").error("told %d", 1)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("service").exception("failed\\nbadly")
"""
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def _logged(level: str, as_: str) -> str:
    command = [sys.executable, "-c", _LOGGED.format(level=level, as_=as_)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("level", ["debug", "info"])
def test_the_http_clients_addresses_are_not_logged(level: str) -> None:
    first, *others = _logged(level, "text").splitlines()
    assert re.fullmatch(_TIME + " ERROR worker-3 service: told 1", first)
    assert others[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_lines_as_json_objects(level: str) -> None:
    told, failed = map(json.loads, _logged(level, "json").splitlines())
    assert re.fullmatch(_TIME, told.pop("time"))
    assert told == {
        "level": "error",
        "process": "worker-3",
        "logger": "service",
        "message": "told 1",
    }
    assert failed["message"] == "failed\nbadly"
    assert failed["exception"].endswith("ZeroDivisionError: division by zero")
