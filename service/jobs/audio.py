"""The recordings of jobs, as files: whole and on disk before a job is accepted.

with folder.receiving() as upload:
    ...                      # write to upload.file
    upload.keep(folder.path(job_id))
"""

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_TEMPORARY_PREFIX = "receiving-"
#: A file in the folder by which it is known: where a share is not mounted it is missing.
MARK = "glrf-recordings"


@dataclass(frozen=True)
class Upload:
    """A body on its way to the disk, under a temporary name."""

    file: BinaryIO
    path: Path

    def keep(self, kept: Path) -> None:
        """Gives it its name, once its bytes are on the disk; then the name is on the disk too."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.path.replace(kept)
        _sync_folder(kept.parent)


class AudioFolder:
    """Audio by job id. All methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path(self, job_id: str) -> Path:
        """Where a job's recording is, if it has one yet."""
        return self._path / job_id

    @property
    def is_away(self) -> bool:
        """Whether what is in the folder's place lacks its mark, as where a share is not mounted."""
        return not (self._path / MARK).exists()

    @property
    def is_bare(self) -> bool:
        """Whether the folder is missing or empty."""
        try:
            return next(self._path.iterdir(), None) is None
        except FileNotFoundError:
            return True

    def mark(self) -> None:
        """Makes the folder, if need be, and its mark; both are on the disk then."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._path / MARK).touch(mode=0o600)
        _sync_folder(self._path)
        _sync_folder(self._path.parent)

    @contextlib.contextmanager
    def receiving(self) -> Iterator[Upload]:
        """A temporary file of this folder, gone at the end unless it was kept.

        The folder is never made here: it would be on the wrong disk where a share is not mounted.
        """
        descriptor, name = tempfile.mkstemp(dir=self._path, prefix=_TEMPORARY_PREFIX)
        with os.fdopen(descriptor, "w+b") as file:
            try:
                yield Upload(file, Path(name))
            finally:
                Path(name).unlink(missing_ok=True)

    def remove(self, job_id: str) -> None:
        """Deletes a job's recording, if there is one."""
        self.path(job_id).unlink(missing_ok=True)

    def strays(self, older_than_s: float) -> list[str]:
        """Names of files that nobody touched for so long: recordings, and uploads that broke off.

        Whose job is no longer there may be removed.
        """
        if self.is_away:  # what is in its place is somebody else's
            return []
        before_s = time.time() - older_than_s
        names: list[str] = []
        for path in self._path.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                is_file = stat.S_ISREG(found.st_mode)  # a disk of its own has a lost+found
                if is_file and path.name != MARK and found.st_mtime < before_s:
                    names.append(path.name)
        return names


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
