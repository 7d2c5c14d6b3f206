"""`glrf analyze`: files through the service's own pipeline, without a server."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glrf.failure import told

if TYPE_CHECKING:
    from glrf.progress import Report
    from service.inference.batcher import Batcher
    from service.requests import FileQuery
    from service.settings import Settings
    from service.wire import FileResult


def analyze(
    files: Annotated[list[Path], typer.Argument(help="Audio files; channels are scored apart.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a file.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="One table of all segments; times in milliseconds.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw one file as .png, .svg or .pdf (needs matplotlib).")
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(help="One name a channel, as customer,agent; agent:off is not scored."),
    ] = None,
    model_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="GLRF_MODEL_DIR", help="Folder of .onnx models. Default: the shipped one."
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(envvar="GLRF_DEVICE", help="Where the model runs. Default: auto."),
    ] = None,
) -> None:
    """Tell the emotions of audio files, offline: scores 0 to 1 every 0.4 s, labels, a summary.

    The numbers are those that a server gives. A file that cannot be read is told on stderr, the
    others go on, and the exit status is not 0.
    """
    from ser_core.errors import BadParameter
    from service.settings import Settings

    if as_json and as_csv:
        raise BadParameter("--json and --csv exclude each other", remedy="give one of them")
    if plot is not None and len(files) > 1:
        raise BadParameter("--plot draws one file", remedy="give the files one by one")
    given = {"model_dir": model_dir, "device": device}
    settings = Settings.from_environment(
        **{name: value for name, value in given.items() if value is not None}
    )
    form = "json" if as_json else "csv" if as_csv else "text"
    status = asyncio.run(_analyze_all(files, settings, roles, form, plot))
    if status:
        raise typer.Exit(status)


async def _analyze_all(
    files: list[Path],
    settings: "Settings",
    roles: str | None,
    form: Literal["json", "csv", "text"],
    plot: Path | None,
) -> int:
    """The exit status: that of the last file that failed."""
    from glrf.plot import draw
    from glrf.progress import bar
    from glrf.result import parsed, writer
    from service.inference.batcher import Batcher
    from service.requests import FileQuery
    from service.runtime import load_models

    query = FileQuery.model_validate({"roles": roles})
    write, status = writer(form), 0
    async with Batcher(load_models(settings).default, max_batch=settings.max_batch) as batcher:
        for path in files:
            try:
                with bar(f"{path.name}, seconds") as report:
                    result = await _analyze(path, batcher, query, settings, report)
                write(path, result)
                if plot is not None:
                    draw(path, parsed(result), plot)
            except Exception as error:
                failed = told(error, str(path))
                if failed is None:
                    raise
                status = failed
    return status


async def _analyze(
    path: Path, batcher: "Batcher", query: "FileQuery", settings: "Settings", report: "Report"
) -> "FileResult":
    from service.analysis import FileAnalysis, FileLimits, Line
    from service.wire import SegmentLine

    # One's own file may be as long as it likes; a server's limits are for strangers.
    limits = FileLimits(max_file_s=float("inf"))
    analysis = FileAnalysis(path, batcher, query, limits=limits, detector=settings.vad)
    duration_s = _duration_s(path)
    lines: list[Line] = []
    async for line in analysis.lines():
        lines.append(line)
        if isinstance(line, SegmentLine):
            report(line.end_ms // 1000, duration_s)
    return analysis.result(lines)


def _duration_s(path: Path) -> int | None:
    """For the progress bar only; `None` where the file does not say."""
    import soundfile

    try:
        return int(soundfile.info(str(path)).duration)
    except soundfile.SoundFileError:
        return None
