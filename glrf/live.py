"""The five emotions in the terminal as they arrive: a moving picture, or plain lines in a pipe."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import fmean
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from glrf_client import Alert, ErrorFrame, Event, Segment, SessionCreated, StreamWarning, Utterance

COLOURS: Final = {
    "angry": "red",
    "happy": "yellow",
    "neutral": "bright_black",
    "sad": "blue",
    "fear": "magenta",
}
_BARS: Final = " ▁▂▃▄▅▆▇█"
_N_COLUMNS: Final = 60  # 24 s of a live stream
_N_UTTERANCES: Final = 6


class View(Protocol):
    """Shows events."""

    def show(self, event: Event) -> None: ...


@contextmanager
def view(console: Console, title: str) -> Iterator[View]:
    """A live picture when the console is a terminal, else one line an event."""
    if not console.is_terminal:
        yield Lines(console)
        return
    timeline = Timeline(title)
    with Live(timeline, console=console, refresh_per_second=12, vertical_overflow="crop"):
        yield timeline


class Timeline:
    """Per channel, each emotion's scores of the last 24 s as bars; under it the last utterances."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._labels: list[str] = []
        self._channels: dict[int, deque[Segment]] = {}
        self._utterances: deque[Utterance] = deque(maxlen=_N_UTTERANCES)
        self._notice = ""

    def show(self, event: Event) -> None:
        """Takes one event; the picture follows at the next refresh."""
        match event:
            case SessionCreated():
                self._labels = event.model.labels
            case Segment():
                segments = self._channels.setdefault(event.channel, deque(maxlen=_N_COLUMNS))
                segments.append(event)
            case Utterance(is_final=True):
                self._utterances.append(event)
            case Alert():
                self._notice = _alert(event)
            case StreamWarning() | ErrorFrame():
                self._notice = f"{event.code}: {event.message}"
            case _:
                pass

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [Text(self._title, style="bold")]
        for channel in sorted(self._channels):
            parts.append(self._channel(self._channels[channel]))
        if self._utterances:
            parts.append(utterance_table(self._utterances))
        if self._notice:
            parts.append(Text(self._notice, style="yellow"))
        return Group(*parts)

    def _channel(self, segments: deque[Segment]) -> RenderableType:
        last = segments[-1]
        heading = f"{last.role or f'channel {last.channel}'}  {last.end_ms / 1000:.1f} s"
        bars = score_bars(segments, self._labels or list(last.scores), now=last)
        return Group(Text(heading, style="dim"), bars)


def score_bars(
    segments: Sequence[Segment], labels: list[str], *, now: Segment | None = None
) -> Table:
    """One row a label: its scores over time, at most 60 columns of them.

    Beside it the score of `now`, or without it the mean of all.
    """
    n_columns = max(1, min(_N_COLUMNS, len(segments)))
    bounds = [len(segments) * column // n_columns for column in range(n_columns + 1)]
    grid = Table.grid(padding=(0, 1))
    for label in labels:
        scores = [segment.scores.get(label, 0.0) for segment in segments]
        bars = "".join(
            _BARS[round(fmean(scores[start:end] or [0.0]) * (len(_BARS) - 1))]
            for start, end in pairwise(bounds)
        )
        figure = now.scores.get(label, 0.0) if now else fmean(scores or [0.0])
        is_top = now is not None and label == now.smoothed.label
        colour = COLOURS.get(label, "cyan")
        grid.add_row(
            Text(label, style=f"bold {colour}" if is_top else colour),
            Text(bars, style=colour),
            Text(f"{figure:4.0%}", style="bold" if is_top else ""),
        )
    return grid


class Lines:
    """One plain line an event, for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: Event) -> None:
        """Prints the event; those without news for a reader are left out."""
        match event:
            case Segment():
                scores = " ".join(f"{label} {value:.2f}" for label, value in event.scores.items())
                label = event.label or f"({event.abstain})"
                self._line(f"{event.end_ms / 1000:6.1f} s  {_who(event)}{label:<12} {scores}")
            case Utterance():
                kind = "utterance" if event.is_final else "so far"
                label = event.label or "no speech"
                span = f"{event.start_ms / 1000:.1f}-{event.end_ms / 1000:.1f} s"
                self._line(f"{kind}: {_who(event)}{span} {label} {_top_score(event):.2f}")
            case Alert():
                self._line(_alert(event))
            case StreamWarning():
                self._line(f"warning: {event.code}: {event.message}")
            case ErrorFrame():
                self._line(f"error: {event.code}: {event.message}")
            case _:
                pass

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def utterance_table(utterances: Iterable[Utterance]) -> Table:
    """Finished utterances, one a row."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("utterance", "role", "from", "to", "emotion", "score"):
        table.add_column(column)
    for utterance in utterances:
        label = utterance.label or "no speech"
        table.add_row(
            utterance.utterance_id,
            utterance.role or str(utterance.channel),
            f"{utterance.start_ms / 1000:.1f} s",
            f"{utterance.end_ms / 1000:.1f} s",
            Text(label, style=COLOURS.get(label, "")),
            f"{_top_score(utterance):.2f}",
        )
    return table


def _alert(event: Alert) -> str:
    span = f"{event.start_ms / 1000:.1f}-{event.end_ms / 1000:.1f} s"
    return f"alert: {_who(event)}{event.rule} {span} {event.score:.2f}"


def _who(event: Segment | Utterance | Alert) -> str:
    return f"{event.role}: " if event.role else ""


def _top_score(utterance: Utterance) -> float:
    return max(utterance.scores.values(), default=0.0)
