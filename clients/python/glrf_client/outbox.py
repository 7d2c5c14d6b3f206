"""What a stream still has to send, and what it may have to send again."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

#: Frames are never larger on the wire than the contract's 1 MiB; longer chunks are split here.
MAX_FRAME_BYTES: Final = 1 << 20
#: What a command counts for in the bound, and a packet besides its bytes.
_ITEM_BYTES: Final = 64
#: Raw audio in smaller frames is joined up to this: a frame takes 200 bytes of its own.
_JOINED_BYTES: Final = 4096


class _Item(NamedTuple):
    """A frame and its places in the stream; a command takes up none."""

    at: int
    end: int
    content: bytes | str
    is_packet: bool = False

    @property
    def n_bytes(self) -> int:
        if isinstance(self.content, str):
            return _ITEM_BYTES
        return len(self.content) + _ITEM_BYTES * self.is_packet

    @property
    def is_whole(self) -> bool:
        """Whether it must stay a frame of its own."""
        return self.is_packet or isinstance(self.content, str)

    def is_before(self, place: int) -> bool:
        return self.at < place if isinstance(self.content, str) else self.end <= place


class Outbox:
    """Audio and commands in stream order, by the place of the stream at which they stand.

    Places count bytes of raw audio, or samples of packets. Sent items are kept until a checkpoint
    covers them (`keep_from`), so that `rewind` can offer them again at the same places. Without
    I/O: the stream asks what is next and says what was written. Before the first checkpoint nobody
    knows if there will be one, so sent items give way when the box is full; from then on the box
    holds them, and `is_full` stops the source.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < MAX_FRAME_BYTES:
            raise ValueError(f"max_buffer_bytes={max_bytes}: give {MAX_FRAME_BYTES} or more")
        self._max_bytes = max_bytes
        self._items: deque[_Item] = deque()
        self._n_sent = 0
        self._n_bytes = 0
        #: How much audio was ever added, and where the oldest kept item stands.
        self.end = 0
        self._start = 0
        self._has_checkpoint = False

    @property
    def is_full(self) -> bool:
        """Whether more must wait."""
        return self._n_bytes >= self._max_bytes

    @property
    def last_command_at(self) -> int:
        """Where the last command stands that was sent and is still here; 0 without any."""
        sent = islice(self._items, self._n_sent)
        return max((item.at for item in sent if isinstance(item.content, str)), default=0)

    @property
    def next(self) -> bytes | str | None:
        """The first item that was not sent; `None` when there is none."""
        return self._items[self._n_sent].content if self._n_sent < len(self._items) else None

    @property
    def next_length(self) -> int:
        """How many places the `next` item takes up; 0 when there is none, and of a command."""
        if self._n_sent == len(self._items):
            return 0
        item = self._items[self._n_sent]
        return item.end - item.at

    @property
    def sent_to(self) -> int:
        """Up to where all was sent."""
        return self._items[self._n_sent].at if self._n_sent < len(self._items) else self.end

    def add_audio(self, audio: bytes, split_bytes: int) -> None:
        """Appends raw audio, in frames of at most `split_bytes`; small ones may be joined."""
        for at in range(0, len(audio), split_bytes):
            frame = audio[at : at + split_bytes]
            self._add(_Item(self.end, self.end + len(frame), frame))
            # The next one may be on its way already: it stays as it is.
            if len(self._items) - 2 > self._n_sent:
                self._join(len(self._items) - 1, min(split_bytes, _JOINED_BYTES))
        self._make_room()

    def add_packet(self, packet: bytes, n_samples: int) -> None:
        """Appends one packet, or what else must stay one frame."""
        self._add(_Item(self.end, self.end + n_samples, packet, is_packet=True))
        self._make_room()

    def add_command(self, command: str) -> None:
        """Appends a command at the place that the audio has reached."""
        self._add(_Item(self.end, self.end, command))
        self._make_room()

    def sent(self) -> None:
        """The `next` item was written."""
        self._n_sent += 1
        if self._n_sent > 1 and self._join(self._n_sent - 1, _JOINED_BYTES):
            self._n_sent -= 1
        self._make_room()

    def can_rewind_to(self, place: int) -> bool:
        """Whether everything from `place` on is still here."""
        return self._start <= place <= self.end

    def keep_from(self, place: int) -> None:
        """A checkpoint covers all before `place`: it will not be asked for again."""
        self._has_checkpoint = True
        while self._n_sent and self._items[0].is_before(place):
            self._drop_first()
        self._start = max(self._start, min(place, self.end))

    def rewind(self, place: int) -> None:
        """Offers everything from `place` on again; of packets, those that start there or later.

        A command exactly there is offered too: whether the checkpoint knows it cannot be told,
        and the server takes it twice without harm.
        """
        index = bisect_left([item.at for item in self._items], place)
        if index and self._items[index - 1].end > place and not self._items[index - 1].is_packet:
            # The checkpoint is inside a frame: its rest becomes a frame of its own.
            at, end, frame, _ = self._items[index - 1]
            assert isinstance(frame, bytes)
            self._items[index - 1] = _Item(at, place, frame[: place - at])
            self._items.insert(index, _Item(place, end, frame[place - at :]))
        self._n_sent = index

    def __iter__(self) -> Iterator[bytes | str]:
        return (item.content for item in self._items)

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        self._n_bytes += item.n_bytes
        self.end = item.end

    def _join(self, index: int, max_bytes: int) -> bool:
        """Makes this frame one with the frame before it, if both may be and it is small enough."""
        before, item = self._items[index - 1], self._items[index]
        if before.is_whole or item.is_whole:
            return False
        if len(before.content) + len(item.content) > max_bytes:
            return False
        content = before.content + item.content  # type: ignore[operator]
        self._items[index - 1] = _Item(before.at, item.end, content)
        del self._items[index]
        return True

    def _make_room(self) -> None:
        while self.is_full and not self._has_checkpoint and self._n_sent:
            self._drop_first()

    def _drop_first(self) -> None:
        item = self._items.popleft()
        self._n_sent -= 1
        self._n_bytes -= item.n_bytes
        # Past a command means one place on: a rewind to its own place would miss it.
        self._start = item.end + isinstance(item.content, str)
