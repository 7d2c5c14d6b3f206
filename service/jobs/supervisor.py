"""Worker processes as children of the server: started again when they die, gone when it goes."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from pydantic import SecretStr

from service.settings import PREFIX, Settings

_WORKER = "from service.jobs.worker import run; run(is_child=True)"
#: A process that ended sooner than this after its start is started again ever later.
STEADY_S = 30.0
_FIRST_PAUSE_S = 0.5
#: Beyond `shutdown_s`, for what comes after a worker's own orderly end.
_GRACE_S = 2.0
_MAX_PAUSE_S = 30.0

log = logging.getLogger(__name__)


@contextlib.contextmanager
def unwound_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does meanwhile, a server's when it has ended; then it ends us.

    SIGHUP, as of a terminal that is closed, is taken for SIGTERM, but where it is ignored (nohup).
    """
    is_told = False

    def unwind(*_: object) -> None:
        nonlocal is_told
        is_told = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, unwind)
    hangup = signal.getsignal(signal.SIGHUP)
    if hangup is not signal.SIG_IGN:
        # Whoever handles that one now: uvicorn does so meanwhile, and knows no SIGHUP.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, hangup)
        if is_told:
            signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def workers(settings: Settings) -> Iterator[Callable[[], None]]:
    """Runs `settings.jobs_workers` workers meanwhile.

    Gives what tells them to end, for whoever has to end too: then both do at a time. They have
    `settings.shutdown_s` from the first time that they are told.
    """
    children = [_Child(settings, number) for number in range(settings.jobs_workers)]

    def begin_stop() -> None:
        for child in children:
            child.begin_stop()

    try:
        yield begin_stop
    finally:
        begin_stop()
        for child in children:
            child.stop()


def longer(pause_s: float) -> float:
    """The pause before the next start, after one of `pause_s`; the first, after none."""
    return min(2 * pause_s, _MAX_PAUSE_S) if pause_s else _FIRST_PAUSE_S


class _Child:
    """One worker, and the thread that watches it."""

    def __init__(self, settings: Settings, number: int) -> None:
        self._environment = environment(settings)
        self._shutdown_s = settings.shutdown_s
        self._deadline_s = 0.0
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name=f"worker-{number}", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        pause_s = 0.0
        while not self._is_over.is_set():
            began_s = time.monotonic()
            try:
                ended = f"ended with status {self._run()}"
            except OSError as error:  # no memory, no descriptors: there may be some soon
                ended = f"cannot be started ({error})"
            if self._is_over.is_set():
                return
            is_steady = time.monotonic() - began_s > STEADY_S
            pause_s = longer(0.0 if is_steady else pause_s)
            log.error("a worker of jobs %s; the next starts in %g s", ended, pause_s)
            self._is_over.wait(pause_s)

    def _run(self) -> int:
        """Runs one to its end; its status. Raises `OSError` where none can be started."""
        with self._lock:
            if self._is_over.is_set():
                return 0
            # Its standard input is a pipe from here, which ends with this process.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _WORKER],
                env=self._environment,
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is ours; the child is told to end
            )
        with self._process:  # closes the pipe
            return self._process.wait()

    def begin_stop(self) -> None:
        """SIGTERM, once: it finishes the chunks in hand."""
        with self._lock:
            if self._is_over.is_set():
                return
            self._is_over.set()
            self._deadline_s = time.monotonic() + self._shutdown_s + _GRACE_S
            if self._process is not None:
                self._process.terminate()

    def stop(self) -> None:
        """Waits for its end, and makes it so."""
        if self._process is not None:
            try:
                self._process.wait(max(0.0, self._deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._thread.join()


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a child with these settings: what options changed is in it too."""
    given: dict[str, str] = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is not None:
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            given[PREFIX + name.upper()] = text
    return {**os.environ, **given}
