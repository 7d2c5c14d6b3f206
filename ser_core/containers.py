"""Audio files to float32 samples, block by block, whatever the container.

    with open_audio(upload) as audio:               # a seekable binary file, or a path
        for block in audio.blocks(16_000):          # float32 (n, n_channels) at audio.rate_hz
            ...

libsndfile reads WAV (PCM, float, G.711), FLAC, MP3 and Ogg (Opus, Vorbis). PyAV (the extra
`media`, imported only when needed) reads M4A, AAC and WebM, and codecs that libsndfile lacks.

A file is known by its content, never by its name, and only the containers below are tried: a
demuxer that guesses would also follow playlists to other files. Announced lengths are compared
with what the body holds (`ser_core.container_layout`), but nothing is allocated by them, and
memory does not grow with the length. Gaps in the timestamps of M4A and WebM are silence.
"""

import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

import numpy as np
import soundfile as sf  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from ser_core.container_layout import (
    Body,
    Container,
    Limits,
    after_tags,
    check_layout,
    joined,
    n_ogg_tracks,
    sniff,
    truncated,
)
from ser_core.errors import BadAudio, UnsupportedEncoding
from ser_core.features import Float32

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

#: Names that FFmpeg knows them by. The demuxer is always named, so that it never guesses.
_FFMPEG_NAME: dict[Container, str] = {
    "WAV": "wav",
    "FLAC": "flac",
    "Ogg": "ogg",
    "MP3": "mp3",
    "M4A": "mp4",
    "WebM": "matroska",
    "AAC": "aac",
}
#: Only these of FFmpeg's decoders are let near unknown bytes.
_FFMPEG_CODECS = (
    "aac,aac_latm,alac,amrnb,amrwb,flac,gsm,gsm_ms,mp3,mp3float,opus,libopus,vorbis,speex,"
    "pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,"
    "pcm_f32be,pcm_f64le,pcm_f64be,pcm_mulaw,pcm_alaw,adpcm_ms,adpcm_ima_wav,g722,g726"
)
_READ_BY_PYAV: frozenset[Container] = frozenset({"M4A", "WebM", "AAC"})
#: What libsndfile rejects of these may be a codec that FFmpeg has (G.722 in WAV, Ogg FLAC).
_RETRIED_BY_PYAV: frozenset[Container] = frozenset({"WAV", "Ogg"})

_SNDFILE_MALLOC_FAILED = 17  # SFE_MALLOC_FAILED of libsndfile

_READ_SAMPLES = 8_192  # at a time from libsndfile, per channel
_SCAN_BYTES = 65_536  # at a time, in search of another file
_UNKNOWN_SAMPLES = 2**36  # a FLAC's header has 36 bits; for 0, unknown, libsndfile says more

#: Two frames, the larger ones: writers of MP3s do not agree on what they count.
_MP3_SLACK_SAMPLES = 2 * 1_152

#: What has timestamps of its own. Those of the others are FFmpeg's, counted from bytes or samples.
_TIMED: frozenset[Container] = frozenset({"M4A", "WebM"})
#: Timestamps may be rounded, and a codec's first samples left out.
_MIN_GAP_S = 0.1
#: What is beyond is no pause: at the start a clock that has run for long, later a mistake.
_MAX_GAP_S = 3600.0
_MAX_ANNOUNCED_S = 1e9  # what a header says may be anything


def _damaged(container: Container, cause: str) -> BadAudio:
    return BadAudio(
        f"the {container} file cannot be decoded: {cause.rstrip('.')}",
        remedy="it is cut short or damaged; send it again, or convert it to WAV or FLAC",
    )


@dataclass
class _Found:
    """What shows only once the file is open."""

    n_tracks: int = 1
    announced_s: float | None = None


class AudioSource:
    """Decoded audio of one file; a context manager, read once.

    `rate_hz` is the file's own rate, `container` its format's name, `announced_samples` how long
    it says it is, where it does (an Ogg: but for its first page), `n_tracks` how many audio tracks
    there are: the first one is decoded. Made by `open_audio`.
    """

    def __init__(
        self,
        container: Container,
        blocks: "_Blocks",
        own_file: BinaryIO | None,
        announced_samples: int | None,
        found: _Found,
    ) -> None:
        self.container: Container = container
        self._blocks = blocks
        self._own_file = own_file
        first = next(blocks, None)
        if first is None:
            raise BadAudio(
                f"the {container} file holds no audio samples",
                remedy="record again, or send another file",
                code="empty_audio",
            )
        self.rate_hz, self._first = first
        self.n_channels = self._first.shape[1]
        self.n_tracks = found.n_tracks
        if announced_samples is None and found.announced_s is not None:
            announced_samples = round(found.announced_s * self.rate_hz)
        self.announced_samples = announced_samples

    def blocks(self, n_samples: int) -> Iterator[Float32]:
        """Blocks of `n_samples` samples, the last one shorter: float32 `(n, n_channels)`.

        The samples are as decoded: a float file may hold NaN and values beyond full scale, which
        `ser_core.decode.sanitize` takes care of. Raises `BadAudio` where the data end before
        their announced length (`truncated_audio`), are damaged, or change their rate or channels.
        """
        return in_blocks(self._parts(), n_samples)

    def _parts(self) -> Iterator[Float32]:
        first, self._first = self._first, self._first[:0]
        yield first
        while (samples := self._next()) is not None:
            yield samples

    def _next(self) -> Float32 | None:
        rate_hz, samples = next(self._blocks, (self.rate_hz, None))
        if samples is not None and (rate_hz, samples.shape[1]) != (self.rate_hz, self.n_channels):
            raise BadAudio(
                f"the audio changes from {self.rate_hz} Hz, {self.n_channels} channels to "
                f"{rate_hz} Hz, {samples.shape[1]} channels",
                remedy="convert it to one rate and one number of channels",
            )
        return samples

    def close(self) -> None:
        """Frees the decoder, and the file if it was opened here."""
        self._blocks.close()
        if self._own_file is not None:
            self._own_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def in_blocks(parts: Iterable[Float32], n_samples: int) -> Iterator[Float32]:
    """Parts of any lengths as blocks of `n_samples`, the last one shorter."""
    if n_samples < 1:
        raise ValueError("n_samples must be at least 1")
    return _in_blocks(iter(parts), n_samples)


def _in_blocks(parts: Iterator[Float32], n_samples: int) -> Iterator[Float32]:
    held: list[Float32] = []
    n_held = 0
    while True:
        while n_held < n_samples and (samples := next(parts, None)) is not None:
            held.append(samples)
            n_held += len(samples)
        if not n_held:
            return
        joined = held[0] if len(held) == 1 else np.concatenate(held)
        n_whole = n_held - n_held % n_samples
        for start in range(0, n_whole, n_samples):
            yield joined[start : start + n_samples]
        if n_held < n_samples:  # the end
            yield joined
            return
        held, n_held = [joined[n_whole:]], n_held - n_whole


#: What each decoder yields: rate in Hz and float32 `(n, n_channels)`, n >= 1.
_Blocks = Generator[tuple[int, Float32], None, None]


def open_audio(
    source: BinaryIO | Path,
    *,
    max_channels: int = 2,
    min_rate_hz: int = 8_000,
    max_rate_hz: int = 192_000,
) -> AudioSource:
    """Opens a seekable binary file (read from its start, never closed) or a path.

    The first samples are decoded at once, so that most bad files are refused here.

    Raises `BadAudio` with code `empty_audio` (no bytes, or no samples), `truncated_audio`,
    `too_many_channels`, `rate_out_of_range`, or `bad_audio` (damaged);
    `UnsupportedEncoding` with code `unsupported_container` for what is not audio in one of the
    containers read here, or needs the extra `media`; `OSError` for a path that cannot be read;
    `MemoryError` where a decoder got none.
    """
    own_file = source.open("rb") if isinstance(source, Path) else None
    try:
        if own_file is not None and not own_file.seekable():
            raise BadAudio(
                "a pipe cannot be read as a file", remedy="write the audio to a file, and give that"
            )
        body = Body(own_file or cast(BinaryIO, source))
        container = sniff(body)
        limits = Limits(max_channels, min_rate_hz, max_rate_hz)
        n_samples = check_layout(body, container, limits)
        found = _Found(n_ogg_tracks(body) if container == "Ogg" else 1)
        blocks = _decoded(body, container, limits, found, n_samples)
        return AudioSource(container, blocks, own_file, n_samples, found)
    except BaseException:
        if own_file is not None:
            own_file.close()
        raise


def _decoded(
    body: Body, container: Container, limits: Limits, found: _Found, n_announced: int | None
) -> _Blocks:
    if container not in _READ_BY_PYAV:
        try:
            file = _ForwardSoundFile(cast(BinaryIO, body))
        except sf.LibsndfileError as error:
            _check_memory(error)
            if container not in _RETRIED_BY_PYAV:
                raise _damaged(container, error.error_string) from error
        else:
            n_read = yield from _read_soundfile(file, container, limits)
            if container == "FLAC" and n_announced is not None and _begins_anew(body):
                raise joined("FLAC")
            if container == "MP3" and n_read + _MP3_SLACK_SAMPLES < (n_announced or 0):
                raise truncated("MP3")
            if container == "MP3" and _goes_on(body):
                if n_announced is not None:
                    raise BadAudio(
                        "the MP3 file holds more audio than its first frame announces",
                        remedy="write its header anew, for example by ffmpeg -c copy",
                    )
                # Its bit rate varies, and libsndfile took the first frames' for all: what it
                # left unread is FFmpeg's, whose samples are the same.
                yield from _without_first(n_read, _read_pyav(body, container, limits, found))
            return
    yield from _read_pyav(body, container, limits, found)


def _goes_on(body: Body) -> bool:
    """Whether MPEG frames follow: libsndfile stops after the announced or estimated length."""
    position = after_tags(body, body.tell())  # a cover may be long
    heads = re.findall(rb"\xff[\xf2-\xf7\xfa-\xff]", body.at(position, _READ_SAMPLES))
    return any(heads.count(head) >= 3 for head in set(heads))


def _begins_anew(body: Body) -> bool:
    """Whether another FLAC follows: a signature with its STREAMINFO's head."""
    position = max(4, body.tell() - _SCAN_BYTES)  # libFLAC has read some of it
    while data := body.at(position, _SCAN_BYTES):
        if re.search(rb"fLaC[\x00\x80]\x00\x00\x22", data):
            return True
        position += max(1, len(data) - 7)
    return False


def _without_first(n_samples: int, blocks: _Blocks) -> _Blocks:
    for rate_hz, samples in blocks:
        n_left_out = min(n_samples, len(samples))
        n_samples -= n_left_out
        if n_left_out < len(samples):
            yield rate_hz, samples[n_left_out:]


class _ForwardSoundFile(sf.SoundFile):
    """Reads straight on. soundfile seeks after each read, which some decoders do not bear."""

    def seekable(self) -> bool:
        return False


def _read_soundfile(
    file: sf.SoundFile, container: Container, limits: Limits
) -> Generator[tuple[int, Float32], None, int]:
    """Returns how many samples a channel it yielded."""
    with file:
        limits.check(file.channels, file.samplerate)
        n_read = 0
        # Behind the last frame of a FLAC libsndfile would look for more, and fail on a tag.
        n_known = file.frames if container == "FLAC" else _UNKNOWN_SAMPLES
        try:
            while n_read < n_known:
                n_wanted = min(_READ_SAMPLES, n_known - n_read)
                block = file.read(n_wanted, dtype="float32", always_2d=True)
                if not len(block):
                    break
                n_read += len(block)
                yield file.samplerate, cast(Float32, block)
        except sf.LibsndfileError as error:
            _check_memory(error)
            if container == "FLAC" and n_read < file.frames:
                raise truncated(container) from error
            raise _damaged(container, error.error_string) from error
        if container == "FLAC" and n_read < n_known < _UNKNOWN_SAMPLES:
            raise truncated(container)
    return n_read


def _check_memory(error: sf.LibsndfileError) -> None:
    """Raises `MemoryError` where this is what it is about: nothing is wrong with the file then."""
    if error.code == _SNDFILE_MALLOC_FAILED:
        raise MemoryError(error.error_string) from error


def _read_pyav(body: Body, container: Container, limits: Limits, found: _Found) -> _Blocks:
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise UnsupportedEncoding(
            f"this {container} file needs PyAV, which is not installed",
            remedy="pip install 'glrf[media]', or convert the file to WAV or FLAC",
            code="unsupported_container",
        ) from error
    body.seek(0)
    try:
        # Data references of an M4A file to other files stay off, FFmpeg's default.
        options = {"codec_whitelist": _FFMPEG_CODECS}
        with av.open(
            body, "r", format=_FFMPEG_NAME[container], options=options, metadata_errors="replace"
        ) as file:
            if not file.streams.audio:
                raise BadAudio(
                    f"the {container} file has no audio track",
                    remedy="send one that has",
                    code="empty_audio",
                )
            stream = file.streams.audio[0]
            # Typed as never None, but it is where FFmpeg has no decoder.
            codec = cast("av.AudioCodecContext | None", stream.codec_context)
            if codec is None or codec.name not in _FFMPEG_CODECS.split(","):
                raise UnsupportedEncoding(
                    f"the {container} file's codec is not supported"
                    f" ({'unknown' if codec is None else codec.name})",
                    remedy="convert it to WAV or FLAC",
                    code="unsupported_container",
                )
            found.n_tracks = len(file.streams.audio)
            found.announced_s = _announced_s(container, file, stream)
            frames = _frames(file.decode(stream), limits)
            if container in _TIMED:
                yield from _on_time(frames)
            else:
                yield from ((rate_hz, samples) for _, rate_hz, samples in frames)
    except MemoryError:  # FFmpeg's too; nothing is wrong with the file then
        raise
    except FFmpegError as error:
        raise _damaged(container, error.strerror or "unknown error") from error


def _announced_s(
    container: Container, file: "InputContainer", stream: "av.AudioStream"
) -> float | None:
    """How long an M4A's track or a WebM says it is; what FFmpeg makes of bit rates is no such."""
    duration_s = start_s = 0.0
    if container == "M4A" and stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    elif container == "WebM" and stream.duration is None and file.duration is not None:
        duration_s, start_s = file.duration / 1e6, (file.start_time or 0) / 1e6
    # A piece of a live stream counts from there; see `_on_time`.
    duration_s -= start_s if start_s > _MAX_GAP_S else 0
    return min(duration_s, _MAX_ANNOUNCED_S) if duration_s > 0 else None


def _frames(
    frames: "Iterable[av.AudioFrame]", limits: Limits
) -> Iterator[tuple[float | None, int, Float32]]:
    """Time in seconds, where it is known, rate and samples of each frame that holds some."""
    for frame in frames:
        if frame.samples:
            limits.check(frame.layout.nb_channels, frame.sample_rate)
            yield frame.time, frame.sample_rate, _samples(frame)


def _on_time(decoded: Iterable[tuple[float | None, int, Float32]]) -> _Blocks:
    """Silence where the timestamps (in seconds) lead the samples, so that times are a player's.

    A sender that pauses, or sends no packets for silence, leaves such gaps; audio that begins after
    the video has one at its start. A first timestamp beyond an hour is taken for 0, as of a piece
    of a live stream. Nothing is left out where timestamps are behind.
    """
    n_told, start_s = 0, None
    for time_s, rate_hz, samples in decoded:
        if time_s is not None:
            lead_s = time_s - n_told / rate_hz
            if start_s is None:
                start_s = 0 if lead_s <= _MAX_GAP_S else lead_s
            lead_s -= start_s
            if lead_s > _MAX_GAP_S:
                raise BadAudio(
                    f"the timestamps leap by {lead_s:.0f} s at {n_told / rate_hz:.0f} s",
                    remedy="write them anew, for example by ffmpeg -i FILE out.wav",
                )
            n_missing = round(lead_s * rate_hz) if lead_s > _MIN_GAP_S else 0
            for start in range(0, n_missing, _READ_SAMPLES):
                n_silent = min(_READ_SAMPLES, n_missing - start)
                yield rate_hz, np.zeros((n_silent, samples.shape[1]), np.float32)
            n_told += n_missing
        n_told += len(samples)
        yield rate_hz, samples


def _samples(frame: "av.AudioFrame") -> Float32:
    """A frame of any sample format as float32 `(n, n_channels)`, full scale 1.0."""
    array: NDArray[np.generic] = frame.to_ndarray()
    # (n_channels, n) if planar, else (1, n * n_channels)
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    samples = np.ascontiguousarray(array, np.float32)
    match array.dtype.kind:
        case "u":
            return samples / np.float32(128) - np.float32(1)
        case "i":
            return samples / np.float32(2 ** (8 * array.dtype.itemsize - 1))
        case _:
            return samples
