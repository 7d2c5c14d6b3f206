"""Opus packets, good and bad; the encoder is PyAV's."""

import sys
from itertools import accumulate

import numpy as np
import pytest

from ser_core.errors import BadParameter, UnsupportedEncoding
from ser_core.opus import (
    RATE_HZ,
    WARM_UP_S,
    BadPacket,
    OpusDecoder,
    PacketDecoder,
    packet_samples,
)
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from tests.ser_core.player import answer, segments, whole_spec
from tests.synthetic import opus_packets, voice


def _decoded(decoder: OpusDecoder, packets: list[bytes]) -> np.ndarray:
    return np.concatenate([decoder.accept(packet) for packet in packets])


def test_speech_comes_back() -> None:
    sent = voice(RATE_HZ, RATE_HZ)
    heard = _decoded(OpusDecoder(1), opus_packets(sent))
    assert heard.dtype == np.float32
    delay = int(np.correlate(heard[:20_000, 0], sent[:18_000], "valid").argmax())
    part = heard[delay : delay + 40_000, 0]
    assert np.corrcoef(part, sent[: len(part)])[0, 1] > 0.98


def test_stereo() -> None:
    sent = np.stack((voice(RATE_HZ, RATE_HZ), voice(RATE_HZ, RATE_HZ) / np.float32(4)), axis=1)
    heard = _decoded(OpusDecoder(2), opus_packets(sent))
    assert heard.shape[1] == 2
    assert 3 < heard[:, 0].std() / heard[:, 1].std() < 5


@pytest.mark.parametrize(
    ("head", "n_samples"),
    [
        (b"", 0),
        (b"\x00", 480),  # SILK, 10 ms
        (b"\x18", 2_880),  # 60 ms
        (b"\x19", 5_760),  # two of them
        (b"\x60", 480),  # hybrid
        (b"\x68", 960),
        (b"\x80", 120),  # CELT, 2.5 ms
        (b"\xf8", 960),
        (b"\xfa", 1_920),
        (b"\xfb\x03", 2_880),  # three of 20 ms
        (b"\xfb\xc6", 5_760),  # the count's upper bits are flags
        (b"\xfb\x07", 0),  # 140 ms
        (b"\xfb", 0),
        (b"\xfb\x00", 0),
    ],
)
def test_a_packet_says_how_long_it_is(head: bytes, n_samples: int) -> None:
    assert packet_samples(head) == n_samples


def test_bad_packets_harm_no_good_one() -> None:
    packets = opus_packets(voice(RATE_HZ, RATE_HZ))
    decoder, rng, n_bad = OpusDecoder(1), np.random.default_rng(0), 0
    for packet in packets:
        for bad in (b"", b"\xfb", rng.bytes(int(rng.integers(1, 60)))):
            try:
                decoder.accept(bad)
            except BadPacket:
                n_bad += 1
        assert len(decoder.accept(packet)) == packet_samples(packet)
    assert n_bad > 2 * len(packets)


def test_a_bad_packet_is_silence_in_a_session() -> None:
    config = StreamConfig(encoding="opus", sample_rate_hz=RATE_HZ)
    session = StreamSession(whole_spec(), config)
    packets = opus_packets(voice(3 * RATE_HZ, RATE_HZ))
    for index, packet in enumerate(packets):
        if index == 40:
            with pytest.raises(BadPacket) as caught:
                session.receive_audio(b"\xfb\x03" + bytes(200))
            assert caught.value.n_samples == 2_880
        session.receive_audio(packet)
    assert session.received_samples == sum(map(packet_samples, packets)) + 2_880
    session.close()
    answer(session, session.segments_to_score())
    assert len(segments(session.events())) >= 6


@pytest.mark.parametrize("lengths_ms", [(20,), (120,), (20, 2.5, 60, 120, 10)])
def test_a_stream_can_be_entered_before_any_sample(lengths_ms: tuple[float, ...]) -> None:
    """A new decoder at `source_of` a sample gives all from there on, also over later turns."""
    samples = voice(5 * RATE_HZ, RATE_HZ)
    packets: list[bytes] = []
    for lot in range(10):
        part = samples[lot * RATE_HZ // 2 : (lot + 1) * RATE_HZ // 2]
        packet_ms = lengths_ms[lot % len(lengths_ms)]
        packets += opus_packets(part, packet_ms=packet_ms, application="voip")
    starts = [0, *accumulate(map(packet_samples, packets))]
    decoder = OpusDecoder(1)
    whole = _decoded(decoder, packets)
    begins = [
        start for start in starts[1:-1] if decoder.source_of(start) != decoder.source_of(start - 1)
    ]
    assert len(begins) >= 2
    for position in (*begins, *(begin - 1 for begin in begins)):
        opening = decoder.source_of(position)
        assert position - opening < (2 + WARM_UP_S + 3 * 0.12) * RATE_HZ
        entered = OpusDecoder(1, opening)
        rest = _decoded(entered, packets[starts.index(opening) :])
        assert np.array_equal(rest[position - opening :], whole[position:])
        assert entered.source_of(len(whole)) == decoder.source_of(len(whole))


def test_turns_are_heard_by_nobody() -> None:
    packets = opus_packets(voice(9 * RATE_HZ, RATE_HZ), application="voip", b="24000")
    decoder = OpusDecoder(1)
    in_turns = _decoded(decoder, packets)
    assert len({decoder.source_of(second * RATE_HZ) for second in range(9)}) == 5
    plain = PacketDecoder(1)
    at_once = np.concatenate([plain.accept(packet) for packet in packets])
    error = np.sqrt(np.mean((in_turns - at_once) ** 2) / np.mean(at_once**2))
    assert 0 < error < 0.01


def test_other_rates_and_channels_are_refused() -> None:
    with pytest.raises(BadParameter, match="sample_rate=16000 with encoding opus"):
        StreamConfig(encoding="opus")
    with pytest.raises(BadParameter, match="channels=3"):
        OpusDecoder(3)


def test_without_pyav_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedEncoding, match="needs PyAV") as caught:
        OpusDecoder(1)
    assert "glrf[media]" in caught.value.remedy
