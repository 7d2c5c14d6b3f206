"""What a process of the service logs, and what it keeps to itself."""

import logging

#: They log each request at INFO with its whole address, where a webhook's token may be.
_TALKATIVE = ("httpx", "httpcore")


def begin(level: str, name: str = "") -> None:
    """Logs to standard error from `level` on, each line with the process's `name` if it has one."""
    prefix = f"{name} " if name else ""
    logging.basicConfig(level=level.upper(), format=f"%(levelname)s {prefix}%(name)s: %(message)s")
    for talkative in _TALKATIVE:
        logging.getLogger(talkative).setLevel(logging.WARNING)
