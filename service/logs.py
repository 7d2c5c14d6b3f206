"""What a process of the service logs, how, and what it keeps to itself."""

import json
import logging
import time
from typing import Literal

Format = Literal["text", "json"]

#: They log each request at INFO with its whole address, where a webhook's token may be.
_TALKATIVE = ("httpx", "httpcore")


class _Utc(logging.Formatter):
    """Times in UTC, ISO 8601 to the millisecond."""

    converter = time.gmtime
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


class _Json(_Utc):
    """A line as one JSON object: time, level, process, logger, message, and exception if any."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def begin(level: str, name: str = "server", as_: Format = "text") -> None:
    """Logs to standard error from `level` on, each line with the process's `name`."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Json(name)
        if as_ == "json"
        else _Utc(f"%(asctime)s %(levelname)s {name} %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for talkative in _TALKATIVE:
        logging.getLogger(talkative).setLevel(logging.WARNING)
