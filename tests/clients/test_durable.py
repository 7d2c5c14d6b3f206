"""Jobs while the server is away: what is asked again, and when."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from glrf_client import Backoff, Job, Refused, submit_job, wait_for_job

FAST = Backoff(first_s=0.001, longest_s=0.002, give_up_after_s=5)
QUEUED = {"id": "1", "status": "queued", "progress": 0.0, "created_at": "2026-01-01T00:00:00Z"}
DONE = QUEUED | {"status": "succeeded", "progress": 1.0}


@dataclass
class JobServer:
    """Refuses as told, by status and `Retry-After`; then every job is done."""

    refusals: list[tuple[int, str]] = field(default_factory=list)
    asked_at_s: list[float] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.strip().split("\r\n")[1:])
            await reader.readexactly(int(fields.get("content-length", 0)))
            self.asked_at_s.append(time.monotonic())
            self.keys.add(fields.get("idempotency-key", ""))
            status, retry_after = self.refusals.pop(0) if self.refusals else (200, "")
            body = json.dumps(DONE) if status == 200 else "<h1>later</h1>"
            told = f"Retry-After: {retry_after}\r\n" if retry_after else ""
            writer.write(f"HTTP/1.1 {status} \r\n{told}Connection: close\r\n\r\n{body}".encode())
            await writer.drain()


async def submit(server: JobServer) -> Job:
    async with server.running() as url:
        return await submit_job(url, b"audio", backoff=FAST)


async def test_the_key_may_come_as_a_header() -> None:
    server = JobServer()
    async with server.running() as url:
        headers = {"idempotency-key": "mine"}
        await submit_job(url, b"audio", headers=headers)
        await submit_job(url, b"audio", headers=headers, idempotency_key="other")
    assert server.keys == {"mine", "other"}


async def wait(server: JobServer, poll_s: float = 0.01, timeout_s: float = 10.0) -> Job:
    async with server.running() as url:
        return await wait_for_job(url, "1", poll_s=poll_s, timeout_s=timeout_s)


@pytest.mark.parametrize("call", [submit, wait])
async def test_a_proxy_before_a_server_that_is_away(call) -> None:
    """It says neither when to try again nor why."""
    server = JobServer(refusals=[(502, ""), (503, ""), (504, "")])
    assert (await call(server)).is_finished
    assert len(server.asked_at_s) == 4
    assert len(server.keys) == 1


@pytest.mark.parametrize("call", [submit, wait])
async def test_a_refusal_that_does_not_pass(call) -> None:
    server = JobServer(refusals=[(404, "")])
    with pytest.raises(Refused, match="404"):
        await call(server)
    assert len(server.asked_at_s) == 1


@pytest.mark.parametrize("call", [submit, wait])
async def test_the_server_says_when(call) -> None:
    server = JobServer(refusals=[(429, "0.3"), (507, "0.3")])
    assert (await call(server)).is_finished
    first_s, second_s, third_s = server.asked_at_s
    assert second_s - first_s >= 0.3
    assert third_s - second_s >= 0.3


async def test_polls_are_not_nearer_than_asked() -> None:
    server = JobServer(refusals=[(503, "0.1")])
    assert (await wait(server, poll_s=0.3)).is_finished
    assert server.asked_at_s[1] - server.asked_at_s[0] >= 0.3


async def test_waiting_has_an_end() -> None:
    server = JobServer(refusals=[(429, "60")])
    with pytest.raises(TimeoutError):
        await wait(server, timeout_s=0.3)
    assert len(server.asked_at_s) == 1
