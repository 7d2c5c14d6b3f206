"""`glrf corpus`: corpora as released to manifests, and manifests to splits."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glrf.failure import EXIT_FAILED

if TYPE_CHECKING:
    from model_export.corpora.survey import Survey

MaxProblems = Annotated[int, typer.Option(min=1, help="Problems to print at most.")]
Rate = Annotated[int | None, typer.Option(help="Refuse audio of another rate, in Hz.")]


def manifest(
    name: Annotated[
        str,
        typer.Argument(
            help="iemocap, st-emo, nemo, ravdess, emo-db, urdu, crema-d, esd, plain, or csv for any"
            " table."
        ),
    ],
    root: Annotated[Path, typer.Argument(help="Its folder as released, or the CSV itself.")],
    out: Annotated[Path, typer.Option(help="The CSV to write.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder that paths shall start from. Default: the root.")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="What the manifest calls it. Default: its name here.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Keep the rows that the CSV has, of other corpora.")
    ] = False,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Leave out what is malformed, and say so.")
    ] = False,
    rate: Rate = None,
    max_problems: MaxProblems = 20,
) -> None:
    """Turn a corpus, as its makers release it, into a manifest."""
    from glrf.progress import bar
    from model_export.corpora import write_manifest
    from model_export.corpora.survey import survey_release

    with bar("recordings") as report:
        survey = survey_release(name, root, data, corpus=corpus, rate_hz=rate, on_progress=report)
    _tell_problems(survey, max_problems)
    if survey.problems and not (lenient and survey.recordings):
        raise typer.Exit(EXIT_FAILED)
    kept = _kept(out, survey) if append and out.exists() else []
    write_manifest([*kept, *survey.recordings], out)
    _print_table(survey.summary())


def pieces(
    root: Annotated[Path, typer.Argument(help="A folder of recordings, whatever they are.")],
    out: Annotated[Path, typer.Option(help="Folder for the pieces and their manifest.csv.")],
    corpus: Annotated[
        str | None, typer.Option(help="What the manifest calls it. Default: the root's name.")
    ] = None,
) -> None:
    """Cut speech without labels into pieces for `glrf pretrain`; a folder is a speaker."""
    from glrf.progress import bar
    from model_export.corpora import write_manifest
    from model_export.corpora.manifest import parse_row, rows
    from model_export.corpora.pieces import cut_folder
    from ser_core.errors import BadParameter

    if not root.is_dir():
        raise BadParameter(f"{root} is no folder", remedy="give one that recordings lie below")
    name = root.resolve().name.strip() if corpus is None else corpus
    table = out / "manifest.csv"
    there = list(rows(table)) if table.exists() else []
    old = [parse_row(row, out, where) for where, row in there]
    with bar("files") as report:
        pool = cut_folder(root, out, name, report)
    if not pool.recordings:
        raise BadParameter(
            f"no speech of a second or more in the {pool.n_files} files below {root}",
            remedy="give a folder of recordings",
        )
    write_manifest([*(r for r in old if r.corpus != name), *pool.recordings], table)
    hours = sum(one.duration_s for one in pool.recordings) / 3600
    n_speakers = len({one.speaker for one in pool.recordings})
    typer.echo(
        f"{table}: {name} has {len(pool.recordings)} pieces, {hours:.2f} hours, {n_speakers}"
        f" speakers; {pool.n_left_out} of {pool.n_files} files left out"
    )


def check(
    source: Annotated[
        str, typer.Argument(help="A manifest, or the name of a corpus, with its root.")
    ],
    root: Annotated[
        Path | None, typer.Argument(help="The corpus's folder as released, or its CSV.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder that the manifest's paths start from.")
    ] = None,
    rate: Rate = None,
    max_problems: MaxProblems = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Count speakers, hours and classes by corpus; name what is malformed, by file and line."""
    from glrf.progress import bar
    from model_export.corpora.survey import survey_manifest, survey_release
    from ser_core.errors import BadParameter
    from ser_core.labels import LABELS

    with bar("recordings") as report:
        if root is not None:
            survey = survey_release(source, root, data, rate_hz=rate, on_progress=report)
        elif data is not None:
            survey = survey_manifest(Path(source), data, LABELS, rate_hz=rate, on_progress=report)
        else:
            raise BadParameter(
                "a manifest's paths start from a folder",
                remedy="give it by --data, or a corpus's name and its root",
            )
    summary = survey.summary()
    if as_json:
        problems = [{"where": p.where, "cause": p.cause} for p in survey.problems]
        typer.echo(json.dumps({"corpora": summary, "problems": problems}, indent=2))
    else:
        _print_table(summary)
        _tell_problems(survey, max_problems)
    if survey.problems:
        raise typer.Exit(EXIT_FAILED)


def split(
    manifest: Annotated[Path, typer.Option(help="CSV of all recordings; see docs/corpora.md.")],
    data: Annotated[Path, typer.Option(help="Folder that the manifest's paths start from.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    protocol: Annotated[
        str,
        typer.Option(
            help="Folds: grouped, speaker-out, corpus-out, random, holdout."
            " One training: train-dev-test, everyone."
        ),
    ] = "grouped",
    folds: Annotated[
        int,
        typer.Option(help="Number of parts; holdout and train-dev-test test one of them."),
    ] = 5,
    seed: Annotated[int, typer.Option(help="Another seed, other folds.")] = 1,
) -> None:
    """Divide a manifest: who is learned from, who is tested."""
    from model_export.corpora import read_manifest
    from model_export.protocols import PROTOCOLS
    from model_export.splits import SUBSETS, SplitFile, read_folds, read_split, write_division
    from ser_core.errors import BadParameter
    from ser_core.labels import LABELS

    if protocol not in PROTOCOLS:
        raise BadParameter(
            f"unknown protocol {protocol!r}", remedy=f"use one of {', '.join(PROTOCOLS)}"
        )
    recordings = read_manifest(manifest, data, LABELS)
    divided = PROTOCOLS[protocol](recordings, folds, seed)
    write_division(divided, out)
    if isinstance(divided, SplitFile):
        of_training = read_split(out)
        sizes = (f"{len(of_training.speakers[subset])} {subset}" for subset in SUBSETS)
        typer.echo(f"{out}: speakers {', '.join(sizes)}, sha256 {of_training.sha256}")
        return
    written = read_folds(out)
    typer.echo(f"{out}: {written.n_folds} folds by {written.by}, sha256 {written.sha256}")
    if not written.is_speaker_disjoint:
        typer.echo("glrf: not speaker-disjoint: voices of the test are in training", err=True)


def _kept(out: Path, survey: "Survey") -> list[Any]:
    """The rows of a manifest whose corpora are not read anew."""
    from model_export.corpora.manifest import parse_row, rows

    anew = {recording.corpus for recording in survey.recordings}
    old = (parse_row(row, Path(), where) for where, row in rows(out))
    return [recording for recording in old if recording.corpus not in anew]


def _tell_problems(survey: "Survey", max_problems: int) -> None:
    for problem in survey.problems[:max_problems]:
        typer.echo(f"glrf: {problem}", err=True)
    n_more = len(survey.problems) - max_problems
    if n_more > 0:
        typer.echo(f"glrf: and {n_more} more problems; see --max-problems", err=True)


def _print_table(summary: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ser_core.labels import LABELS

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("corpus")
    for column in ("f", "m", "hours", "recordings", *LABELS):
        table.add_column(column, justify="right")
    for corpus, held in summary.items():
        table.add_row(
            corpus,
            *(str(held[key]) for key in ("women", "men")),
            f"{held['hours']:.2f}",
            str(held["recordings"]),
            *(str(held["labels"].get(label, 0)) for label in LABELS),
        )
    console = Console()
    console.print(table)
    for corpus, held in summary.items():
        said = [f"{held['speakers']} speakers"]
        said += [f"{n} at {rate_hz} Hz" for rate_hz, n in held["rates_hz"].items()]
        said += [f"left out: {n} {emotion}" for emotion, n in sorted(held["left_out"].items())]
        console.print(f"{corpus}: {', '.join(said)}", highlight=False, markup=False)
