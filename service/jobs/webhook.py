"""A webhook as it is kept."""

from dataclasses import dataclass
from typing import Literal

Delivery = Literal["waiting", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class StoredWebhook:
    """A row of `glrf_job_messages`, of a job or of a session; times are milliseconds since 1970."""

    id: str
    caller: str
    url: str
    body: str
    created_ms: int
    job_id: str | None = None
    session_id: str | None = None
    status: Delivery = "waiting"
    round: int = 0
    n_attempts: int = 0
    tried_ms: int | None = None
    cause: str | None = None
