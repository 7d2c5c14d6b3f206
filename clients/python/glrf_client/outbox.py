"""What a stream still has to send, and what it may have to send again."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from typing import Final

#: Frames are never larger on the wire than the contract's 1 MiB; longer chunks are split here.
MAX_FRAME_BYTES: Final = 1 << 20
#: What a command counts for in the bound.
_COMMAND_BYTES: Final = 64


class Outbox:
    """Audio and commands in stream order, by the byte of the stream at which they stand.

    Sent items are kept until a checkpoint covers them (`keep_from`), so that `rewind` can offer
    them again at the same places. Without I/O: the stream asks what is next and says what was
    written. Before the first checkpoint nobody knows if there will be one, so sent items give
    way when the box is full; from then on the box holds them, and `is_full` stops the source.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < MAX_FRAME_BYTES:
            raise ValueError(f"max_buffer_bytes={max_bytes}: give {MAX_FRAME_BYTES} or more")
        self._max_bytes = max_bytes
        self._items: deque[tuple[int, bytes | str]] = deque()
        self._n_sent = 0
        self._n_bytes = 0
        #: Bytes of audio that were ever added, and where the oldest kept item stands.
        self.end = 0
        self._start = 0
        self._has_checkpoint = False

    @property
    def is_full(self) -> bool:
        """Whether more must wait."""
        return self._n_bytes >= self._max_bytes

    @property
    def next(self) -> bytes | str | None:
        """The first item that was not sent; `None` when there is none."""
        return self._items[self._n_sent][1] if self._n_sent < len(self._items) else None

    def add_audio(self, audio: bytes, split_bytes: int) -> None:
        """Appends audio, in frames of at most `split_bytes`."""
        for at in range(0, len(audio), split_bytes):
            frame = audio[at : at + split_bytes]
            self._items.append((self.end, frame))
            self._n_bytes += len(frame)
            self.end += len(frame)
        self._make_room()

    def add_command(self, command: str) -> None:
        """Appends a command at the place that the audio has reached."""
        self._items.append((self.end, command))
        self._n_bytes += _COMMAND_BYTES
        self._make_room()

    def sent(self) -> None:
        """The `next` item was written."""
        self._n_sent += 1
        self._make_room()

    def can_rewind_to(self, position: int) -> bool:
        """Whether everything from byte `position` on is still here."""
        return self._start <= position <= self.end

    def keep_from(self, position: int) -> None:
        """A checkpoint covers all before byte `position`: it will not be asked for again."""
        self._has_checkpoint = True
        while self._n_sent and self._is_before(self._items[0], position):
            self._drop_first()
        self._start = max(self._start, min(position, self.end))

    def rewind(self, position: int) -> None:
        """Offers everything from byte `position` on again.

        A command exactly there is offered too: whether the checkpoint knows it cannot be told,
        and the server takes it twice without harm.
        """
        starts = [at for at, _ in self._items]
        index = bisect_left(starts, position)
        if index and self._end_of(index - 1) > position:
            # The checkpoint is inside a frame: its rest becomes a frame of its own.
            at, frame = self._items[index - 1]
            assert isinstance(frame, bytes)
            cut = position - at
            self._items[index - 1] = (at, frame[:cut])
            self._items.insert(index, (position, frame[cut:]))
        self._n_sent = index

    def __iter__(self) -> Iterator[bytes | str]:
        return (item for _, item in self._items)

    def _make_room(self) -> None:
        while self.is_full and not self._has_checkpoint and self._n_sent:
            self._drop_first()

    def _drop_first(self) -> None:
        at, item = self._items.popleft()
        self._n_sent -= 1
        self._n_bytes -= len(item) if isinstance(item, bytes) else _COMMAND_BYTES
        # Past a command means one byte on: a rewind to its own place would miss it.
        self._start = at + (len(item) if isinstance(item, bytes) else 1)

    def _end_of(self, index: int) -> int:
        at, item = self._items[index]
        return at + (len(item) if isinstance(item, bytes) else 0)

    @staticmethod
    def _is_before(item: tuple[int, bytes | str], position: int) -> bool:
        at, content = item
        if isinstance(content, bytes):
            return at + len(content) <= position
        return at < position
