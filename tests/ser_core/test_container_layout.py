import io

import pytest

from ser_core.container_layout import (
    Body,
    Container,
    Limits,
    after_tags,
    check_layout,
    n_ogg_tracks,
    sniff,
)
from ser_core.errors import BadAudio, UnsupportedEncoding
from tests.ser_core.recordings import by_pyav, by_soundfile, containers, id3, wav

LIMITS = Limits(max_channels=2, min_rate_hz=8_000, max_rate_hz=192_000)


def _body(data: bytes) -> Body:
    return Body(io.BytesIO(data))


def test_body_reads_like_a_file() -> None:
    body = _body(b"0123456789")
    assert body.size == 10
    assert body.read(4) == b"0123"
    assert body.tell() == 4
    assert body.seek(-2, io.SEEK_END) == 8
    assert body.read(100) == b"89"
    assert body.read(1) == b""
    assert body.seek(2) == 2
    assert body.seek(3, io.SEEK_CUR) == 5


def test_no_seek_leaves_the_body() -> None:
    body = _body(b"0123456789")
    assert body.seek(-5) == 0
    assert body.seek(1 << 62) == 10
    assert body.seek(-100, io.SEEK_CUR) == 0
    assert body.at(1 << 62, 4) == b""


def test_looking_ahead_does_not_move() -> None:
    body = _body(b"0123456789")
    assert body.at(7, 100) == b"789"
    assert body.tell() == 0


@pytest.mark.parametrize("n_bytes", range(1, 11))
def test_replaced_bytes_show_in_reads_of_any_size(n_bytes: int) -> None:
    body = _body(b"0123456789")
    body.replace(3, b"abcd")
    parts = []
    while part := body.read(n_bytes):
        parts.append(part)
    assert b"".join(parts) == b"012abcd789"


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("wav", "WAV"),
        ("flac", "FLAC"),
        ("mp3", "MP3"),
        ("opus", "Ogg"),
        ("m4a", "M4A"),
        ("aac", "AAC"),
        ("webm", "WebM"),
    ],
)
def test_a_container_is_known_by_its_first_bytes(name: str, container: Container) -> None:
    body = _body(containers()[name])
    assert sniff(body) == container
    check_layout(body, container, LIMITS)


def test_an_mp3_without_tags() -> None:
    assert containers()["mp3"][:2] == b"\xff\xfb"
    assert sniff(_body(b"ID3\x04" + bytes(20))) == "MP3"


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "aac"])
@pytest.mark.parametrize("tags", [id3(0), id3(70_000), id3(300) + id3(5), id3(30, footer=True)])
def test_tags_before_a_file_are_no_part_of_it(name: str, tags: bytes) -> None:
    data = containers()[name]
    bare, tagged = _body(data), _body(tags + data)
    assert sniff(tagged) == sniff(bare)
    assert tagged.size == len(data)
    assert tagged.read(10_000) == data[:10_000]
    assert tagged.at(len(data) - 3, 10) == data[-3:]


def test_a_body_that_ends_within_its_tag() -> None:
    body = _body(id3(1_000)[:500])
    assert (body.size, sniff(body)) == (0, "MP3")


def test_tags_are_stepped_over_by_their_sizes() -> None:
    ape = b"APETAGEX" + (2_000).to_bytes(4, "little") + (9_000).to_bytes(4, "little") + bytes(16)
    tags = b"TAG" + bytes(125) + ape + bytes(9_000) + id3(20_000) + b"TAG+" + bytes(223)
    assert after_tags(_body(bytes(7) + tags + b"data"), 7) == 7 + len(tags)
    assert after_tags(_body(b"data"), 0) == 0
    assert after_tags(_body(id3(10)), 500) == 500


# Reserved version, bitrate and rate; layer I; a text's byte order mark; all ones; too short.
@pytest.mark.parametrize(
    "head", ["ffeb9064", "fffbf064", "fffb9c64", "ffff9064", "fffe6800", "ffffffff", "fffb"]
)
def test_what_only_looks_like_mpeg(head: str) -> None:
    with pytest.raises(UnsupportedEncoding) as caught:
        sniff(_body(bytes.fromhex(head)))
    assert caught.value.code == "unsupported_container"


@pytest.mark.parametrize(
    ("n_channels", "rate_hz", "code"),
    [
        (0, 16_000, "bad_audio"),
        (3, 16_000, "too_many_channels"),
        (1, 7_999, "rate_out_of_range"),
        (1, 192_001, "rate_out_of_range"),
    ],
)
def test_limits(n_channels: int, rate_hz: int, code: str) -> None:
    LIMITS.check(2, 192_000)
    LIMITS.check(1, 8_000)
    with pytest.raises(BadAudio) as caught:
        LIMITS.check(n_channels, rate_hz)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["wav", "opus", "vorbis", "m4a", "webm", "matroska"])
def test_a_missing_byte_is_noticed(name: str) -> None:
    data = containers()[name]
    container = sniff(_body(data))
    check_layout(_body(data), container, LIMITS)
    with pytest.raises(BadAudio) as caught:
        check_layout(_body(data[:-1]), container, LIMITS)
    assert caught.value.code == "truncated_audio"


def test_rf64_has_its_length_elsewhere() -> None:
    data = by_soundfile("RF64", "PCM_16", 16_000)
    check_layout(_body(data), "WAV", LIMITS)
    with pytest.raises(BadAudio, match="cut short"):
        check_layout(_body(data[:-1]), "WAV", LIMITS)


def test_rf64_that_was_written_to_a_pipe() -> None:
    data = bytearray(by_soundfile("RF64", "PCM_16", 16_000))
    size_at = data.index(b"ds64") + 16
    assert int.from_bytes(data[size_at : size_at + 8], "little") == 4 * 8_000
    data[size_at : size_at + 8] = bytes(8)
    body = _body(bytes(data))
    assert check_layout(body, "WAV", LIMITS) == 8_000
    body.seek(size_at)
    assert int.from_bytes(body.read(8), "little") == 4 * 8_000


@pytest.mark.parametrize("between", [b"", b"LIST\x04\0\0\0abcd", b"id3 \x03\0\0\0abc\0"])
def test_wavs_in_a_row(between: bytes) -> None:
    with pytest.raises(BadAudio, match="several recordings"):
        check_layout(_body(wav(bytes(200), tail=between) + wav(bytes(200))), "WAV", LIMITS)


@pytest.mark.parametrize("size", [None, 0xFFFF_FFFF])
def test_a_wav_behind_one_without_its_pad_byte(size: int | None) -> None:
    second = wav(bytes(6_000), data_size=size, riff_size=size)
    with pytest.raises(BadAudio, match="several recordings"):
        check_layout(_body(wav(bytes(201)) + second), "WAV", LIMITS)


@pytest.mark.parametrize("between", [b"", b"LIST\x04\0\0\0abcd"])
@pytest.mark.parametrize("first", [0, 5_000, 5_001])
@pytest.mark.parametrize("size", [None, 0, 0xFFFF_FFFF])
def test_a_wav_with_samples_in_two_places(first: int, size: int | None, between: bytes) -> None:
    second = b"data" + (6_000).to_bytes(4, "little") + bytes(6_000)
    body = _body(wav(bytes(first), tail=between + second, data_size=size))
    with pytest.raises(BadAudio, match="several recordings"):
        check_layout(body, "WAV", LIMITS)


def test_a_long_row_of_chunks_at_the_end_takes_no_long_time() -> None:
    tail = b"LIST\0\0\0\0" * 130_000
    body = _body(wav(bytes(5_000), tail=tail, data_size=0xFFFF_FFFF))
    assert check_layout(body, "WAV", LIMITS) == 2_500
    body = _body(wav(bytes(5_000), tail=tail + b"!", data_size=0xFFFF_FFFF))
    assert check_layout(body, "WAV", LIMITS) is None


_OGG_START, _OGG_PAGE = b"OggS\0\2" + bytes(21), b"OggS" + bytes(23)


def test_an_ogg_is_walked_to_its_end() -> None:
    pages = _OGG_START + _OGG_PAGE * 120_000
    check_layout(_body(pages), "Ogg", LIMITS)
    with pytest.raises(BadAudio, match="several recordings"):
        check_layout(_body(pages + _OGG_START + _OGG_PAGE), "Ogg", LIMITS)
    with pytest.raises(BadAudio, match="cut short"):
        check_layout(_body(pages[:-1]), "Ogg", LIMITS)


def test_tracks_of_an_ogg() -> None:
    assert n_ogg_tracks(_body(containers()["opus"])) == 1
    assert n_ogg_tracks(_body(containers()["vorbis"])) == 1
    assert n_ogg_tracks(_body(by_pyav("ogg", "flac", 16_000, n_tracks=3))) == 3
    assert n_ogg_tracks(_body(_OGG_START + _OGG_PAGE)) == 1


def test_m4a_without_moov() -> None:
    data = containers()["m4a"]
    with pytest.raises(BadAudio, match="cut short"):
        check_layout(_body(data[: data.index(b"moov") - 4]), "M4A", LIMITS)


def test_m4a_boxes_of_64_bits() -> None:
    ftyp, moov = b"\0\0\0\x0cftypM4A ", b"\0\0\0\x08moov"
    mdat = b"\0\0\0\x01mdat" + (16 + 100).to_bytes(8, "big") + bytes(100)
    check_layout(_body(ftyp + mdat + moov), "M4A", LIMITS)
    check_layout(_body(ftyp + moov + mdat), "M4A", LIMITS)
    with pytest.raises(BadAudio, match="cut short"):
        check_layout(_body(ftyp + moov + mdat[:-1]), "M4A", LIMITS)


def test_m4a_box_up_to_the_end() -> None:
    check_layout(_body(b"\0\0\0\x0cftypM4A \0\0\0\x08moov\0\0\0\0mdat123"), "M4A", LIMITS)


def _box(name: bytes, n_bytes: int) -> bytes:
    return (8 + n_bytes).to_bytes(4, "big") + name + bytes(n_bytes)


FTYP, MOOV, MDAT = b"\0\0\0\x0cftypM4A ", _box(b"moov", 0), _box(b"mdat", 1_000)


@pytest.mark.parametrize("name", [b"uuid", b"meta", b"udta", b"pdin", b"prft", b"PICT", b"beam"])
def test_m4a_with_boxes_of_any_name(name: bytes) -> None:
    box = _box(name, 50)
    check_layout(_body(FTYP + box + MDAT + MOOV + box), "M4A", LIMITS)
    check_layout(_body(FTYP + MOOV + box + MDAT), "M4A", LIMITS)
    with pytest.raises(BadAudio, match="cut short"):
        check_layout(_body(FTYP + MOOV + box + MDAT[:500]), "M4A", LIMITS)
    with pytest.raises(BadAudio, match="cut short"):
        check_layout(_body(FTYP + box + MDAT), "M4A", LIMITS)


def test_an_m4a_of_many_fragments_is_walked_to_its_end() -> None:
    fragments = _box(b"moof", 0) * 120_000
    check_layout(_body(FTYP + MOOV + fragments + MDAT), "M4A", LIMITS)
    with pytest.raises(BadAudio, match="cut short"):
        check_layout(_body(FTYP + MOOV + fragments + MDAT[:-1]), "M4A", LIMITS)


def test_m4as_in_a_row() -> None:
    with pytest.raises(BadAudio, match="several recordings"):
        check_layout(_body((FTYP + MOOV + MDAT) * 2), "M4A", LIMITS)
    check_layout(_body((FTYP + MOOV + _box(b"moof", 0) + MDAT) * 2), "M4A", LIMITS)


def test_junk_after_an_m4a_does_no_harm() -> None:
    check_layout(_body(containers()["m4a"] + b"junk at the end"), "M4A", LIMITS)


def test_a_webm_of_unknown_length() -> None:
    data = bytearray(containers()["webm"])
    size_at = data.index(b"\x18\x53\x80\x67") + 4
    assert data[size_at] == 0x01
    data[size_at : size_at + 8] = b"\x01" + b"\xff" * 7
    check_layout(_body(bytes(data[:-100])), "WebM", LIMITS)


def test_a_long_row_of_empty_chunks_ends() -> None:
    head, tail = wav(b"")[:12], wav(b"")[12:]
    check_layout(_body(head + b"JUNK\0\0\0\0" * 150_000 + tail), "WAV", LIMITS)


@pytest.mark.parametrize(
    ("name", "n_samples"),
    [("wav", 8_000), ("wav_float", 8_000), ("wav_mulaw", 4_000), ("flac", 8_000), ("m4a", None)],
)
def test_how_long_a_header_says_the_audio_is(name: str, n_samples: int | None) -> None:
    body = _body(containers()[name])
    assert check_layout(body, sniff(body), LIMITS) == n_samples


def test_a_wav_of_unknown_length_says_nothing() -> None:
    assert check_layout(_body(wav(bytes(320), data_size=0xFFFF_FFFF)), "WAV", LIMITS) is None
    assert check_layout(_body(wav(bytes(320), data_size=0)), "WAV", LIMITS) == 160
    flac = bytearray(containers()["flac"])
    flac[21:26] = bytes([flac[21] & 0xF0, 0, 0, 0, 0])  # no total in STREAMINFO
    assert check_layout(_body(bytes(flac)), "FLAC", LIMITS) is None
