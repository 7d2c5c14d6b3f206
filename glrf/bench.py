"""`glrf bench`: what a stream costs the server, beside the bare model and features."""

import sys
from pathlib import Path
from typing import Annotated

import typer

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "stream_cost.py"


def bench(
    streams: Annotated[int, typer.Option(min=1, help="Real-time streams at once.")] = 50,
    seconds: Annotated[float, typer.Option(min=2, help="Audio of each stream, in seconds.")] = 20.0,
    out: Annotated[
        Path | None, typer.Option(help="Also write the numbers as JSON to this file.")
    ] = None,
) -> None:
    """Measure CPU and lag of many real-time streams of 100 ms chunks (about half a minute).

    Prints CPU milliseconds a second of audio of the whole server process, of the model alone and
    of the features alone, in one run, and their ratio; the lag of results, p50 and p99, in ms,
    and the event loop's stall, p99.
    """
    if not SCRIPT.exists():
        from ser_core.errors import SerError

        raise SerError(
            "the benchmarks are not part of the installed package",
            remedy="run this in a checkout of the project",
            code="no_benchmarks",
        )
    if out is not None:  # a folder that cannot be made is told before anything is measured
        out.parent.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(SCRIPT.parents[1]))  # before any other package of that name
    from benchmarks.stream_cost import main

    main(streams, seconds, out)
