"""A webhook's message as it is kept."""

from dataclasses import dataclass
from typing import Literal

Delivery = Literal["waiting", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class Letter:
    """A row of `glrf_job_messages`; times are milliseconds since 1970."""

    id: str
    job_id: str | None
    session_id: str | None
    caller: str
    url: str
    body: str
    status: Delivery
    round: int
    n_attempts: int
    created_ms: int
    tried_ms: int | None
    cause: str | None
