"""API keys as the server keeps them: by name and SHA-256, never themselves.

A key is 256 random bits, so a plain hash is enough: there is no dictionary to try. The file is
JSON, written whole and put in place by a rename, new ones readable by their owner only:

    {"version": 1, "keys": [{"name": "kiosk", "sha256": "...", "created": "...", "limits": {}}]}
"""

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ser_core.errors import BadParameter, SerError

KEY_PREFIX = "glrf_"
KEY_BYTES = 32

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]

log = logging.getLogger(__name__)


class KeyLimits(BaseModel):
    """What one key may do; `None` leaves it to the service's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sessions: int | None = Field(default=None, ge=1)
    files: int | None = Field(default=None, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    audio_s_per_hour: int | None = Field(default=None, ge=1)


class ApiKey(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: str | None = None
    limits: KeyLimits = KeyLimits()

    @property
    def id(self) -> str:
        """Names the key where the hash would be too much: another key has another id."""
        return self.sha256[:16]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = Field(default=1, ge=1, le=1)
    keys: list[ApiKey] = []


def hashed(key: str) -> str:
    """SHA-256 of a key, hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key(name: str, limits: KeyLimits | None = None) -> tuple[str, ApiKey]:
    """A random key, to be shown once, and what is kept of it; raises `BadParameter`."""
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        kept = ApiKey(name=name, sha256=hashed(key), created=created, limits=limits or KeyLimits())
    except ValidationError as error:
        raise BadParameter(
            f"{name[:80]!r} is no name for a key",
            remedy="use 1 to 64 letters, digits, dots, dashes or underscores",
        ) from error
    return key, kept


def read_keys(path: Path) -> list[ApiKey]:
    """The keys of a file, none where there is no file; raises `SerError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, str(error)) from error
    try:
        keys = _File.model_validate_json(text).keys
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _unusable(path, f"{place}: {first['msg']}") from error
    _check_distinct(keys, str(path))
    return keys


@contextlib.contextmanager
def changing(path: Path) -> Iterator[None]:
    """Nobody else is in here for a file of that folder: to read the keys and write them changed.

    Raises `SerError` where there can be no such folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with contextlib.suppress(OSError):  # of file systems that lock no folders, as NFS
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_keys(path: Path, keys: Iterable[ApiKey]) -> None:
    """Puts the file in place whole; raises `SerError` where it cannot be written.

    A new one has mode 0600; one that was there keeps its owner and mode, where we may give them.
    """
    text = _File(keys=list(keys)).model_dump_json(indent=2, exclude_none=True) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes it 0600 from the start.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                _take_over_access(path, descriptor)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


def _take_over_access(path: Path, descriptor: int) -> None:
    """Gives an open file the owner, group and mode of the one in whose place it comes, if any."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        status = path.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def parse_keys(text: str) -> list[ApiKey]:
    """Keys of `GLRF_API_KEYS`: comma-separated `name:sha256`; raises `SerError`."""
    keys: list[ApiKey] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, sha256 = part.rpartition(":")
        try:
            keys.append(ApiKey(name=name, sha256=sha256.lower()))
        except ValidationError as error:
            # Its text is not told: it may be a key that somebody forgot to hash.
            raise SerError(
                f"entry {len(keys) + 1} of GLRF_API_KEYS is not name:sha256",
                remedy="write what `glrf keys create` prints, never a key itself",
                code="access_misconfigured",
            ) from error
    _check_distinct(keys, "GLRF_API_KEYS")
    return keys


def _check_distinct(keys: list[ApiKey], where: str) -> None:
    names = [key.name for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise SerError(
                f"{where} has two keys named {name}",
                remedy="give each its own name",
                code="access_misconfigured",
            )


def _unwritable(path: Path, error: OSError) -> SerError:
    return SerError(
        f"{path} cannot be written: {error.strerror or error}",
        remedy="choose another file, or a user that may write it",
        code="access_misconfigured",
    )


def _unusable(path: Path, cause: str) -> SerError:
    return SerError(
        f"the API keys in {path} cannot be read: {cause}",
        remedy="mend the file, or make it anew with `glrf keys create`",
        code="access_misconfigured",
    )


class KeyRing:
    """The keys that open the service now: those of the environment and of a file that may change.

    Raises `SerError` (`access_misconfigured`) for keys that cannot be read at the start; later
    the last good ones stay.
    """

    def __init__(self, path: Path | None, fixed: Iterable[ApiKey] = ()) -> None:
        self._path = path
        self._fixed = tuple(fixed)
        self._seen = self._stamp()  # of the last good reading
        self._complaint: str | None = None
        self._keys = (*self._fixed, *(read_keys(path) if path is not None else ()))
        _check_distinct(list(self._keys), "GLRF_API_KEYS and GLRF_API_KEYS_FILE together")
        self.is_open = path is None and not self._fixed
        if not self._keys and path is not None:
            log.warning("%s has no API key yet: nobody is let in; `glrf keys create NAME`", path)

    def refresh(self) -> bool:
        """Reads a changed file; whether the keys are others now."""
        stamp = self._stamp()
        if self._path is None or stamp == self._seen:
            return False
        try:
            keys = (*self._fixed, *read_keys(self._path))
            _check_distinct(list(keys), "GLRF_API_KEYS and GLRF_API_KEYS_FILE together")
        except SerError as error:
            # It is read again next time: what mends it, a chown say, may change no stamp.
            if error.detail != self._complaint:
                log.error("the API keys stay as they were: %s", error.detail)
            self._complaint = error.detail
            return False
        self._seen, self._complaint = stamp, None
        is_changed = keys != self._keys
        self._keys = keys
        log.info("%d API keys", len(keys))
        return is_changed

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def find(self, key: str) -> ApiKey | None:
        """The key that was presented, compared with all, each in constant time."""
        digest = hashed(key)
        found = None
        for kept in self._keys:
            if hmac.compare_digest(kept.sha256, digest):
                found = kept
        return found

    def by_name(self, name: str) -> ApiKey | None:
        """The key of a name."""
        return next((kept for kept in self._keys if kept.name == name), None)

    def by_id(self, key_id: str) -> ApiKey | None:
        """The key of a token."""
        return next((kept for kept in self._keys if kept.id == key_id), None)
