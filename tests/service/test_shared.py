"""What the workers of one server share."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ser_core.errors import LimitReached, Unauthenticated, Unavailable
from service.auth import Caller
from service.keys import KeyLimits
from service.quotas import Quotas
from service.settings import Settings
from service.shared import Shared
from service.tokens import Tokens


def test_a_name_is_claimed_once_by_all(tmp_path: Path) -> None:
    one, other = Shared(tmp_path), Shared(tmp_path)
    assert one.claim("../a")
    assert not other.claim("../a")
    assert other.claim("b")
    one.forget("../a")
    assert other.claim("../a")
    assert not (tmp_path.parent / "a").exists()


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    shared = Shared(tmp_path)
    shared._database.execute("PRAGMA query_only = ON")  # as on a full disk
    with pytest.raises(Unavailable, match="cannot be written"):
        shared.add("key", 1, 60.0)
    (tmp_path / "claims").rename(tmp_path / "gone")
    with pytest.raises(Unavailable, match="cannot be written"):
        shared.claim("a")


def test_places_are_counted_in_all_and_free_when_who_held_them_is_gone(tmp_path: Path) -> None:
    one, other = Shared(tmp_path), Shared(tmp_path)
    with one.place("key", "a", 2) as first, other.place("key", "b", 2) as second:
        assert (first, second) == (True, True)
        with one.place("key", "c", 2) as third, one.place("another key", "a", 2) as fourth:
            assert (third, fourth) == (False, True)
    with place_of_a_process(tmp_path, "a"):
        with one.place("key", "b", 1) as held:
            assert not held
        assert one.is_held("key", "a")
    assert not one.is_held("key", "a")
    with one.place("key", "b", 1) as held:
        assert held


def test_a_holder_has_one_place_at_however_many_workers(tmp_path: Path) -> None:
    one, other = Shared(tmp_path), Shared(tmp_path)
    with one.place("key", "a", 1) as held:
        assert held
        with place_of_a_process(tmp_path, "a"):
            pass
        with other.place("key", "b", 1) as held:
            assert not held
    with contextlib.ExitStack() as hanging, other.place("key", "a", 1) as held:
        assert hanging.enter_context(one.place("key", "a", 1))
        assert held
        hanging.close()
        assert one.is_held("key", "a")
        with one.place("key", "b", 1) as held:
            assert not held
    with one.place("key", "b", 1) as held:
        assert held
        assert not one.is_held("key", "a")


def test_places_leave_no_files(tmp_path: Path) -> None:
    shared = Shared(tmp_path)

    def n_files() -> int:
        return sum(path.is_file() for path in (tmp_path / "places").rglob("*"))

    with shared.place("key", "a", None), shared.place("key", "b", None):
        assert n_files() == 2
    assert n_files() == 0
    with place_of_a_process(tmp_path, "a"):
        pass
    assert n_files() == 1  # it was killed
    with shared.place("key", "b", 1):
        assert n_files() == 1


@contextlib.contextmanager
def place_of_a_process(folder: Path, holder: str) -> Iterator[None]:
    """A place of `key`, until the process that holds it is killed."""
    holding = (
        "import pathlib, sys; from service.shared import Shared\n"
        "with Shared(pathlib.Path(sys.argv[1])).place('key', sys.argv[2], 1) as held:\n"
        "    print(held, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(folder), holder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield
        process.kill()
        process.wait()


def test_counters_are_of_all_and_expire(tmp_path: Path) -> None:
    one, other = Shared(tmp_path), Shared(tmp_path)
    assert one.add("a", 2, 60) == 2
    assert other.add("a", 3, 60) == 5
    assert one.count("a") == 5
    assert one.count("b") == 0
    assert other.add("c", 1, 0.05) == 1
    time.sleep(0.06)
    assert one.count("c") == 0
    assert one.add("c", 4, 60) == 4


def test_a_token_is_good_at_one_worker_only(tmp_path: Path) -> None:
    one, other = (Tokens((b"x" * 32,), 60.0, shared=Shared(tmp_path)) for _ in range(2))
    token = one.issue("key")
    assert other.redeem(token) == "key"
    for tokens in (one, other):
        with pytest.raises(Unauthenticated, match="used already"):
            tokens.redeem(token)


def test_a_used_token_is_forgotten_when_it_would_be_refused_for_its_age(tmp_path: Path) -> None:
    now_s = [1000.0]
    tokens = Tokens((b"x" * 32,), 60.0, shared=Shared(tmp_path), clock=lambda: now_s[0])
    tokens.redeem(tokens.issue("key"))
    now_s[0] += 100
    tokens.redeem(tokens.issue("key"))
    assert len(list((tmp_path / "claims").iterdir())) == 1


async def test_what_a_key_may_take_is_counted_over_all_workers(tmp_path: Path) -> None:
    settings = Settings(
        key_requests_per_minute=3, key_audio_s_per_hour=10, key_sessions=2, key_files=2
    )
    one, other = (Quotas(settings, Shared(tmp_path)) for _ in range(2))
    caller = Caller("id", "name", KeyLimits())
    for quotas in (one, other, one):
        await quotas.count_request(caller)
    with pytest.raises(LimitReached, match="3 requests a minute") as refused:
        await other.count_request(caller)
    assert refused.value.code == "rate_limited"
    assert 0 < (refused.value.retry_after_s or 0) <= 120
    await one.charge_audio(caller, 6)
    with pytest.raises(LimitReached, match="10 s of audio"):
        await other.charge_audio(caller, 6)
    await other.charge_audio(caller, 4)
    with (
        one.session(caller, "a"),
        other.session(caller, "b"),
        pytest.raises(LimitReached, match="2 streams"),
        one.session(caller, "c"),
    ):
        pass
    with one.session(caller, "a"), one.session(caller, "b"):
        pass
    with one.file(caller), other.file(caller), pytest.raises(LimitReached, match="2 files"):
        one.file(caller).__enter__()
    with one.file(caller), one.file(caller):
        pass


def test_a_session_goes_on_at_another_worker_while_its_old_connection_hangs(tmp_path: Path) -> None:
    one, other = (Quotas(Settings(key_sessions=1), Shared(tmp_path)) for _ in range(2))
    caller, another = Caller("id", "name", KeyLimits()), Caller("other", "other", KeyLimits())
    with contextlib.ExitStack() as hanging, contextlib.ExitStack() as resumed:
        hanging.enter_context(one.session(caller, "a"))
        assert other.has_place(caller, "a")
        assert not other.has_place(another, "a")
        resumed.enter_context(other.session(caller, "a"))
        for quotas in (one, other):
            with pytest.raises(LimitReached, match="1 streams"), quotas.session(caller, "b"):
                pass
        hanging.close()
        with pytest.raises(LimitReached, match="1 streams"), one.session(caller, "b"):
            pass
        resumed.close()
        assert not one.has_place(caller, "a")
        with one.session(caller, "b"):
            pass


def test_streams_that_nobody_counts_need_nothing_that_can_be_written(tmp_path: Path) -> None:
    quotas = Quotas(Settings(), Shared(tmp_path))
    limited = Caller("other", "other", KeyLimits(sessions=1))
    (tmp_path / "places").rename(tmp_path / "gone")  # as on a full disk
    with quotas.session(Caller("id", "name", KeyLimits()), "a"):
        pass
    with pytest.raises(Unavailable, match="cannot be written"), quotas.session(limited, "a"):
        pass
