"""A worker: the server as it is, whose connections come from the parent."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
from pathlib import Path

from ser_core.errors import SerError
from service import logs
from service.loading import load_models_beside
from service.settings import Settings


def run() -> None:
    """Serves what the parent hands over by standard input, until SIGTERM or the parent's end.

    The arguments are the folder that the workers share, this one's number, and how many they are.
    Where a setting is wrong or the model cannot be had, it ends with status 1 and one line.
    """
    gc.disable()  # until all is there, as `service.start`
    folder, index, n_workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    line = socket.socket(fileno=os.dup(0))
    try:
        settings = Settings.from_environment()
        logs.begin(settings.log_level, f"worker-{index}", settings.log_format)
        models = load_models_beside(settings, "service.pool.serving")
        from service.event_loop import settle
        from service.pool.serving import PoolServer

        server = PoolServer(settings, models, folder, index, n_workers, line)
    except SerError as error:
        sys.exit(f"glrf: {error.code}: {error.detail}")
    settle()
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        server.run(sockets=[])
