"""Pages of an Ogg file (RFC 3533, Section 6), and what the first one of a track tells of it."""

import struct
import zlib
from typing import NamedTuple

_HEADER = struct.Struct("<4sBBqIIIB")
#: A page's largest header: its segments' sizes, of a byte each, are the last part of it.
MAX_HEADER_BYTES = _HEADER.size + 255
SIGNATURE = b"OggS\0"  # with the version
_CRC_AT = 22
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

#: How the first packet of an audio track begins: Opus, Vorbis, FLAC, Speex.
_CODECS = (b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   ")
_FLAC_TOTAL_AT = 30  # in FLAC's first packet: STREAMINFO's 36 bits (RFC 9639, 8.2 and 10.1)
_OPUS_RATE_AT, _OPUS_RATE_HZ = 12, 48_000  # in Opus's first packet (RFC 7845, Section 5.1)


class Page(NamedTuple):
    """What a page's header says. `granule`: samples at its end, -1 where no packet ends there."""

    n_header_bytes: int
    n_bytes: int
    is_first: bool
    granule: int
    serial: int
    sequence: int


def read_page(header: bytes) -> Page | None:
    """The page that begins with these bytes, `MAX_HEADER_BYTES` of them or up to the body's end.

    `None` where they are no page's. A header that is cut short makes a page beyond their end.
    """
    if not header.startswith(b"OggS"):
        return None
    fields = _HEADER.unpack(header[: _HEADER.size].ljust(_HEADER.size, b"\0"))
    _, _, flags, granule, serial, sequence, _, n_segments = fields
    n_header_bytes = _HEADER.size + n_segments
    n_bytes = n_header_bytes + sum(header[_HEADER.size : n_header_bytes])
    return Page(n_header_bytes, n_bytes, bool(flags & 2), granule, serial, sequence)


def is_audio(packet: bytes) -> bool:
    """Whether a track's first packet is an audio codec's."""
    return packet.startswith(_CODECS)


def is_intact(page: bytes) -> bool:
    """Whether a page's checksum is its own: libraries leave out one whose is not."""
    return page == with_checksum(page)


def with_checksum(page: bytes) -> bytes:
    """The page with the checksum that is its own."""
    bare = page[:_CRC_AT] + bytes(4) + page[_CRC_AT + 4 :]
    # zlib's CRC has the same polynomial, but takes bits the other way round and inverts them.
    crc = ~zlib.crc32(bare.translate(_REVERSED_BITS), 0xFFFF_FFFF) & 0xFFFF_FFFF
    checksum = crc.to_bytes(4, "big").translate(_REVERSED_BITS)
    return page[:_CRC_AT] + checksum + page[_CRC_AT + 4 :]


def at_48_khz(page: bytes, n_header_bytes: int) -> bytes:
    """The first page of an Opus track as if 48 kHz had been encoded.

    The rate there is not the one to play at, but libsndfile decodes to it or to a near one.
    """
    at = n_header_bytes + _OPUS_RATE_AT
    rate = _OPUS_RATE_HZ.to_bytes(4, "little")
    if not page.startswith(b"OpusHead", n_header_bytes) or len(page) < at + len(rate):
        return page
    return with_checksum(page[:at] + rate + page[at + len(rate) :])


def flac_samples(page: bytes, n_header_bytes: int) -> int:
    """How many samples the first page of a FLAC track says there are; 0 where it does not."""
    if not page.startswith(b"\x7fFLAC", n_header_bytes):
        return 0
    at = n_header_bytes + _FLAC_TOTAL_AT
    return int.from_bytes(page[at : at + 5], "big") % 2**36


class Track:
    """The pages of one track, of which none may be missing but before the first audio.

    A recording of a live stream has the stream's first pages, and goes on somewhere in its middle.
    """

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self._sequence = -1
        self._first_granule = self.last_granule = 0

    def accept(self, page: Page) -> bool:
        """False where pages are missing before this one, which is the track's."""
        n_missing = (page.sequence - self._sequence - 1) % 2**32
        is_whole = not self._first_granule or not 0 < n_missing < 2**31
        self._sequence = page.sequence
        if page.granule > 0:
            self._first_granule = self._first_granule or page.granule
            self.last_granule = page.granule
        return is_whole

    @property
    def n_samples(self) -> int:
        """Samples of the first page's end to the last one's, by what the pages say."""
        return max(0, self.last_granule - self._first_granule)
