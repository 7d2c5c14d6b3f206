"""The processes behind `service.decoding`: `python -m service.decoder`, started by it alone.

The fork server has one thread, imports all decoders before it forks, and does nothing but fork,
wait and kill. Its standard input is a socket to the service; with that, it ends. A decoder has
three descriptors, the file, its socket and `/dev/null`, and may open no others: no file, no
connection. Its limits are set before it reads the first byte.
"""

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import math
import os
import pkgutil
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from typing import Any

import numpy as np

from ser_core.containers import AudioSource, open_audio
from ser_core.errors import SerError
from service.decoding import (
    ASK,
    END,
    FAILED,
    HEADER,
    MIN_DECODE_SPEED,
    N_ASK_FDS,
    RECORD,
    RECORD_SAMPLES,
    SAMPLES,
    STALL_CPU_S,
)

_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
_OUT_FD = 1
_N_FDS = 3


def main() -> None:
    """The fork server, until the service closes its socket."""
    _import_pyav()
    libc = ctypes.CDLL(None)
    control = socket.socket(fileno=os.dup(0))
    with ForkServer(control, libc) as server:
        gc.collect()
        gc.freeze()  # so that the decoders' collections do not copy what they share
        server.run()


def _import_pyav() -> None:
    """All of it, where it is installed: a decoder could not open its modules later."""
    if importlib.util.find_spec("av") is None:
        return
    av = importlib.import_module("av")
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


class ForkServer:
    """Forks decoders as asked over `control`, and tells how each ended."""

    def __init__(self, control: socket.socket, libc: ctypes.CDLL) -> None:
        self._control = control
        self._libc = libc
        self._statuses: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, None)
        # Python writes a byte there whenever a child ends: the selector wakes up by it.
        self._woken, self._wakeup = socket.socketpair()
        self._woken.setblocking(False)
        self._wakeup.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        for pid in self._statuses:
            os.kill(pid, signal.SIGKILL)

    def run(self) -> None:
        """Serves until the socket is closed at its other end."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    if not self._take():
                        return
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                    self._reap()
                elif key.data in self._statuses:  # nobody waits for this decoder any more
                    self._selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)

    def _take(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, ASK.size, N_ASK_FDS)
        if len(message) < ASK.size or len(fds) < N_ASK_FDS:
            return False
        memory_bytes, cpu_s = ASK.unpack(message)
        file_fd, samples_fd, status_fd = fds
        try:
            pid = os.fork()
        except OSError:  # no room for a process: the service sees its sockets end
            for fd in fds:
                os.close(fd)
            return True
        if pid == 0:
            try:
                _become_decoder(file_fd, samples_fd, memory_bytes, cpu_s, self._libc)
                _decode(cpu_s)
            except BrokenPipeError:  # nobody reads any more
                pass
            finally:
                os._exit(0)
        os.close(file_fd)
        os.close(samples_fd)
        status = socket.socket(fileno=status_fd)
        self._statuses[pid] = status
        self._selector.register(status, selectors.EVENT_READ, pid)
        return True

    def _reap(self) -> None:
        while self._statuses:
            pid, wait_status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            ended = {
                "status": wait_status,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "peak_bytes": usage.ru_maxrss * 1024,  # in KiB on Linux
            }
            status = self._statuses.pop(pid)
            with contextlib.suppress(KeyError):  # it was, if the service lost interest
                self._selector.unregister(status)
            with status, contextlib.suppress(OSError):
                status.sendall(json.dumps(ended).encode())


def _become_decoder(
    file_fd: int, samples_fd: int, memory_bytes: int, cpu_s: float, libc: ctypes.CDLL
) -> None:
    """Leaves this process with the file as 0, its socket as 1, and its limits."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")  # where memory runs out, this process goes first
    os.dup2(file_fd, 0)
    os.dup2(samples_fd, _OUT_FD)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries have much to say of a bad file
    limit_bytes = _address_space_bytes() + memory_bytes
    os.closerange(_N_FDS, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], file_fd, 1024))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_N_FDS, _N_FDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    allow_cpu(cpu_limit_s(cpu_s, 0.0, 0.0))


def _address_space_bytes() -> int:
    """What the process has mapped already."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no pathlib between fork and limits
        return int(file.read().split()[0]) * resource.getpagesize()


def cpu_limit_s(cpu_s: float, sent_s: float, used_s: float) -> float:
    """CPU time until the next samples, that of before included.

    `cpu_s` and a tenth of the audio that was sent, of which nothing is to use up hours at once.
    """
    return min(cpu_s + sent_s / MIN_DECODE_SPEED, used_s + STALL_CPU_S)


def allow_cpu(cpu_s: float) -> None:
    """At its soft limit the kernel sends SIGXCPU, which ends the process."""
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu_s), resource.RLIM_INFINITY))


def _decode(cpu_s: float) -> None:
    out = socket.socket(fileno=_OUT_FD)
    # Made while there is memory for it.
    no_memory = _failure("MemoryError", "", "", "")
    try:
        with open(0, "rb", closefd=False) as file, open_audio(file) as audio:
            _send(out, HEADER, json.dumps(_header(audio)).encode())
            n_sent = 0
            for block in audio.blocks(RECORD_SAMPLES):
                _send(out, SAMPLES, np.ascontiguousarray(block, np.float32).data.cast("B"))
                n_sent += len(block)
                allow_cpu(cpu_limit_s(cpu_s, n_sent / audio.rate_hz, time.process_time()))
        _send(out, END, b"")
    except SerError as error:
        kind = type(error).__name__
        _send(out, FAILED, _failure(kind, error.code, str(error), error.remedy))
    except MemoryError:
        _send(out, FAILED, no_memory)
    except BrokenPipeError:
        raise
    except Exception:
        _send(out, FAILED, _failure("fault", "", traceback.format_exc(limit=-5), ""))


def _header(audio: AudioSource) -> dict[str, Any]:
    return {
        "rate_hz": audio.rate_hz,
        "n_channels": audio.n_channels,
        "container": audio.container,
        "announced_samples": audio.announced_samples,
        "n_tracks": audio.n_tracks,
    }


def _failure(kind: str, code: str, message: str, remedy: str) -> bytes:
    told = {"kind": kind, "code": code, "message": message[-4000:], "remedy": remedy}
    return json.dumps(told).encode()


def _send(out: socket.socket, kind: bytes, payload: bytes | memoryview) -> None:
    out.sendall(RECORD.pack(kind, len(payload)))
    out.sendall(payload)


if __name__ == "__main__":
    main()
