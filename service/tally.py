"""What the lines told of a file add up to: turning points, who spoke when, the arc over the call.

    tally = CallTally(labels)
    for line in lines:
        tally.accept(line)              # in the order in which they were told
    tally.turning_points(0)
    tally.call(roles, Margins.of(config), duration_ms)

A function of the lines alone: whoever stored them can make it again. Linear in their number; of a
segment it keeps some 70 bytes, of an utterance two times.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ser_core.endpointing import PRE_ROLL_S, hangover_s
from ser_core.labels import affect_of
from ser_core.stream_config import StreamConfig
from service import wire
from service.call import (
    ArcChannel,
    ArcPart,
    Call,
    Interval,
    Overlap,
    Silence,
    Talk,
    TurningPoint,
)
from service.requests import Role

#: What a change of a channel's emotion costs, in speech that says otherwise: one that stays must be
#: heard for so long, one that turns back for twice as long.
CHANGE_MS = 3_000
FRAME_MS = 10
#: The call in equal parts: ten, or fewer of at least five seconds.
MAX_PARTS, MIN_PART_MS = 10, 5_000

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Margins:
    """What an utterance holds before its first speech and after its last, in milliseconds."""

    before_ms: int
    after_ms: int

    @classmethod
    def of(cls, config: StreamConfig) -> "Margins | None":
        """Those of speech detection; `None` where utterances do not say where somebody speaks."""
        if config.endpointing != "vad":
            return None
        after_s = hangover_s(config.endpoint_silence_s)
        return cls(round(PRE_ROLL_S * 1000), round(after_s * 1000))


class _Turns:
    """The emotions that a channel stayed with, whatever its running label did in between.

    They are the path through the labels that disagrees with the running labels for the least time,
    where each change costs `CHANGE_MS`: the minimiser of the Potts functional (R. B. Potts, 1952),
    found by dynamic programming (A. J. Viterbi, 1967) in one pass.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._costs_ms = [0] * len(labels)
        self._before = bytearray()  # of each step and label, the best label of the step before
        self._said = bytearray()
        self._begins_ms, self._added_ms = array("q"), array("q")
        self._end_ms = 0

    def accept(self, segment: wire.SegmentFields, begin_ms: int) -> None:
        """Takes a scored segment that adds the audio from `begin_ms` on to the one before."""
        self._end_ms = segment.end_ms
        label = segment.smoothed.label
        if label is None or segment.abstain is not None:  # time passes, and says nothing
            return
        said, added_ms = self._labels.index(label), max(0, segment.end_ms - begin_ms)
        best = min(range(len(self._labels)), key=self._costs_ms.__getitem__)
        change_ms = self._costs_ms[best] + CHANGE_MS
        for index, cost_ms in enumerate(self._costs_ms):
            self._before.append(index if cost_ms <= change_ms else best)
            self._costs_ms[index] = min(cost_ms, change_ms) + added_ms * (index != said)
        self._said.append(said)
        self._begins_ms.append(begin_ms)
        self._added_ms.append(added_ms)

    def points(self) -> tuple[TurningPoint, ...]:
        """One a change. What the channel began with is none."""
        stays = [
            (label, steps, next(step for step in steps if self._said[step] == label))
            for label, steps in self._stays()
        ]
        starts_ms = [self._begins_ms[first] for _, _, first in stays]
        return tuple(
            TurningPoint(
                start_ms=start_ms,
                from_label=self._labels[before],
                to_label=self._labels[label],
                lasted_ms=end_ms - start_ms,
                heard_ms=sum(self._added_ms[step] for step in steps if self._said[step] == label),
            )
            for (before, _, _), (label, steps, _), start_ms, end_ms in zip(
                stays, stays[1:], starts_ms[1:], [*starts_ms[2:], self._end_ms], strict=False
            )
        )

    def _stays(self) -> list[tuple[int, range]]:
        """Label and steps of each, from the end back along the best path."""
        stays: list[tuple[int, range]] = []
        n_labels, end = len(self._labels), len(self._said)
        label = min(range(n_labels), key=self._costs_ms.__getitem__)
        for step in range(end - 1, -1, -1):
            before = self._before[step * n_labels + label]
            if step == 0 or before != label:
                stays.append((label, range(step, end)))
                label, end = before, step
        return stays[::-1]


@dataclass(slots=True)
class _Scored:
    """When a segment was, and its scores: the middle of what it adds to the one before it."""

    utterance_id: str | None
    partial: bool
    middle_ms: int
    scores: list[float]


class _ChannelTally:
    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self.turns = _Turns(labels)
        self._middles_ms = array("q")
        self._scores = array("d")
        self._last: _Scored | None = None  # a partial segment stands in only until the next one
        self._heard: tuple[str | None, int] = (None, 0)
        self.utterances: list[Span] = []

    def accept_segment(self, segment: wire.SegmentFields) -> None:
        utterance_id, heard_ms = self._heard
        is_first = segment.utterance_id != utterance_id
        begin_ms = segment.start_ms if is_first else max(segment.start_ms, heard_ms)
        self._heard = (segment.utterance_id, segment.end_ms)
        if segment.abstain == "no_speech":
            return
        self.turns.accept(segment, begin_ms)
        last = self._last
        if last is not None and not (last.partial and last.utterance_id == segment.utterance_id):
            self._keep(last)
        self._last = _Scored(
            segment.utterance_id,
            segment.partial,
            (begin_ms + segment.end_ms) // 2,
            [segment.scores[label] for label in self._labels],
        )

    def _keep(self, scored: _Scored) -> None:
        self._middles_ms.append(scored.middle_ms)
        self._scores.extend(scored.scores)

    def parts(self, n_parts: int, duration_ms: int) -> tuple[list[int], list[dict[str, float]]]:
        """Segments of each part, and their mean scores by label."""
        middles_ms, scores = array("q", self._middles_ms), array("d", self._scores)
        if self._last is not None:
            middles_ms.append(self._last.middle_ms)
            scores.extend(self._last.scores)
        part = np.frombuffer(middles_ms, np.int64) * n_parts // max(1, duration_ms)
        part = np.clip(part, 0, n_parts - 1)
        table = np.frombuffer(scores, np.float64).reshape(-1, len(self._labels))
        counts = np.bincount(part, minlength=n_parts)
        sums = [np.bincount(part, column, minlength=n_parts) for column in table.T]
        means = np.stack(sums, axis=1) / np.maximum(1, counts)[:, None]
        named = [dict(zip(self._labels, row, strict=True)) for row in means.tolist()]
        return counts.tolist(), named


class CallTally:
    """Takes lines of one file as they are told; warnings and alerts add nothing."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._channels: dict[int, _ChannelTally] = {}

    def accept(self, line: object) -> None:
        """Takes the next line."""
        match line:
            case wire.SegmentFields():
                self._channel(line.channel).accept_segment(line)
            case wire.UtteranceFields() if line.is_final:
                self._channel(line.channel).utterances.append((line.start_ms, line.end_ms))

    def _channel(self, index: int) -> _ChannelTally:
        return self._channels.setdefault(index, _ChannelTally(self._labels))

    def turning_points(self, channel: int) -> tuple[TurningPoint, ...]:
        """Where the channel's emotion changed, and stayed changed.

        The running label may stray and begins anew with each utterance: what counts is whether a
        change explains `CHANGE_MS` of speech better. Segments that abstain speak neither for one
        nor against it.
        """
        return self._channel(channel).turns.points()

    def call(self, roles: Sequence[Role], margins: Margins | None, duration_ms: int) -> Call:
        """The call as a whole; no member says anything of a channel that is off."""
        scored = [index for index, role in enumerate(roles) if role.scored]
        spoken = None
        if margins is not None:
            spoken = {
                index: speech(self._channel(index).utterances, margins, duration_ms)
                for index in scored
            }
        total_ms = 0 if spoken is None else sum(map(length_ms, spoken.values()))
        knows_all = spoken is not None and len(scored) == len(roles)
        is_talk = knows_all and len(roles) > 1 and total_ms > 0

        def talk(index: int) -> Talk:
            talk_ms = None if spoken is None else length_ms(spoken[index])
            return Talk(
                channel=index,
                role=roles[index].name,
                talk_ms=talk_ms,
                talk_share=_share(talk_ms, total_ms) if is_talk and talk_ms is not None else None,
                n_utterances=len(self._channel(index).utterances),
            )

        overlap = silence = None
        if spoken is not None and knows_all:
            if len(roles) > 1:
                one, other = (spoken[index] for index in scored)
                overlap = _overlap(one, other, duration_ms)
            silence = _silence(spoken.values(), duration_ms)
        return Call(
            talk=tuple(map(talk, scored)),
            overlap=overlap,
            silence=silence,
            arc=self._arc(scored, roles, spoken, duration_ms),
        )

    def _arc(
        self,
        scored: list[int],
        roles: Sequence[Role],
        spoken: dict[int, list[Span]] | None,
        duration_ms: int,
    ) -> tuple[ArcPart, ...]:
        """Equal parts; a segment belongs where the middle of what it adds lies."""
        n_parts = max(1, min(MAX_PARTS, duration_ms // MIN_PART_MS))
        bounds = [duration_ms * part // n_parts for part in range(n_parts + 1)]
        parts = list(pairwise(bounds))
        channels: list[list[ArcChannel]] = [[] for _ in parts]
        for index in scored:
            counts, means = self._channel(index).parts(n_parts, duration_ms)
            talk_ms: Sequence[int | None] = [None] * n_parts
            if spoken is not None:
                talk_ms = _lengths_within(spoken[index], parts)
            for part, (n_segments, scores) in enumerate(zip(counts, means, strict=True)):
                affect = affect_of(scores)
                channels[part].append(
                    ArcChannel(
                        channel=index,
                        role=roles[index].name,
                        talk_ms=talk_ms[part],
                        n_segments=n_segments,
                        label=max(scores, key=scores.__getitem__) if n_segments else None,
                        scores=wire.rounded(scores),
                        valence=None if affect is None else round(affect[0], wire.SCORE_DIGITS),
                        arousal=None if affect is None else round(affect[1], wire.SCORE_DIGITS),
                    )
                )
        return tuple(
            ArcPart(start_ms=start_ms, end_ms=end_ms, channels=tuple(told))
            for (start_ms, end_ms), told in zip(parts, channels, strict=True)
        )


# --- spans of time: sorted, none touching the next inside one channel's own ----------------------


def speech(utterances: Sequence[Span], margins: Margins, duration_ms: int) -> list[Span]:
    """Where somebody speaks: utterances without the silence that they were given around them.

    Else who answers at once would seem to interrupt. Where an utterance follows another without a
    gap, or meets an end of the audio, there was no room for it. Pauses within count as speech.
    """
    spans: list[Span] = []
    for index, (start_ms, end_ms) in enumerate(utterances):
        # One that was pushed up to the one before begins at the next frame behind it.
        goes_on = index > 0 and utterances[index - 1][1] + FRAME_MS >= start_ms
        is_followed = index + 1 < len(utterances) and utterances[index + 1][0] <= end_ms
        begin_ms = start_ms if goes_on or start_ms == 0 else start_ms + margins.before_ms
        # A position and a duration may round to milliseconds that are one apart.
        is_cut = is_followed or end_ms >= duration_ms - 1
        stop_ms = end_ms if is_cut else end_ms - margins.after_ms
        if stop_ms > begin_ms:
            spans.append((begin_ms, stop_ms))
    return spans


def common(ones: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Where both are, of sorted spans that do not overlap among themselves."""
    found: list[Span] = []
    i = j = 0
    while i < len(ones) and j < len(others):
        start = max(ones[i][0], others[j][0])
        end = min(ones[i][1], others[j][1])
        if start < end:
            found.append((start, end))
        if ones[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return found


def gaps(spans: Iterable[Span], duration_ms: int) -> list[Span]:
    """Where none is, from 0 to `duration_ms`."""
    found: list[Span] = []
    at = 0
    for start, end in [*sorted(spans), (duration_ms, duration_ms)]:
        if start > at:
            found.append((at, start))
        at = max(at, end)
    return found


def length_ms(spans: Iterable[Span]) -> int:
    """Of all together."""
    return sum(end - start for start, end in spans)


def _lengths_within(spans: Sequence[Span], parts: Sequence[Span]) -> list[int]:
    """How much of the spans lies in each of consecutive parts."""
    lengths = [0] * len(parts)
    part = 0
    for start, end in spans:
        while part < len(parts) - 1 and parts[part][1] <= start:
            part += 1
        at = part
        while at < len(parts) and parts[at][0] < end:
            lengths[at] += max(0, min(end, parts[at][1]) - max(start, parts[at][0]))
            at += 1
    return lengths


def _overlap(one: Sequence[Span], other: Sequence[Span], duration_ms: int) -> Overlap:
    spans = common(one, other)
    total_ms = length_ms(spans)
    return Overlap(
        total_ms=total_ms,
        share=_share(total_ms, duration_ms),
        intervals=tuple(Interval(start_ms=start, end_ms=end) for start, end in spans),
    )


def _silence(spoken: Iterable[Sequence[Span]], duration_ms: int) -> Silence:
    spans = gaps((span for spans in spoken for span in spans), duration_ms)
    longest = max(spans, key=lambda span: span[1] - span[0], default=None)
    return Silence(
        total_ms=length_ms(spans),
        share=_share(length_ms(spans), duration_ms),
        longest=None if longest is None else Interval(start_ms=longest[0], end_ms=longest[1]),
    )


def _share(part_ms: int, whole_ms: int) -> float:
    return round(part_ms / max(1, whole_ms), wire.SCORE_DIGITS)
