"""The start of the server: in this process, or as the parent of several."""

import contextlib
import gc
import logging
import sys

from ser_core.errors import SerError
from service import logs
from service.loading import load_models_beside
from service.settings import Settings

log = logging.getLogger(__name__)


def run(settings: Settings | None = None) -> None:
    """Serves until SIGTERM or SIGINT.

    The models are loaded before the address is bound: where either fails, or a setting is wrong,
    the process ends with status 1 and one line that names cause and remedy.
    """
    gc.disable()  # until all is there: it would find next to nothing, in a tenth of the time
    try:
        settings = settings or Settings.from_environment()
        logs.begin(settings.log_level, as_=settings.log_format)
        if settings.workers > 1:
            from service.pool import parent

            gc.enable()
            parent.run(settings)
        else:
            _serve(settings)
    except SerError as error:
        sys.exit(f"glrf: {error.code}: {error.detail}")


def _serve(settings: Settings) -> None:
    models = load_models_beside(settings, "service.server")
    from service.address import announced, bound
    from service.event_loop import settle
    from service.jobs.supervisor import unwound_by_sigterm, workers
    from service.server import Server

    server = Server(settings, models)
    address = bound(settings.host, settings.port)
    log.info("running on %s (open it in a browser to try it)", announced(address))
    settle()
    with (
        contextlib.suppress(KeyboardInterrupt),
        unwound_by_sigterm(),
        workers(settings) as end_workers,
    ):
        server.on_stop = end_workers
        server.run(sockets=[address])
