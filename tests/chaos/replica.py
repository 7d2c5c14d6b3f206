"""A server process that is killed and started again on the same port."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import httpx

_SERVE = [sys.executable, "-W", "error", "-c", "from service.start import run; run()"]
_POLL_S = 0.05
#: For a start on a machine that does much else.
START_TIMEOUT_S = 60.0


class Replica:
    """One of several processes that share their keys."""

    def __init__(self, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self.is_ready = False

    async def start(self) -> None:
        """Starts it and waits until it is ready."""
        environment = {
            **os.environ,
            **self._settings,
            "GLRF_PORT": str(self.port),
            "GLRF_DEVICE": "cpu",
            "GLRF_JOBS_WORKERS": "0",
            "GLRF_LOG_LEVEL": "warning",
            # Batches of other sizes may round otherwise, and equal is to mean equal.
            "GLRF_MAX_BATCH": "1",
        }
        with tempfile.TemporaryFile() as log:
            self._process = await asyncio.create_subprocess_exec(
                *_SERVE, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=log
            )
            async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient() as client:
                while not self.is_ready:
                    if self._process.returncode is not None:
                        log.seek(0)
                        raise AssertionError(log.read().decode())
                    try:
                        answer = await client.get(f"http://127.0.0.1:{self.port}/readyz")
                        self.is_ready = answer.status_code == 200
                    except httpx.TransportError:
                        pass
                    await asyncio.sleep(_POLL_S)

    async def kill(self) -> None:
        """`kill -9`: no last word to anybody."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM: the streams are told, and end in order."""
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        self.is_ready = False
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
            await self._process.wait()


def settings_for(model_dir: Path | None) -> dict[str, str]:
    """Of replicas that share a key, with the shipped model unless another is given."""
    key = {"GLRF_CHECKPOINT_KEYS": os.urandom(32).hex()}
    return key if model_dir is None else {**key, "GLRF_MODEL_DIR": str(model_dir)}
