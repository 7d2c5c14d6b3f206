"""What the workers of one server have in common: a private folder on this machine.

It holds what must be once and not once a worker: tokens and signatures that were used, places of
keys that are taken, counters. What a worker held is free when it dies, for the kernel forgets its
locks. What cannot be written raises `Unavailable`.
"""

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from ser_core.errors import Unavailable

_BUSY_S = 1.0


class Shared:
    """The folder, which is there and is nobody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("claims", "places"):
            (folder / name).mkdir(exist_ok=True)
        self._database = sqlite3.connect(
            folder / "counters.sqlite", timeout=_BUSY_S, isolation_level=None
        )
        # Nothing here outlives the server, so nothing waits for the disk.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS counters (key TEXT PRIMARY KEY, n INTEGER, expires_s REAL)"
        )

    def claim(self, name: str) -> bool:
        """Whether nobody has claimed the name before, which is then claimed."""
        with _in_room(), contextlib.suppress(FileExistsError):
            os.close(os.open(self._claim(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            return True
        return False

    def forget(self, name: str) -> None:
        """The name may be claimed again."""
        self._claim(name).unlink(missing_ok=True)

    def _claim(self, name: str) -> Path:
        return self.folder / "claims" / _file_name(name)

    @contextlib.contextmanager
    def place(self, name: str, holder: str, n_places: int | None) -> Iterator[bool]:
        """Holds one of the places of a name meanwhile; `False` where others have taken all.

        A holder has one place, however often and at however many workers it is held. With `None`
        there are as many as are asked for.
        """
        folder = self.folder / "places" / _file_name(name)
        path = folder / _file_name(holder)
        with self._alone():
            folder.mkdir(exist_ok=True)
            fd = None
            if n_places is None or _n_held(folder, path) < n_places:
                fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(fd, fcntl.LOCK_SH)
        if fd is None:
            yield False
            return
        try:
            yield True
        finally:
            # Where that cannot be, the file stays until the name's places are counted.
            with contextlib.suppress(Unavailable), self._alone():
                _remove_unless_held(path, fd)
            os.close(fd)

    def is_held(self, name: str, holder: str) -> bool:
        """Whether the holder has one of the name's places, at any worker."""
        with self._alone():
            return _is_held(self.folder / "places" / _file_name(name) / _file_name(holder))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other worker looks at places or takes one meanwhile."""
        with _in_room():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                self._database.execute("ROLLBACK")  # of nothing: it was begun for its lock

    def count(self, key: str) -> int:
        """A counter's value; 0 when it has expired."""
        row = self._database.execute(
            "SELECT n FROM counters WHERE key = ? AND expires_s > ?", (key, time.time())
        ).fetchone()
        return 0 if row is None else row[0]

    def add(self, key: str, n: int, lifetime_s: float) -> int:
        """Adds to a counter, which expires `lifetime_s` after its first value; the new value."""
        now_s = time.time()
        with _in_room():
            (value,) = self._database.execute(
                "INSERT INTO counters VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET "
                "n = CASE WHEN expires_s > ?4 THEN n + ?2 ELSE ?2 END, "
                "expires_s = CASE WHEN expires_s > ?4 THEN expires_s ELSE ?3 END RETURNING n",
                (key, n, now_s + lifetime_s, now_s),
            ).fetchone()
            if value == n:  # a counter's first value: seldom, so the time to clear away
                self._database.execute("DELETE FROM counters WHERE expires_s <= ?", (now_s,))
        return value


@contextlib.contextmanager
def _in_room() -> Iterator[None]:
    """A full disk, or a lock that does not come free, is told as `Unavailable`."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise Unavailable(
            f"what the workers share cannot be written ({error})",
            remedy="try again later; operators: is TMPDIR full?",
        ) from error


def _n_held(folder: Path, but: Path) -> int:
    """How many of a folder's files are held, one left aside; what dead workers left is removed."""
    n_held = 0
    for path in folder.iterdir():
        if path == but:
            continue
        if _is_held(path):
            n_held += 1
        else:
            path.unlink()
    return n_held


def _is_held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _remove_unless_held(path: Path, fd: int) -> None:
    """Removes an open file that nobody else holds."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _file_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
