"""A server's processes: started on one core, watched through /proc, ended without a rest."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ser_core.errors import NotReady

ROOT = Path(__file__).parents[1]
#: Of a server of ours that must not refuse what is measured.
UNREFUSING = {"GLRF_DEVICE": "cpu", "GLRF_MAX_SESSIONS": "100000", "GLRF_MAX_LOAD": "0"}

_STOP_TIMEOUT_S = 15.0
_POLL_S = 0.1


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Keeps the thread, and every process that it starts meanwhile, on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in tasks.read_text().split()]
    return found


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) from the third on, the first two being the number and the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def process_cpu_s(pid: int) -> float:
    """User and system time of all threads of a process. Raises `OSError` where there is none."""
    return sum(int(ticks) for ticks in _stat(pid)[11:13]) / os.sysconf("SC_CLK_TCK")


def tree_cpu_s(pid: int) -> float:
    """User and system time of a process, its descendants, and those of them that have ended."""
    ticks = 0
    for one in family(pid):
        with contextlib.suppress(OSError):  # it may have ended
            ticks += sum(int(value) for value in _stat(one)[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_kib(pid: int) -> dict[str, int]:
    """A process's memory by kind, as `Rss` and `Pss`, proc(5). Raises `OSError` where it ended."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {kind.rstrip(":"): int(kib) for kind, kib, _ in map(str.split, lines)}


def tree_memory_mb(pid: int, kind: str = "Pss") -> float:
    """Proportional share (PSS) of a process and its descendants: what they share counts once.

    `Pss_Anon` is without files, code above all, whose share falls whenever another process maps it.
    """
    kib = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            kib += memory_kib(one)[kind]
    return kib * 1024 / 1e6


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment here, with the checkout importable, and `extra`."""
    paths = [str(ROOT), str(ROOT / "clients" / "python"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **extra}


@contextmanager
def running(
    command: Sequence[str],
    cpu: int,
    is_ready: Callable[[], bool],
    extra: Mapping[str, str],
    timeout_s: float,
) -> Iterator[int]:
    """Starts a server on one CPU, waits until it is ready, yields its process; ends all of it.

    Raises `NotReady`, with the server's last words, when it does not come up.
    """
    with tempfile.TemporaryFile() as log:
        with pinned(cpu):
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(extra),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            deadline_s = time.monotonic() + timeout_s
            while not is_ready():
                if process.poll() is not None or time.monotonic() > deadline_s:
                    log.seek(0)
                    words = " ".join(log.read().decode("utf-8", "replace").split())[-300:]
                    how = f"was not ready after {timeout_s:.0f} s"
                    if process.returncode is not None:
                        how = f"ended at its start with status {process.returncode}"
                    raise NotReady(f"it {how}: {words}", remedy=f"try {' '.join(command)}")
                time.sleep(_POLL_S)
            yield process.pid
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    everyone = {pid: began for pid in family(process.pid) if (began := _began(pid)) is not None}
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
    # What is left by then does not listen; some leave processes behind when they end, too.
    for pid, began in everyone.items():
        if _began(pid) == began:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def _began(pid: int) -> str | None:
    """When a process began, in ticks since boot: with its number, what it is known by."""
    try:
        return _stat(pid)[19]
    except OSError:
        return None
