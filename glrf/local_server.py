"""A server in a child process of its own, for as long as a command needs one."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ser_core.errors import NotReady

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
_POLL_S = 0.05


@dataclass(frozen=True)
class LocalServer:
    """A ready server: its address, `http://127.0.0.1:PORT`, and its process."""

    url: str
    pid: int


@contextmanager
def local_server(
    settings: Mapping[str, str] | None = None, *, start_timeout_s: float = START_TIMEOUT_S
) -> Iterator[LocalServer]:
    """Starts `glrf serve` on a free port, waits until it is ready, stops it at the end.

    `settings` are environment variables beyond this process's own. Raises `NotReady`, with the
    server's last words, when it does not come up.
    """
    port = free_port()
    with tempfile.TemporaryFile() as log, ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-m", "glrf", "serve", "--host", HOST, "--port", str(port)],
            env={**os.environ, "GLRF_JOBS_WORKERS": "0", **(settings or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours; the child is stopped below
        )
        try:
            stack.enter_context(_ended_by_sigterm())
            url = f"http://{HOST}:{port}"
            try:
                _wait_until_ready(url, process, start_timeout_s)
            except NotReady as error:
                log.seek(0)
                words = log.read()[-2000:].decode("utf-8", "replace").strip()
                last = words.splitlines()[-1] if words else "it said nothing"
                raise NotReady(f"{error}: {last}", remedy="try `glrf serve` by itself") from error
            yield LocalServer(url, process.pid)
        finally:
            _stop(process)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Takes SIGTERM as Ctrl-C, so that it too unwinds and leaves no server behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    # A shell script's background commands ignore SIGINT; asyncio would then not unwind by it.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


def free_port() -> int:
    """One on which nobody listens here, for now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    import httpx

    deadline_s = time.monotonic() + timeout_s
    with httpx.Client(trust_env=False, timeout=2) as client:
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                raise NotReady(f"the server ended at its start with status {process.returncode}")
            try:
                if client.get(f"{url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(_POLL_S)
    raise NotReady(f"the server was not ready after {timeout_s:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
