"""A refusal over HTTP: status and problem document (RFC 9457)."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


def problem_from(
    status: int, headers: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, Any], float | None]:
    """Status, problem and seconds of `Retry-After`, the arguments of `Refused`.

    A body that is no JSON object (a proxy's page) becomes the problem's title. A redirect is told
    by where it points, without query: it is not followed, for the key is for no other host.
    """
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": body[:200].decode("utf-8", "replace").strip()}
    if 300 <= status < 400 and "Location" in headers:
        target = headers["Location"].partition("#")[0].partition("?")[0]
        problem = {
            "detail": f"a redirect to {target[:200]}, which is not followed",
            "remedy": "give that address itself if it is the server's",
        }
    return status, problem, _retry_after_s(headers)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date (RFC 9110, Section 10.2.3), which is one of the server's own clock."""
    value = headers.get("Retry-After", "")
    try:
        wait_s = float(value)
    except ValueError:
        try:
            now = _time(headers["Date"]) if "Date" in headers else datetime.now(UTC)
            wait_s = max(0.0, (_time(value) - now).total_seconds())
        except ValueError:
            return None
    return wait_s if 0 <= wait_s < math.inf else None


def _time(date: str) -> datetime:
    time = parsedate_to_datetime(date)
    return time.replace(tzinfo=time.tzinfo or UTC)
