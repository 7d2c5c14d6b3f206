"""What an audio file announces of itself, held against what its body holds.

Libraries believe a header that lies, or decode a file that was cut short as if it were whole. So
the container is told by its first bytes, and its announced sizes are walked through, before any
library sees it. Only headers are read, and nothing is allocated by what they say.
"""

import io
import re
from dataclasses import dataclass
from typing import BinaryIO, Literal

from ser_core.errors import BadAudio, UnsupportedEncoding
from ser_core.mp3 import is_mpeg_frame, read_counts
from ser_core.ogg import (
    MAX_HEADER_BYTES,
    SIGNATURE,
    Track,
    at_48_khz,
    flac_samples,
    is_audio,
    is_intact,
    read_page,
)

Container = Literal["WAV", "FLAC", "Ogg", "MP3", "M4A", "WebM", "AAC"]
CONTAINERS = "WAV, FLAC, MP3, Ogg, M4A, AAC or WebM"

_M4A_BOXES = frozenset(
    b"ftyp styp moov moof mdat mfra sidx ssix free skip wide"
    b" uuid meta udta pdin prft emsg PICT pnot".split()
)

_RIFF = (b"RIFF", b"RIFX", b"RF64")
_SCAN_BYTES = 65_536  # at a time, in search of another page
#: So many zeros may stand before an MP3.
_MP3_MAX_ZEROS = 4_096
#: From this size on a WAV data chunk is one of unknown length, as writers to a pipe announce it.
_WAV_UNKNOWN_SIZE = 0x7FFF0000
#: What may stand behind a WAV's samples and be no chunk, half a second of a telephone's.
_WAV_SLACK_BYTES = 4_096
#: Chunks that are known by their name alone, behind a WAV's samples.
_WAV_CHUNKS = re.compile(
    b"LIST|id3 |ID3 |_PMX|bext|cue |fact|smpl|inst|iXML|axml|acid|cart|umid|data|RIFF|RIFX|RF64"
)
#: How much of a WAV's end is looked through for chunks where the samples' length is not known.
_WAV_TAIL_BYTES = 1 << 20
#: Writers do not agree on what of a frame and of tags they count: a quarter of a second.
_MP3_SLACK_BYTES = 4_096
#: PCM, float, A-law, mu-law, and what `WAVE_FORMAT_EXTENSIBLE` mostly is: a block is a sample.
_WAV_PLAIN_FORMATS = frozenset((1, 3, 6, 7, 0xFFFE))


@dataclass(frozen=True)
class Limits:
    """Channels and rates that are taken, as `open_audio` is told them."""

    max_channels: int
    min_rate_hz: int
    max_rate_hz: int

    def check(self, n_channels: int, rate_hz: int) -> None:
        """Raises `BadAudio`: `too_many_channels`, `rate_out_of_range`, `bad_audio` for none."""
        if n_channels < 1:
            raise BadAudio("the header announces no channel", remedy="send 1 or 2 channels")
        if n_channels > self.max_channels:
            raise BadAudio(
                f"the audio has {n_channels} channels",
                remedy=f"mix it down to at most {self.max_channels}",
                code="too_many_channels",
            )
        if not self.min_rate_hz <= rate_hz <= self.max_rate_hz:
            raise BadAudio(
                f"the sample rate of {rate_hz} Hz is out of range",
                remedy=f"resample to {self.min_rate_hz} to {self.max_rate_hz} Hz",
                code="rate_out_of_range",
            )


def truncated(container: Container) -> BadAudio:
    """The error for a file that ends before it should."""
    remedy = "send the file again, whole"
    if container == "MP3":  # editors may cut one and leave its first frame as it was
        remedy += "; if it is, have its header written anew, for example by ffmpeg -c copy"
    return BadAudio(
        f"the {container} file is cut short: it announces more than the body holds",
        remedy=remedy,
        code="truncated_audio",
    )


def joined(container: Container) -> BadAudio:
    """The error for recordings that stand in one file, of which only the first would be heard."""
    return BadAudio(
        f"the {container} file is several recordings in a row", remedy="send one at a time"
    )


class Body:
    """A seekable file as the libraries see it: no seek leaves it, some bytes may be replaced.

    It begins after the ID3v2 tags that stand first, whatever the container: `is_tagged` tells of
    them; and after zeros before an MP3. It has its own position, from 0, and never closes the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = 0
        self.size = n_bytes = file.seek(0, io.SEEK_END)
        self._position = 0
        self._replaced: tuple[int, bytes] | None = None
        while (n_tag := _id3v2_bytes(self.at(0, 10))) and self.size:
            self._start = min(self._start + n_tag, n_bytes)
            self.size = n_bytes - self._start
        self.is_tagged = self._start > 0
        if self.at(0, 1) == b"\0":
            head = self.at(0, _MP3_MAX_ZEROS + 4)
            frame = head.lstrip(b"\0")
            if is_mpeg_frame(frame):
                self._start += len(head) - len(frame)
                self.size = n_bytes - self._start

    def at(self, position: int, n_bytes: int) -> bytes:
        """Up to `n_bytes` from there, fewer at the end of the body."""
        position = min(position, self.size)
        self._file.seek(self._start + position)
        return self._file.read(n_bytes)[: self.size - position]

    def leave_out(self, n_bytes: int) -> None:
        """From now on ends so much earlier."""
        self.size -= n_bytes

    def replace(self, position: int, data: bytes) -> None:
        """From now on reads as if `data` stood there; one place in a file."""
        self._replaced = (position, data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As a file's, but stays between its start and its end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence, 0)
        self._position = max(0, min(start + offset, self.size))
        return self._position

    def tell(self) -> int:
        """Bytes from the start."""
        return self._position

    def read(self, n_bytes: int) -> bytes:
        """Up to `n_bytes` from the position on."""
        data = self.at(self._position, n_bytes)
        if self._replaced is not None:
            position, new = self._replaced
            start = position - self._position
            if -len(new) < start < len(data):
                patched = bytearray(data)
                for offset, byte in enumerate(new, start):
                    if 0 <= offset < len(data):
                        patched[offset] = byte
                data = bytes(patched)
        self._position += len(data)
        return data


def sniff(body: Body) -> Container:
    """The container by its first bytes.

    Raises `BadAudio` (`empty_audio`) for no bytes and `UnsupportedEncoding`
    (`unsupported_container`) for anything that is not in the list.
    """
    if body.size == 0 and not body.is_tagged:
        raise BadAudio("the body is empty", remedy=f"send a {CONTAINERS} file", code="empty_audio")
    head = body.at(0, 12)
    match head[:4]:
        case b"RIFF" | b"RIFX" | b"RF64" if b"WAVE".startswith(head[8:]):
            return "WAV"
        case b"fLaC":
            return "FLAC"
        case b"OggS":
            return "Ogg"
        case b"\x1a\x45\xdf\xa3":
            return "WebM"
        case _ if head[4:8] == b"ftyp":
            return "M4A"
        case _ if is_mpeg_frame(head):
            return "MP3"
        case _ if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # ADTS
            return "AAC"
        case _ if body.is_tagged:  # the decoder looks further for its first frame
            return "MP3"
        case _:
            pass
    raise UnsupportedEncoding(
        "the body is not audio in a container that is read here",
        remedy=f"send a {CONTAINERS} file; raw samples go over the WebSocket",
        code="unsupported_container",
    )


def _id3v2_bytes(head: bytes) -> int:
    """How long the ID3v2 tag is whose first ten bytes these are; 0 where they are none's."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    # Seven bits a byte (ID3v2.4, Section 3.1); a footer is not counted.
    sevens = zip(head[6:10], (21, 14, 7, 0), strict=True)
    return sum((byte & 0x7F) << shift for byte, shift in sevens) + (20 if head[5] & 0x10 else 10)


def after_tags(body: Body, position: int) -> int:
    """Where the ID3 and APE tags end that stand there, one behind the other."""
    while True:
        head = body.at(position, 32)
        if head[:4] == b"TAG+":  # an extension of ID3v1
            position += 227
        elif head[:3] == b"TAG":  # ID3v1
            position += 128
        elif head[:8] == b"APETAGEX":  # the size leaves the header out
            position += 32 + int.from_bytes(head[12:16], "little")
        elif n_bytes := _id3v2_bytes(head):
            position += n_bytes
        else:
            return position


def check_layout(body: Body, container: Container, limits: Limits) -> int | None:
    """Compares announced sizes with the body; raises `BadAudio`, mostly `truncated_audio`.

    A WAV `data` chunk of unknown size is given its real one, for libsndfile's eyes, and an Ogg's
    Opus the rate of 48 kHz.
    Returns how many samples a channel it announces, where a WAV, FLAC, Ogg or MP3 does.
    """
    match container:
        case "WAV":
            return _check_wav(body, limits)
        case "FLAC":
            return _check_flac(body)
        case "Ogg":
            return _check_ogg(body)
        case "M4A":
            _check_m4a(body)
        case "WebM":
            _check_webm(body)
        case "MP3":
            return _check_mp3(body)
        case "AAC":  # a row of frames that announces nothing
            pass
    return None


# A position beyond the body reads as empty, which ends each walk.


def _check_mp3(body: Body) -> int | None:
    """The bytes that are counted from the first frame on; returns the samples, if any are."""
    n_samples, n_bytes = read_counts(body.at(0, 256))
    if n_bytes > body.size + _MP3_SLACK_BYTES:
        raise truncated("MP3")
    return n_samples or None


def _check_wav(body: Body, limits: Limits) -> int | None:
    """Walks the RIFF chunks up to `data` (Microsoft RIFF specification; RF64: EBU Tech 3306)."""
    order: Literal["big", "little"] = "big" if body.at(0, 4) == b"RIFX" else "little"
    position, long_size_at, frame_bytes = 12, None, 0
    while True:
        header = body.at(position, 8)
        name, size = header[:4], int.from_bytes(header[4:], order)
        position += 8
        if position > body.size:
            raise truncated("WAV")
        if name == b"data":
            n_bytes = _check_wav_data(body, position, size, long_size_at, order)
            return n_bytes // frame_bytes if n_bytes and frame_bytes else None
        if position + size > body.size:
            raise truncated("WAV")
        if name == b"ds64":
            long_size_at = position + 8
        elif name == b"fmt " and size >= 8:
            fmt = body.at(position, 14)
            limits.check(int.from_bytes(fmt[2:4], order), int.from_bytes(fmt[4:8], order))
            if int.from_bytes(fmt[:2], order) in _WAV_PLAIN_FORMATS:
                frame_bytes = int.from_bytes(fmt[12:14], order)
        position += size + size % 2


def _check_wav_data(
    body: Body,
    position: int,
    size: int,
    long_size_at: int | None,
    order: Literal["big", "little"],
) -> int | None:
    """The size of the samples in bytes, where it is known; RF64 has it at `long_size_at`."""
    n_held = body.size - position
    size_at, n_digits, is_unknown = position - 4, 4, False
    if size == 0xFFFFFFFF and long_size_at is not None:
        size_at, n_digits = long_size_at, 8
        size = int.from_bytes(body.at(size_at, n_digits), order)
    else:
        is_unknown = size >= _WAV_UNKNOWN_SIZE
    if size > n_held and not is_unknown:
        raise truncated("WAV")
    behind = None
    if size == 0:  # no samples, or never filled in? Other chunks may follow, to the very end.
        has_more = not _ends_in_chunks(body, position, order)
        behind = None if has_more else position
    elif not is_unknown:  # as when the header was last written, or what 32 bits hold of it
        behind = _chunk_behind(body, position + size, size % 2, order)
        has_more = n_held - size > _WAV_SLACK_BYTES and behind is None
    else:
        has_more = True
    if not has_more:
        _check_alone(body, behind, order)
        return size
    end = _closing_chunks(body, position, order)
    _check_alone(body, end, order)
    if is_unknown and end == body.size:
        return None
    n_told = min(end - position, 2 ** (8 * n_digits) - 1)
    body.replace(size_at, n_told.to_bytes(n_digits, order))
    return end - position


def _chunk_behind(body: Body, end: int, n_pad: int, order: Literal["big", "little"]) -> int | None:
    """Where a chunk begins behind what ends there: not all writers pad it to an even length."""
    for position in range(end, end + n_pad + 1):
        header = body.at(position, 8)
        chunk_end = position + 8 + int.from_bytes(header[4:], order)
        is_named = header[:4].isascii() and header[:4].decode("ascii").isprintable()
        fits = is_named and chunk_end <= body.size
        # One that was cut off, or has a name of its own, but ends where the file does.
        if fits or _WAV_CHUNKS.match(header) or (header and chunk_end == body.size):
            return position
    return None


def _check_alone(body: Body, position: int | None, order: Literal["big", "little"]) -> None:
    while position is not None:
        header = body.at(position, 12)
        if header[:4] == b"data" or (header[:4] in _RIFF and header[8:] == b"WAVE"):
            raise joined("WAV")
        size = int.from_bytes(header[4:8], order)
        position = _chunk_behind(body, position + 8 + size, size % 2, order)


def _closing_chunks(body: Body, position: int, order: Literal["big", "little"]) -> int:
    """Where the known chunks begin that end the body, from there on at the earliest."""
    start = max(position, body.size - _WAV_TAIL_BYTES)
    tail = body.at(start, _WAV_TAIL_BYTES)
    end = len(tail)
    for name in reversed(list(_WAV_CHUNKS.finditer(tail))):
        size = int.from_bytes(tail[name.end() : name.end() + 4], order)
        if end - (name.end() + 4 + size) in (0, size % 2):
            end = name.start()
    return start + end


def _ends_in_chunks(body: Body, position: int, order: Literal["big", "little"]) -> bool:
    while position < body.size:
        header = body.at(position, 8)
        if not header[:4].isascii() or not header[:4].decode("ascii").isprintable():
            return False
        size = int.from_bytes(header[4:], order)
        position += 8 + size + size % 2
    return position <= body.size + 1  # the last pad byte may be missing


def _check_flac(body: Body) -> int | None:
    """Walks the metadata blocks (RFC 9639, Section 8.1): 1 bit last, 7 bits type, 24 bits size."""
    # STREAMINFO comes first (Section 8.2); the last 36 bits before its checksum; 0: unknown.
    n_samples = int.from_bytes(body.at(21, 5), "big") % 2**36
    position = 4
    while True:
        header = body.at(position, 4)
        position += 4 + int.from_bytes(header[1:], "big")
        if len(header) < 4 or position > body.size:
            raise truncated("FLAC")
        if header[0] >= 0x80:  # the last one
            break
    if n_samples:
        return n_samples
    if body.size - position >= 128 and body.at(body.size - 128, 3) == b"TAG":
        body.leave_out(128)  # libsndfile would look for a frame there
    return None


def _check_ogg(body: Body) -> int | None:
    """Walks the pages; of those of the first audio track none may be damaged or missing.

    libsndfile reads the first of chained streams only, which would lose the others silently, as it
    does a page whose checksum is wrong: what follows would be at another time. Returns how many
    samples the first page of audio and the last one are apart: the first one's are not told.
    """
    position, has_begun, n_flac = 0, False, 0
    track: Track | None = None
    while (page := read_page(body.at(position, MAX_HEADER_BYTES))) is not None:
        if position + page.n_bytes > body.size:
            raise truncated("Ogg")
        if page.is_first and has_begun:
            raise joined("Ogg")
        has_begun = not page.is_first
        if page.is_first and track is None:
            packet = body.at(position + page.n_header_bytes, 8)
            track = Track(page.serial) if is_audio(packet) else None
        if track is not None and track.serial == page.serial:
            data = body.at(position, page.n_bytes)
            if not track.accept(page) or not is_intact(data):
                raise _ogg_damaged()
            if page.is_first:
                body.replace(position, at_48_khz(data, page.n_header_bytes))
                n_flac = flac_samples(data, page.n_header_bytes)
        position += page.n_bytes
    while data := body.at(position, _SCAN_BYTES):  # behind what is no page
        if SIGNATURE in data:
            raise _ogg_damaged()
        position += max(1, len(data) - len(SIGNATURE) + 1)
    if track is None:
        return None
    if track.last_granule < n_flac:
        raise truncated("Ogg")
    return track.n_samples or None


def _ogg_damaged() -> BadAudio:
    return BadAudio(
        "the Ogg file is damaged: a page is broken or missing",
        remedy="send the file again, or convert it to WAV or FLAC",
    )


def n_ogg_tracks(body: Body) -> int:
    """How many audio tracks are told of at the start, where each has its first page (Section 4)."""
    position, n_tracks = 0, 0
    while (page := read_page(body.at(position, MAX_HEADER_BYTES))) is not None:
        n_tracks += is_audio(body.at(position + page.n_header_bytes, 8))
        position += page.n_bytes
        if not page.is_first:
            break
    return max(1, n_tracks)


def _check_m4a(body: Body) -> None:
    """Walks the top boxes (ISO/IEC 14496-12, Section 4.2): 32 bits size, type, 64 bits size.

    Nothing can be decoded without `moov`, which writers like to put last. Boxes that are not known
    are stepped over; where one would reach beyond the body, it is junk at the end.
    """
    position, n_moov, has_moof = 0, 0, False
    while position < body.size:
        header = body.at(position, 16)
        size, name = int.from_bytes(header[:4], "big"), header[4:8]
        is_known = name in _M4A_BOXES
        n_moov += name == b"moov"
        has_moof |= name == b"moof"
        if size == 1:
            size = int.from_bytes(header[8:], "big")
        if size == 0 or (not is_known and not 8 <= size <= body.size - position):
            break  # a box up to the end, or junk
        position += max(size, 8)
        if position > body.size:
            raise truncated("M4A")
    if not n_moov:
        raise truncated("M4A")
    if n_moov > 1 and not has_moof:  # a stream in fragments may repeat it
        raise joined("M4A")


def _check_webm(body: Body) -> None:
    """Looks at the segment's size (RFC 8794, Section 4); a live recording leaves it unknown."""
    position = 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        header = body.at(position, 12)
        if header and not name.startswith(header[:4]):
            return
        n_bytes = 9 - header[4].bit_length() if len(header) > 4 else 9  # by the leading zeros
        field = header[4 : 4 + n_bytes]
        if n_bytes > 8 or len(field) < n_bytes:
            raise truncated("WebM")
        unknown = 2 ** (7 * n_bytes) - 1
        size = int.from_bytes(field, "big") & unknown
        position += 4 + n_bytes + (0 if size == unknown else size)
        if position > body.size:
            raise truncated("WebM")
