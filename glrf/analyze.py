"""`glrf analyze`: files through the service's own pipeline, without a server."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glrf.engine import Device, ModelDir, settings_with
from glrf.failure import print_error
from glrf.names import shown
from glrf.query import (
    Baseline,
    Endpointing,
    EndpointSilence,
    Hysteresis,
    MinDwell,
    Model,
    Partial,
    Smoothing,
    query_of,
)

if TYPE_CHECKING:
    from glrf.progress import Report
    from service.analysis import FileAnalysis
    from service.requests import FileQuery
    from service.settings import Settings
    from service.wire import FileResult

Form = Literal["json", "csv", "vtt", "text"]
_FORMS: tuple[Form, ...] = ("json", "csv", "vtt")


def analyze(
    files: Annotated[list[Path], typer.Argument(help="Audio files; channels are scored apart.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a file.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="One table of all segments; times in milliseconds.")
    ] = False,
    as_vtt: Annotated[
        bool, typer.Option("--vtt", help="The utterances of one file as captions (WebVTT).")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write one file's report: one HTML page, to look at.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw one file as .png, .svg or .pdf (needs matplotlib).")
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(help="One name a channel, as customer,agent; agent:off is not scored."),
    ] = None,
    model: Model = None,
    endpointing: Endpointing = "vad",
    endpoint_silence_ms: EndpointSilence = None,
    smoothing: Smoothing = None,
    hysteresis: Hysteresis = None,
    min_dwell_ms: MinDwell = None,
    baseline_ms: Baseline = None,
    rules: Annotated[
        str | None, typer.Option(help="Alerts, as angry>=0.7:10s, with commas between several.")
    ] = None,
    partial: Partial = True,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Tell the emotions of audio files, offline: scores 0 to 1 every 0.4 s, labels, a summary.

    The numbers are those that a server gives. A file that cannot be read is told on stderr, the
    others go on, and the exit status is not 0.
    """
    from ser_core.errors import BadParameter

    forms: list[Form] = []
    for form, is_asked in zip(_FORMS, (as_json, as_csv, as_vtt), strict=True):
        if is_asked:
            forms.append(form)
    if len(forms) > 1:
        names = " and ".join(f"--{form}" for form in forms)
        raise BadParameter(f"{names} exclude each other", remedy="give one of them")
    for option, is_given in (("--plot", plot), ("--report", report), ("--vtt", as_vtt)):
        if is_given and len(files) > 1:
            raise BadParameter(f"{option} is of one file", remedy="give the files one by one")
    _check_outputs(report, plot)
    query = query_of(
        roles=roles,
        model=model,
        endpointing=endpointing,
        endpoint_silence_ms=endpoint_silence_ms,
        smoothing=smoothing,
        hysteresis=hysteresis,
        min_dwell_ms=min_dwell_ms,
        baseline_ms=baseline_ms,
        rules=rules,
        partial=partial,
    )
    settings = settings_with(model_dir=model_dir, device=device)
    form = forms[0] if forms else "text"
    status = asyncio.run(_analyze_all(files, settings, query, form, report, plot))
    if status:
        raise typer.Exit(status)


def _check_outputs(report: Path | None, plot: Path | None) -> None:
    """Raises `BadParameter` for what could not be written, before an hour of audio is scored.

    Folders that are missing are made, as by all commands that write a file; `OSError` tells of one
    that cannot be.
    """
    from ser_core.errors import BadParameter

    for out in (report, plot):
        if out is None:
            continue
        if out.is_dir():
            raise BadParameter(f"{out} is a folder", remedy="name a file in it")
        out.parent.mkdir(parents=True, exist_ok=True)
    if plot is not None:
        from glrf.plot import check_drawable

        check_drawable(plot)


async def _analyze_all(
    files: list[Path],
    settings: "Settings",
    query: "FileQuery",
    form: Form,
    report: Path | None,
    plot: Path | None,
) -> int:
    """The exit status: that of the last file that failed."""
    from glrf.plot import draw
    from glrf.progress import bar
    from glrf.result import parsed, writer
    from service.analysis import FileAnalysis, FileLimits
    from service.formats import render
    from service.inference.batcher import Batcher
    from service.loading import load_models

    write, status = writer(form), 0
    # One's own file may be as long as it likes; a server's limits are for strangers.
    limits = FileLimits(max_file_s=float("inf"))
    backend = load_models(settings).find(query.model)
    async with Batcher(backend, max_batch=settings.max_batch) as batcher:
        for path in files:
            try:
                analysis = FileAnalysis(
                    path,
                    batcher,
                    query,
                    limits=limits,
                    detector=settings.vad,
                    draws=report is not None or plot is not None,
                )
                with bar(f"{path.name}, seconds") as progress:
                    result = await _analyze(path, analysis, progress)
                write(path, result)
                title, waveform = shown(path.name), analysis.waveform
                if report is not None:
                    _write_page(report, render("html", result, title=title, waveform=waveform))
                if plot is not None and waveform is not None:
                    draw(parsed(result), waveform, plot, title=title)
            except Exception as error:
                failed = print_error(error, str(path))
                if failed is None:
                    raise
                status = failed
    return status


async def _analyze(path: Path, analysis: "FileAnalysis", report: "Report") -> "FileResult":
    from service.wire import Line, SegmentLine

    duration_s = _duration_s(path)
    lines: list[Line] = []
    async for line in analysis.lines():
        lines.append(line)
        if isinstance(line, SegmentLine):
            report(line.end_ms // 1000, duration_s)
    return analysis.result(lines)


def _write_page(out: Path, page: str) -> None:
    out.write_text(page, encoding="utf-8")


def _duration_s(path: Path) -> int | None:
    """For the progress bar only; `None` where the file does not say."""
    import soundfile

    if not path.is_file():  # a pipe is read once
        return None
    try:
        with path.open("rb") as file:  # a path it would encode, which not all names bear
            return int(soundfile.info(file).duration)
    except (OSError, soundfile.SoundFileError):
        return None
