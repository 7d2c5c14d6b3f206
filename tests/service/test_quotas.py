import contextlib
import time
import uuid

import pytest

from ser_core.errors import LimitReached
from service.auth import Caller
from service.keys import KeyLimits
from service.quotas import Quotas
from service.settings import Settings

ANYBODY = Caller("1", "anybody", KeyLimits())
FAVOURED = Caller(
    "2", "favoured", KeyLimits(sessions=2, files=2, requests_per_minute=5, audio_s_per_hour=9)
)


def quotas(**limits: int) -> Quotas:
    return Quotas(Settings(**limits))  # pyright: ignore[reportArgumentType]


async def test_without_limits_nothing_is_counted() -> None:
    ours = quotas()
    for _ in range(100):
        await ours.count_request(ANYBODY)
        await ours.charge_audio(ANYBODY, 10_000)


def fresh() -> str:
    return uuid.uuid4().hex


async def test_requests_a_minute_are_counted_by_key() -> None:
    ours = quotas(key_requests_per_minute=2)
    for caller, n_allowed in ((ANYBODY, 2), (FAVOURED, 5)):
        for _ in range(n_allowed):
            await ours.count_request(caller)
        with pytest.raises(LimitReached) as refused:
            await ours.count_request(caller)
        assert refused.value.code == "rate_limited"
        assert 1 <= refused.value.retry_after_s <= 60


def test_streams_at_a_time_are_counted_by_key() -> None:
    ours = quotas(key_sessions=1)
    with ours.session(ANYBODY, fresh()):
        with pytest.raises(LimitReached) as refused, ours.session(ANYBODY, fresh()):
            pass
        with ours.session(FAVOURED, fresh()), ours.session(FAVOURED, fresh()):
            pass
    assert refused.value.code == "session_quota"
    with ours.session(ANYBODY, fresh()):
        pass


def test_files_at_a_time_are_counted_by_key_and_beside_its_streams() -> None:
    ours = quotas(key_files=1, key_sessions=1)
    with ours.session(ANYBODY, fresh()), ours.file(ANYBODY):
        with pytest.raises(LimitReached, match="1 files") as refused, ours.file(ANYBODY):
            pass
        with ours.file(FAVOURED), ours.file(FAVOURED), pytest.raises(LimitReached):
            ours.file(FAVOURED).__enter__()
    assert refused.value.code == "file_quota"
    with ours.file(ANYBODY):
        pass


def test_connections_of_one_session_hold_one_place() -> None:
    ours = quotas(key_sessions=1)
    with ours.session(ANYBODY, "a"):
        with ours.session(ANYBODY, "a"), pytest.raises(LimitReached), ours.session(ANYBODY, "b"):
            pass
        assert ours.has_place(ANYBODY, "a")
        assert not ours.has_place(FAVOURED, "a")
        with contextlib.ExitStack() as more:
            for _ in range(15):
                more.enter_context(ours.session(ANYBODY, "a"))
            with pytest.raises(LimitReached, match="16 connections"):
                more.enter_context(ours.session(ANYBODY, "a"))
    assert not ours.has_place(ANYBODY, "a")
    with ours.session(ANYBODY, "b"):
        pass


@pytest.mark.parametrize("into_the_hour_s", [0, 100, 1800, 3500])
@pytest.mark.parametrize("taken", [[100], [60, 40], [30, 70], [90]])
@pytest.mark.parametrize("wanted", [40, 65, 100])
async def test_the_told_wait_is_long_enough_and_hardly_longer(
    monkeypatch: pytest.MonkeyPatch, into_the_hour_s: int, taken: list[int], wanted: int
) -> None:
    now_s = 1_000 * 3600.0 + into_the_hour_s
    monkeypatch.setattr(time, "time", lambda: now_s)
    ours = quotas(key_audio_s_per_hour=100)
    for n_s in taken:
        await ours.charge_audio(ANYBODY, n_s)
        now_s += 600
    with pytest.raises(LimitReached) as refused:
        await ours.check_audio(ANYBODY, wanted)
    wait_s = refused.value.retry_after_s
    assert wait_s is not None
    now_s += wait_s - 120
    with pytest.raises(LimitReached):
        await ours.check_audio(ANYBODY, wanted)
    now_s += 121
    await ours.charge_audio(ANYBODY, wanted)
