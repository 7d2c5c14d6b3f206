"""Real-time streams against any server, and what came of them.

A stream's audio is the demo clip, each from another place; streams are spread evenly over one hop.
Everything is timed by the schedule, not by when the generator got round to it: the lag of an
answer counts from the moment that its window's last sample was due. So a server that holds the
sender up does not look better for it, and how late the generator itself was is told beside.
"""

import asyncio
import base64
import contextlib
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Protocol
from urllib.parse import urlsplit

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from glrf.demonstration import FOLDER
from glrf.lag import percentile
from ser_core.containers import open_audio

RATE_HZ: Final = 16_000
CHUNK_S: Final = 0.1
WINDOW_S: Final = 2.0
HOP_S: Final = 0.4
CHUNK_BYTES: Final = round(2 * RATE_HZ * CHUNK_S)
WINDOW_BYTES: Final = round(2 * RATE_HZ * WINDOW_S)

#: So many windows of each stream unanswered at a time: the server will not catch up.
_HOPELESS_WINDOWS: Final = 5
_GRACE_S: Final = 2.0
_OPEN_TIMEOUT_S: Final = 10.0
_OPENED_AT_A_TIME: Final = 20
_POLL_S: Final = 0.25


@dataclass
class Log:
    """What the streams of one stage saw."""

    lags_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def until(self, due_s: float) -> None:
        """Waits for a moment of `time.monotonic`, and notes how late it was woken."""
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
            self.late_ms.append(1000 * (time.monotonic() - due_s))

    def answered(self, due_s: float) -> None:
        """The answer about the window whose last sample was due then is here."""
        self.lags_ms.append(1000 * (time.monotonic() - due_s))


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


class Stream(Protocol):
    """One open stream. `lead_s`: from the begin of its audio to the end of its first window."""

    lead_s: float

    async def play(self, begin_s: float, n_windows: int, log: Log) -> None: ...

    async def close(self) -> None: ...


#: Opens the stream of that place among so many.
Open = Callable[[int, int], Awaitable[Stream]]


async def run_stage(
    opening: Open, n_streams: int, n_windows: int, server_cpu_s: Callable[[], float]
) -> Stage:
    """Plays `n_windows` windows of each stream in real time and waits 2 s more for answers.

    What a stream suffers is counted, not raised: its windows are missing. CPU time is read over
    the whole hops in which every stream was heard. A stage whose server falls behind for good is
    broken off.
    """
    log, slots = Log(), asyncio.Semaphore(_OPENED_AT_A_TIME)

    async def opened(index: int) -> Stream | None:
        try:
            async with slots, asyncio.timeout(_OPEN_TIMEOUT_S):
                return await opening(index, n_streams)
        except (OSError, InvalidHandshake, EOFError) as error:
            log.faults.append(f"{type(error).__name__}: {error}"[:200])
            return None

    async def played(index: int, stream: Stream, begin_s: float) -> None:
        try:
            await stream.play(begin_s + HOP_S * index / n_streams, n_windows, log)
        except (OSError, EOFError, ValueError, ConnectionClosed) as error:
            log.faults.append(f"{type(error).__name__}: {error}"[:200])

    streams = await asyncio.gather(*(opened(index) for index in range(n_streams)))
    live = [(index, stream) for index, stream in enumerate(streams) if stream is not None]
    begin_s = time.monotonic() + 0.1
    first_s = begin_s + (live[0][1].lead_s if live else 0)
    tasks = [asyncio.create_task(played(index, stream, begin_s)) for index, stream in live]
    # All streams are in their steady state from the second hop on.
    await asyncio.sleep(first_s + HOP_S - time.monotonic())
    before, before_own_s = server_cpu_s(), time.process_time()
    period_s = HOP_S * (n_windows - 1)
    is_hopeless = not live
    while (elapsed_s := time.monotonic() - first_s) < HOP_S + period_s and not is_hopeless:
        await asyncio.sleep(min(_POLL_S, max(0.0, HOP_S + period_s - elapsed_s)))
        n_due = n_streams * int((time.monotonic() - first_s) / HOP_S)
        is_hopeless = n_due - len(log.lags_ms) > _HOPELESS_WINDOWS * n_streams
    measured_s = time.monotonic() - first_s - HOP_S
    cpu_s = server_cpu_s() - before
    own_cores = (time.process_time() - before_own_s) / max(measured_s, 1e-9)
    if tasks and not is_hopeless:
        await asyncio.wait(tasks, timeout=_GRACE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(stream.close() for _, stream in live), return_exceptions=True)
    return Stage(
        n_streams=n_streams,
        n_due=n_streams * n_windows,
        lags_ms=log.lags_ms,
        cpu_ms=1000 * cpu_s / (n_streams * max(measured_s, 1e-9)),
        server_cores=cpu_s / max(measured_s, 1e-9),
        generator_cores=own_cores,
        generator_late_ms=percentile(log.late_ms, 0.99) if log.late_ms else 0.0,
        is_hopeless=is_hopeless,
        fault=log.faults[0] if log.faults else None,
    )


@cache
def clip_pcm() -> bytes:
    """The demo clip as 16-bit little-endian PCM at 16 kHz."""
    with open_audio(FOLDER / "clip.flac") as source:
        clip = np.concatenate(list(source.blocks(RATE_HZ)))[:, 0]
    return (clip * 32767).astype("<i2").tobytes()


def audio_from(index: int, n_streams: int) -> bytes:
    """The clip twice, begun at the place of one of `n_streams`."""
    pcm = clip_pcm()
    start = index * len(pcm) // n_streams // 2 * 2
    return pcm[start:] + pcm + pcm[:start]


class WebSocketStream:
    """Chunks of 100 ms out; in, JSON objects of which those with type `segment` are answers."""

    lead_s = WINDOW_S

    def __init__(self, websocket: ClientConnection, audio: bytes) -> None:
        self._websocket, self._audio = websocket, audio

    @classmethod
    async def open(cls, url: str, index: int, n_streams: int) -> "WebSocketStream":
        websocket = await open_websocket(
            url,
            compression=None,
            proxy=None,
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=0.5,
            ping_interval=None,
            max_queue=1024,
        )
        return cls(websocket, audio_from(index, n_streams))

    async def play(self, begin_s: float, n_windows: int, log: Log) -> None:
        receiving = asyncio.create_task(self._receive(begin_s, n_windows, log))
        try:
            # To the end of the last window's hop, so that each hop has all its chunks.
            for chunk in range(round((WINDOW_S + HOP_S * n_windows) / CHUNK_S) - 1):
                await log.until(begin_s + CHUNK_S * (chunk + 1))
                if receiving.done():
                    receiving.result()  # its error ends the stream
                start = chunk * CHUNK_BYTES % (len(self._audio) - CHUNK_BYTES)
                await self._websocket.send(self._audio[start : start + CHUNK_BYTES])
            await receiving
        finally:
            receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, ValueError):
                await receiving

    async def close(self) -> None:
        await self._websocket.close()

    async def _receive(self, begin_s: float, n_windows: int, log: Log) -> None:
        n_left = n_windows
        while n_left:
            message = json.loads(await self._websocket.recv())
            if message["type"] == "error":
                raise ValueError(f"error frame: {message.get('message')}")
            if message["type"] == "segment" and not message.get("partial", False):
                log.answered(begin_s + message["end_ms"] / 1000)
                n_left -= 1


#: The request of a window: content type and body.
Encode = Callable[[bytes], tuple[str, bytes]]


class PostStream:
    """A POST of the last 2 s every 0.4 s, over one connection that is kept.

    The next one waits for the last one's answer. `url` is plain HTTP; answers must tell their
    `Content-Length`.
    """

    lead_s = 0.0

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        url: str,
        encode: Encode,
        audio: bytes,
    ) -> None:
        self._reader, self._writer = reader, writer
        address = urlsplit(url)
        self._head = f"POST {address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        self._encode, self._audio = encode, audio

    @classmethod
    async def open(cls, url: str, encode: Encode, index: int, n_streams: int) -> "PostStream":
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        return cls(reader, writer, url, encode, audio_from(index, n_streams))

    async def play(self, begin_s: float, n_windows: int, log: Log) -> None:
        hop_bytes = round(2 * RATE_HZ * HOP_S)
        for index in range(n_windows):
            start = index * hop_bytes % (len(self._audio) - WINDOW_BYTES)
            window = self._audio[start : start + WINDOW_BYTES]
            await log.until(begin_s + HOP_S * index)
            try:
                await self.post(window)
            except ValueError as error:  # refused; the next one may not be
                log.faults.append(str(error)[:200])
            else:
                log.answered(begin_s + HOP_S * index)

    async def post(self, window: bytes) -> bytes:
        """The answer's body. Raises `ValueError` for any status but 200, `EOFError`, `OSError`."""
        content_type, body = self._encode(window)
        head = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write((self._head + head).encode() + body)
        await self._writer.drain()
        status, _, headers = (await self._reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        length = next(
            (
                int(line.partition(b":")[2])
                for line in headers.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ),
            None,
        )
        if length is None:
            raise ValueError(f"an answer without Content-Length: {status.decode()}")
        answer = await self._reader.readexactly(length)
        if status.split()[1] != b"200":
            raise ValueError(f"{status.decode()}: {answer[:200].decode(errors='replace')}")
        return answer

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def raw(window: bytes) -> tuple[str, bytes]:
    """The samples' bytes as they are."""
    return "application/octet-stream", window


def json_field(name: str, *, is_list: bool = False) -> Encode:
    """An object with the window in base64 in that field, alone or as a list of one."""

    def encode(window: bytes) -> tuple[str, bytes]:
        text = base64.b64encode(window).decode()
        return "application/json", json.dumps({name: [text] if is_list else text}).encode()

    return encode
