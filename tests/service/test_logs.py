"""What is logged: nothing that an address may hold."""

import subprocess
import sys

import pytest

_LOGGED = """
import logging
from service import logs
logs.begin({level!r}, "worker 3")
logging.getLogger("httpx").info("POST http://host/hook?token=SECRET")
logging.getLogger("httpcore.http11").debug("b'/hook?token=SECRET'")
logging.getLogger("service").error("told")
"""


@pytest.mark.parametrize("level", ["debug", "info"])
def test_the_http_clients_addresses_are_not_logged(level: str) -> None:
    command = [sys.executable, "-c", _LOGGED.format(level=level)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "ERROR worker 3 service: told\n"
