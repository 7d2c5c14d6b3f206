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
    def place(self, name: str, n_places: int) -> Iterator[bool]:
        """Holds one of the places of a name meanwhile; `False` where all are taken."""
        for number in range(n_places):
            path = self.folder / "places" / f"{_file_name(name)}-{number}"
            with _in_room():
                fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            try:
                yield True
            finally:
                os.close(fd)
            return
        yield False

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


def _file_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
