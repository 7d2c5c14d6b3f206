"""The start of the server: in this process, or as the parent of several."""

import contextlib
import gc
import logging
import resource
import sys

from ser_core.errors import SerError
from service import logs
from service.loading import load_models_beside
from service.settings import Settings

#: Descriptors that a process asks for: enough for all, and few enough to be closed one by one,
#: as decoders do on systems that cannot close a range.
_DESCRIPTORS = 65_536
#: Beyond what has its own limit: who asks or says nothing, watchers, the model, the log.
_OTHER_DESCRIPTORS = 256

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
        allow_descriptors(settings)
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


def allow_descriptors(settings: Settings) -> None:
    """Raises this process's limit of open descriptors, and with it its children's.

    Where it stays below what `settings` let in, the log says so: at the limit no connection is
    accepted, not even those that ask whether the service is ready.
    """
    n_needed = _OTHER_DESCRIPTORS + -(-_n_descriptors(settings) // settings.workers)
    n_allowed, n_most = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_wanted = max(n_allowed, n_needed, _DESCRIPTORS)
    if n_most != resource.RLIM_INFINITY:
        n_wanted = min(n_wanted, n_most)
    if n_allowed not in (resource.RLIM_INFINITY, n_wanted):
        with contextlib.suppress(OSError, ValueError):  # the system has a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (n_wanted, n_most))
            n_allowed = n_wanted
    if n_allowed != resource.RLIM_INFINITY and n_allowed < n_needed:
        log.warning(
            "a process may open %d descriptors, and sessions and files may take %d: "
            "raise its limit (ulimit -n, LimitNOFILE=), or lower GLRF_MAX_SESSIONS",
            n_allowed,
            n_needed,
        )


def _n_descriptors(settings: Settings) -> int:
    """What all sessions, files and uploads take: sockets, and beside them files and decoders."""
    n_coming = settings.max_files_waiting + settings.jobs_max_uploads
    return settings.max_sessions + 4 * settings.max_files + 2 * n_coming
