"""`glrf demo`: the whole service on the synthetic clip, and a check that all of it arrived."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from glrf.lag import LagMeter
    from glrf_client import Event, Source
    from glrf_client.sources import Chunk

FOLDER: Final = Path(__file__).parent / "demo"
# The contract's: a segment covers 2 s, and a new one starts every 0.4 s.
_SEGMENT_MS: Final = 2_000
_HOP_MS: Final = 400


@dataclass(frozen=True)
class Phrase:
    """One phrase of the clip: its bounds, and the emotion that its prosody imitates."""

    start_ms: int
    end_ms: int
    meant: str
    text: str

    @property
    def n_segments(self) -> int:
        """Whole segments in it."""
        return max(0, 1 + (self.end_ms - self.start_ms - _SEGMENT_MS) // _HOP_MS)


def demo(
    fast: Annotated[
        bool, typer.Option("--fast", help="Send the clip at once instead of as it is spoken.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="A running server; by default one is started for the demo.")
    ] = None,
) -> None:
    """Stream a synthetic clip through a real server and watch five emotions arrive.

    Starts a server of its own, flushes after each phrase, prints the utterances, the time to the
    first label and the lag, and stops the server. Exits with 0 only if every event arrived.
    """
    from rich.console import Console

    console = Console()
    missing = _with_own_server(console, fast) if url is None else _play(url, console, fast)
    for line in missing:
        console.print(f"missing: {line}", style="red", markup=False)
    if missing:
        raise typer.Exit(1)
    console.print("The voice is synthetic: whether it is heard as meant says nothing of the model.")
    console.print("Every expected event arrived.")


def _with_own_server(console: "Console", fast: bool) -> list[str]:
    from glrf.local_server import local_server

    console.print("Starting a server ...")
    with local_server() as server:
        return _play(server.url, console, fast)


def _play(url: str, console: "Console", fast: bool) -> list[str]:
    """Plays the clip and reports; returns what is missing."""
    from glrf.lag import LagMeter

    phrases = read_phrases()
    console.print("A synthetic voice (espeak-ng) imitates five emotions by its prosody.")
    lag = LagMeter()
    events = asyncio.run(_stream(url, phrases, lag, console, fast))
    _report(events, phrases, lag, console)
    return missing_events(events, phrases)


def read_phrases() -> list[Phrase]:
    """The clip's phrases in order, from `clip.json`."""
    entries = json.loads((FOLDER / "clip.json").read_text())["phrases"]
    names = ("start_ms", "end_ms", "meant", "text")
    return [Phrase(**{name: entry[name] for name in names}) for entry in entries]


async def _stream(
    url: str, phrases: list[Phrase], lag: "LagMeter", console: "Console", fast: bool
) -> "list[Event]":
    from glrf.audio import decoded, open_file
    from glrf.live import view
    from glrf_client import Segment, Source, stream

    events: list[Event] = []
    with open_file(FOLDER / "clip.flac") as file, view(console, "demo clip (synthetic)") as screen:
        audio = decoded(file) if fast else decoded(file).paced()
        source = Source(audio.format, _chunks_and_flushes(audio, phrases, lag))
        # The clip's own phrases are its utterances, so that each can be looked for.
        async for event in stream(url, source, endpointing="manual"):
            events.append(event)
            if isinstance(event, Segment):
                lag.received(event.end_ms, has_label=event.label is not None)
            screen.show(event)
    return events


async def _chunks_and_flushes(
    audio: "Source", phrases: list[Phrase], lag: "LagMeter"
) -> "AsyncIterator[Chunk]":
    from glrf_client import FLUSH
    from glrf_client.format import CHUNK_MS
    from glrf_client.sources import drawn

    ends_ms = {phrase.end_ms for phrase in phrases}
    sent_ms = 0
    async for chunk in drawn(audio.chunks):
        sent_ms += CHUNK_MS
        lag.sent(sent_ms)
        yield chunk
        if sent_ms in ends_ms:
            yield FLUSH


def missing_events(events: "list[Event]", phrases: list[Phrase]) -> list[str]:
    """What the clip must give and did not; empty when all is well."""
    from glrf_client import Segment, SessionClosed, SessionCreated, Utterance

    missing: list[str] = []
    indices = [event.index for event in events if isinstance(event, Segment)]
    if indices != list(range(len(indices))):
        missing.append("an unbroken row of segments")
    if not events or not isinstance(events[0], SessionCreated):
        missing.append("session.created as the first message")
    utterances = {
        (event.start_ms, event.end_ms): event
        for event in events
        if isinstance(event, Utterance) and event.is_final
    }
    for phrase in phrases:
        name = f"the {phrase.meant} phrase ({phrase.start_ms}-{phrase.end_ms} ms)"
        utterance = utterances.get((phrase.start_ms, phrase.end_ms))
        if utterance is None:
            missing.append(f"the utterance of {name}")
            continue
        if utterance.label is None:
            missing.append(f"a label of {name}")
        n_segments = sum(
            isinstance(event, Segment)
            and event.utterance_id == utterance.utterance_id
            and not event.partial
            for event in events
        )
        if n_segments != phrase.n_segments:
            missing.append(f"{phrase.n_segments} whole segments of {name}: {n_segments} came")
    if not events or not isinstance(events[-1], SessionClosed):
        missing.append("session.closed as the last message")
    elif events[-1].usage.audio_ms != phrases[-1].end_ms:
        missing.append(f"all {phrases[-1].end_ms} ms heard, not {events[-1].usage.audio_ms}")
    return missing


def _report(
    events: "list[Event]", phrases: list[Phrase], lag: "LagMeter", console: "Console"
) -> None:
    from rich.table import Table

    from glrf.lag import percentile
    from glrf_client import Utterance

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("phrase", "imitates", "heard", "score", "text"):
        table.add_column(column)
    meant = {phrase.end_ms: phrase for phrase in phrases}
    for event in events:
        if isinstance(event, Utterance) and event.is_final and event.end_ms in meant:
            phrase = meant[event.end_ms]
            table.add_row(
                f"{event.start_ms / 1000:.1f}-{event.end_ms / 1000:.1f} s",
                phrase.meant,
                event.label or "no speech",
                f"{max(event.scores.values(), default=0):.2f}",
                phrase.text,
            )
    console.print(table)
    if lag.first_label_ms is not None:
        console.print(f"time to first label {lag.first_label_ms / 1000:.2f} s", highlight=False)
    p50_ms, p99_ms = percentile(lag.lags_ms, 0.5), percentile(lag.lags_ms, 0.99)
    console.print(f"lag p50 {p50_ms:.0f} ms, p99 {p99_ms:.0f} ms", highlight=False)
