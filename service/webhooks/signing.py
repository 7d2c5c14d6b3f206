"""Signatures of webhooks (Standard Webhooks, https://www.standardwebhooks.com, version 1.0.0)."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from ser_core.errors import BadParameter

PREFIX = "whsec_"
#: What the scheme asks of a secret ("Symmetric signatures").
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64


def check_secret(secret: str) -> None:
    """Raises `BadParameter` for what is not `whsec_` and base64 of 24 to 64 bytes."""
    try:
        n_bytes = len(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
    except (binascii.Error, ValueError):
        n_bytes = 0
    if not secret.startswith(PREFIX) or not MIN_SECRET_BYTES <= n_bytes <= MAX_SECRET_BYTES:
        raise BadParameter(
            f"a webhook secret is {PREFIX} and base64 of {MIN_SECRET_BYTES} to "
            f"{MAX_SECRET_BYTES} bytes",
            remedy='make one: echo "whsec_$(openssl rand -base64 32)"',
        )


class Signer:
    """Signs with every secret: while one takes another's place, receivers may check by either.

    Raises `BadParameter` for a secret of another form, and `ValueError` for none.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("webhooks are not sent unsigned")
        for secret in secrets:
            check_secret(secret)
        self._secrets = [Webhook(secret) for secret in secrets]

    def headers(self, message_id: str, body: bytes, at_s: float) -> dict[str, str]:
        """The scheme's three headers for a body in UTF-8; `at_s` is Unix time, of the attempt.

        The id is the message's own, the same at each attempt: receivers know repetitions by it.
        """
        at = datetime.fromtimestamp(int(at_s), UTC)
        signatures = [secret.sign(message_id, at, body.decode()) for secret in self._secrets]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at_s)),
            "webhook-signature": " ".join(signatures),
        }
