"""`glrf worker`: scores jobs in this process, for a server that runs elsewhere."""


def worker() -> None:
    """Score jobs of the store that GLRF_JOBS_URL and GLRF_JOBS_DIR name, until Ctrl-C.

    `glrf serve` runs workers of its own (GLRF_JOBS_WORKERS); more of them may share one store.
    """
    from service.jobs.worker import run

    run()
