"""Real-time streams against any server, for a while, and what came of them.

A stream's audio is the demo clip, each from another place; streams are spread over one hop.
Everything is timed by the schedule, not by when the generator got round to it: the lag of an
answer counts from the moment that its window's last sample was due. So a server that holds the
sender up does not look better for it, and how late the generator itself was is told beside.
"""

import asyncio
import base64
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from benchmarks.fleet import CHUNK_S, Fleet, LiveStream, Refused, audio_frames
from glrf.demonstration import FOLDER
from glrf.lag import percentile
from ser_core.containers import open_audio

RATE_HZ: Final = 16_000
WINDOW_S: Final = 2.0
HOP_S: Final = 0.4
CHUNK_BYTES: Final = round(2 * RATE_HZ * CHUNK_S)
WINDOW_BYTES: Final = round(2 * RATE_HZ * WINDOW_S)

#: Of this service: each segment is scored, and whole ones only, as at its peers.
QUERY: Final = "sample_rate=16000&endpointing=manual&partial=false"
#: So many windows of each stream unanswered at a time: the server will not catch up.
_HOPELESS_WINDOWS: Final = 5
_GRACE_S: Final = 2.0
_OPEN_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.25
_CHUNKS_A_HOP: Final = round(HOP_S / CHUNK_S)


@dataclass(frozen=True)
class Stage:
    """So many streams for a while. `cpu_ms` are the server's, a second of one stream's audio."""

    n_streams: int
    n_due: int
    lags_ms: list[float]
    cpu_ms: float
    server_cores: float
    generator_cores: float
    generator_late_ms: float
    is_hopeless: bool
    fault: str | None

    @property
    def n_missing(self) -> int:
        return self.n_due - len(self.lags_ms)

    def lag_ms(self, share: float) -> float:
        """The lag that `share` (0..1) of the windows kept to; infinite where too many got none."""
        return percentile([*self.lags_ms, *[math.inf] * self.n_missing], share)


@dataclass(frozen=True)
class Usage:
    """What a while took: CPU seconds of the server and of this process, and seconds."""

    server_s: float
    own_s: float
    took_s: float


def used(server_cpu_s: Callable[[], float]) -> Callable[[], Usage]:
    """Begins to measure; the result, called, tells the usage up to then."""
    server_s, own_s, began_s = server_cpu_s(), time.process_time(), time.monotonic()
    return lambda: Usage(
        server_cpu_s() - server_s, time.process_time() - own_s, time.monotonic() - began_s
    )


def _stage(
    n_streams: int,
    n_due: int,
    lags_ms: list[float],
    usage: Usage,
    late_ms: list[float],
    is_hopeless: bool,
    fault: str | None,
) -> Stage:
    return Stage(
        n_streams=n_streams,
        n_due=n_due,
        lags_ms=lags_ms,
        cpu_ms=1000 * usage.server_s / (n_streams * usage.took_s),
        server_cores=usage.server_s / usage.took_s,
        generator_cores=usage.own_s / usage.took_s,
        generator_late_ms=percentile(late_ms, 0.99) if late_ms else 0.0,
        is_hopeless=is_hopeless,
        fault=fault,
    )


@cache
def clip_pcm() -> bytes:
    """The demo clip as 16-bit little-endian PCM at 16 kHz."""
    with open_audio(FOLDER / "clip.flac") as source:
        clip = np.concatenate(list(source.blocks(RATE_HZ)))[:, 0]
    return (clip * 32767).astype("<i2").tobytes()


# ---- WebSockets: PCM in chunks out, JSON objects in, of which those of type `segment` are answers


def websocket_stage(
    url: str, n_streams: int, n_windows: int, server_cpu_s: Callable[[], float]
) -> Stage:
    """Streams to `/v1/stream` of `http://HOST:PORT`, measured for so many hops.

    Not before each has had its first window; then 2 s more are waited for late answers. A stream
    that the server refuses or ends makes the stage hopeless.
    """
    frames = audio_frames(clip_pcm(), CHUNK_BYTES)
    offsets = [index * len(frames) // n_streams for index in range(n_streams)]
    fleet = Fleet(url, QUERY, frames, offsets)
    n_due = n_streams * n_windows
    measured: Callable[[], Usage] | None = None
    usage, fault, is_hopeless = Usage(0.0, 0.0, math.inf), None, False
    lags_ms: list[float] = []
    try:
        # A fleet spreads its streams over a chunk; so they are spread over a hop.
        for part in range(_CHUNKS_A_HOP):
            fleet.open((n_streams + part) // _CHUNKS_A_HOP, timeout_s=_OPEN_TIMEOUT_S)
            fleet.play(CHUNK_S)
        fleet.play(WINDOW_S)
        del fleet.lateness_s[:]
        measured = used(server_cpu_s)
        from_s = time.monotonic()
        until_s = from_s + HOP_S * n_windows
        fleet.play(until_s - from_s)
        usage = measured()
        n_due, lags_ms = _answered(fleet.streams, from_s, until_s)
        if len(lags_ms) < n_due:
            fleet.play(_GRACE_S)
            n_due, lags_ms = _answered(fleet.streams, from_s, until_s)
        is_hopeless = n_due - len(lags_ms) > _HOPELESS_WINDOWS * n_streams
    except (Refused, OSError) as error:
        fault, is_hopeless = str(error)[:200], True
        usage = measured() if measured is not None else usage
    finally:
        fleet.close()
    late_ms = [1000 * late_s for late_s in fleet.lateness_s]
    return _stage(n_streams, n_due, lags_ms, usage, late_ms, is_hopeless, fault)


def _answered(streams: list[LiveStream], from_s: float, until_s: float) -> tuple[int, list[float]]:
    """How many windows were due in a while, and the lags of those that were answered."""
    n_due, lags_ms = 0, []
    for stream in streams:
        # The chunk that ends each window.
        last_chunks = range(round(WINDOW_S / CHUNK_S) - 1, len(stream.due_s), _CHUNKS_A_HOP)
        due_s = {k: stream.due_s[k] for k in last_chunks if from_s <= stream.due_s[k] < until_s}
        n_due += len(due_s)
        for payload, received_s in zip(stream.answers, stream.received_s, strict=True):
            message = json.loads(payload)
            if message["type"] == "segment":
                chunk = round(message["end_ms"] / (1000 * CHUNK_S)) - 1
                if chunk in due_s:
                    lags_ms.append(1000 * (received_s - due_s[chunk]))
    return n_due, lags_ms


# ---- HTTP: a window out every hop, an answer in

#: The request of a window: content type and body.
Encode = Callable[[bytes], tuple[str, bytes]]


def raw(window: bytes) -> tuple[str, bytes]:
    """The samples' bytes as they are."""
    return "application/octet-stream", window


def json_field(name: str, *, is_list: bool = False) -> Encode:
    """An object with the window in base64 in that field, alone or as a list of one."""

    def encode(window: bytes) -> tuple[str, bytes]:
        text = base64.b64encode(window).decode()
        return "application/json", json.dumps({name: [text] if is_list else text}).encode()

    return encode


def post_stage(
    url: str, encode: Encode, n_streams: int, n_windows: int, server_cpu_s: Callable[[], float]
) -> Stage:
    """Streams that each post their last 2 s to `url` every 0.4 s, over a connection of their own.

    What a stream suffers is counted: its windows are missing. A stage whose server falls behind
    for good is broken off.
    """
    return asyncio.run(_post_stage(url, encode, n_streams, n_windows, server_cpu_s))


@dataclass
class _Log:
    lags_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


async def _post_stage(
    url: str, encode: Encode, n_streams: int, n_windows: int, server_cpu_s: Callable[[], float]
) -> Stage:
    log = _Log()
    begin_s = time.monotonic() + 0.1 + 0.002 * n_streams  # to connect in
    tasks = [
        asyncio.create_task(_post_stream(url, encode, index / n_streams, begin_s, n_windows, log))
        for index in range(n_streams)
    ]
    # All streams are in their steady state from the second hop on.
    await asyncio.sleep(begin_s + HOP_S - time.monotonic())
    measured = used(server_cpu_s)
    end_s, is_hopeless = begin_s + HOP_S * n_windows, False
    while (left_s := end_s - time.monotonic()) > 0 and not is_hopeless:
        await asyncio.sleep(min(_POLL_S, left_s))
        n_due = n_streams * int((time.monotonic() - begin_s) / HOP_S)
        is_hopeless = n_due - len(log.lags_ms) > _HOPELESS_WINDOWS * n_streams
    usage = measured()
    if not is_hopeless:
        await asyncio.wait(tasks, timeout=_GRACE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    fault = log.faults[0] if log.faults else None
    n_due = n_streams * n_windows
    return _stage(n_streams, n_due, log.lags_ms, usage, log.late_ms, is_hopeless, fault)


async def _post_stream(
    url: str, encode: Encode, share: float, begin_s: float, n_windows: int, log: _Log
) -> None:
    """One stream, at its `share` (0..1) of the clip and of a hop."""
    pcm = clip_pcm()
    start, hop_bytes = round(share * len(pcm) / 2) * 2, round(2 * RATE_HZ * HOP_S)
    try:
        connection = await PostConnection.open(url, encode)
    except OSError as error:
        log.faults.append(str(error))
        return
    try:
        for index in range(n_windows):
            at = (start + index * hop_bytes) % (len(pcm) - WINDOW_BYTES)
            due_s = begin_s + HOP_S * (index + share)
            if (wait_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
                log.late_ms.append(1000 * (time.monotonic() - due_s))
            try:
                await connection.post(pcm[at : at + WINDOW_BYTES])
            except ValueError as error:  # refused; the next one may not be
                log.faults.append(str(error)[:200])
            else:
                log.lags_ms.append(1000 * (time.monotonic() - due_s))
    except (OSError, EOFError) as error:
        log.faults.append(str(error)[:200])
    finally:
        connection.close()


class PostConnection:
    """A connection that is kept, to a `url` of plain HTTP."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str, encode: Encode
    ) -> None:
        self._reader, self._writer, self._encode = reader, writer, encode
        address = urlsplit(url)
        self._head = f"POST {address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\n"

    @classmethod
    async def open(cls, url: str, encode: Encode) -> "PostConnection":
        address = urlsplit(url)
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        return cls(reader, writer, url, encode)

    async def post(self, window: bytes) -> bytes:
        """The answer's body. Raises `ValueError` for any status but 200, `EOFError`, `OSError`."""
        content_type, body = self._encode(window)
        head = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write((self._head + head).encode() + body)
        await self._writer.drain()
        status, _, headers = (await self._reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        answer = await self._body(headers.lower())
        if status.split()[1] != b"200":
            raise ValueError(f"{status.decode()}: {answer[:200].decode(errors='replace')}")
        return answer

    async def _body(self, headers: bytes) -> bytes:
        """By its length or in chunks (RFC 9112, sections 6.2 and 7.1); `headers` in lower case."""
        for line in headers.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                return await self._reader.readexactly(int(value))
        body = b""
        while n_bytes := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(n_bytes + 2))[:-2]
        await self._reader.readuntil(b"\r\n")
        return body

    def close(self) -> None:
        self._writer.close()
