"""The servers that are held against each other, and the work that is measured without one."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.fleet import Fleet, Refused
from benchmarks.processes import ROOT, UNREFUSING, environment, pinned, running
from benchmarks.streams import (
    QUERY,
    WINDOW_BYTES,
    Encode,
    PostConnection,
    Stage,
    clip_pcm,
    json_field,
    post_stage,
    raw,
    websocket_stage,
)
from glrf.local_server import HOST, free_port, local_server
from ser_core.errors import SerError

#: A peer's start, imports of Ray or PyTorch on one core included.
START_TIMEOUT_S = 240.0
BARE_TIMEOUT_S = 240.0
PROBE_TIMEOUT_S = 5.0


class NotInstalled(SerError):
    """A peer's package is not in the environment of the peers."""


@dataclass(frozen=True)
class Running:
    """A server that answers: the root of its processes, and a stage of streams to it.

    `stage` takes how many streams, how many windows of each, and what reads the server's CPU time.
    """

    pid: int
    stage: Callable[[int, int, Callable[[], float]], Stage]


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
        "/v1/stream",
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
        {
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray's own ports on loopback; its name for that is of another system.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_worker_niceness": "0",  # as the others; by default its workers give way to all
            # On one core its proxy takes longer to start than the 5 s it is given.
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
            "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
        },
    ),
)


@contextmanager
def this_service(cpu: int) -> Iterator[Running]:
    """`glrf serve` on one CPU."""
    with pinned(cpu):
        serving = local_server(UNREFUSING)
        server = serving.__enter__()
    try:
        yield Running(server.pid, partial(websocket_stage, server.url))
    finally:
        serving.__exit__(None, None, None)


@contextmanager
def peer_server(peer: Peer, python: str, cpu: int) -> Iterator[Running]:
    """The peer's server on one CPU. Raises `NotInstalled`, and `NotReady` with its last words."""
    need(peer.packages, python)
    port = free_port()
    if peer.encode is None:
        url = f"http://{HOST}:{port}"
        stage, is_ready = partial(websocket_stage, url), partial(_websocket_answers, url)
    else:
        url = f"http://{HOST}:{port}{peer.path}"
        stage = partial(post_stage, url, peer.encode)
        is_ready = partial(_post_answers, url, peer.encode)
    with TemporaryDirectory() as home:
        settings = {"BENTOML_HOME": home, "RAY_TMPDIR": home, **peer.settings}
        command = [python, *peer.arguments, "--port", str(port)]
        with running(command, cpu, is_ready, settings, START_TIMEOUT_S) as pid:
            yield Running(pid, stage)


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
        words = " ".join(done.stderr.split())[-300:]
        raise SerError(f"{command[2]} failed: {words}")
    return done.stdout


def _websocket_answers(url: str) -> bool:
    fleet = Fleet(url, QUERY, [], [0])
    try:
        fleet.open(1, timeout_s=PROBE_TIMEOUT_S)
    except (Refused, OSError):  # not listening, or not ready to answer yet
        return False
    finally:
        fleet.close()
    return True


def _post_answers(url: str, encode: Encode) -> bool:
    async def probe() -> None:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            connection = await PostConnection.open(url, encode)
            try:
                await connection.post(clip_pcm()[:WINDOW_BYTES])
            finally:
                connection.close()

    try:
        asyncio.run(probe())
    except (OSError, EOFError, ValueError):
        return False
    return True


def default_python() -> str:
    """The interpreter of the peers' own environment beside this one, as `make bench` makes it."""
    beside = Path(f"{sys.prefix}-peers") / "bin" / "python"
    return str(beside) if beside.exists() else sys.executable
