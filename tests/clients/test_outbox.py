import pytest
from hypothesis import given
from hypothesis import strategies as st

from glrf_client.outbox import MAX_FRAME_BYTES, Outbox


def outbox(*items: bytes | str, max_bytes: int = MAX_FRAME_BYTES) -> Outbox:
    box = Outbox(max_bytes)
    for item in items:
        box.add_command(item) if isinstance(item, str) else box.add_audio(item, 1 << 19)
    return box


def send_all(box: Outbox) -> list[bytes | str]:
    sent: list[bytes | str] = []
    while (item := box.next) is not None:
        sent.append(item)
        box.sent()
    return sent


def test_items_are_offered_once_and_in_order() -> None:
    box = outbox(b"ab", "flush", b"cd")
    assert send_all(box) == [b"ab", "flush", b"cd"]
    assert box.next is None


def test_long_audio_is_split() -> None:
    box = Outbox(1 << 22)
    box.add_audio(bytes(5), 2)
    assert [len(frame) for frame in box] == [2, 2, 1]
    assert box.end == 5


def test_a_rewind_cuts_a_frame_where_the_checkpoint_is() -> None:
    box = outbox(b"abcd", "flush", b"efgh")
    send_all(box)
    box.keep_from(2)
    box.rewind(2)
    assert send_all(box) == [b"cd", "flush", b"efgh"]


def test_a_command_at_the_checkpoint_is_offered_again() -> None:
    box = outbox(b"abcd", "flush", b"efgh")
    send_all(box)
    box.keep_from(4)
    box.rewind(4)
    assert send_all(box) == ["flush", b"efgh"]


def test_what_a_checkpoint_covers_is_gone_and_makes_room() -> None:
    box = Outbox(MAX_FRAME_BYTES)
    box.keep_from(0)
    box.add_audio(bytes(MAX_FRAME_BYTES), 1 << 19)
    send_all(box)
    box.keep_from(1)
    box.add_audio(bytes(MAX_FRAME_BYTES), MAX_FRAME_BYTES)
    assert box.is_full
    assert box.can_rewind_to(1)
    box.keep_from(MAX_FRAME_BYTES)
    assert not box.can_rewind_to(1)
    send_all(box)
    box.keep_from(2 * MAX_FRAME_BYTES)
    assert not box.is_full


def test_without_checkpoints_what_was_sent_gives_way_and_the_rest_never() -> None:
    box = outbox(bytes(MAX_FRAME_BYTES))
    assert box.is_full
    assert box.can_rewind_to(0)
    send_all(box)
    assert not box.is_full
    assert not box.can_rewind_to(0)


def test_a_command_that_gave_way_is_not_claimed() -> None:
    box = outbox("flush")
    send_all(box)
    box.add_audio(bytes(MAX_FRAME_BYTES), MAX_FRAME_BYTES)
    assert not box.can_rewind_to(0)


def test_a_bound_below_one_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="give 1048576 or more"):
        Outbox(1000)


ITEMS = st.lists(st.one_of(st.binary(min_size=1, max_size=9), st.just("flush")), max_size=30)


@given(ITEMS, st.data())
def test_a_rewind_offers_exactly_the_rest(items: list[bytes | str], data: st.DataObject) -> None:
    box = outbox(*items)
    n_sent = data.draw(st.integers(0, len(items)))
    for _ in range(n_sent):
        box.sent()
    heard = sum(len(item) for item in items[:n_sent] if isinstance(item, bytes))
    position = data.draw(st.integers(0, heard))
    box.keep_from(position)
    box.rewind(position)
    again = send_all(box)
    audio = b"".join(item for item in items if isinstance(item, bytes))
    assert b"".join(item for item in again if isinstance(item, bytes)) == audio[position:]
    at, n_commands = 0, 0
    for item in items:
        n_commands += isinstance(item, str) and at >= position
        at += len(item) if isinstance(item, bytes) else 0
    assert sum(isinstance(item, str) for item in again) == n_commands
