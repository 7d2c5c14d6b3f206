import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from ser_core.errors import Overloaded, SlowClient
from service import wire
from service.broadcast import MAX_WAITING, MAX_WAITING_IN_ALL, Broadcast, Watcher


def broadcast(max_watchers: int = 4) -> tuple[Broadcast, Gauge]:
    gauge = Gauge("watchers", "for the test", registry=CollectorRegistry())
    return Broadcast(max_watchers, gauge), gauge


def value(gauge: Gauge) -> float:
    return next(iter(gauge.collect())).samples[0].value


def message(kind: type[wire.Message], **fields: Any) -> wire.Message:
    """One whose other fields are of no matter here."""
    return kind.model_construct(seq=0, session_id="s", **fields)


def segment(index: int, channel: int = 0) -> wire.Message:
    return message(wire.SegmentMessage, channel=channel, index=index)


def warning(code: str) -> wire.Message:
    return message(wire.WarningMessage, channel=0, code=code)


def waiting(watcher: Watcher) -> list[wire.Message]:
    """All that is there for it now."""

    async def read() -> list[wire.Message]:
        messages: list[wire.Message] = []
        while (told := await watcher.next()) is not None:
            messages.append(told)
        return messages

    watcher.end()
    return asyncio.run(read())


def test_who_comes_late_is_told_the_last_word_on_everything() -> None:
    everybody, _ = broadcast()
    created = message(wire.SessionCreated)
    alert = message(wire.AlertMessage, channel=0, rule="angry>=0.7:1s")
    utterance = message(wire.UtteranceMessage, channel=0)
    error = message(wire.ErrorMessage, code="bad_media", message="the last")
    once = message(wire.CheckpointMessage)
    for told in (
        created,
        segment(0),
        warning("clipping"),
        segment(1),
        message(wire.ErrorMessage, code="bad_media", message="the first"),
        once,
        error,
        segment(5, channel=1),
        alert,
        utterance,
        segment(2),
    ):
        everybody.tell(told)
    watcher = everybody.join()
    last = message(wire.UtteranceMessage, channel=0)
    everybody.tell(last)
    assert waiting(watcher) == [
        created,
        warning("clipping"),
        error,
        segment(5, channel=1),
        alert,
        utterance,
        segment(2),
        last,
    ]


def test_the_end_is_the_end_for_all() -> None:
    everybody, gauge = broadcast()
    first = everybody.join()
    assert value(gauge) == 1
    closed = message(wire.SessionClosed)
    everybody.tell(closed)
    everybody.tell(segment(0))
    assert value(gauge) == 0
    assert everybody.is_over
    assert waiting(first) == [closed]
    assert waiting(everybody.join()) == [closed]
    assert value(gauge) == 0


def test_places_are_limited_and_given_back() -> None:
    everybody, gauge = broadcast(max_watchers=2)
    watchers = [everybody.join(), everybody.join()]
    with pytest.raises(Overloaded, match="2 watch this session"):
        everybody.join()
    everybody.leave(watchers[0])
    everybody.leave(watchers[0])
    assert value(gauge) == 1
    everybody.join()


def test_a_slow_watcher_misses_segments_and_nothing_else() -> None:
    everybody, _ = broadcast()
    watcher = everybody.join()
    for index in range(MAX_WAITING + 50):
        everybody.tell(segment(index))
    utterance = message(wire.UtteranceMessage, channel=0)
    everybody.tell(utterance)
    assert watcher.n_skipped == 50
    told = waiting(watcher)
    assert told[-2:] == [segment(MAX_WAITING - 1), utterance]
    assert len(told) == MAX_WAITING + 1


def test_a_watcher_that_reads_nothing_is_let_go() -> None:
    everybody, gauge = broadcast()
    lost, good = everybody.join(), everybody.join()
    for index in range(MAX_WAITING_IN_ALL + 1):
        everybody.tell(warning(str(index)))
        good._waiting.clear()  # it reads
    assert value(gauge) == 1
    with pytest.raises(SlowClient, match="not read"):
        waiting(lost)
    assert not good.is_lost
