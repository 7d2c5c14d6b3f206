"""`glrf batch`: an archive of recordings into one Parquet table."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glrf.engine import Device, ModelDir, settings_with
from glrf.failure import EXIT_FAILED, needed
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
    from glrf.batch.archive import Item
    from service.inference.backend import Backend
    from service.requests import FileQuery
    from service.settings import Settings


def batch(
    source: Annotated[
        Path, typer.Argument(help="A folder of recordings, or a CSV with a column path.")
    ],
    out: Annotated[Path, typer.Option(help="The table, a Parquet file.")],
    rows: Annotated[
        Literal["utterances", "channels", "segments"], typer.Option(help="What a row is.")
    ] = "utterances",
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that a manifest's paths start from. Default: its own."),
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(
            help="One name a channel, as customer,agent:off; a manifest's column roles wins."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, or actors on Ray. Default: one a core."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on a Ray cluster (auto, ray://host:10001), or on a local one (local).",
        ),
    ] = None,
    model: Model = None,
    endpointing: Endpointing = "vad",
    endpoint_silence_ms: EndpointSilence = None,
    smoothing: Smoothing = None,
    hysteresis: Hysteresis = None,
    min_dwell_ms: MinDwell = None,
    baseline_ms: Baseline = None,
    partial: Partial = True,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Score an archive: one table, at least one row a recording, in the archive's order.

    A run that was killed goes on where it was when it is started again. A recording that cannot be
    scored has a row that says why, and then the exit status is not 0.
    """
    from ser_core.errors import BadParameter

    needed("pyarrow", "pip install 'glrf[batch]'")
    if out.suffix != ".parquet":
        raise BadParameter(
            f"{out} would hold Parquet", remedy="name the table with the suffix .parquet"
        )
    from glrf.batch.archive import archive_of, chunks_of
    from glrf.batch.engines import on_ray, on_this_machine
    from glrf.batch.parts import Parts
    from glrf.batch.rows import schema_of
    from glrf.batch.scoring import Work
    from glrf.progress import bar
    from service.loading import load_models

    query = query_of(
        roles=roles,
        model=model,
        endpointing=endpointing,
        endpoint_silence_ms=endpoint_silence_ms,
        smoothing=smoothing,
        hysteresis=hysteresis,
        min_dwell_ms=min_dwell_ms,
        baseline_ms=baseline_ms,
        partial=partial,
    )
    settings = settings_with(model_dir=model_dir, device=device)
    archive = archive_of(source, data)
    items = archive.items
    if archive.left_out:
        most = archive.left_out.most_common(8)
        kinds = ", ".join(f"{n_files} {suffix}" for suffix, n_files in most)
        typer.echo(f"left out, by their names no recordings: {kinds}", err=True)
    chunks = chunks_of(items)
    backend = load_models(settings).find(query.model)
    plan = _plan(items, backend, settings, query, rows)
    parts = Parts(out, schema_of(rows, backend.spec.labels), plan)
    work = Work(settings, query, rows)
    todo = [chunk for chunk in chunks if not parts.is_done(chunk)]
    n_done = len(items) - sum(len(chunk.items) for chunk in todo)
    if n_done:
        typer.echo(f"going on: {n_done} of {len(items)} recordings are done", err=True)
    if not todo:
        scored = iter(())
    elif ray is not None:
        scored = on_ray(work, todo, jobs, ray)
    else:
        scored = on_this_machine(work, todo, jobs or os.cpu_count() or 1)
    with bar("recordings") as report:
        for chunk, chunk_rows in scored:
            parts.write(chunk, chunk_rows)
            n_done += len(chunk.items)
            report(n_done, len(items))
    n_rows, failed = parts.join(chunks)
    typer.echo(
        f"{out}: {n_rows} rows of {len(items)} recordings, {failed.total()} of which could not be "
        "scored"
    )
    for code, n_times in failed.most_common():
        typer.echo(f"{code}: {n_times} (see error_detail)", err=True)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _plan(
    items: "list[Item]", backend: "Backend", settings: "Settings", query: "FileQuery", rows: str
) -> dict[str, Any]:
    """What the numbers depend on; it travels in the table's metadata, under `glrf`."""
    from service.manifest import SCHEMA_VERSION, code, model_card

    archive = hashlib.sha256()
    for item in items:
        archive.update(f"{item.name}\0{item.n_bytes}\0{item.roles}\n".encode())
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model_card(backend.spec, backend.sha256).model_dump(mode="json"),
        "code": code().model_dump(mode="json"),
        "config": {**query.model_dump(), "detector": settings.vad, "rows": rows},
        "n_recordings": len(items),
        "archive_sha256": archive.hexdigest(),
    }
