"""`glrf report`: the lab's tables and figures from its result cells."""

from pathlib import Path
from typing import Annotated

import typer

from glrf.failure import needed


def report(
    results: Annotated[Path, typer.Option(help="Folder of the result cells.")] = Path(
        "model_export/results"
    ),
    out: Annotated[
        Path, typer.Option(help="The Markdown file to write; figures/ goes beside it.")
    ] = Path("model_export/RESULTS.md"),
) -> None:
    """Write every table and figure of the lab from its result cells; prints the file's path."""
    module = needed("model_export.report", "install the training extra: pip install 'glrf[train]'")
    written = module.write_report(results, out)
    typer.echo(
        f"{written.path}: {written.n_cells} cells of {written.n_experiments} experiments,"
        f" {len(written.figures)} figures"
    )
