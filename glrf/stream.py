"""`glrf stream`: audio to a running server, the emotions back as it plays."""

import asyncio
import signal
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from glrf_client import ConnectionState

DEFAULT_URL = "ws://127.0.0.1:8000"


def stream(
    source: Annotated[
        str,
        typer.Argument(help="An audio file, 'mic' for the microphone, or '-' for raw stdin."),
    ],
    url: Annotated[str, typer.Option(help="The server's address.")] = DEFAULT_URL,
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime/--fast", help="Send a file as it would be spoken, or as fast as it goes."
        ),
    ] = True,
    roles: Annotated[
        str | None, typer.Option(help="One name a channel, as customer,agent.")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(help="Alert on sustained emotion, as 'angry>=0.7:10s'.")
    ] = None,
    baseline_ms: Annotated[
        int | None, typer.Option(help="So much speech at first is the speaker's neutral voice.")
    ] = None,
    encoding: Annotated[
        str, typer.Option(help="Of stdin: pcm_s16le, pcm_f32le, mulaw or alaw.")
    ] = "pcm_s16le",
    rate: Annotated[int, typer.Option(help="Of stdin and microphone: sample rate in Hz.")] = 16_000,
    channels: Annotated[int, typer.Option(min=1, max=2, help="Of stdin: 1 or 2.")] = 1,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="GLRF_API_KEY",
            show_envvar=True,
            help="The server's API key; better in the environment, where no process list shows it.",
        ),
    ] = None,
) -> None:
    """Stream a file, the microphone or raw audio to a server, and watch the emotions.

    Ctrl-C ends the audio; the results of what was sent still come. A second Ctrl-C stops at once.
    """
    told = {"roles": roles, "rules": rules, "baseline_ms": baseline_ms, "api_key": api_key}
    asyncio.run(_stream(source, url, realtime, told, encoding, rate, channels))


async def _stream(
    source: str,
    url: str,
    realtime: bool,
    told: dict[str, Any],
    encoding: str,
    rate_hz: int,
    n_channels: int,
) -> None:
    from rich.console import Console

    from glrf.audio import decoded, open_file
    from glrf.live import view
    from glrf_client import AudioFormat, SessionClosed, microphone, reader_source
    from glrf_client import stream as events_of
    from ser_core.errors import BadAudio

    stop = asyncio.Event()
    with ExitStack() as stack:
        if source == "-":
            audio = reader_source(sys.stdin.buffer, AudioFormat(encoding, rate_hz, n_channels))
        elif source == "mic":
            audio = microphone(rate_hz)
        else:
            audio = decoded(stack.enter_context(open_file(Path(source))))
            audio = audio.paced() if realtime else audio
        _stop_at_interrupt(stop)
        screen = stack.enter_context(view(Console(), f"{source} at {url}"))
        events = events_of(
            url,
            audio.until(stop),
            **told,
            on_connection=_tell_outage,
        )
        n_heard_ms = 0
        async for event in events:
            screen.show(event)
            if isinstance(event, SessionClosed):
                n_heard_ms = event.usage.audio_ms
    if not n_heard_ms:
        raise BadAudio(
            f"no audio came from {source}", remedy="is what feeds it running?", code="empty_audio"
        )


def _tell_outage(connection: "ConnectionState") -> None:
    """On stderr, beside the picture or the lines."""
    if connection.state == "waiting":
        line = f"glrf: {connection.cause}; trying again in {connection.delay_s:.1f} s"
        print(line, file=sys.stderr)
    elif connection.resumed:
        print("glrf: connected again, the stream goes on", file=sys.stderr)


def _stop_at_interrupt(stop: asyncio.Event) -> None:
    """The first Ctrl-C sets `stop`; the next one is an ordinary interrupt again."""
    loop = asyncio.get_running_loop()

    def end_audio() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with suppress(NotImplementedError):  # Windows: Ctrl-C stops at once
        loop.add_signal_handler(signal.SIGINT, end_audio)
