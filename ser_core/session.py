"""One stream's state, from bytes to events: the pipeline that every front end drives.

    session = StreamSession(spec, StreamConfig(encoding="mulaw", sample_rate_hz=8000))
    session.receive_audio(data)                     # any chunking
    for request in session.segments_to_score():     # features out ...
        session.receive_logits(request.id, logits)  # ... logits in, in any order
    for event in session.events():                  # always in stream order
        ...
    session.close()                                 # then score and read events once more

It is sans-I/O: no await, socket, clock or network runtime. A file is a stream in one piece, so
REST, WebSocket, the command line and evaluation give the same numbers.

With `checkpoints=True` its events say at first, and once a hop, where another session can go on:

    session = StreamSession.resumed(spec, config, checkpoint.state, checkpoint.resume_from)
    session.receive_audio(data)                     # from sample `resume_from` of the stream on

What that one tells is what this one would have told, bit for bit (ADR 10).
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ser_core.baseline import Span
from ser_core.channel import Channel, End, Hop, OpenUtterance
from ser_core.endpointing import Endpointer, detector
from ser_core.events import (
    Abstain,
    Alert,
    Checkpoint,
    Decision,
    Event,
    Segment,
    Summary,
    Usage,
    Utterance,
    Warning,
    WarningCode,
)
from ser_core.features import Float32
from ser_core.input_buffer import InputBuffer
from ser_core.model_file import ModelSpec
from ser_core.opus import BadPacket, decoder
from ser_core.pending import (
    Options,
    PendingCheckpoint,
    PendingSegment,
    PendingUtterance,
    SegmentRequest,
)
from ser_core.posteriors import named
from ser_core.rules import check_labels
from ser_core.smoothing import SmoothingConfig
from ser_core.stream_config import StreamConfig
from ser_core.vad import CLIPPED_SHARE


def _endpointer(spec: ModelSpec, config: StreamConfig) -> Endpointer | None:
    if config.endpointing != "vad":
        return None
    ears = detector(config.detector, spec.features)
    return Endpointer(spec.features, spec.segments.hop_samples, ears, config.endpoint_silence_s)


class StreamSession:
    """The state of one stream. See the module's docstring for its use.

    Raises `UnsupportedEncoding` and `BadParameter` for a config that cannot be served.
    """

    def __init__(self, spec: ModelSpec, config: StreamConfig, *, checkpoints: bool = False) -> None:
        self.config = config
        self._tells_checkpoints = checkpoints
        self._spec = spec
        check_labels(config.rules, spec.labels)
        self._asked = self._options = Options(config.smoothing, spec.thresholds)
        self._decoder = decoder(config.encoding, config.n_channels)
        self._input = InputBuffer(self._decoder, config.n_channels)
        self._n_wanted = 0  # samples of it without which nothing can be told
        self._channels = [
            Channel(
                spec,
                index,
                config.sample_rate_hz,
                config.rules,
                config.baseline_s,
                _endpointer(spec, config),
            )
            for index in config.scored_channels
        ]
        self._outbox: deque[
            PendingSegment | PendingUtterance | PendingCheckpoint | Options | Warning | Alert
        ] = deque()
        self._n_marks = 0  # checkpoints in it
        self._awaiting: dict[int, PendingSegment] = {}
        self._to_score: list[SegmentRequest] = []
        self._warned: set[tuple[int, str]] = set()
        self._n_requests = 0
        self._n_segments = 0
        self._n_received = 0
        self._n_lost = 0
        self._n_flushed = -1  # received when `flush` last told a result so far
        self._replay_until = -1
        self._is_closed = False
        self._mark()

    @classmethod
    def resumed(
        cls, spec: ModelSpec, config: StreamConfig, state: dict[str, Any], audio_from: int
    ) -> "StreamSession":
        """Goes on from a `Checkpoint` of a session with the same spec and config.

        The audio that it is given begins at sample `audio_from` of the stream, at or before the
        checkpoint's `resume_from`; Opus packets begin there exactly. What was told before the
        checkpoint is not told again, and a `flush` or `update` that it knows of is passed over.
        Raises `KeyError`, `TypeError`, `ValueError` or `BadParameter` for what is no state of such
        a session.
        """
        if state["detector"] != config.detector:
            raise ValueError(f"the state is of the detector {state['detector']}")
        session = cls(spec, config)
        session._tells_checkpoints = True
        for channel, kept in zip(session._channels, state["channels"], strict=True):
            channel.restore(kept["cut"], audio_from)
            channel.restore_scored(kept)
            if channel.utterance is not None:
                channel.utterance.running.restore(kept["running"])
        session._decoder = decoder(config.encoding, config.n_channels, audio_from)
        session._input = InputBuffer(session._decoder, config.n_channels)
        session._n_received = audio_from
        session._n_lost = state["n_lost"]
        session._replay_until = state["n_received"]
        session._n_flushed = state["n_flushed"]
        session._warned = {(channel, code) for channel, code in state["warned"]}
        session._asked = session._options = Options(
            SmoothingConfig(**state["smoothing"]),
            spec.thresholds.changed(state["thresholds"], spec.labels),
        )
        session._n_segments = sum(channel.n_segments for channel in session._channels)
        return session

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel; a wire chunk holds whole multiples of it."""
        return self._decoder.frame_bytes

    @property
    def n_awaiting(self) -> int:
        """Segments handed out or queued whose logits have not come back."""
        return len(self._awaiting)

    @property
    def n_cut(self) -> int:
        """Segments cut so far, scored or not: the `request_id` that the next one gets."""
        return self._n_requests

    @property
    def n_untold(self) -> int:
        """Events that wait to be told, those whose segments are still to be scored included.

        Checkpoints do not count.
        """
        return len(self._outbox) - self._n_marks

    @property
    def has_news(self) -> bool:
        """Whether anything waits to be told, a checkpoint too."""
        return bool(self._outbox)

    @property
    def received_samples(self) -> int:
        """Samples a channel received, at the rate of the input."""
        return self._n_received

    @property
    def lost_samples(self) -> int:
        """Of those received, how many were silence in the place of packets that are no good."""
        return self._n_lost

    def receive_audio(self, data: bytes) -> None:
        """Takes audio in the config's encoding: raw samples in any chunking, or one Opus packet.

        Raises `BadPacket` for a packet that cannot be decoded, after its time went by as silence;
        not for one that is replayed, of which that was told before.
        """
        if self._is_closed:
            raise RuntimeError("the session is closed")
        n_before = self._input.n_samples
        bad: BadPacket | None = None
        try:
            self._input.keep(data)
        except BadPacket as error:
            if not self.is_replaying:
                self._n_lost += error.n_samples
                bad = error
        self._n_received += self._input.n_samples - n_before
        if self._input.n_samples >= self._n_wanted:
            self._hear()
            self._n_wanted = min((channel.n_wanted for channel in self._channels), default=1)
        if bad is not None:
            raise bad

    def _hear(self) -> None:
        if self._input.n_samples:
            self._take(self._input.take())

    def receive_samples(self, samples: Float32) -> None:
        """Takes decoded samples, float32 `(n, n_channels)` at the config's rate.

        NaN and infinite values become silence, values beyond full scale are clipped.
        """
        if self._is_closed:
            raise RuntimeError("the session is closed")
        self._hear()
        self._n_wanted = 0
        self._n_received += len(samples)
        self._take(samples)

    def _take(self, samples: Float32) -> None:
        told = [channel.accept(samples[:, channel.index]) for channel in self._channels]
        self._advance(told)
        if any(told):
            self._mark()

    @property
    def is_replaying(self) -> bool:
        """Whether a resumed session is still given what was received before its checkpoint."""
        return self._n_received < self._replay_until

    def flush(self) -> None:
        """Ends the utterance now; its result follows the segments still to be scored.

        With endpointing `off` the utterance goes on, and its result so far is told. Without audio
        since the last flush there is nothing to tell.
        """
        if self.is_replaying:
            return
        self._hear()
        self._n_wanted = 0
        if self.config.endpointing == "off":
            if self._n_flushed == self._n_received:
                return
            self._n_flushed = self._n_received
            for channel in self._channels:
                if channel.utterance is not None:
                    self._tell_utterance(channel, channel.utterance, channel.position, final=False)
        else:
            self._end_utterances()
        self._mark()

    def close(self) -> None:
        """Ends the stream: like `flush`, always final, and no audio is taken after it."""
        if self._is_closed:
            return
        self._hear()
        n_rest = self._input.n_rest_bytes
        if n_rest:
            self._warn(
                0, "trailing_bytes", f"{n_rest} bytes after the last whole sample were ignored"
            )
        self._end_utterances()
        self._is_closed = True

    def update(self, thresholds: Mapping[str, float] | None = None, **smoothing: Any) -> None:
        """Changes thresholds by label and fields of `SmoothingConfig`, for segments yet to be cut.

        What is not given stays. Raises `BadParameter`, and then changes nothing.
        """
        if self.is_replaying:
            return
        self._asked = Options(
            replace(self._asked.smoothing, **smoothing),
            self._asked.thresholds.changed(thresholds or {}, self._spec.labels),
        )
        self._outbox.append(self._asked)

    def segments_to_score(self) -> list[SegmentRequest]:
        """New segments since the last call, in stream order."""
        requests, self._to_score = self._to_score, []
        return requests

    def receive_logits(self, request_id: int, logits: Float32) -> None:
        """Takes the network's answer `(n_labels,)` to one request; any order, once each."""
        self._awaiting.pop(request_id).logits = logits

    def drop(self, request_id: int) -> None:
        """Gives up a segment that was handed out: it is never told, and its index stays free."""
        self._outbox.remove(self._awaiting.pop(request_id))

    def events(self) -> Iterator[Event]:
        """Everything that can be told now, in stream order whatever the order of the answers.

        An alert follows the segment that completed its time.
        """
        while self._outbox:
            head = self._outbox[0]
            if isinstance(head, PendingSegment) and not head.is_ready:
                return
            self._outbox.popleft()
            match head:
                case PendingSegment():
                    yield self._segment(head)
                case PendingUtterance():
                    yield self._utterance(head)
                case Options():
                    self._options = head
                case Warning() | Alert():
                    yield head
                case PendingCheckpoint():
                    self._n_marks -= 1
                    yield self._checkpoint(head)

    def summaries(self) -> list[Summary]:
        """One a scored channel, over the utterances told so far."""
        return [channel.summary() for channel in self._channels]

    @property
    def usage(self) -> Usage:
        """Totals so far."""
        n_buffered = self._input.n_samples
        return Usage(
            audio_samples=sum(channel.position_after(n_buffered) for channel in self._channels),
            speech_samples=sum(channel.speech_samples for channel in self._channels),
            n_segments=self._n_segments,
        )

    def _warn(self, channel: int, code: WarningCode, message: str) -> None:
        if (channel, code) not in self._warned:
            self._warned.add((channel, code))
            self._outbox.append(Warning(channel, code, message))

    def _mark(self) -> None:
        """Puts a checkpoint behind all that was cut so far; it takes the place of one before."""
        if not self._tells_checkpoints or self._n_received <= self._replay_until:
            return
        if self._outbox and isinstance(self._outbox[-1], PendingCheckpoint):
            self._outbox.pop()
        else:
            self._n_marks += 1
        channels = [(channel, channel.utterance, channel.state()) for channel in self._channels]
        self._outbox.append(
            PendingCheckpoint(
                resume_from=self._decoder.source_of(
                    min(channel.resume_from(state) for channel, _, state in channels)
                ),
                state={
                    "detector": self.config.detector,
                    "n_received": self._n_received,
                    "n_lost": self._n_lost,
                    "n_flushed": self._n_flushed,
                    "warned": sorted(self._warned),
                    "smoothing": vars(self._asked.smoothing),
                    "thresholds": self._asked.thresholds.by_label,
                },
                channels=channels,
            )
        )

    def _checkpoint(self, pending: PendingCheckpoint) -> Checkpoint:
        channels = [
            {
                "cut": cut,
                **channel.scored_state(),
                "running": None if utterance is None else utterance.running.state(),
            }
            for channel, utterance, cut in pending.channels
        ]
        return Checkpoint(pending.resume_from, {**pending.state, "channels": channels})

    # The channels advance in lockstep, and what they cut is told in the order of the time at which
    # it was decided, then by channel: whatever the chunking.

    def _advance(self, told: list[list[Hop | End]]) -> None:
        items = [(item.at, index) for index, items in enumerate(told) for item in items]
        nexts = [iter(items) for items in told]
        for _, index in sorted(items):
            channel, item = self._channels[index], next(nexts[index])
            if isinstance(item, Hop):
                self._add_segment(channel, item)
            else:
                if channel.withheld is not None:
                    self._add_segment(channel, channel.withheld)
                self._tell_utterance(channel, item.utterance, item.end)

    def _tell_utterance(
        self, channel: Channel, utterance: OpenUtterance, end: int, *, final: bool = True
    ) -> None:
        self._outbox.append(PendingUtterance(channel, utterance, end, is_final=final))

    def _end_utterances(self) -> None:
        tails = [channel.drain() for channel in self._channels]
        self._advance([hops for hops, _ in tails])
        for channel, (_, rest) in zip(self._channels, tails, strict=True):
            last = rest or channel.withheld
            if last is not None:
                self._add_segment(channel, last)
        for channel in self._channels:
            if channel.utterance is not None and channel.position > channel.utterance.start:
                self._tell_utterance(channel, channel.utterance, channel.position)
                channel.open_utterance()

    def _add_segment(self, channel: Channel, hop: Hop) -> None:
        rate_hz = self._spec.features.sample_rate_hz
        for code, message in hop.complaints(self.config.sample_rate_hz, rate_hz):
            self._warn(channel.index, code, message)
        if hop.features is None:  # nobody speaks: told at every hop, unless it would be out of turn
            if channel.withheld is not None or (hop.partial and not self.config.partial):
                return
            is_short = False
        else:
            is_short = hop.partial and hop.end - hop.start < self._spec.thresholds.min_samples
            if hop.partial and not hop.is_last and (is_short or not self.config.partial):
                channel.withheld = replace(hop, is_last=True)
                return
        channel.withheld = None
        abstain: Abstain | None = None
        if hop.features is None or hop.level.is_silent:
            abstain = "no_speech"
        elif is_short:
            abstain = "too_short"
        elif hop.level.clipped_share >= CLIPPED_SHARE:
            abstain = "clipped"
        pending = PendingSegment(
            request_id=self._n_requests,
            channel=channel,
            index=channel.n_cut,
            utterance=hop.utterance,
            start=hop.start,
            end=hop.end,
            partial=hop.partial,
            abstain=abstain,
        )
        self._n_requests += 1
        channel.n_cut += 1
        self._outbox.append(pending)
        if hop.features is not None and not pending.is_ready:
            self._awaiting[pending.request_id] = pending
            self._to_score.append(SegmentRequest(pending.request_id, hop.features))

    def _segment(self, pending: PendingSegment) -> Segment:
        labels, abstain, utterance = self._spec.labels, pending.abstain, pending.utterance
        label = None
        if pending.logits is None or utterance is None:  # between utterances nothing is scored
            scores = np.zeros(len(labels), np.float32)
        else:
            span = Span(pending.start, pending.end, pending.partial)
            logits = pending.channel.hear(pending.logits, span, is_clear=abstain is None)
            scores = self._spec.calibration.scores(logits)
            running = utterance.running
            running.accept(
                scores, self._options.smoothing, partial=pending.partial, end=pending.end
            )
            alerts = pending.channel.rules.accept(running.decision.scores, span.end, span.partial)
            self._outbox.extendleft(reversed(alerts))
            best = int(np.argmax(scores))
            if abstain is None and self._options.thresholds.is_uncertain(
                labels[best], float(scores[best])
            ):
                abstain = "uncertain"
            if abstain is None:
                label = labels[best]
        pending.channel.n_segments += 1
        self._n_segments += 1
        return Segment(
            request_id=pending.request_id,
            channel=pending.channel.index,
            index=pending.index,
            start=pending.start,
            end=pending.end,
            partial=pending.partial,
            scores=named(scores, labels),
            label=label,
            abstain=abstain,
            smoothed=utterance.running.decision
            if utterance
            else Decision(None, named(scores, labels)),
            utterance_id=utterance.id if utterance else None,
        )

    def _utterance(self, pending: PendingUtterance) -> Utterance:
        mean = pending.utterance.running.mean
        if pending.is_final:
            pending.channel.end_utterance(mean, pending.end)
        decision = mean.decision
        return Utterance(
            channel=pending.channel.index,
            utterance_id=pending.utterance.id,
            start=pending.utterance.start,
            end=pending.end,
            is_final=pending.is_final,
            label=decision.label,
            scores=decision.scores,
            n_segments=mean.n_segments,
            pure=mean.is_pure,
        )
