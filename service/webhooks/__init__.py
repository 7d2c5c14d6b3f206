"""Webhooks: signed messages to addresses that clients name.

    sender = Sender(Signer(secrets), Targets(allowed_hosts), Schedule())
    sender.targets.check(url)                        # when the client names it: BadParameter
    outcome = await sender.attempt(Message(id, url, body), n_failed=0)
    match outcome:                                   # Delivered, RetryAt(at_s), GivenUp

`signing` is the scheme of Standard Webhooks, `targets` where messages may go, `schedule` when a
message is tried again, `sender` one attempt. Nothing is stored here: who keeps messages calls
`attempt` again at the time of a `RetryAt`, with the same message and one more in `n_failed`, and
keeps what was `GivenUp` for somebody to look at.
"""

from service.webhooks.schedule import Schedule
from service.webhooks.sender import Delivered, GivenUp, Message, Outcome, RetryAt, Sender
from service.webhooks.signing import Signer
from service.webhooks.targets import Targets, receiver_of

__all__ = [
    "Delivered",
    "GivenUp",
    "Message",
    "Outcome",
    "RetryAt",
    "Schedule",
    "Sender",
    "Signer",
    "Targets",
    "receiver_of",
]
