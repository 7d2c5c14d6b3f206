import tracemalloc

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


def test_small_frames_are_joined_between_commands_but_the_one_on_its_way() -> None:
    box = outbox(b"ab", b"cd", b"ef", "flush", b"gh", b"ij")
    assert box.next == b"ab"
    assert list(box) == [b"ab", b"cdef", "flush", b"ghij"]
    assert send_all(box) == [b"ab", b"cdef", "flush", b"ghij"]
    box.rewind(0)
    assert send_all(box) == [b"abcdef", "flush", b"ghij"]


@pytest.mark.parametrize("is_sent", [True, False])
def test_tiny_chunks_take_no_more_memory_than_their_bound(is_sent: bool) -> None:
    box = Outbox(MAX_FRAME_BYTES)
    box.keep_from(0)
    audio = bytes(range(256)) * 512
    tracemalloc.start()
    try:
        for at in range(0, len(audio), 2):
            box.add_audio(audio[at : at + 2], 1 << 19)
            if is_sent:
                box.sent()
        n_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_bytes < 1.5 * len(audio)
    box.rewind(0)
    assert b"".join(frame for frame in send_all(box) if isinstance(frame, bytes)) == audio


ITEMS = st.lists(st.one_of(st.binary(min_size=1, max_size=9), st.just("flush")), max_size=30)


@given(ITEMS, st.data())
def test_a_rewind_offers_exactly_the_rest(items: list[bytes | str], data: st.DataObject) -> None:
    box = outbox(*items)
    heard = 0
    for _ in range(data.draw(st.integers(0, len(items)))):
        heard += len(box.next) if isinstance(box.next, bytes) else 0
        if box.next is not None:
            box.sent()
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


def packets(*lengths: int) -> Outbox:
    box = Outbox(MAX_FRAME_BYTES)
    for number, n_samples in enumerate(lengths):
        if number == 3:
            box.add_command("flush")
        box.add_packet(bytes([number]) * n_samples, n_samples)
    return box


@given(
    st.lists(st.sampled_from((0, 120, 240, 480, 960, 2_880)), min_size=1, max_size=12), st.data()
)
def test_packets_are_offered_whole_from_where_they_start(
    lengths: list[int], data: st.DataObject
) -> None:
    """A checkpoint names the start of a packet, rounded down to a millisecond."""
    box = packets(*lengths)
    first = data.draw(st.integers(0, len(lengths) - 1))
    place = sum(lengths[:first]) // 48 * 48
    send_all(box)
    box.keep_from(place)
    assert box.can_rewind_to(place)
    box.rewind(place)
    offered = [item[0] for item in send_all(box) if isinstance(item, bytes) and item]
    timed = [number for number, n_samples in enumerate(lengths) if n_samples]
    assert offered == [number for number in timed if number >= first]


def test_a_command_between_packets_is_offered_with_the_second() -> None:
    box = packets(120, 960, 960, 960)
    send_all(box)
    place = (120 + 960 + 960) // 48 * 48
    box.keep_from(place)
    box.rewind(place)
    assert send_all(box) == ["flush", b"\3" * 960]


def test_packets_without_bytes_fill_the_box_too() -> None:
    box = Outbox(MAX_FRAME_BYTES)
    box.keep_from(0)
    for _ in range(MAX_FRAME_BYTES // 65 + 1):
        assert not box.is_full
        box.add_packet(b"\x08", 960)
    assert box.is_full
