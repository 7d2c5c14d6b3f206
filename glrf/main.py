"""The commands of `glrf`, put together."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from glrf.analyze import analyze
from glrf.batch.command import batch
from glrf.bench import bench
from glrf.corpus import check, manifest, pieces, split
from glrf.demonstration import demo
from glrf.failure import reported
from glrf.keys import create, list_keys, revoke
from glrf.report import report
from glrf.serve import serve
from glrf.stream import stream
from glrf.training import crossval, embed, evaluate, export, pretrain, train
from glrf.worker import worker

app = typer.Typer(
    name="glrf",
    help="Streaming speech emotion recognition: five emotions every 0.4 s, a label an utterance.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_COMMANDS: list[Callable[..., None]] = [
    *(serve, worker, analyze, batch, stream, demo),
    *(embed, pretrain, train, crossval, evaluate, export, report, bench),
]
for _command in _COMMANDS:
    app.command()(reported(_command))

_corpus = typer.Typer(
    help="Corpora as released to manifests, and manifests to splits.", no_args_is_help=True
)
_CORPUS_COMMANDS: list[Callable[..., None]] = [manifest, pieces, check, split]
for _command in _CORPUS_COMMANDS:
    _corpus.command()(reported(_command))
app.add_typer(_corpus, name="corpus")

_keys = typer.Typer(help="API keys of a server: make, list and revoke them.", no_args_is_help=True)
_keys.command()(reported(create))
_keys.command("list")(reported(list_keys))
_keys.command()(reported(revoke))
app.add_typer(_keys, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"glrf {version('glrf')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """What every command shares."""
