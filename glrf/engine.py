"""Options of the commands that run a model: which one, and where."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from service.settings import Settings

ModelDir = Annotated[
    Path | None,
    typer.Option(envvar="GLRF_MODEL_DIR", help="Folder of .onnx models. Default: the shipped one."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option(
        envvar="GLRF_DEVICE",
        help="Where the model runs. auto, the default, takes a GPU that works; cuda fails without.",
    ),
]


def settings_with(**given: object) -> "Settings":
    """The environment's settings, and over them what was given on the command line."""
    from service.settings import Settings

    return Settings.from_environment(
        **{name: value for name, value in given.items() if value is not None}
    )
