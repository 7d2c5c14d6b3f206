"""`glrf report`: the lab's tables and figures from its result cells."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from glrf.failure import needed

_INSTALL = "install the training extra: pip install 'glrf[cpu,train]'"
_OUT = Path("model_export/RESULTS.md")


def report(
    results: Annotated[Path, typer.Option(help="Folder of the result cells.")] = Path(
        "model_export/results"
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"The Markdown file to write, figures/ beside it; default {_OUT}. With --quick the"
            " folder that all goes into; default a temporary one."
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Run the whole chain first, in two minutes: train, export and assess on synthetic"
            " voices.",
        ),
    ] = False,
) -> None:
    """Write every table and figure of the lab from its result cells."""
    if quick:
        chain = needed("model_export.quick", _INSTALL)
        folder = out or Path(tempfile.mkdtemp(prefix="glrf-"))
        written = chain.run_quick(folder, lambda stage: typer.echo(f"{stage} ...", err=True))
    else:
        written = needed("model_export.report", _INSTALL).write_report(results, out or _OUT)
    typer.echo(
        f"{written.path}: {written.n_cells} cells of {written.n_experiments} experiments,"
        f" {len(written.figures)} figures"
    )
