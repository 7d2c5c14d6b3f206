import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.errors import LimitReached, SerError, Unauthenticated
from service.tokens import AUDIENCE, LEEWAY_S, Tokens, parse_secrets

SECRET = b"s" * 32


class Clock:
    now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


def tokens(clock: Clock | None = None, *secrets: bytes, **options: Any) -> Tokens:
    return Tokens(secrets or (SECRET,), 60.0, clock=clock or Clock(), **options)


def forged(secret: bytes = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    now_s = int(Clock.now_s)
    claims = {"aud": AUDIENCE, "sub": "k", "jti": "1", "iat": now_s, "exp": now_s + 60, **changes}
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, secret, algorithm=algorithm)


def test_a_token_is_good_once() -> None:
    ours = tokens()
    token = ours.issue("k")
    assert ours.redeem(token) == "k"
    with pytest.raises(Unauthenticated, match="used already"):
        ours.redeem(token)


def test_any_replica_with_the_secret_verifies_and_secrets_can_be_rotated() -> None:
    token = tokens(None, SECRET).issue("k")
    assert tokens(None, b"n" * 32, SECRET).redeem(token) == "k"
    with pytest.raises(Unauthenticated, match="signature"):
        tokens(None, b"n" * 32).redeem(token)


def test_a_token_expires() -> None:
    clock = Clock()
    ours = tokens(clock)
    token = ours.issue("k")
    clock.now_s += 60 + LEEWAY_S
    with pytest.raises(Unauthenticated, match="expired"):
        ours.redeem(token)


@pytest.mark.parametrize(
    "token",
    [
        forged(aud=None),
        forged(aud="another"),
        forged(jti=None),
        forged(exp=None),
        forged(iat=None),
        forged(sub=None),
        forged(exp=int(Clock.now_s) + 3600),
        forged(iat=int(Clock.now_s) + 3600, exp=int(Clock.now_s) + 3660),
        forged(exp=10**20),
        forged(exp=10**400),
        forged(iat=True),
        forged(secret=b"x" * 64),
        forged(secret=b"s" * 64, algorithm="HS512"),
        jwt.encode({"aud": AUDIENCE, "sub": "k", "jti": "1"}, key="", algorithm="none"),
        "",
        "a.b.c",
        "x" * 5000,
    ],
)
def test_what_is_no_token_of_ours_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens().redeem(token)


def test_the_memory_of_used_tokens_is_bounded_and_never_forgets_too_early() -> None:
    clock = Clock()
    ours = tokens(clock, max_remembered=2)
    first = ours.issue("k")
    ours.redeem(first)
    ours.redeem(ours.issue("k"))
    with pytest.raises(LimitReached):
        ours.redeem(ours.issue("k"))
    with pytest.raises(Unauthenticated, match="used already"):
        ours.redeem(first)
    clock.now_s += 60 + 3 * LEEWAY_S + 1
    assert ours.redeem(ours.issue("k")) == "k"


@pytest.mark.parametrize("text", ["", "short", f"{'x' * 32},short"])
def test_a_weak_secret_is_refused(text: str) -> None:
    with pytest.raises(SerError, match="at least 32 bytes") as refused:
        parse_secrets(text)
    assert refused.value.code == "access_misconfigured"


def test_secrets() -> None:
    assert parse_secrets(f"{'a' * 32}, {'b' * 40}") == (b"a" * 32, b"b" * 40)
    assert parse_secrets(None) != parse_secrets(None)


CLAIM = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@settings(max_examples=1000, deadline=None)
@given(
    st.text()
    | st.binary().map(lambda data: data.decode("latin-1"))
    | st.dictionaries(
        st.sampled_from(["aud", "sub", "jti", "iat", "exp", "nbf", "iss"]), CLAIM
    ).map(
        lambda claims: jwt.api_jws.encode(json.dumps({"aud": AUDIENCE, **claims}).encode(), SECRET)
    )
)
def test_no_token_whatever_is_more_than_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens().redeem(token)
