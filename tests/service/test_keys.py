import errno
import json
import os
import stat
from pathlib import Path

import pytest

from ser_core.errors import BadParameter, SerError
from service.keys import (
    ApiKey,
    KeyLimits,
    KeyRing,
    hashed,
    new_key,
    parse_keys,
    read_keys,
    write_keys,
)

ZEROS = "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_random_and_only_its_hash_is_kept(path: Path) -> None:
    key, kept = new_key("kiosk", KeyLimits(sessions=3))
    other, _ = new_key("kiosk")
    assert key != other
    assert len(key.removeprefix("glrf_")) == 43  # 256 bits in base64
    assert kept.sha256 == hashed(key)
    write_keys(path, [kept])
    assert key not in path.read_text()
    assert read_keys(path) == [kept]
    assert json.loads(path.read_text())["keys"][0]["limits"] == {"sessions": 3}


def test_the_file_is_its_owners_and_put_in_place_whole(path: Path) -> None:
    before = os.umask(0)
    try:
        write_keys(path, [])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


def test_a_failed_write_leaves_the_old_file(path: Path) -> None:
    _, kept = new_key("kiosk")
    write_keys(path, [kept])
    blocked = path.parent / "keys.json" / "below"
    with pytest.raises(SerError, match="cannot be written") as refused:
        write_keys(blocked, [])
    assert refused.value.code == "access_misconfigured"
    assert read_keys(path) == [kept]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "ö", "a\n"])
def test_a_name_is_a_plain_word(name: str) -> None:
    with pytest.raises(BadParameter, match="is no name for a key"):
        new_key(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 2, "keys": []}',
        '{"keys": [{"name": "a", "sha256": "12"}]}',
        f'{{"keys": [{{"name": "a", "sha256": "{ZEROS}", "limits": {{"sessions": 0}}}}]}}',
        f'{{"keys": [{{"name": "a", "sha256": "{ZEROS}"}}, {{"name": "a", "sha256": "{ZEROS}"}}]}}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_a_broken_file_is_named(path: Path, text: str) -> None:
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SerError) as refused:
        read_keys(path)
    assert refused.value.code == "access_misconfigured"
    assert str(path) in str(refused.value)


def test_keys_of_the_environment() -> None:
    one, two = "0" * 64, "F" * 64
    assert parse_keys(f"a:{one}, b:{two},") == [
        ApiKey(name="a", sha256=one),
        ApiKey(name="b", sha256=two.lower()),
    ]


def test_a_key_that_was_not_hashed_is_not_repeated() -> None:
    key, _ = new_key("a")
    with pytest.raises(SerError, match="entry 1 of GLRF_API_KEYS") as refused:
        parse_keys(f"a:{key}")
    assert key not in refused.value.detail


def test_a_ring_follows_its_file(path: Path) -> None:
    ring = KeyRing(path)
    assert not ring.is_open  # a file that is named locks the door, also before it is there
    key, kept = new_key("kiosk")
    assert ring.find(key) is None
    write_keys(path, [kept])
    assert ring.refresh()
    assert not ring.refresh()
    assert ring.find(key) == kept
    assert ring.find(key + "x") is None
    assert ring.by_id(kept.id) == kept
    path.write_text("{ broken")
    assert not ring.refresh()
    assert ring.find(key) == kept
    write_keys(path, [])
    assert ring.refresh()
    assert ring.find(key) is None
    assert not ring.is_open


def test_a_file_that_cannot_be_read_for_a_moment_is_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key, kept = new_key("kiosk")
    write_keys(path, [kept])
    ring = KeyRing(path)
    write_keys(path, [])  # the key is revoked, by root say, and only then given to the server
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", deny)
        for _ in range(3):
            assert not ring.refresh()
    assert ring.find(key) == kept
    assert caplog.text.count("the API keys stay as they were") == 1
    assert ring.refresh()
    assert ring.find(key) is None
    assert not ring.refresh()


def deny(path: Path, **_: object) -> str:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_a_file_keeps_its_owner_and_mode(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _, *owner: owners.append(owner))
    write_keys(path, [])
    assert owners == []
    path.chmod(0o640)
    status = path.stat()
    write_keys(path, [])
    assert owners == [(status.st_uid, status.st_gid)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_of_somebody_else_becomes_its_writers_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    write_keys(path, [])
    path.chmod(0o640)
    monkeypatch.setattr(os, "fchown", refuse)
    write_keys(path, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_of_both_sources_open() -> None:
    key, kept = new_key("env")
    assert KeyRing(None, [kept]).find(key) == kept
    assert KeyRing(None).is_open
