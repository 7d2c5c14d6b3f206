"""`glrf corpus`: corpora as released to manifests, and manifests to splits."""

from pathlib import Path
from typing import Annotated

import typer


def split(
    manifest: Annotated[Path, typer.Option(help="CSV of all recordings; see docs/corpora.md.")],
    data: Annotated[Path, typer.Option(help="Folder that the manifest's paths start from.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    protocol: Annotated[
        str, typer.Option(help="grouped, speaker-out, random or holdout.")
    ] = "grouped",
    folds: Annotated[int, typer.Option(help="Number of parts; holdout tests one of them.")] = 5,
    seed: Annotated[int, typer.Option(help="Another seed, other folds.")] = 1,
) -> None:
    """Divide a manifest for cross-validation: who is learned from, who is tested."""
    from model_export.corpora import read_manifest
    from model_export.protocols import PROTOCOLS
    from model_export.splits import read_folds, write_folds
    from ser_core.errors import BadParameter
    from ser_core.labels import LABELS

    if protocol not in PROTOCOLS:
        raise BadParameter(
            f"unknown protocol {protocol!r}", remedy=f"use one of {', '.join(PROTOCOLS)}"
        )
    recordings = read_manifest(manifest, data, LABELS)
    write_folds(PROTOCOLS[protocol](recordings, folds, seed), out)
    written = read_folds(out)
    typer.echo(f"{out}: {written.n_folds} folds by {written.by}, sha256 {written.sha256}")
    if not written.is_speaker_disjoint:
        typer.echo("glrf: not speaker-disjoint: voices of the test are in training", err=True)
