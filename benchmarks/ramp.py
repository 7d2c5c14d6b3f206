"""How many streams a server holds: doubled until it fails, then bisected."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

#: `generator`: it was the load generator that was late, so the server's limit is not known.
Verdict = Literal["holds", "fails", "generator"]


@dataclass(frozen=True)
class Ramp:
    """`held` streams were held and `failed` were not; `None`: no failure was seen.

    `ended_by` is `resolution` when the two are as close as was asked for.
    """

    held: int
    failed: int | None
    ended_by: Literal["resolution", "generator", "time"]


def most_streams(
    tried: Callable[[int], Verdict],
    start: int,
    *,
    resolution: float = 0.1,
    is_time_up: Callable[[], bool] = lambda: False,
) -> Ramp:
    """Tries `start` streams, doubles while they hold, then halves the gap.

    It ends when the gap is one stream, or `resolution` of what failed; when the generator is the
    one that fails; or when the time is up, after a try at least. Raises `ValueError` for a start
    below 1.
    """
    if start < 1:
        raise ValueError(f"start={start} must be 1 or more")
    held, failed, n_streams = 0, None, start
    while True:
        verdict = tried(n_streams)
        if verdict == "generator":
            return Ramp(held, failed, "generator")
        if verdict == "holds":
            held = n_streams
        else:
            failed = n_streams
        if failed is not None and failed - held <= max(1, resolution * failed):
            return Ramp(held, failed, "resolution")
        if is_time_up():
            return Ramp(held, failed, "time")
        n_streams = 2 * held if failed is None else (held + failed) // 2
