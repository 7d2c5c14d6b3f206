"""The same audio in any chunking gives the same events, down to single bytes."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.decode import ENCODINGS, Decoder, Encoding
from ser_core.rules import parse_rules
from ser_core.session import StreamSession
from ser_core.smoothing import SMOOTHINGS, SmoothingConfig
from ser_core.stream_config import Endpointing, StreamConfig
from tests.ser_core.player import (
    FLUSH,
    encode,
    play,
    play_samples,
    segments,
    short_spec,
    split,
    utterances,
    warnings,
    whole_spec,
)
from tests.synthetic import voice

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000)


def _audio(config: StreamConfig, duration_s: float) -> bytes:
    """Speech with a pause, an overload and, where floats can say it, a NaN."""
    n_samples = int(duration_s * config.sample_rate_hz)
    channels = []
    for seed in range(config.n_channels):
        samples = voice(n_samples, config.sample_rate_hz, pitch_hz=160 + 60 * seed, seed=seed)
        samples[n_samples // 4 : n_samples // 2] = 0
        samples[-n_samples // 5 :] *= 4
        samples = np.clip(samples, -1, 1)
        if config.encoding == "pcm_f32le":
            samples[n_samples * (seed + 2) // 4] = np.nan
        channels.append(samples)
    return encode(np.stack(channels, axis=1), config.encoding)


@st.composite
def _configs(draw: st.DrawFn) -> StreamConfig:
    n_channels = draw(st.integers(1, 2))
    return StreamConfig(
        encoding=draw(st.sampled_from(ENCODINGS)),
        sample_rate_hz=draw(st.sampled_from(RATES_HZ)),
        n_channels=n_channels,
        scored=draw(st.sampled_from((None, (False, True)))) if n_channels == 2 else None,
        endpointing=draw(st.sampled_from(("manual", "off"))),
        partial=draw(st.booleans()),
        smoothing=SmoothingConfig(draw(st.sampled_from(SMOOTHINGS)), 0.05, 0.1),
        rules=parse_rules("angry>=0.3:0.1s,sad>=0.1:0.05s"),
    )


_SIZES = st.lists(
    st.one_of(st.integers(0, 4), st.integers(1, 700), st.integers(1, 20_000)), max_size=40
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(config=_configs(), sizes=_SIZES, later_sizes=_SIZES)
def test_any_chunking_gives_the_same_events(
    config: StreamConfig, sizes: list[int], later_sizes: list[int]
) -> None:
    data = _audio(config, 0.6)
    session = StreamSession(short_spec(), config)
    middle = len(data) * 3 // 5 // session.frame_bytes * session.frame_bytes
    before, after = data[:middle], data[middle:]
    expected = play(StreamSession(short_spec(), config), [before, FLUSH, after])
    assert len(segments(expected)) > 3
    assert len(utterances(expected)) >= 2

    chunks: list[bytes | None] = [*split(before, sizes), FLUSH, *split(after, later_sizes)]
    assert play(session, chunks) == expected


def _bytewise(data: bytes) -> Iterator[bytes]:
    return (data[start : start + 1] for start in range(len(data)))


@pytest.mark.parametrize("rate_hz", [8_000, 11_025])
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_single_bytes_give_the_same_events(
    encoding: Encoding, n_channels: int, rate_hz: int
) -> None:
    config = StreamConfig(encoding=encoding, sample_rate_hz=rate_hz, n_channels=n_channels)
    data = _audio(config, 0.2)
    expected = play(StreamSession(short_spec(), config), [data])
    assert len(segments(expected)) > 2
    assert play(StreamSession(short_spec(), config), _bytewise(data)) == expected


@pytest.mark.parametrize("endpointing", ["vad", "manual"])
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_20_ms_and_1_s_chunks_agree_on_the_real_grid(
    rate_hz: int, n_channels: int, endpointing: Endpointing
) -> None:
    config = StreamConfig(sample_rate_hz=rate_hz, n_channels=n_channels, endpointing=endpointing)
    data = _audio(config, 4.1)
    seen = []
    for duration_s in (0.02, 1.0, 10.0):
        session = StreamSession(whole_spec(), config)
        n_bytes = int(duration_s * rate_hz) * session.frame_bytes
        seen.append(play(session, split(data, [n_bytes] * (len(data) // n_bytes))))
    assert seen[0] == seen[1] == seen[2]
    assert len(segments(seen[0])) >= 8 * n_channels


def test_decoded_samples_and_bytes_give_the_same_events() -> None:
    # A file goes in by blocks of float samples, a stream by bytes.
    config = StreamConfig(n_channels=2)
    data = _audio(config, 4.1)
    samples = np.frombuffer(data, "<i2").reshape(-1, 2).astype(np.float32) / np.float32(32768)
    by_bytes = play(StreamSession(whole_spec(), config), [data])
    assert play_samples(whole_spec(), config, *np.array_split(samples, 7)) == by_bytes


def test_a_trailing_part_of_a_sample_is_warned_of_once_the_stream_ends() -> None:
    config = StreamConfig(n_channels=2)
    data = _audio(config, 1.0)
    whole = play(StreamSession(whole_spec(), config), [data])
    odd = play(StreamSession(whole_spec(), config), _split_odd(data + b"\x01\x02\x03"))
    (warning,) = [event for event in warnings(odd) if event not in whole]
    assert warning.code == "trailing_bytes"
    assert "3 bytes" in warning.message
    assert [event for event in odd if event != warning] == whole


def _split_odd(data: bytes) -> Iterator[bytes]:
    return split(data, [1, 3, 1_001, 0, 77])


@pytest.mark.parametrize("endpointing", ["manual", "off", "vad"])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("encoding", ["pcm_s16le", "mulaw"])
def test_what_is_kept_until_it_completes_something_delays_nothing(
    encoding: Encoding, rate_hz: int, endpointing: Endpointing
) -> None:
    config = StreamConfig(
        encoding=encoding, sample_rate_hz=rate_hz, n_channels=2, endpointing=endpointing
    )
    data = _audio(config, 6.0)
    kept = StreamSession(whole_spec(), config)
    heard_at_once = StreamSession(whole_spec(), config)
    decoder = Decoder(encoding, 2)
    n_bytes = kept.frame_bytes * (rate_hz // 97)  # a chunk that no hop is a multiple of
    for index, start in enumerate(range(0, len(data), n_bytes)):
        chunk = data[start : start + n_bytes]
        kept.receive_audio(chunk)
        heard_at_once.receive_samples(decoder.accept(chunk))
        if index % 150 == 149:
            kept.flush()
            heard_at_once.flush()
        assert kept.n_cut == heard_at_once.n_cut
        assert kept.n_untold == heard_at_once.n_untold
        assert kept.usage == heard_at_once.usage
    assert kept.n_cut > 10
