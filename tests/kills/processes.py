"""The service's processes as an operator runs them, killed and started again."""

import asyncio
import os
import random
import signal
import socket
import sys
import tempfile

import httpx

_API = "from service.start import run; run()"
#: It looks for work ten times a second, for the sake of those who wait for a kill's end.
_WORKER = """
from service.jobs import executor
executor.POLL_S = 0.1
from service.jobs.worker import run
run()
"""
START_TIMEOUT_S = 120.0


class Process:
    """One process, which its environment makes an API or a worker."""

    def __init__(self, code: str, environment: dict[str, str]) -> None:
        self._code = code
        self._environment = {**os.environ, **environment}
        self._process: asyncio.subprocess.Process | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process lives

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", self._code),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    async def kill(self) -> None:
        """`kill -9`. One that ended by itself fails the test, with its last words."""
        if self._process is None:
            return
        if self._process.returncode is not None:
            self._log.seek(0)
            raise AssertionError(self._log.read()[-4000:].decode())
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self._process = None

    def close(self) -> None:
        """Lets go of what it said."""
        self._log.close()


class Service:
    """An API and some workers on one store."""

    def __init__(self, environment: dict[str, str], n_workers: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        environment = {
            **environment,
            "GLRF_PORT": str(port),
            "GLRF_DEVICE": "cpu",
            "GLRF_JOBS_WORKERS": "0",
            "GLRF_LOG_LEVEL": "warning",
            # Batches of other sizes may round otherwise, and equal is to mean equal.
            "GLRF_MAX_BATCH": "1",
        }
        self.url = f"http://127.0.0.1:{port}"
        self.api = Process(_API, environment)
        self.workers = [Process(_WORKER, environment) for _ in range(n_workers)]

    async def start(self) -> None:
        for process in (self.api, *self.workers):
            await process.start()
        async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(base_url=self.url) as client:
            while True:
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)

    async def kill_one(self, chance: random.Random) -> bool:
        """Kills any of them and starts it again; whether it was a worker."""
        victim = chance.choice([self.api, *self.workers])
        await victim.kill()
        await victim.start()
        return victim is not self.api

    async def end(self) -> None:
        """Kills all of them for good."""
        for process in (self.api, *self.workers):
            try:
                await process.kill()
            finally:
                process.close()
