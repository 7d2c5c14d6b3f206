"""What the workers of one server share."""

import asyncio
import subprocess
import sys
import time
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
    with one.place("key", 2) as first, other.place("key", 2) as second:
        assert (first, second) == (True, True)
        with one.place("key", 2) as third, one.place("another key", 2) as fourth:
            assert (third, fourth) == (False, True)
    holding = (
        "import pathlib, sys; from service.shared import Shared\n"
        "with Shared(pathlib.Path(sys.argv[1])).place('key', 1) as held:\n"
        "    print(held, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with one.place("key", 1) as held:
            assert not held
        process.kill()
        process.wait()
    with one.place("key", 1) as held:
        assert held


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


def test_what_a_key_may_take_is_counted_over_all_workers(tmp_path: Path) -> None:
    settings = Settings(key_requests_per_minute=3, key_audio_s_per_hour=10, key_sessions=2)
    one, other = (Quotas(settings, Shared(tmp_path)) for _ in range(2))
    caller = Caller("id", "name", KeyLimits())

    async def run() -> None:
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

    asyncio.run(run())
    with (
        one.session(caller, "a"),
        other.session(caller, "b"),
        pytest.raises(LimitReached, match="2 streams"),
        one.session(caller, "c"),
    ):
        pass
    with one.session(caller, "a"), one.session(caller, "b"):
        pass
