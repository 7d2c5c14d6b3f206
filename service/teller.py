"""What a session asks of webhooks, where they are served."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

#: Tells one event to a URL that was settled before.
Telling = Callable[[dict[str, Any]], Awaitable[None]]


class Teller(Protocol):
    """Brings events of live sessions to URLs; whoever implements it makes them durable."""

    def check(self, url: str) -> None:
        """Raises `BadParameter` for a URL that nothing may be sent to."""
        ...

    async def tell(self, url: str, caller: str, event: dict[str, Any]) -> None:
        """Takes an event of a caller's session over: returns when it is safe.

        It has arrived later. `session_id` and `seq` tell events apart.
        """
        ...
