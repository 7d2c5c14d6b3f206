"""The timeline: the call in rows like lines of a score, so that hours can be read and printed.

A row has for each scored channel the waveform, its utterances, the running label and the five
scores. All is SVG in percent of the page's width: a phone shows the same as a screen. What is drawn
is bounded by columns, however long the call.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ser_core.features import Float32
from ser_core.waveform import Waveform
from service import wire
from service.report.markup import Markup, element, joined
from service.report.words import ABSTAINS, along, clock, exact, lasting, name, row_id, tone

MAX_ROWS: Final = 6
_ROW_MS: Final = 60_000
_TICKS_MS: Final = tuple(
    1000 * s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
)
#: Columns of scores in a row; more would be less than a pixel each.
_N_COLUMNS: Final = 600

# Heights in pixels, from the top of a channel's part of a row.
_AXIS_PX, _GAP_PX = 20, 16
_WAVE_PX, _BAND_PX, _STRIP_PX, _LANE_PX = 44, 22, 10, 14
_BAND_AT = _WAVE_PX + 4
_STRIP_AT = _BAND_AT + _BAND_PX + 4
_LANES_AT = _STRIP_AT + _STRIP_PX + 5


@dataclass(frozen=True, slots=True)
class _Step:
    """What a segment adds to the one before it."""

    start_ms: int
    end_ms: int
    segment: wire.SegmentFields


@dataclass(frozen=True, slots=True)
class _Row:
    """A stretch of the call, as wide as the page."""

    index: int
    start_ms: int
    length_ms: int
    end_ms: int  # of the audio, where it ends within

    def along(self, ms: int) -> float:
        return (min(max(ms, self.start_ms), self.end_ms) - self.start_ms) / self.length_ms

    def has(self, start_ms: int, end_ms: int) -> bool:
        return start_ms < self.end_ms and end_ms > self.start_ms

    def box(self, start_ms: int, end_ms: int) -> dict[str, str]:
        """Where it lies, as attributes of an element."""
        left, right = self.along(start_ms), self.along(end_ms)
        return {"x": along(left), "width": along(right - left)}


def rows_of(duration_ms: int) -> list[_Row]:
    """The call in rows of one length: a minute or less, or more where there would be too many."""
    n_rows = max(1, min(MAX_ROWS, -(-duration_ms // _ROW_MS)))
    length_ms = max(1, -(-duration_ms // n_rows))
    starts = range(0, max(1, duration_ms), length_ms)
    return [
        _Row(index, start, length_ms, min(start + length_ms, duration_ms))
        for index, start in enumerate(starts)
    ]


def row_numbers(channels: Iterable[wire.ScoredChannel], rows: Sequence[_Row]) -> dict[str, int]:
    """In which row each utterance begins, by its id."""
    return {
        utterance.utterance_id: min(utterance.start_ms // rows[0].length_ms, len(rows) - 1)
        for channel in channels
        for utterance in channel.utterances
    }


def timeline(
    result: wire.FileResult,
    channels: Sequence[wire.ScoredChannel],
    rows: Sequence[_Row],
    waveform: Waveform | None,
) -> Markup:
    """All rows."""
    steps = [list(_steps(channel.segments)) for channel in channels]
    return joined([_row(row, result, channels, steps, waveform) for row in rows])


def _steps(segments: Iterable[wire.SegmentFields]) -> Iterator[_Step]:
    """Scored segments as what each adds to the one before, in the order of time."""
    before: wire.SegmentFields | None = None
    for segment in segments:
        start_ms = segment.start_ms
        if before is not None and before.utterance_id == segment.utterance_id:
            start_ms = max(start_ms, before.end_ms)
        before = segment
        if segment.abstain != "no_speech" and start_ms < segment.end_ms:
            yield _Step(start_ms, segment.end_ms, segment)


def _row(
    row: _Row,
    result: wire.FileResult,
    channels: Sequence[wire.ScoredChannel],
    steps: Sequence[Sequence[_Step]],
    waveform: Waveform | None,
) -> Markup:
    labels = result.model.labels
    channel_px = _LANES_AT + len(labels) * _LANE_PX
    height_px = _AXIS_PX + len(channels) * (channel_px + _GAP_PX)
    tops = [_AXIS_PX + index * (channel_px + _GAP_PX) + _GAP_PX for index in range(len(channels))]
    drawn = [
        joined(
            _wave(row, waveform, channel.channel, top),
            _bands(row, channel, top + _BAND_AT),
            _strip(row, steps[index], top + _STRIP_AT),
            _lanes(row, steps[index], labels, top + _LANES_AT),
            _turns(row, channel, top),
        )
        for index, (channel, top) in enumerate(zip(channels, tops, strict=True))
    ]
    picture = element(
        "svg",
        _axis(row, height_px),
        _overlaps(row, result, height_px),
        drawn,
        class_="picture",
        height=height_px,
        role="group",
        aria_label=f"Timeline from {clock(row.start_ms)} to {clock(row.end_ms)}",
    )
    names = [
        joined(
            element("text", name(channel), x=0, y=top + 14, class_="who"),
            element("text", "utterance", x=0, y=top + _BAND_AT + 15),
            element("text", "running", x=0, y=top + _STRIP_AT + 9),
            [
                element("text", label, x=0, y=top + _LANES_AT + (at + 1) * _LANE_PX - 4)
                for at, label in enumerate(labels)
            ],
        )
        for channel, top in zip(channels, tops, strict=True)
    ]
    gutter = element(
        "svg",
        element("text", clock(row.start_ms), x=0, y=13, class_="at"),
        names,
        class_="gutter",
        height=height_px,
        aria_hidden="true",
    )
    return element("div", gutter, picture, class_="row", id=f"row-{row.index}")


def _axis(row: _Row, height_px: int) -> Iterator[Markup]:
    tick_ms = next((tick for tick in _TICKS_MS if row.length_ms <= 8 * tick), _TICKS_MS[-1])
    for ms in range(-(-row.start_ms // tick_ms) * tick_ms, row.end_ms, tick_ms):
        x = along(row.along(ms))
        yield element("line", x1=x, x2=x, y1=_AXIS_PX, y2=height_px, class_="tick")
        if row.along(ms) < 0.97:
            yield element("text", clock(ms), x=x, y=13, dx=3, class_="time")


def _overlaps(row: _Row, result: wire.FileResult, height_px: int) -> Iterator[Markup]:
    overlap = result.call.overlap
    for interval in () if overlap is None else overlap.intervals:
        if row.has(interval.start_ms, interval.end_ms):
            told = f"Both speak, {exact(interval.start_ms)} to {exact(interval.end_ms)}"
            yield element(
                "rect",
                element("title", told),
                **row.box(interval.start_ms, interval.end_ms),
                y=_AXIS_PX,
                height=height_px - _AXIS_PX,
                class_="overlap",
            )


def _wave(row: _Row, waveform: Waveform | None, channel: int, top: int) -> Markup | None:
    if waveform is None or channel not in waveform.outlines:
        return None
    outline = waveform.outlines[channel]
    column_ms = waveform.column_s * 1000
    first, last = (round(ms / column_ms) for ms in (row.start_ms, row.end_ms))
    columns = outline[:, first:last]
    if not columns.size:
        return None
    peak = max(0.02, float(np.abs(outline).max()))
    return element(
        "svg",
        element("path", d=_outline_path(columns / peak)),
        **row.box(row.start_ms, row.end_ms),
        y=top,
        height=_WAVE_PX,
        viewBox=f"0 0 {columns.shape[1]} 100",
        preserveAspectRatio="none",
        class_="wave",
        aria_hidden="true",
    )


def _outline_path(columns: Float32) -> str:
    """The area between lowest and highest, float32 `(2, n_columns)` in [-1, 1]."""
    y = np.rint(50 - 48 * columns).astype(int)
    lows, highs = y[0], np.minimum(y[1], y[0] - 1)  # silence is a line one unit thick
    forth = "".join(f"l1 {step}" for step in np.diff(highs))
    back = "".join(f"l-1 {step}" for step in np.diff(lows[::-1]))
    return f"M0 {highs[0]}{forth}h1V{lows[-1]}h-1{back}z"


def _bands(row: _Row, channel: wire.ScoredChannel, top: int) -> Iterator[Markup]:
    """Utterances, each a link to its line of the table."""
    for utterance in channel.utterances:
        if not row.has(utterance.start_ms, utterance.end_ms):
            continue
        label = utterance.label or "no speech"
        told = f"{name(channel)}, {label}, {exact(utterance.start_ms)} to {exact(utterance.end_ms)}"
        width = row.along(utterance.end_ms) - row.along(utterance.start_ms)
        # Names are for those that have room for them; the others have their colour and title.
        has_room = 1000 * width > 12 + 7 * len(label)
        box = row.box(utterance.start_ms, utterance.end_ms)
        yield element(
            "a",
            element(
                "svg",
                element("title", told),
                element("rect", width="100%", height="100%", rx=4),
                element("text", label, x=6, y=15) if has_room else None,
                **box,
                y=top,
                height=_BAND_PX,
            ),
            href=f"#{row_id(utterance)}",
            aria_label=told,
            class_=f"band {tone(utterance.label)}",
        )


def _strip(row: _Row, steps: Sequence[_Step], top: int) -> Iterator[Markup]:
    """The running label; hatched where segments abstain, nothing where nobody speaks."""
    yield element(
        "line",
        x1=0,
        x2=along(row.along(row.end_ms)),
        y1=top + _STRIP_PX / 2,
        y2=top + _STRIP_PX / 2,
        class_="rail",
    )
    for start_ms, end_ms, label, abstain in _runs(_within(row, steps)):
        told = f"{label or 'no label'}, {exact(start_ms)} to {exact(end_ms)}"
        if abstain is not None:
            told += f"; abstains: {ABSTAINS.get(abstain, abstain)}"
        box = {**row.box(start_ms, end_ms), "y": top, "height": _STRIP_PX}
        yield element(
            "g",
            element("title", told),
            element("rect", **box, class_=tone(label)),
            element("rect", **box, fill="url(#hatch)") if abstain is not None else None,
            class_="run abstains" if abstain is not None else "run",
        )


def _runs(steps: Iterable[_Step]) -> Iterator[tuple[int, int, str | None, str | None]]:
    """Neighbours that say the same, as one: start, end, label, why it abstains."""
    run: tuple[int, int, str | None, str | None] | None = None
    for step in steps:
        said = (step.segment.smoothed.label, step.segment.abstain)
        if run is not None and run[2:] == said and step.start_ms <= run[1]:
            run = (run[0], step.end_ms, *said)
            continue
        if run is not None:
            yield run
        run = (step.start_ms, step.end_ms, *said)
    if run is not None:
        yield run


def _within(row: _Row, steps: Sequence[_Step]) -> Sequence[_Step]:
    first = bisect_left(steps, row.start_ms + 1, key=lambda step: step.end_ms)
    last = bisect_left(steps, row.end_ms, key=lambda step: step.start_ms)
    return steps[first:last]


def _lanes(row: _Row, steps: Sequence[_Step], labels: Sequence[str], top: int) -> Iterator[Markup]:
    """The segments' scores, an area a label, from 0 to 1."""
    groups = list(_columns(row, _within(row, steps)))
    for at, label in enumerate(labels):
        path = "".join(_area(group, label, row) for group in groups)
        yield element(
            "svg",
            element("path", d=path) if path else None,
            width="100%",
            y=top + at * _LANE_PX,
            height=_LANE_PX - 3,
            viewBox="0 0 10000 100",
            preserveAspectRatio="none",
            class_=f"lane {tone(label)}",
            aria_hidden="true",
        )


Column = tuple[int, int, list[wire.SegmentFields]]


def _columns(row: _Row, steps: Iterable[_Step]) -> Iterator[list[Column]]:
    """Steps that follow each other without a gap, in columns that are wide enough to be seen."""
    least_ms = row.length_ms / _N_COLUMNS
    group: list[Column] = []
    for step in steps:
        if group and step.start_ms > group[-1][1]:
            yield group
            group = []
        if group and step.end_ms - group[-1][0] < least_ms:
            start_ms, _, segments = group.pop()
            group.append((start_ms, step.end_ms, [*segments, step.segment]))
        else:
            group.append((step.start_ms, step.end_ms, [step.segment]))
    if group:
        yield group


def _area(group: list[Column], label: str, row: _Row) -> str:
    """Steps of the mean score, down to the ground at both ends."""

    def x(ms: int) -> int:
        return round(10_000 * row.along(ms))

    path = [f"M{x(group[0][0])} 100"]
    for _, end_ms, segments in group:
        score = sum(segment.scores[label] for segment in segments) / len(segments)
        path.append(f"V{round(100 - 98 * score)}H{x(end_ms)}")
    return "".join([*path, "V100z"])


def _turns(row: _Row, channel: wire.ScoredChannel, top: int) -> Iterator[Markup]:
    """A mark where the channel's emotion turned."""
    for point in channel.turning_points:
        if not row.start_ms <= point.start_ms < row.end_ms:
            continue
        place = row.along(point.start_ms)
        x = along(place)
        told = (
            f"{name(channel)} turns from {point.from_label} to {point.to_label}"
            f" at {exact(point.start_ms)}, for {lasting(point.lasted_ms)}"
        )
        is_late = place > 0.85
        yield element(
            "g",
            element("title", told),
            element("line", x1=x, x2=x, y1=top - 12, y2=top + _STRIP_AT + _STRIP_PX),
            element("circle", cx=x, cy=top - 8, r=4),
            element(
                "text",
                f"→ {point.to_label}",
                x=x,
                y=top - 4,
                dx=-8 if is_late else 8,
                text_anchor="end" if is_late else "start",
            ),
            class_=f"turn {tone(point.to_label)}",
        )
