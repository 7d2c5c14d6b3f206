"""Bad and odd audio: it is told of, it harms nothing, and memory stays bounded."""

import tracemalloc

import numpy as np
import pytest

from ser_core.events import Event
from ser_core.features import Float32
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from tests.ser_core.player import (
    FLUSH,
    answer,
    encode,
    play_samples,
    segments,
    utterances,
    warnings,
    whole_spec,
)
from tests.synthetic import RATE_HZ, voice

S = RATE_HZ


def _play(*parts: Float32 | None, config: StreamConfig | None = None) -> list[Event]:
    return play_samples(whole_spec(), config or StreamConfig(), *parts)


def _codes(events: list[Event]) -> list[str]:
    return [warning.code for warning in warnings(events)]


def test_silence_is_never_scored() -> None:
    session = StreamSession(whole_spec(), StreamConfig())
    session.receive_audio(bytes(2 * 3 * S))
    session.close()
    assert session.segments_to_score() == []
    assert session.n_awaiting == 0
    events = list(session.events())
    assert warnings(events) == []
    assert len(segments(events)) == 6
    for segment in segments(events):
        assert (segment.abstain, segment.label) == ("no_speech", None)
        assert set(segment.scores.values()) == {0.0}
        assert segment.smoothed.label is None
    (utterance,) = utterances(events)
    assert (utterance.label, utterance.n_segments, utterance.pure) == (None, 0, False)
    assert utterance.is_final
    assert session.usage.speech_samples == 0


@pytest.mark.parametrize(("encoding", "code"), [("mulaw", b"\xff"), ("alaw", b"\xd5")])
def test_silence_of_a_telephone_line(encoding: str, code: bytes) -> None:
    config = StreamConfig(encoding=encoding, sample_rate_hz=8_000)  # type: ignore[arg-type]
    session = StreamSession(whole_spec(), config)
    session.receive_audio(code * 24_000)
    session.close()
    assert session.segments_to_score() == []
    assert {segment.abstain for segment in segments(session.events())} == {"no_speech"}


def test_a_pause_in_speech() -> None:
    pause = np.zeros(3 * S, np.float32)
    events = _play(np.concatenate((voice(2 * S), pause, voice(2 * S))))
    for segment in segments(events):
        # The pause is one as soon as a whole segment lies in it.
        is_inside = segment.start >= 2 * S and segment.end <= 5 * S
        assert (segment.abstain == "no_speech") == is_inside
    assert utterances(events)[0].n_segments == len(
        [s for s in segments(events) if not s.partial and s.abstain is None]
    )


@pytest.mark.parametrize("dc", [0.1, 0.3, -0.6])
def test_a_constant_is_no_speech(dc: float) -> None:
    events = _play(np.full(3 * S, dc, np.float32))
    assert _codes(events) == ["dc_offset"]
    assert {segment.abstain for segment in segments(events)} == {"no_speech"}


def test_an_offset_is_warned_of_and_speech_is_still_scored() -> None:
    events = _play(voice(3 * S) * 0.3 + np.float32(0.2))
    assert _codes(events) == ["dc_offset"]
    assert "+0.20" in warnings(events)[0].message
    assert all(segment.label for segment in segments(events))


def test_clipping() -> None:
    events = _play(np.clip(voice(3 * S) * 20, -1, 1))
    assert _codes(events) == ["clipping"]
    assert {segment.abstain for segment in segments(events)} == {"clipped"}
    assert all(segment.label is None for segment in segments(events))
    assert all(max(segment.scores.values()) > 0 for segment in segments(events))


def test_a_few_clipped_samples_are_only_warned_of() -> None:
    samples = voice(3 * S)
    samples[1_000 : 1_000 + 64] = 1.0
    events = _play(samples)
    assert _codes(events) == ["clipping"]
    assert all(segment.abstain is None for segment in segments(events))


def test_a_warning_comes_once_a_channel_and_cause() -> None:
    loud = np.clip(voice(3 * S) * 20, -1, 1)
    stereo = np.stack((loud, loud), axis=1)
    events = _play(stereo, FLUSH, stereo, config=StreamConfig(n_channels=2))
    assert [(warning.channel, warning.code) for warning in warnings(events)] == [
        (0, "clipping"),
        (1, "clipping"),
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_samples_are_silence(bad: float) -> None:
    samples = voice(4 * S)
    damaged, gap = samples.copy(), samples.copy()
    damaged[20_000:20_100], gap[20_000:20_100] = bad, 0
    events = _play(damaged)
    assert _codes(events) == ["non_finite_samples"]
    assert [event for event in events if event not in warnings(events)] == _play(gap)
    # It is told just before the first segment that holds such a sample.
    at = events.index(warnings(events)[0])
    assert segments(events[:at])[-1].end <= 20_000 < segments(events[at:])[0].end


def test_nothing_but_nan() -> None:
    events = _play(np.full(3 * S, np.nan, np.float32))
    assert _codes(events) == ["non_finite_samples"]
    assert {segment.abstain for segment in segments(events)} == {"no_speech"}


def test_huge_floats_are_clipped() -> None:
    events = _play(voice(3 * S) * np.float32(1e37))
    assert _codes(events) == ["clipping"]
    for segment in segments(events):
        assert all(0 <= score <= 1 for score in segment.scores.values())


def test_any_bytes_are_floats() -> None:
    data = np.random.default_rng(0).bytes(4 * 3 * S)
    session = StreamSession(whole_spec(), StreamConfig(encoding="pcm_f32le"))
    session.receive_audio(data)
    session.close()
    answer(session, session.segments_to_score())
    events = list(session.events())
    assert set(_codes(events)) == {"non_finite_samples", "clipping"}
    for segment in segments(events):
        assert np.isfinite(list(segment.scores.values())).all()


def test_denormal_and_tiny_floats() -> None:
    events = _play(voice(3 * S) * np.float32(1e-40))
    assert {segment.abstain for segment in segments(events)} == {"no_speech"}


@pytest.mark.parametrize("encoding", ["pcm_s16le", "mulaw"])
def test_a_long_stream_keeps_its_size(encoding: str) -> None:
    config = StreamConfig(encoding=encoding, sample_rate_hz=8_000, n_channels=2)  # type: ignore[arg-type]
    session = StreamSession(whole_spec(), config)
    chunk = encode(np.stack((voice(1_600, 8_000), voice(1_600, 8_000)), axis=1), config.encoding)

    def listen(n_chunks: int) -> None:
        for index in range(n_chunks):
            session.receive_audio(chunk[: 2 * session.frame_bytes * (index % 400)] + chunk)
            if index % 50 == 49:
                session.flush()
            answer(session, session.segments_to_score())
            for _ in session.events():
                pass

    listen(100)  # every buffer and cache has been filled
    tracemalloc.start()
    listen(20)
    before, _ = tracemalloc.get_traced_memory()
    listen(400)  # a minute and a half
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert session.usage.n_segments > 400
    assert after - before < 50_000


@pytest.mark.parametrize("endpointing", ["vad", "manual"])
def test_narrowband_audio_is_warned_of_once(endpointing: str) -> None:
    speech = voice(10 * S)
    spectrum = np.fft.rfft(speech)
    spectrum[np.fft.rfftfreq(len(speech), 1 / S) > 3_800] = 0
    telephone = np.fft.irfft(spectrum, len(speech)).astype(np.float32)
    config = StreamConfig(endpointing=endpointing)  # type: ignore[arg-type]
    assert _codes(_play(telephone, config=config)) == ["narrowband_audio"]
    assert _codes(_play(speech, config=config)) == []
    # Its rate says it already.
    at_8_khz = StreamConfig(sample_rate_hz=8_000, endpointing=endpointing)  # type: ignore[arg-type]
    assert "narrowband_audio" not in _codes(_play(voice(80_000, 8_000), config=at_8_khz))
