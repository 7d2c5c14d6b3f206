"""Tokens for browsers, which cannot send a header with a WebSocket: short-lived, used once.

A JWT (RFC 7519, HS256) with `aud`, `sub` (the key's id), `jti`, `iat` and `exp`. Any replica with
the same secrets verifies it; each remembers the `jti` that it has seen until they expire.
"""

import secrets
import time
from collections.abc import Callable
from typing import TypeGuard

import jwt

from ser_core.errors import LimitReached, SerError, Unauthenticated
from service.nonces import Full, Nonces
from service.shared import Shared

AUDIENCE = "glrf.stream"
MIN_SECRET_BYTES = 32
MAX_TOKEN_CHARS = 1024
#: Between the clocks of replicas.
LEEWAY_S = 5.0
#: Used tokens that are remembered; with more in a lifetime no more are taken, never one twice.
MAX_REMEMBERED = 65_536


def parse_secrets(text: str | None) -> tuple[bytes, ...]:
    """Secrets of `GLRF_TOKEN_KEYS`, or a random one without it; raises `SerError`."""
    if text is None:
        return (secrets.token_bytes(MIN_SECRET_BYTES),)
    parts = tuple(part.strip().encode() for part in text.split(",") if part.strip())
    if not parts or any(len(part) < MIN_SECRET_BYTES for part in parts):
        raise SerError(
            f"GLRF_TOKEN_KEYS needs secrets of at least {MIN_SECRET_BYTES} bytes",
            remedy="make one with `openssl rand -hex 32`",
            code="access_misconfigured",
        )
    return parts


class Tokens:
    """Makes tokens and redeems each once, in this process or in all that have `shared`.

    `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        secrets_: tuple[bytes, ...],
        lifetime_s: float,
        *,
        max_remembered: int = MAX_REMEMBERED,
        shared: Shared | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = secrets_
        self.lifetime_s = lifetime_s
        self._clock = clock
        # Not by the `exp` of each: no token outlives this.
        self._used = Nonces(lifetime_s + 3 * LEEWAY_S, max_remembered, shared)

    def issue(self, subject: str) -> str:
        """A token for the key with the id `subject`."""
        now_s = self._clock()
        claims = {
            "aud": AUDIENCE,
            "sub": subject,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now_s),
            "exp": int(now_s + self.lifetime_s),
        }
        return jwt.encode(claims, self._secrets[0], algorithm="HS256")

    def redeem(self, token: str) -> str:
        """The `sub` of a good token, which is then used up.

        Raises `Unauthenticated`, and `LimitReached` while too many are remembered.
        """
        claims = self._verified(token)
        try:
            is_new = self._used.take(claims["jti"], self._clock())
        except Full as error:
            raise LimitReached(
                "too many tokens were used in the last minute",
                remedy="try again in a few seconds, or add replicas",
                retry_after_s=self.lifetime_s,
            ) from error
        if not is_new:
            raise _refused("the token was used already")
        return claims["sub"]

    def _verified(self, token: str) -> dict[str, str]:
        if len(token) > MAX_TOKEN_CHARS:
            raise _refused("the token is too long")
        for secret in self._secrets:
            try:
                claims = jwt.decode(
                    token,
                    secret,
                    algorithms=["HS256"],
                    audience=AUDIENCE,
                    options={
                        "require": ["exp", "iat", "aud", "jti", "sub"],
                        # Checked below, by the clock that was given.
                        "verify_exp": False,
                        "verify_iat": False,
                    },
                )
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, ValueError) as error:
                raise _refused("the token is not one of ours") from error
            self._check_time(claims)
            return claims
        raise _refused("the token's signature is not ours")

    def _check_time(self, claims: dict[str, object]) -> None:
        now_s, issued_s, expires_s = self._clock(), claims["iat"], claims["exp"]
        if not _is_time(issued_s) or not _is_time(expires_s):
            raise _refused("the token's times are not numbers")
        if now_s >= expires_s + LEEWAY_S:
            raise _refused("the token has expired")
        if issued_s > now_s + LEEWAY_S or expires_s > issued_s + self.lifetime_s + LEEWAY_S:
            raise _refused("the token lives longer than is allowed")


def _is_time(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value < 2**53


def _refused(cause: str) -> Unauthenticated:
    return Unauthenticated(cause, remedy="get a new one from POST /v1/tokens, and use it once")
