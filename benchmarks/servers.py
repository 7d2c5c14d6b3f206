"""The servers that are held against each other, and the work that is measured without one."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import HOST, ROOT, environment, free_port, pinned, running
from benchmarks.streams import (
    WINDOW_BYTES,
    Encode,
    Open,
    PostStream,
    WebSocketStream,
    clip_pcm,
    json_field,
    raw,
)
from glrf.local_server import local_server
from ser_core.errors import SerError

#: A peer's start, imports of Ray or PyTorch on one core included.
START_TIMEOUT_S = 120.0
BARE_TIMEOUT_S = 240.0
PROBE_TIMEOUT_S = 5.0


class NotInstalled(SerError):
    """A peer's package is not in the environment of the peers."""

    code = "not_installed"


@dataclass(frozen=True)
class Running:
    """A server that answers: the root of its processes, and how a stream to it is opened."""

    pid: int
    opening: Open


@dataclass(frozen=True)
class Peer:
    """A server of `benchmarks.peers`.

    `arguments` are those of its interpreter, without the port; `packages` what it needs besides
    the service itself; `encode` the request of a window, `None` for a WebSocket of PCM.
    """

    name: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...]
    path: str
    encode: Encode | None = None
    settings: dict[str, str] = field(default_factory=dict)


PEERS = (
    Peer(
        "FastAPI loop",
        ("fastapi", "uvicorn", "librosa", "torch"),
        ("-m", "benchmarks.peers.websocket_loop"),
        "/stream",
    ),
    Peer(
        "LitServe",
        ("litserve",),
        ("-m", "benchmarks.peers.litserve_api"),
        "/predict",
        json_field("audio"),
    ),
    Peer(
        "BentoML",
        ("bentoml",),
        ("-m", "bentoml", "serve", "benchmarks.peers.bentoml_service:Emotion", "--host", HOST),
        "/score",
        json_field("windows", is_list=True),
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "Ray Serve",
        ("ray",),
        ("-m", "benchmarks.peers.ray_deployment"),
        "/",
        raw,
        {"RAY_USAGE_STATS_ENABLED": "0"},
    ),
)


@contextmanager
def this_service(cpu: int) -> Iterator[Running]:
    """`glrf serve` on one CPU, with limits that do not refuse what is to be measured."""
    settings = {
        "GLRF_DEVICE": "cpu",
        "GLRF_MAX_SESSIONS": "100000",
        "GLRF_MAX_LOAD": "0",
    }
    with pinned(cpu):
        serving = local_server(settings)
        server = serving.__enter__()
    try:
        url = server.url.replace("http", "ws", 1)
        query = "sample_rate=16000&endpointing=manual&partial=false"
        yield Running(server.pid, _websocket(f"{url}/v1/stream?{query}"))
    finally:
        serving.__exit__(None, None, None)


@contextmanager
def peer_server(peer: Peer, python: str, cpu: int) -> Iterator[Running]:
    """The peer's server on one CPU. Raises `NotInstalled`, and `NotReady` with its last words."""
    need(peer.packages, python)
    port = free_port()
    if peer.encode is None:
        opening, probe = _websocket(f"ws://{HOST}:{port}{peer.path}"), _probe_websocket
    else:
        opening, probe = _post(f"http://{HOST}:{port}{peer.path}", peer.encode), _probe_post
    with TemporaryDirectory() as home:
        settings = {"BENTOML_HOME": home, "RAY_TMPDIR": home, **peer.settings}
        command = [python, *peer.arguments, "--port", str(port)]

        def is_ready() -> bool:
            return _answers(probe, opening)

        with running(command, cpu, is_ready, settings, START_TIMEOUT_S) as pid:
            yield Running(pid, opening)


def need(packages: tuple[str, ...], python: str) -> None:
    """Raises `NotInstalled`, naming those of the packages that the interpreter lacks."""
    if missing := [name for name in packages if name not in versions(packages, python)]:
        raise NotInstalled(
            f"{', '.join(missing)}: not installed in {python}",
            remedy="make bench installs the peers; or pip install 'glrf[cpu,bench]' there",
        )


def versions(packages: tuple[str, ...], python: str) -> dict[str, str]:
    """Of those of the packages that are installed in that interpreter."""
    program = (
        "import importlib.metadata as m, json, sys\n"
        "found = {d.metadata['Name'].lower().replace('_', '-'): d.version"
        " for d in m.distributions()}\n"
        "print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))"
    )
    done = subprocess.run(
        [python, "-c", program, *packages], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Bare:
    """CPU milliseconds of one window, what each took, and the most memory."""

    cpu_ms: float
    memory_mb: float
    took_ms: list[float]


def egemaps(python: str, cpu: int) -> Bare:
    """The functionals of openSMILE, a window at a time. Raises `NotInstalled`."""
    need(("opensmile",), python)
    return _bare([python, "-m", "benchmarks.peers.egemaps"], cpu)


def wav2vec2(python: str, cpu: int) -> Bare:
    """A network of wav2vec 2.0 base's shape in ONNX Runtime. Raises `NotInstalled`."""
    need(("torch", "onnx", "onnxscript"), python)
    module = [python, "-m", "benchmarks.peers.wav2vec2"]
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "wav2vec2.onnx")
        _finished([*module, "export", path])
        return _bare([*module, "run", path], cpu)


def _bare(command: list[str], cpu: int) -> Bare:
    with pinned(cpu):
        return Bare(**json.loads(_finished(command).splitlines()[-1]))


def _finished(command: list[str]) -> str:
    """What a command printed. Raises `SerError` with its last words when it fails."""
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            env=environment({}),
            capture_output=True,
            text=True,
            timeout=BARE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise SerError(f"{command[2]} took more than {BARE_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise SerError(f"{command[2]} failed: {done.stderr.strip()[-400:]}")
    return done.stdout


def _websocket(url: str) -> Open:
    return lambda index, n_streams: WebSocketStream.open(url, index, n_streams)


def _post(url: str, encode: Encode) -> Open:
    return lambda index, n_streams: PostStream.open(url, encode, index, n_streams)


async def _probe_websocket(opening: Open) -> None:
    await (await opening(0, 1)).close()


async def _probe_post(opening: Open) -> None:
    stream = await opening(0, 1)
    assert isinstance(stream, PostStream)
    await stream.post(clip_pcm()[:WINDOW_BYTES])
    await stream.close()


def _answers(probe: Callable[[Open], object], opening: Open) -> bool:
    async def bounded() -> None:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await probe(opening)  # type: ignore[misc]

    try:
        asyncio.run(bounded())
    except (OSError, EOFError, ValueError):  # not listening, or not ready to answer yet
        return False
    return True


def default_python() -> str:
    """The interpreter of the peers' own environment beside this one, as `make bench` makes it."""
    beside = Path(f"{sys.prefix}-peers") / "bin" / "python"
    return str(beside) if beside.exists() else sys.executable
