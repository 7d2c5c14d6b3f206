"""`glrf serve`: the server, in this process."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def serve(
    host: Annotated[
        str | None,
        typer.Option(envvar="GLRF_HOST", help="Address to listen on. Default: 127.0.0.1."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(envvar="GLRF_PORT", min=0, max=65535, help="TCP port. Default: 8000."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(
            envvar="GLRF_DEVICE",
            help="Where the model runs. auto takes a GPU that works; cuda fails without one.",
        ),
    ] = None,
    model_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="GLRF_MODEL_DIR", help="Folder of .onnx models. Default: the shipped one."
        ),
    ] = None,
) -> None:
    """Serve the WebSocket and REST interfaces until Ctrl-C.

    Every setting is a GLRF_* environment variable; the options here win over them.
    """
    from service.server import run
    from service.settings import Settings

    given = {"host": host, "port": port, "device": device, "model_dir": model_dir}
    run(
        Settings.from_environment(
            **{name: value for name, value in given.items() if value is not None}
        )
    )
