"""The start of the server: its models load in a thread while the rest is imported.

ONNX Runtime works outside of Python most of that time, so on two cores the slower of the two
counts, and not their sum.
"""

import contextlib
import gc
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

from ser_core.errors import SerError
from service.loading import load_models
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
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
        )
        with ThreadPoolExecutor(1) as loader:
            loading = loader.submit(load_models, settings)
            from service.auth import check_exposure
            from service.event_loop import settle
            from service.jobs.supervisor import workers
            from service.server import Server, bound

            check_exposure(settings)
            models = loading.result()
        server = Server(settings, models)
        address = bound(settings.host, settings.port)
    except SerError as error:
        sys.exit(f"glrf: {error.code}: {error.detail}")
    host, port = address.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("running on http://%s:%d (open it in a browser to try it)", shown, port)
    settle()
    with contextlib.suppress(KeyboardInterrupt), workers(settings):
        server.run(sockets=[address])
