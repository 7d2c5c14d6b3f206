"""A refusal over HTTP: status and problem document (RFC 9457)."""

import json
from collections.abc import Mapping
from typing import Any


def problem_from(
    status: int, headers: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, Any], float | None]:
    """Status, problem and seconds of `Retry-After`, the arguments of `Refused`.

    A body that is no JSON object (a proxy's page) becomes the problem's title.
    """
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": body[:200].decode("utf-8", "replace").strip()}
    try:
        retry_after_s = float(headers.get("Retry-After", ""))
    except ValueError:
        retry_after_s = None
    return status, problem, retry_after_s
