"""A session that goes on from a checkpoint tells what the first one would have told."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.events import Checkpoint, Event, Segment, Summary, Usage
from ser_core.features import Float32
from ser_core.model_file import ModelSpec
from ser_core.opus import BadPacket, packet_samples
from ser_core.session import StreamSession
from ser_core.stream_config import Endpointing, StreamConfig
from tests.ser_core.player import (
    answer,
    encode,
    segments,
    short_spec,
    utterances,
    warnings,
    whole_spec,
)
from tests.synthetic import opus_packets, voice

RATES_HZ = (8_000, 8_001, 11_025, 16_000, 22_050, 44_100, 48_000)


class Client:
    """A stream's audio and the positions of its flushes, to be sent from any sample on."""

    def __init__(self, config: StreamConfig, data: bytes, flushes: tuple[int, ...]) -> None:
        self.config = config
        self._data = data
        self._flushes = sorted(flushes)

    def entry(self, resume_from: int) -> int:
        """Where the audio of a resumed session may begin: not later."""
        return max(0, resume_from - 3)

    def send(self, session: StreamSession, n_chunk: int, first: int = 0) -> Iterator[Event]:
        """Events of the stream from sample `first` on, in chunks of so many samples."""
        n_bytes = session.frame_bytes
        end = len(self._data) // n_bytes
        stops = [*(flush for flush in self._flushes if flush >= first), end]
        for stop in stops:
            while first < stop:
                last = min(stop, first + n_chunk)
                session.receive_audio(self._data[first * n_bytes : last * n_bytes])
                first = last
                yield from _events(session)
            if stop != end:
                session.flush()
                yield from _events(session)
        session.close()
        yield from _events(session)


class OpusClient(Client):
    """The same with packets; a flush stands before one of them."""

    def __init__(self, packets: list[bytes], flushes: tuple[int, ...] = (), **options: Any) -> None:
        self.config = StreamConfig(encoding="opus", sample_rate_hz=48_000, **options)
        self._packets, self._flushes = packets, sorted(flushes)
        lengths = [packet_samples(packet) for packet in packets]
        self._starts = [0, *accumulate(lengths)][:-1]

    def entry(self, resume_from: int) -> int:
        assert resume_from in self._starts
        return resume_from

    def send(self, session: StreamSession, n_chunk: int, first: int = 0) -> Iterator[Event]:
        for index, (start, packet) in enumerate(zip(self._starts, self._packets, strict=True)):
            if start < first:
                continue
            if index in self._flushes:
                session.flush()
            with suppress(BadPacket):
                session.receive_audio(packet)
            yield from _events(session)
        session.close()
        yield from _events(session)


def _events(session: StreamSession) -> Iterator[Event]:
    answer(session, session.segments_to_score())
    yield from session.events()


def _without_checkpoints(events: list[Event]) -> list[Event]:
    return [event for event in _renumbered(events) if not isinstance(event, Checkpoint)]


def _renumbered(events: list[Event]) -> Iterator[Event]:
    """`request_id` belongs to a session, not to the stream."""
    for event in events:
        yield replace(event, request_id=0) if isinstance(event, Segment) else event


def _ends(session: StreamSession) -> tuple[list[Summary], Usage]:
    return session.summaries(), session.usage


def check_all_checkpoints(
    spec: ModelSpec, client: Client, n_chunk: int, n_chunk_after: int, *, every: int = 1
) -> int:
    """Resumes from every n-th checkpoint; returns how many there were."""
    whole = StreamSession(spec, client.config, checkpoints=True)
    events = list(client.send(whole, n_chunk))
    plain = StreamSession(spec, client.config)
    assert list(_renumbered(list(client.send(plain, n_chunk)))) == _without_checkpoints(events)
    assert _ends(plain) == _ends(whole)
    places = [place for place, event in enumerate(events) if isinstance(event, Checkpoint)]
    for place in places[::every]:
        checkpoint = events[place]
        assert isinstance(checkpoint, Checkpoint)
        state = json.loads(json.dumps(checkpoint.state))
        first = client.entry(checkpoint.resume_from)
        session = StreamSession.resumed(spec, client.config, state, first)
        after = list(client.send(session, n_chunk_after, first))
        assert _without_checkpoints(after) == _without_checkpoints(events[place:])
        assert _ends(session) == _ends(whole)
        assert session.lost_samples == whole.lost_samples
    return len(places)


def _audio(config: StreamConfig, duration_s: float) -> bytes:
    """Speech with a pause, an overload and, where floats can say it, a NaN."""
    n_samples = int(duration_s * config.sample_rate_hz)
    channels = []
    for seed in range(config.n_channels):
        samples = voice(n_samples, config.sample_rate_hz, pitch_hz=160 + 60 * seed, seed=seed)
        samples[n_samples // 4 : n_samples // 3] = 0
        samples[-n_samples // 3 :] *= 4
        samples = np.clip(samples, -1, 1)
        if config.encoding == "pcm_f32le":
            samples[n_samples * (seed + 1) // 3] = np.nan
        channels.append(samples)
    assert config.encoding != "opus"
    return encode(np.stack(channels, axis=1), config.encoding)


@st.composite
def _configs(draw: st.DrawFn) -> StreamConfig:
    n_channels = draw(st.integers(1, 2))
    return StreamConfig(
        encoding=draw(st.sampled_from(("pcm_s16le", "pcm_f32le"))),
        sample_rate_hz=draw(st.sampled_from(RATES_HZ)),
        n_channels=n_channels,
        scored=draw(st.sampled_from((None, (False, True)))) if n_channels == 2 else None,
        endpointing=draw(st.sampled_from(("vad", "manual", "off"))),
        partial=draw(st.booleans()),
    )


@settings(derandomize=True, deadline=None, max_examples=20)
@given(
    config=_configs(),
    flushes=st.lists(st.floats(0, 1), max_size=3),
    n_chunk=st.integers(1_000, 20_000),
    n_chunk_after=st.integers(1_000, 20_000),
)
def test_every_checkpoint_gives_the_same_events(
    config: StreamConfig, flushes: list[float], n_chunk: int, n_chunk_after: int
) -> None:
    duration_s = 1.1
    n_samples = int(duration_s * config.sample_rate_hz)
    client = Client(
        config,
        _audio(config, duration_s),
        tuple(int(flush * n_samples) for flush in flushes),
    )
    assert check_all_checkpoints(short_spec(), client, n_chunk, n_chunk_after, every=4) >= 1


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_real_grid_over_the_resamplers_seams(rate_hz: int, n_channels: int) -> None:
    config = StreamConfig(sample_rate_hz=rate_hz, n_channels=n_channels)
    client = Client(config, _audio(config, 9.3), (int(3.3 * rate_hz),))
    n_chunk = rate_hz // 10
    assert check_all_checkpoints(whole_spec(), client, n_chunk, 2 * n_chunk, every=7) >= 20


def _conversation(config: StreamConfig, duration_s: int) -> bytes:
    """Noise, and utterances of 0.6 to 3 s in it, at other times on each channel."""
    rate_hz, rng = config.sample_rate_hz, np.random.default_rng(1)
    channels = []
    for seed in range(config.n_channels):
        samples = 0.0005 * rng.standard_normal(duration_s * rate_hz).astype(np.float32)
        speech = voice(len(samples), rate_hz, pitch_hz=140 + 70 * seed, seed=seed)
        for start_s, end_s in ((1.1, 1.7), (3.0, 6.0), (7.3, 8.2), (9.1, 9.9)):
            spoken = slice(int((start_s + seed / 3) * rate_hz), int((end_s + seed / 3) * rate_hz))
            samples[spoken] += speech[spoken]
        channels.append(samples)
    assert config.encoding != "opus"
    return encode(np.stack(channels, axis=1), config.encoding)


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize(("rate_hz", "n_channels"), [(16_000, 1), (8_000, 2), (44_100, 1)])
def test_utterances_that_speech_detection_cuts(
    rate_hz: int, n_channels: int, partial: bool
) -> None:
    config = StreamConfig(
        sample_rate_hz=rate_hz,
        n_channels=n_channels,
        partial=partial,
        endpointing="vad",
        baseline_s=2.5,
    )
    client = Client(config, _conversation(config, 11), (int(5.2 * rate_hz), int(10.4 * rate_hz)))
    whole = list(client.send(StreamSession(whole_spec(), config), rate_hz // 10))
    assert len(utterances(whole)) >= 4 * n_channels
    assert check_all_checkpoints(whole_spec(), client, rate_hz // 10, rate_hz // 4, every=2) >= 20


def _spoken(duration_s: float, n_channels: int = 1) -> Float32:
    """Voices with pauses, at 48 kHz."""
    config = StreamConfig(encoding="pcm_f32le", sample_rate_hz=48_000, n_channels=n_channels)
    samples = np.frombuffer(_conversation(config, int(duration_s)), "<f4")
    return samples if n_channels == 1 else samples.reshape(-1, 2)


@pytest.mark.parametrize("packet_ms", [2.5, 20, 60, 120])
def test_opus_packets_of_any_length(packet_ms: float) -> None:
    packets = opus_packets(_spoken(9), packet_ms=packet_ms, application="voip", b="24000")
    assert len(packets) == pytest.approx(9_000 / packet_ms, abs=2)
    client = OpusClient(packets, (len(packets) // 2,), endpointing="vad")
    assert check_all_checkpoints(whole_spec(), client, 0, 0, every=3) >= 20


@pytest.mark.parametrize("endpointing", ["manual", "off"])
def test_opus_in_stereo_with_a_channel_that_is_off(endpointing: Endpointing) -> None:
    """In packets of several lengths, with DTX and FEC."""
    samples = _spoken(11, 2)

    def packets_of(samples: Float32, packet_ms: float) -> list[bytes]:
        return opus_packets(
            samples,
            packet_ms=packet_ms,
            application="voip",
            b="24000",
            dtx="1",
            fec="1",
            packet_loss="10",
        )

    packets = opus_packets(samples[:1_200], packet_ms=2.5)[:3]  # no boundary is a whole ms after it
    packets += packets_of(samples[:200_000], 20) + packets_of(samples[200_000:], 60)
    for scored in ((True, False), (False, True), None):
        client = OpusClient(
            packets, (40, 41, 250), endpointing=endpointing, n_channels=2, scored=scored
        )
        assert check_all_checkpoints(whole_spec(), client, 0, 0, every=5) >= 20


def test_bad_opus_packets_before_and_after_a_checkpoint() -> None:
    """Their time goes by as silence, once, and they are complained of once."""
    packets, rng = opus_packets(_spoken(9)), np.random.default_rng(0)
    for at in range(len(packets) - 1, 0, -9):
        packets[at:at] = [b"\xfb\x03" + bytes(200), b"", b"\xfb", rng.bytes(40)]
    client = OpusClient(packets, endpointing="vad")
    whole = StreamSession(whole_spec(), client.config)
    list(client.send(whole, 0))
    assert whole.lost_samples >= 48 * 60 * len(packets) // 9 // 2
    assert check_all_checkpoints(whole_spec(), client, 0, 0, every=3) >= 20


def test_what_a_replayed_packet_is_complained_of_was_told_before() -> None:
    packets = opus_packets(_spoken(3))
    packets[60:60] = [b"\xfb\x03" + bytes(200)]
    client = OpusClient(packets)
    session = StreamSession(whole_spec(), client.config, checkpoints=True)
    last = [event for event in client.send(session, 0) if isinstance(event, Checkpoint)][-1]
    assert last.resume_from == 0
    resumed = StreamSession.resumed(whole_spec(), client.config, last.state, 0)
    for packet in packets:
        resumed.receive_audio(packet)
    assert resumed.lost_samples == session.lost_samples == 2_880
    with pytest.raises(BadPacket):
        resumed.receive_audio(packets[60])
    assert resumed.lost_samples == 2 * 2_880


def test_a_chain_of_opus_cuts() -> None:
    """Turns of decoders go on where the first session would have had them."""
    client = OpusClient(opus_packets(_spoken(11), packet_ms=40, application="voip"), (100,))
    whole = list(client.send(StreamSession(whole_spec(), client.config), 0))
    told, n_cuts = _cut_at_each_checkpoint(client, 0)
    assert n_cuts >= 20
    assert told == list(_renumbered(whole))


def test_opus_is_a_short_way_back() -> None:
    for packet_ms in (20, 120):
        client = OpusClient(opus_packets(_spoken(11), packet_ms=packet_ms), endpointing="off")
        session = StreamSession(whole_spec(), client.config, checkpoints=True)
        checkpoints = [e for e in client.send(session, 0) if isinstance(e, Checkpoint)]
        back_s = [(e.state["n_received"] - e.resume_from) / 48_000 for e in checkpoints]
        assert max(back_s) < 5.5
        assert len(checkpoints) >= 25


def test_it_is_a_short_way_back() -> None:
    """2 s rebuild the segment, and what a resampler needs comes before it."""
    for rate_hz in RATES_HZ:
        config = StreamConfig(sample_rate_hz=rate_hz)
        client = Client(config, _audio(config, 12), ())
        session = StreamSession(whole_spec(), config, checkpoints=True)
        last = [e for e in client.send(session, rate_hz // 10) if isinstance(e, Checkpoint)][-1]
        back_s = last.state["n_received"] / rate_hz - last.resume_from / rate_hz
        assert 2 <= back_s <= (5.5 if rate_hz != 8_001 else 7)


def test_an_utterances_end_is_the_shortest_way_back() -> None:
    config = StreamConfig()
    session = StreamSession(whole_spec(), config, checkpoints=True)
    session.receive_audio(_audio(config, 3))
    session.flush()
    (*_, last) = _events(session)
    assert isinstance(last, Checkpoint)
    assert last.resume_from == 48_000


def test_commands_exactly_where_it_goes_on_are_sent_again() -> None:
    """A client cannot tell whether the checkpoint knows of them; left out, they may be lost."""
    config = StreamConfig(endpointing="manual")
    audio = _audio(config, 3)

    def played(session: StreamSession, place: int, *, commands: bool = True) -> list[Event]:
        for at, kind in ((0, "ema"), (48_000, "mean"))[place // 48_000 :]:
            if commands or at > place:
                session.update({"angry": 0.9}, kind=kind)
                session.flush()
            session.receive_audio(audio)
        session.close()
        return list(_events(session))

    def after(checkpoint: Event, *, commands: bool = True) -> list[Event]:
        assert isinstance(checkpoint, Checkpoint)
        place = checkpoint.resume_from
        session = StreamSession.resumed(whole_spec(), config, checkpoint.state, place)
        return _without_checkpoints(played(session, place, commands=commands))

    whole = played(StreamSession(whole_spec(), config, checkpoints=True), 0)
    assert after(whole[0]) == _without_checkpoints(whole)
    assert after(whole[0], commands=False) != _without_checkpoints(whole)
    ends = [e for e in whole if isinstance(e, Checkpoint) and e.resume_from == 48_000]
    assert ends
    for end in ends:  # it knows them, and they change nothing
        assert after(end) == _without_checkpoints(whole[whole.index(end) :])


def test_a_chain_of_cuts() -> None:
    """Each session goes on from the first checkpoint of the one before it."""
    config = StreamConfig(sample_rate_hz=44_100)
    client = Client(config, _audio(config, 8), (44_100 * 3,))
    whole = list(client.send(StreamSession(whole_spec(), config), 4_410))
    told, n_cuts = _cut_at_each_checkpoint(client, 4_410)
    assert n_cuts >= 15
    assert told == list(_renumbered(whole))


def _cut_at_each_checkpoint(client: Client, n_chunk: int) -> tuple[list[Event], int]:
    """All that is told, and how often it was cut."""
    session = StreamSession(whole_spec(), client.config, checkpoints=True)
    first, told, n_cuts = 0, [], 0
    while True:
        for event in client.send(session, n_chunk, first):
            if isinstance(event, Checkpoint):
                break
            told.append(event)
        else:
            break
        n_cuts += 1
        first = event.resume_from
        session = StreamSession.resumed(whole_spec(), client.config, event.state, first)
    return list(_renumbered(told)), n_cuts


def test_unanswered_segments_are_told_after_the_checkpoint() -> None:
    """A checkpoint comes in its turn: after all that was told, before all that was not."""
    session = StreamSession(whole_spec(), StreamConfig(), checkpoints=True)
    session.receive_audio(encode(voice(32_000), "pcm_s16le"))
    requests = session.segments_to_score()
    (begin,) = session.events()
    assert isinstance(begin, Checkpoint)
    assert begin.resume_from == 0
    answer(session, requests[1:])
    assert list(session.events()) == []
    answer(session, requests[:1])
    events = list(session.events())
    assert [type(event) for event in events] == [Segment] * 4 + [Checkpoint]


@pytest.mark.parametrize("duration_s", [0.4, 1.2, 2.0])
def test_a_partial_segment_that_was_withheld_is_told_when_the_utterance_ends(
    duration_s: float,
) -> None:
    config = StreamConfig(partial=False)
    data = encode(voice(int(duration_s * 16_000)), "pcm_s16le")
    session = StreamSession(whole_spec(), config, checkpoints=True)
    session.receive_audio(data)
    (*told, last) = _events(session)
    n_segments = sum(isinstance(event, Segment) for event in told)
    assert n_segments == (duration_s == 2.0)
    assert isinstance(last, Checkpoint)
    resumed = StreamSession.resumed(whole_spec(), config, last.state, last.resume_from)
    resumed.receive_audio(data)
    for each in (session, resumed):
        each.close()
    expected = list(_renumbered(list(_events(session))))
    assert len(expected) == 2 - n_segments
    assert list(_renumbered(list(_events(resumed)))) == expected


def test_a_segment_that_was_dropped_leaves_its_index_free() -> None:
    config = StreamConfig(endpointing="off")
    data = _audio(config, 4)
    session = StreamSession(whole_spec(), config, checkpoints=True)
    session.receive_audio(data[: len(data) // 4])  # one second: the first segment
    checkpoint = list(_events(session))[-1]
    assert isinstance(checkpoint, Checkpoint)
    session.receive_audio(data[len(data) // 4 :])
    requests = session.segments_to_score()
    for request in requests[1:3]:
        session.drop(request.id)
    answer(session, [requests[0], *requests[3:]])
    *told, last = session.events()
    assert [segment.index for segment in segments(told)] == [1, 4, 5, 6, 7, 8]
    assert isinstance(last, Checkpoint)
    # Sent again, each is known by its index, and those that were missing come in their places.
    resumed = StreamSession.resumed(whole_spec(), config, checkpoint.state, checkpoint.resume_from)
    resumed.receive_audio(data[2 * checkpoint.resume_from :])
    again = {segment.index: segment.start for segment in segments(_events(resumed))}
    assert list(again) == list(range(1, 9))
    assert {segment.index: segment.start for segment in segments(told)}.items() <= again.items()
    resumed = StreamSession.resumed(whole_spec(), config, last.state, last.resume_from)
    resumed.receive_audio((data * 2)[2 * last.resume_from :])
    assert [segment.index for segment in segments(_events(resumed))] == list(range(9, 19))
    assert resumed.usage.n_segments == 1 + 6 + 10  # those that were told


def test_checkpoints_are_told_only_where_asked_for() -> None:
    config = StreamConfig()
    session = StreamSession(whole_spec(), config)
    session.receive_audio(_audio(config, 4))
    session.flush()
    assert not [event for event in _events(session) if isinstance(event, Checkpoint)]


def test_audio_that_begins_too_late_is_refused() -> None:
    config = StreamConfig()
    session = StreamSession(whole_spec(), config, checkpoints=True)
    session.receive_audio(_audio(config, 4))
    (*_, last) = _events(session)
    assert isinstance(last, Checkpoint)
    with pytest.raises(ValueError, match=f"from sample {last.resume_from} on is needed"):
        StreamSession.resumed(whole_spec(), config, last.state, last.resume_from + 1)


def test_a_client_that_ends_without_its_audio_gets_what_was_heard() -> None:
    config = StreamConfig()
    session = StreamSession(whole_spec(), config, checkpoints=True)
    session.receive_audio(_audio(config, 4))
    (*told, last) = _events(session)
    assert isinstance(last, Checkpoint)
    session = StreamSession.resumed(whole_spec(), config, last.state, last.resume_from)
    session.close()
    (utterance,) = utterances(_events(session))
    assert utterance.end == 64_000
    assert utterance.n_segments == len([s for s in segments(told) if not s.partial])
    assert not warnings(_events(session))
