"""A real server on a free port in a thread, and a client that writes down what it was told."""

import asyncio
import contextlib
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import numpy as np
import soundfile as sf
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ser_core.features import Float32
from ser_core.model_file import ModelSpec
from service.connection import StreamConnection
from service.registry import ModelRegistry
from service.runtime import Runtime
from service.server import Server
from service.settings import Settings
from tests import synthetic

TIMEOUT_S = 20.0
#: For clients of plain HTTP: else each reads the machine's certificates, in 20 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _EventfulServer(Server):
    def __init__(self, settings: Settings, models: ModelRegistry | None) -> None:
        super().__init__(settings, models)
        self.is_up = threading.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        self.is_up.set()


class RunningServer:
    """`with RunningServer(settings) as server:` serves meanwhile, and is stopped in order.

    It is entered when the server is ready; with `ready=False`, as soon as the server answers.
    """

    def __init__(
        self, settings: Settings, models: ModelRegistry | None = None, *, ready: bool = True
    ) -> None:
        self._server = _EventfulServer(settings, models)
        self._waits = ready
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._server.is_up.wait(TIMEOUT_S)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self._server.bound_port}",
            timeout=TIMEOUT_S,
            verify=NO_TLS,
        )
        self.stream_url = f"ws://127.0.0.1:{self._server.bound_port}/v1/stream"
        if self._waits:
            try:
                self.wait_until(lambda: self.http.get("/readyz").status_code == 200)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.http.close()
        self.begin_stop()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()

    def begin_stop(self) -> None:
        """What SIGTERM does."""
        self._server.should_exit = True

    @property
    def port(self) -> int:
        return self._server.bound_port

    def shrink_send_buffers(self) -> None:
        """So that little is enough to fill them; connections inherit it from the listener."""
        listener = self._server.servers[0].sockets[0]
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    @property
    def streams(self) -> list[StreamConnection]:
        """The open WebSockets."""
        connections = list(self._server.server_state.connections)
        return [c for c in connections if isinstance(c, StreamConnection)]

    @property
    def runtime(self) -> Runtime:
        return self._server.config.app.state.runtime  # type: ignore[union-attr]

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value now; 0 when it was never touched."""
        return self.runtime.metrics.registry.get_sample_value(name, labels) or 0.0

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """For what happens on the server's side alone, where there is no message to wait for."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline_s, "it never happened"
            time.sleep(0.005)


async def until(condition: Callable[[], object]) -> None:
    """The same inside an event loop; the loop's other tasks go on."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - what it waits for belongs to another thread
            await asyncio.sleep(0.001)


class GatedBackend:
    """The tiny network, which answers only while `gate` is open."""

    sha256 = "0" * 64
    device = "cpu"
    providers = ("TestProvider",)

    def __init__(self, spec: ModelSpec | None = None) -> None:
        self.spec = spec or synthetic.model_spec()
        self.gate = threading.Event()
        self.n_begun = 0  # batches, those that wait at the gate included
        self.batch_sizes: list[int] = []

    def enter_thread(self) -> None:
        """Nothing is a thread's own here."""

    def score(self, features: Float32) -> Float32:
        self.n_begun += 1
        assert self.gate.wait(TIMEOUT_S)
        self.batch_sizes.append(len(features))
        return synthetic.logits(features)


class FailingBackend(GatedBackend):
    """A network that fails."""

    def score(self, features: Float32) -> Float32:
        raise ValueError("the accelerator fell off")


@dataclass
class Transcript:
    """All messages of one stream, and how it was closed."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    close_code: int | None = None

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def events(self) -> list[dict[str, Any]]:
        """Segments, utterances, alerts and warnings without what belongs to one connection."""
        drop = {"seq", "session_id", "lag_ms"}
        return [
            {key: value for key, value in message.items() if key not in drop}
            for message in self.messages
            if message["type"] in ("segment", "utterance", "alert", "warning")
        ]

    @property
    def error(self) -> dict[str, Any]:
        """The one error message."""
        (error,) = self.of("error")
        return error


async def listen(connection: ClientConnection) -> Transcript:
    """Reads to the end."""
    transcript = Transcript()
    with contextlib.suppress(ConnectionClosed):
        async for text in connection:
            transcript.messages.append(json.loads(text))
    await connection.wait_closed()
    transcript.close_code = connection.close_code
    seqs = [message["seq"] for message in transcript.messages]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert len({m["session_id"] for m in transcript.messages}) <= 1
    return transcript


async def converse(url: str, frames: Iterable[bytes | str], *, close: bool = True) -> Transcript:
    """Sends frames, then `close`, and reads at the same time."""
    async with asyncio.timeout(TIMEOUT_S), connect(url, max_size=None) as connection:
        listening = asyncio.create_task(listen(connection))
        with contextlib.suppress(ConnectionClosed):
            for frame in frames:
                await connection.send(frame)
            if close:
                await connection.send('{"type": "close"}')
        return await listening


@contextlib.asynccontextmanager
async def good_session_beside(url: str) -> AsyncIterator[None]:
    """A session that is half way when the block begins, and must not notice what happens in it."""
    data = pcm(synthetic.voice(16_000 * 4))
    alone = await converse(url, chunks(data, 3200))
    async with connect(url) as connection:
        listening = asyncio.create_task(listen(connection))
        half = len(data) // 2
        for chunk in chunks(data[:half], 3200):
            await connection.send(chunk)
        yield
        for chunk in chunks(data[half:], 3200):
            await connection.send(chunk)
        await connection.send('{"type": "close"}')
        async with asyncio.timeout(TIMEOUT_S):
            beside = await listening
    assert beside.close_code == 1000
    assert not beside.of("error")
    assert_same_document(beside.events, alone.events)


def assert_scores_near(got: dict[str, float], expected: dict[str, float], tolerance: float) -> None:
    assert list(got) == list(expected)
    for label, score in expected.items():
        assert abs(got[label] - score) <= tolerance, (label, got[label], score)


def pcm(samples: Float32) -> bytes:
    """float32 `(n,)` or `(n, n_channels)` as pcm_s16le."""
    return np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def chunks(data: bytes, n_bytes: int) -> list[bytes]:
    return [data[start : start + n_bytes] for start in range(0, len(data), n_bytes)]


def wav(samples: Float32, rate_hz: int = 16_000, subtype: str = "PCM_16") -> bytes:
    """A WAV file; `pcm` of the same samples holds the same values."""
    file = io.BytesIO()
    data = (
        np.frombuffer(pcm(samples), "<i2").reshape(samples.shape)
        if subtype == "PCM_16"
        else samples
    )
    sf.write(file, data, rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()


def assert_same_document(one: object, other: object, tolerance: float = 2e-6) -> None:
    """Two JSON documents, equal but for the last bits of numbers.

    Segments may have met in batches of different sizes, which may round otherwise.
    """
    assert _shape(one) == _shape(other)
    np.testing.assert_allclose(_numbers(one), _numbers(other), atol=tolerance)


def _shape(value: object) -> object:
    match value:
        case dict():
            return {key: _shape(item) for key, item in value.items()}
        case list():
            return [_shape(item) for item in value]
        case bool():
            return value
        case int() | float():  # a browser writes 0.0 as 0
            return "a number"
        case _:
            return value


def _numbers(value: object) -> list[float]:
    match value:
        case dict():
            return [number for item in value.values() for number in _numbers(item)]
        case list():
            return [number for item in value for number in _numbers(item)]
        case bool():
            return []
        case int() | float():
            return [float(value)]
        case _:
            return []
