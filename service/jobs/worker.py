"""The process that scores jobs: `glrf worker`, or a child of `glrf serve`."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import uuid

from ser_core.errors import SerError
from service import logs
from service.jobs.audio import AudioFolder
from service.jobs.executor import Executor
from service.jobs.opening import open_store
from service.jobs.outbox import Outbox
from service.jobs.scoring import Scoring
from service.jobs.sweep import Sweep
from service.loading import load_models
from service.registry import ModelRegistry
from service.runtime import Runtime
from service.settings import Settings

log = logging.getLogger(__name__)


def run(settings: Settings | None = None, *, is_child: bool = False) -> None:
    """Scores jobs until SIGTERM or SIGINT; as a child until its standard input ends, too.

    Whose end is not told, by `kill -9`, ends the pipe all the same. Where a setting is wrong or
    the store or the model cannot be had, the process ends with status 1 and one line.
    """
    status = 1
    try:
        settings = settings or Settings.from_environment()
        logs.begin(settings.log_level, "jobs", settings.log_format)
        models = load_models(settings)
        asyncio.run(_work(settings, models, is_child=is_child))
        status = 0
    except SerError as error:
        sys.stderr.write(f"glrf: {error.code}: {error.detail}\n")
    except OSError as error:  # the folder of jobs, or its disk
        what_to_do = "look at GLRF_JOBS_DIR and its disk"
        sys.stderr.write(f"glrf: jobs_unavailable: {error}; {what_to_do}\n")
    except Exception:
        log.exception("the worker of jobs failed")
    finally:
        # DBOS's threads wait for ever on what they are not to begin any more.
        logging.shutdown()
        os._exit(status)


async def _work(settings: Settings, models: ModelRegistry, *, is_child: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if is_child:
        threading.Thread(target=_await_parent, args=(loop, ended), daemon=True).start()
    store, queue = await asyncio.to_thread(open_store, settings)
    audio = AudioFolder(settings.jobs_dir / "audio")
    runtime = Runtime(settings, models)
    await runtime.start()
    outbox = Outbox(store, queue.add_attempt, settings.jobs_keep_days)
    store.on_end = outbox.announce
    scoring = Scoring(runtime, store, audio)
    executor = Executor(
        scoring,
        outbox,
        runtime.webhooks,
        f"worker-{uuid.uuid4().hex}",
        settings.jobs_at_a_time,
    )
    sweep = Sweep(store, queue, outbox, audio, settings, executor.id, executor.is_at_work_on)
    await asyncio.to_thread(sweep.start)
    await asyncio.to_thread(executor.launch, store.engine)
    log.info("scoring jobs, %d at a time", settings.jobs_at_a_time)
    await ended.wait()
    log.info("finishing the chunks in hand")
    await asyncio.to_thread(executor.drain, settings.shutdown_s)
    await scoring.close()
    await asyncio.to_thread(sweep.stop)


def _await_parent(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 1024):
            pass
    loop.call_soon_threadsafe(ended.set)
