"""`glrf serve`: the server, in this process or as the parent of several."""

from typing import Annotated

import typer

from glrf.engine import Device, ModelDir, settings_with


def serve(
    host: Annotated[
        str | None,
        typer.Option(envvar="GLRF_HOST", help="Address to listen on. Default: 127.0.0.1."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(envvar="GLRF_PORT", min=0, max=65535, help="TCP port. Default: 8000."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="GLRF_WORKERS", min=1, max=64, help="Processes behind the port. Default: 1."
        ),
    ] = None,
    device: Device = None,
    model_dir: ModelDir = None,
) -> None:
    """Serve the WebSocket and REST interfaces until Ctrl-C.

    Every setting is a GLRF_* environment variable; the options here win over them.
    """
    from service.start import run

    run(settings_with(host=host, port=port, workers=workers, device=device, model_dir=model_dir))
