"""Drives a session as a front end does, with the tiny network of `tests.synthetic` to answer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from ser_core.events import Event, Segment, Utterance, Warning
from ser_core.features import Float32
from ser_core.model_file import ModelSpec, Thresholds
from ser_core.segments import SegmentSpec
from ser_core.session import SegmentRequest, StreamSession
from ser_core.stream_config import StreamConfig, StreamEncoding
from tests.synthetic import logits, model_spec

FLUSH = None  # among chunks: the client ends the utterance there


@cache
def whole_spec() -> ModelSpec:
    """The real grid: 2 s segments every 0.4 s, partial ones from 0.8 s on."""
    return model_spec()


@cache
def short_spec() -> ModelSpec:
    """A grid ten times finer, so that many segments fit in half a second."""
    return replace(
        model_spec(),
        segments=SegmentSpec(segment_samples=3_200, hop_samples=640),
        thresholds=Thresholds(uncertain_below=0.0, min_samples=1_280),
    )


def answer(session: StreamSession, requests: Iterable[SegmentRequest]) -> None:
    for request in requests:
        session.receive_logits(request.id, logits(request.features[None])[0])


def play(session: StreamSession, chunks: Iterable[bytes | None]) -> list[Event]:
    """All events of a stream; `FLUSH` among the chunks ends the utterance there."""
    events: list[Event] = []
    for chunk in chunks:
        if chunk is None:
            session.flush()
        else:
            session.receive_audio(chunk)
        answer(session, session.segments_to_score())
        events += session.events()
    session.close()
    answer(session, session.segments_to_score())
    return events + list(session.events())


def play_samples(spec: ModelSpec, config: StreamConfig, *parts: Float32 | None) -> list[Event]:
    """As `play`, for decoded samples `(n, n_channels)` or `(n,)`."""
    session = StreamSession(spec, config)
    for part in parts:
        if part is None:
            session.flush()
        else:
            session.receive_samples(part if part.ndim == 2 else part[:, None])
    session.close()
    answer(session, session.segments_to_score())
    return list(session.events())


def split(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Chunks of the sizes given, then the rest as one."""
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size
    yield data[start:]


def encode(samples: Float32, encoding: StreamEncoding) -> bytes:
    """Samples `(n,)` or `(n, n_channels)` as a client sends them."""
    match encoding:
        case "opus":
            raise ValueError("a stream of packets is made by tests.synthetic.opus_packets")
        case "pcm_s16le":
            return np.rint(samples * 32767).astype("<i2").tobytes()
        case "pcm_f32le":
            return samples.astype("<f4").tobytes()
        case "mulaw" | "alaw":  # any bytes are valid: a coarse quantisation is enough here
            return np.rint(samples * 127 + 128).astype(np.uint8).tobytes()


def segments(events: Iterable[Event]) -> list[Segment]:
    return [event for event in events if isinstance(event, Segment)]


def utterances(events: Iterable[Event]) -> list[Utterance]:
    return [event for event in events if isinstance(event, Utterance)]


def warnings(events: Iterable[Event]) -> list[Warning]:
    return [event for event in events if isinstance(event, Warning)]
