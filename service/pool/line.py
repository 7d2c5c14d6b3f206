"""What a parent and a worker say to each other, over a Unix socket that keeps messages apart.

The parent says `CONNECTION`, with a client's socket. The worker says how it stands, in a `Report`.
"""

import struct
from typing import NamedTuple, Self

CONNECTION = b"C"

READY, NO_FILES, FULL, LEAVING = b"R", b"N", b"F", b"L"

_REPORT = struct.Struct("<cQI")


class Report(NamedTuple):
    """How a worker stands.

    `state` is `READY`, `NO_FILES` where it would refuse one more file, `FULL` where it would refuse
    one more stream, or `LEAVING` where it takes no more connections. `n_received` counts all
    connections that it was ever given, `n_busy` those that are WebSockets, have a request in
    progress, or are so new that they may soon.
    """

    state: bytes
    n_received: int
    n_busy: int

    def packed(self) -> bytes:
        """As it travels."""
        return _REPORT.pack(*self)

    @classmethod
    def parsed(cls, data: bytes) -> Self:
        """What `packed` gave."""
        return cls(*_REPORT.unpack(data))


MESSAGE_BYTES = _REPORT.size
