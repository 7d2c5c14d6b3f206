"""Audio files decoded in a process of their own, which may take little and can reach nothing.

    decoding = Decoding(DecodeLimits())
    audio = decoding.open(upload)           # a file with a descriptor, or a path
    for block in audio.blocks(16_000):      # as `ser_core.containers.open_audio` gives them
        ...
    audio.close()

Decoders are written in C and read what strangers send. One *fork server* (`service.decoder`)
imports them once, and forks a *decoder* for each file, in milliseconds. Samples come back over a
socket, whose buffer is all that a decoder may be ahead. What a decoder sends is checked like what
a client sends; a decoder that dies takes nothing with it, and is told as an error of its file.

All of this blocks: it is called from threads.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import numpy as np

from ser_core.container_layout import CONTAINERS
from ser_core.containers import in_blocks
from ser_core.errors import BadAudio, InputError, TooLarge, Unavailable, UnsupportedEncoding
from ser_core.features import Float32

#: One record of a decoder: its kind, and the bytes that follow.
RECORD = struct.Struct("<cI")
HEADER, SAMPLES, END, FAILED = b"H", b"S", b"E", b"F"
#: What the fork server is asked: memory in bytes and seconds of CPU time, beside the file, the
#: socket for samples, and the socket on which it tells how the decoder ended.
ASK = struct.Struct("<Qd")
N_ASK_FDS = 3

#: Samples a channel in one record at most.
RECORD_SAMPLES = 8_192
#: Beyond its credit of CPU time, a decoder must be so much faster than the audio is long.
MIN_DECODE_SPEED = 10.0
#: A decoder that gives nothing for so long waits for its disk, and is stopped. One that spins is
#: ended before that by the CPU time that it may take without giving anything.
STALL_S = 120.0
STALL_CPU_S = 60.0

_MAX_TEXT_BYTES = 65_536
_STATUS_TIMEOUT_S = 5.0
#: What a decoder may fail with.
_ERRORS: dict[str, type[InputError]] = {
    error.__name__: error for error in (BadAudio, TooLarge, UnsupportedEncoding)
}
#: The environment of decoders: no keys and no secrets of the service.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "HOME")

log = logging.getLogger(__name__)


class Stalled(Unavailable):
    """A decoder gave nothing for `STALL_S`."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What decoding one file may take.

    `memory_bytes` is address space beyond that of an idle decoder, `cpu_s` CPU time beyond a
    tenth of the audio's length.
    """

    memory_bytes: int = 128 * 2**20
    cpu_s: float = 10.0


@dataclass(frozen=True, slots=True)
class DecodeUsage:
    """What a decoder took: CPU seconds, and its largest resident memory, shared parts included."""

    cpu_s: float
    peak_bytes: int


class Decoding:
    """The fork server, started with the first file or by `start`, and its limits.

    `on_end` is told what each decoder took, from the thread that closed it.
    """

    def __init__(
        self, limits: DecodeLimits, on_end: Callable[[DecodeUsage], None] = lambda _: None
    ) -> None:
        self._limits = limits
        self._on_end = on_end
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Starts the fork server; it imports what it needs while this returns."""
        with self._lock:
            self._running()

    def open(self, source: BinaryIO | Path) -> "DecodedAudio":
        """Decodes a file from its start; it is not to be read elsewhere until that is closed.

        Raises as `ser_core.containers.open_audio`, and `TooLarge` (`decode_limit`) where the
        decoder ran into its limits, `Unavailable` where the fork server was stopped or the
        decoder killed, `Stalled` where it gave nothing for long.
        """
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            file.flush()
            samples, theirs = (stack.enter_context(end) for end in socket.socketpair())
            status, their_status = (stack.enter_context(end) for end in socket.socketpair())
            fds = [file.fileno(), theirs.fileno(), their_status.fileno()]
            with self._lock:
                self._ask(fds)
            for end in (theirs, their_status):
                end.close()
            audio = DecodedAudio(samples, status, self._limits, self._on_end)
            stack.pop_all()
        if isinstance(source, Path):
            file.close()
        return audio

    def close(self) -> None:
        """Ends the fork server, and decoders that are still at work."""
        with self._lock:
            if self._control is not None:
                self._control.close()  # the fork server ends by that
            if self._process is not None:
                try:
                    self._process.wait(_STATUS_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            self._process = self._control = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _ask(self, fds: list[int]) -> None:
        ask = ASK.pack(self._limits.memory_bytes, self._limits.cpu_s)
        try:
            socket.send_fds(self._running(), [ask], fds)
        except OSError:  # it ended since the last file
            log.warning("the fork server of the decoders is gone; another one is started")
            assert self._process is not None
            self._process.kill()
            self._process.wait()
            socket.send_fds(self._running(), [ask], fds)

    def _running(self) -> socket.socket:
        """The socket to a fork server that runs, or ran a moment ago."""
        if self._control is not None and self._process is not None:
            if self._process.poll() is None:
                return self._control
            self._control.close()
        self._control, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        search_path = [str(Path(folder).resolve()) for folder in sys.path]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-m", "service.decoder"],
                env={
                    **environment,
                    "PYTHONPATH": os.pathsep.join(search_path),
                    "OPENBLAS_NUM_THREADS": "1",  # a process with threads should not fork
                },
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the server's, which finishes its files
            )
        return self._control


class DecodedAudio:
    """Audio of one file as its decoder sends it; read once, by one thread at a time.

    `rate_hz` is the file's own rate, `container` its format's name, `announced_samples` how long
    it says it is, where it does, `n_tracks` how many audio tracks it has. Made by `Decoding.open`.
    """

    def __init__(
        self,
        samples: socket.socket,
        status: socket.socket,
        limits: DecodeLimits,
        on_end: Callable[[DecodeUsage], None],
    ) -> None:
        self._samples = samples
        self._status = status
        self._limits = limits
        self._on_end = on_end
        self._is_open = True
        samples.settimeout(STALL_S)
        status.settimeout(_STATUS_TIMEOUT_S)
        try:
            kind, payload = self._record(_MAX_TEXT_BYTES)
            if kind != HEADER:
                raise _nonsense()
            header = _parsed(payload)
            self.rate_hz = _whole(header, "rate_hz", 1, 1_000_000)
            self.n_channels = _whole(header, "n_channels", 1, 64)
            self.container = str(header.get("container"))
            announced = header.get("announced_samples")
            self.announced_samples = (
                None if announced is None else _whole(header, "announced_samples", 0, 2**63)
            )
            self.n_tracks = _whole(header, "n_tracks", 1, 2**31)
        except BaseException:
            self.close()
            raise

    def blocks(self, n_samples: int) -> Iterator[Float32]:
        """Blocks of `n_samples` samples, the last one shorter: float32 `(n, n_channels)`.

        Raises as `AudioSource.blocks`, and as `Decoding.open`.
        """
        return in_blocks(self._parts(), n_samples)

    def close(self) -> None:
        """Stops the decoder where it still is at work, and waits for its end."""
        if not self._is_open:
            return
        self._is_open = False
        self._samples.close()
        with contextlib.suppress(OSError):  # it may have ended
            self._status.shutdown(socket.SHUT_WR)  # the fork server ends the decoder by that
        self._ended()
        self._status.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _parts(self) -> Iterator[Float32]:
        frame_bytes = 4 * self.n_channels
        while True:
            kind, payload = self._record(RECORD_SAMPLES * frame_bytes)
            if kind == END:
                return
            if kind != SAMPLES or not payload or len(payload) % frame_bytes:
                raise _nonsense()
            yield np.frombuffer(payload, np.float32).reshape(-1, self.n_channels)

    def _record(self, max_bytes: int) -> tuple[bytes, bytearray]:
        """The next record; raises what a `FAILED` one tells, or what the decoder died of."""
        kind, n_bytes = RECORD.unpack(self._received(RECORD.size))
        if n_bytes > (_MAX_TEXT_BYTES if kind == FAILED else max_bytes):
            raise _nonsense()
        payload = self._received(n_bytes)
        if kind == FAILED:
            raise _error(_parsed(payload))
        return kind, payload

    def _received(self, n_bytes: int) -> bytearray:
        data = bytearray(n_bytes)
        view, n_had = memoryview(data), 0
        try:
            while n_had < n_bytes:
                n_new = self._samples.recv_into(view[n_had:])
                if not n_new:
                    raise self._broken_off()
                n_had += n_new
        except TimeoutError as error:
            raise Stalled(
                f"decoding gave nothing for {STALL_S:g} s, as where a disk does not answer",
                remedy="send the file again later; operators: look at the disks of TMPDIR and "
                "GLRF_JOBS_DIR",
            ) from error
        except ConnectionResetError as error:
            raise self._broken_off() from error
        return data

    def _broken_off(self) -> InputError | Unavailable:
        """Why the decoder ended without a word."""
        status = self._ended()
        if status is None:
            return Unavailable("the decoder was stopped", remedy="send the file again")
        if not os.WIFSIGNALED(status):
            return _nonsense()
        number = os.WTERMSIG(status)
        match number:
            case signal.SIGXCPU:
                return _limit(
                    f"decoding took more than {self._limits.cpu_s:g} s of CPU time and a tenth "
                    f"of the audio's length, or {STALL_CPU_S:g} s of it without a sample"
                )
            case signal.SIGKILL | signal.SIGTERM | signal.SIGINT | signal.SIGHUP:
                # A decoder's own limit on memory makes it say so; this came from outside, mostly
                # from the kernel, when the machine's memory had run out.
                log.warning("a decoder was killed (signal %d)", number)
                return Unavailable(
                    "the decoder was killed, as happens where the machine's memory runs out",
                    remedy="send the file again later; operators: give the service more memory",
                )
            case _:
                log.warning("a decoder died of signal %d", number)
                return BadAudio(
                    f"the decoder broke down on the file (signal {number})",
                    remedy=f"it is damaged; convert it anew to one of {CONTAINERS}",
                )

    def _ended(self) -> int | None:
        """The decoder's wait status, told to `on_end` once; `None` where the fork server died."""
        told = bytearray()
        try:
            while data := self._status.recv(4096):
                told += data
        except OSError:
            log.warning("how a decoder ended was not told")
        if not told:
            return None
        ended = json.loads(told)
        self._on_end(DecodeUsage(ended["cpu_s"], ended["peak_bytes"]))
        return ended["status"]


def _limit(cause: str) -> TooLarge:
    return TooLarge(
        cause, remedy="convert it to WAV or FLAC, or send it in parts", code="decode_limit"
    )


def _nonsense() -> BadAudio:
    """A decoder that says what ours never does is no longer ours."""
    log.warning("a decoder broke its protocol")
    return BadAudio(
        "the decoder broke down on the file",
        remedy=f"it is damaged; convert it anew to one of {CONTAINERS}",
    )


def _parsed(payload: bytearray) -> dict[str, Any]:
    try:
        document = json.loads(payload)
    except ValueError:
        raise _nonsense() from None
    if not isinstance(document, dict):
        raise _nonsense()
    return cast(dict[str, Any], document)


def _whole(document: dict[str, Any], member: str, least: int, most: int) -> int:
    value = document.get(member)
    if not isinstance(value, int) or not least <= value <= most:
        raise _nonsense()
    return value


def _error(told: dict[str, Any]) -> InputError:
    """The error that the decoder raised, or would have."""
    if told.get("kind") == "MemoryError":
        return _limit("decoding needs more memory than a file may take")
    kind = _ERRORS.get(str(told.get("kind")))
    if kind is None:  # a fault of ours that this file brought to light
        log.error("a decoder failed: %s", told.get("message"))
        return _nonsense()
    code = str(told.get("code"))
    return kind(str(told.get("message")), remedy=str(told.get("remedy")), code=code)
