"""One audio file through the pipeline, with or without a server around it.

    async with Batcher(backend) as batcher:
        analysis = FileAnalysis(path, batcher)
        result = analysis.result([line async for line in analysis.lines()])

A file is a stream that arrives in one piece: decoding and features run in a worker thread, and
what they cut goes through the same batcher as everybody's.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from ser_core.containers import open_audio
from ser_core.errors import TooLarge
from ser_core.events import Alert, Checkpoint, Segment, Utterance, Warning
from ser_core.features import Float32
from ser_core.model_file import ModelSpec
from ser_core.session import StreamSession
from ser_core.speech import DetectorName
from ser_core.stream_config import StreamConfig
from ser_core.waveform import Outliner, Waveform
from service import wire
from service.call import Call
from service.inference.batcher import Batcher
from service.manifest import ModelCard, Run, model_card, run_of
from service.pump import Pump, TimedEvent
from service.requests import FileQuery, Role
from service.tally import CallTally, Margins

if TYPE_CHECKING:
    from service.metrics import Metrics
    from service.pace import AudioMeter

MAX_FILE_RATE_HZ = 192_000
BLOCK_S = 1.0

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What one file may take."""

    max_file_s: float = 3600.0
    max_untold_events: int = 16


class Audio(Protocol):
    """Decoded audio of one file, decoded here or elsewhere; see `AudioSource`."""

    rate_hz: int
    n_channels: int
    announced_samples: int | None
    n_tracks: int

    def blocks(self, n_samples: int) -> Iterator[Float32]:
        """Blocks of `n_samples` samples, the last one shorter."""
        ...

    def close(self) -> None:
        """Ends the decoding."""
        ...


OpenAudio = Callable[[BinaryIO | Path], Audio]


@dataclass(frozen=True, slots=True)
class FileChunk:
    """Some of a file's lines, and where another analysis goes on after them.

    `audio_from` is the first sample of the file that it is to be given, `session` the state of
    its `StreamSession`, `None` after the last chunk.
    """

    lines: tuple[wire.Line, ...]
    audio_from: int
    session: dict[str, Any] | None


class FileAnalysis:
    """One file's analysis: iterate `lines` to its end, then read `result` or `summary`.

    `decode` opens the file: in this process, or, for files of strangers, by
    `service.decoding.Decoding.open` in another. Lines are not kept here. One that `draws` has then
    a `waveform` too, of the channels that are scored.

    Raises, while iterating, `BadAudio`, `UnsupportedEncoding`, `BadParameter`, `TooLarge`, and
    `Overloaded` when the batcher is full.
    """

    def __init__(
        self,
        source: BinaryIO | Path,
        batcher: Batcher,
        query: FileQuery | None = None,
        *,
        decode: OpenAudio = open_audio,
        limits: FileLimits | None = None,
        detector: DetectorName = "energy",
        metrics: "Metrics | None" = None,
        meter: "AudioMeter | None" = None,
        request_id: str | None = None,
        draws: bool = False,
    ) -> None:
        self._source = source
        self._decode = decode
        self._batcher = batcher
        self._query = query or FileQuery()
        self._query.check()
        self._limits = limits or FileLimits()
        self._detector: DetectorName = detector
        self._metrics = metrics
        self._meter = meter
        self._request_id = request_id or uuid.uuid4().hex
        self._duration_ms = 0
        self._summaries: list[wire.StreamSummary] = []
        self._roles: tuple[Role, ...] = ()
        self._config = StreamConfig()
        self._draws = draws
        self._outliner: Outliner | None = None
        #: What the lines add up to. Who goes on with a file gives it those that were told before.
        self.tally = CallTally(batcher.backend.spec.labels)

    async def lines(self) -> AsyncGenerator[wire.Line]:
        """Everything told of the file, in order, as it is scored."""
        async with self._opened() as audio:
            async for line in self._results(audio):
                assert not isinstance(line, Checkpoint)
                self.tally.accept(line)
                yield line

    async def chunks(
        self, chunk_s: float, last: FileChunk | None = None
    ) -> AsyncGenerator[FileChunk]:
        """The same lines in chunks of some `chunk_s` of audio, each with where to go on after it.

        After `last`, a chunk of an earlier analysis of the same file, model and query: what is
        told then is what that one would have told. Raises besides `KeyError`, `TypeError` and
        `ValueError` for a state of another version or detector.
        """
        async with self._opened() as audio:
            lines: list[wire.Line] = []
            chunk_samples = round(chunk_s * audio.rate_hz)
            n_heard = 0 if last is None or last.session is None else last.session["n_received"]
            chunk_end = n_heard + chunk_samples
            async for result in self._results(audio, last, checkpoints=True):
                if not isinstance(result, Checkpoint):
                    self.tally.accept(result)
                    lines.append(result)
                elif result.state["n_received"] >= chunk_end:
                    yield FileChunk(tuple(lines), result.resume_from, result.state)
                    lines, chunk_end = [], result.state["n_received"] + chunk_samples
            yield FileChunk(tuple(lines), 0, None)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Audio]:
        opened: list[Audio] = []
        try:
            await _in_thread(lambda: opened.append(self._decode(self._source)))
            yield opened[0]
        finally:
            for audio in opened:
                await _in_thread(audio.close)

    async def _results(
        self, audio: Audio, last: FileChunk | None = None, *, checkpoints: bool = False
    ) -> AsyncIterator[wire.Line | Checkpoint]:
        spec = self._batcher.backend.spec
        config = self._query.config(
            audio.rate_hz, audio.n_channels, MAX_FILE_RATE_HZ, self._detector
        )
        self._config = config
        self._roles = self._query.parsed_roles(audio.n_channels)
        for index, role in enumerate(self._roles):
            if not role.scored:  # on record: an operator may have to show it
                log.info("file %s: channel %d (%s) is off", self._request_id, index, role.name)
        if audio.announced_samples is not None:  # said at once, not after an hour of work
            self._check_length(audio.announced_samples, audio.rate_hz)
            if self._meter is not None:
                await self._meter.expect(audio.announced_samples / audio.rate_hz)
        narrator = wire.Narrator(spec, self._roles)
        blocks = audio.blocks(int(BLOCK_S * audio.rate_hz))
        if self._draws:
            self._outliner = Outliner(audio.rate_hz, config.scored_channels)
        narrowband = narrowband_warning(config, spec)
        if last is not None and last.session is not None:
            session = StreamSession.resumed(spec, config, last.session, last.audio_from)
            blocks = _from_sample(blocks, last.audio_from)
        else:
            session = StreamSession(spec, config, checkpoints=checkpoints)
            for warning in (narrowband, _tracks_warning(config, audio.n_tracks)):
                if warning is not None:
                    yield wire.WarningLine(**warning.model_dump())
        n_before = session.received_samples
        pump = Pump(session, self._batcher, self._limits.max_untold_events)
        try:
            is_open, n_metered = True, n_before
            while is_open:
                received_s = time.perf_counter()
                is_open, features_s = await _in_thread(
                    lambda: _step(session, blocks, self._outliner)
                )
                self._check_length(session.received_samples, audio.rate_hz)
                if self._meter is not None:
                    await self._meter.hear((session.received_samples - n_metered) / audio.rate_hz)
                    n_metered = session.received_samples
                pump.submit(received_s, features_s)
                leave = self._limits.max_untold_events if is_open else 0
                async for timed in pump.events(leave):
                    if isinstance(timed.event, Checkpoint):
                        yield timed.event
                    else:
                        yield self._line(narrator, timed)
        finally:
            pump.cancel()
        self._duration_ms = round(session.received_samples * 1000 / audio.rate_hz)
        self._summaries = [narrator.summary(summary) for summary in session.summaries()]
        if self._metrics is not None:
            n_samples = session.received_samples - n_before
            self._metrics.audio_s.labels("file").inc(n_samples / audio.rate_hz)

    def _check_length(self, n_samples: int, rate_hz: int) -> None:
        if n_samples > self._limits.max_file_s * rate_hz:
            raise TooLarge(
                f"the audio is longer than {self._limits.max_file_s:g} s",
                remedy="send it in parts, or stream it",
            )

    def _line(self, narrator: wire.Narrator, timed: TimedEvent) -> wire.Line:
        match timed.event:
            case Segment() as segment:
                if self._metrics is not None and timed.timing is not None:
                    timing = timed.timing
                    self._metrics.count_segment(segment)
                    self._metrics.stages(features=timing.features_s)
                    if segment.abstain != "no_speech":
                        self._metrics.stages(queue=timing.queue_s, inference=timing.inference_s)
                return wire.SegmentLine(**narrator.segment(segment))
            case Utterance() as utterance:
                return wire.UtteranceLine(**narrator.utterance(utterance))
            case Alert() as alert:
                return wire.AlertLine(**narrator.alert(alert))
            case Warning() as warning:
                return wire.WarningLine(
                    channel=warning.channel, code=warning.code, message=warning.message
                )
            case Checkpoint():
                raise AssertionError("a checkpoint is no line")

    @property
    def model(self) -> ModelCard:
        """The model that scores."""
        return model_card(self._batcher.backend.spec, self._batcher.backend.sha256)

    @property
    def waveform(self) -> Waveform | None:
        """What was heard so far as a picture; `None` where nothing is drawn."""
        return None if self._outliner is None else self._outliner.waveform

    def result(self, lines: list[wire.Line]) -> wire.FileResult:
        """The answer of `POST /v1/files`, from all that `lines` told."""
        segments: dict[int, list[wire.SegmentFields]] = {}
        utterances: dict[int, list[wire.UtteranceFields]] = {}
        alerts: dict[int, list[wire.AlertFields]] = {}
        warnings: list[wire.WarningFields] = []
        for line in lines:
            match line:
                case wire.SegmentLine():
                    segments.setdefault(line.channel, []).append(line)
                case wire.UtteranceLine():
                    utterances.setdefault(line.channel, []).append(line)
                case wire.AlertLine():
                    alerts.setdefault(line.channel, []).append(line)
                case wire.WarningLine():
                    warnings.append(line)
        summaries = {summary.channel: summary for summary in self._summaries}
        channels: list[wire.ScoredChannel | wire.UnscoredChannel] = []
        for index, role in enumerate(self._roles):
            if not role.scored:
                channels.append(wire.UnscoredChannel(channel=index, role=role.name))
                continue
            channels.append(
                wire.ScoredChannel(
                    channel=index,
                    role=role.name,
                    segments=tuple(segments.get(index, ())),
                    utterances=tuple(utterances.get(index, ())),
                    alerts=tuple(alerts.get(index, ())),
                    turning_points=self.tally.turning_points(index),
                    summary=summaries[index],
                )
            )
        return wire.FileResult(
            request_id=self._request_id,
            model=self.model,
            duration_ms=self._duration_ms,
            channels=tuple(channels),
            call=self._call(),
            warnings=tuple(warnings),
            run=self._run(),
        )

    def _call(self) -> Call:
        return self.tally.call(self._roles, Margins.of(self._config), self._duration_ms)

    def _run(self) -> Run:
        return run_of(self._batcher.backend, self._config, self._roles)

    def summary(self) -> wire.SummaryLine:
        """The last line of the answer that streams."""
        unscored = [
            wire.UnscoredChannel(channel=index, role=role.name)
            for index, role in enumerate(self._roles)
            if not role.scored
        ]
        return wire.SummaryLine(
            request_id=self._request_id,
            model=self.model,
            duration_ms=self._duration_ms,
            channels=(*self._channel_summaries(), *unscored),
            call=self._call(),
            run=self._run(),
        )

    def _channel_summaries(self) -> Iterator[wire.FileChannelSummary]:
        for summary in self._summaries:
            turning_points = self.tally.turning_points(summary.channel)
            yield wire.FileChannelSummary(**summary.model_dump(), turning_points=turning_points)


def narrowband_warning(config: StreamConfig, spec: ModelSpec) -> wire.WarningFields | None:
    """What to say of audio that holds less of the spectrum than the model listens to."""
    rate_hz = config.sample_rate_hz
    if rate_hz >= spec.features.sample_rate_hz:
        return None
    return wire.WarningFields(
        channel=config.scored_channels[0],
        code="narrowband_audio",
        message=f"audio at {rate_hz} Hz holds nothing above {rate_hz // 2} Hz; "
        f"the model listens up to {spec.features.sample_rate_hz // 2} Hz",
    )


def _tracks_warning(config: StreamConfig, n_tracks: int) -> wire.WarningFields | None:
    if n_tracks == 1:
        return None
    return wire.WarningFields(
        channel=config.scored_channels[0],
        code="other_tracks",
        message=f"the file has {n_tracks} audio tracks; the first one is scored, no other",
    )


def _from_sample(blocks: Iterator[Float32], first: int) -> Iterator[Float32]:
    """The blocks without their first samples; those before it are empty.

    They are decoded all the same: only from its start does a file give the same samples.
    """
    for block in blocks:
        n_skipped = min(first, len(block))
        first -= n_skipped
        yield block[n_skipped:]


def _step(
    session: StreamSession, blocks: Iterator[Float32], outliner: Outliner | None
) -> tuple[bool, float]:
    """Feeds one block, or closes after the last: whether more is to come, and seconds of work."""
    block = next(blocks, None)
    began_s = time.perf_counter()
    if block is None:
        session.close()
    elif len(block):
        session.receive_samples(block)
        if outliner is not None:
            outliner.accept(block)
    return block is not None, time.perf_counter() - began_s


async def _in_thread(work: Callable[[], T]) -> T:
    """Runs `work` in a thread, and even when cancelled not past its end.

    A decoder must not be closed while a thread is inside it.
    """
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():  # a cancel scope cancels again and again
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # looked at, so that asyncio does not report it as lost
        raise
