"""Against the vector of Genesys Cloud's documentation, and requests signed on the spot."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope

from ser_core.errors import Overloaded, SerError, Unauthenticated
from service import signatures
from service.auth import Access
from service.settings import Settings
from service.shared import Shared
from service.signatures import MAX_AGE_S, MAX_SKEW_S, AudioHookSignature, TwilioSignature
from tests.service.telephony.platforms import (
    AUTH_TOKEN,
    SECRET,
    audiohook_headers,
    twilio_signature,
)

NOW_S = 1_700_000_000
HOST = "audiohook.example.com"
SESSION = "30b0e395-84d3-4570-ac13-9a62d8f514c0"


def scope(headers: dict[str, str] | list[tuple[str, str]], target: str) -> Scope:
    path, _, query = target.partition("?")
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    return {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
    }


#: Of "AudioHook session walkthrough", section "Establishing connection".
DOCUMENTED = {
    "Host": "audiohook.example.com",
    "Audiohook-Organization-Id": "d7934305-0972-4844-938e-9060eef73d05",
    "Audiohook-Correlation-Id": "e160e428-53e2-487c-977d-96989bf5c99d",
    "Audiohook-Session-Id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
    "X-API-KEY": "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh",
    "Signature": "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:",
    "Signature-Input": 'sig1=("@request-target" "@authority" "audiohook-organization-id" '
    '"audiohook-session-id" "audiohook-correlation-id" "x-api-key");'
    'keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";'
    'alg="hmac-sha256";created=1641013200;expires=3282026430',
}
DOCUMENTED_SECRET = base64.b64decode("TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=")
DOCUMENTED_TARGET = "/api/v1/voicebiometrics/ws"


def documented(**kwargs: Any) -> AudioHookSignature:
    return AudioHookSignature([DOCUMENTED_SECRET], clock=lambda: 1_641_013_201.0, **kwargs)


def test_the_documented_request_is_good_once() -> None:
    signature = documented()
    signature.check(scope(DOCUMENTED, DOCUMENTED_TARGET))
    with pytest.raises(Unauthenticated, match="used before"):
        signature.check(scope(DOCUMENTED, DOCUMENTED_TARGET))


def test_behind_a_proxy_the_address_is_a_setting() -> None:
    inside = DOCUMENTED | {"Host": "127.0.0.1:8000"}
    documented(url=f"wss://{HOST}{DOCUMENTED_TARGET}").check(scope(inside, "/v1/audiohook"))
    with pytest.raises(Unauthenticated, match="not of this request"):
        documented().check(scope(inside, DOCUMENTED_TARGET))


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_no_part_of_it_can_be_another(name: str) -> None:
    first = DOCUMENTED[name][0]
    for other in (DOCUMENTED[name].replace(first, "Q", 1), DOCUMENTED[name] + "0", ""):
        with pytest.raises(Unauthenticated):
            documented().check(scope(DOCUMENTED | {name: other}, DOCUMENTED_TARGET))
    without = {key: value for key, value in DOCUMENTED.items() if key != name}
    with pytest.raises(Unauthenticated):
        documented().check(scope(without, DOCUMENTED_TARGET))


def test_neither_can_the_path_or_query() -> None:
    for target in (DOCUMENTED_TARGET + "x", DOCUMENTED_TARGET + "?roles=a"):
        with pytest.raises(Unauthenticated, match="not of this request"):
            documented().check(scope(DOCUMENTED, target))


def signed(**kwargs: Any) -> dict[str, str]:
    kwargs = {"created": NOW_S} | kwargs
    return {"Host": HOST} | audiohook_headers(HOST, SESSION, **kwargs)


def verified(
    headers: dict[str, str] | list[tuple[str, str]],
    *,
    now_s: float = NOW_S,
    secrets: tuple[str, ...] = (SECRET,),
    target: str = "/v1/audiohook",
) -> None:
    verifier = AudioHookSignature(map(base64.b64decode, secrets), clock=lambda: now_s)
    verifier.check(scope(headers, target))


def test_any_of_the_secrets_may_sign() -> None:
    other = base64.b64encode(b"the next one").decode()
    verified(signed(secret=other), secrets=(SECRET, other))
    with pytest.raises(Unauthenticated, match="client secret"):
        verified(signed(secret=other))


def test_a_query_is_part_of_what_is_signed() -> None:
    target = "/v1/audiohook?roles=a,b"
    verified(signed(target=target), target=target)


def test_the_authority_is_compared_as_the_draft_says() -> None:
    headers = signed()
    verified(headers | {"Host": HOST.upper()})
    verified(headers | {"Host": f"{HOST}:443"})
    with pytest.raises(Unauthenticated):
        verified(headers | {"Host": f"{HOST}:8443"})


def test_a_signature_is_good_for_a_while() -> None:
    headers = signed(expires=NOW_S + 3600)
    for age_s in (-MAX_SKEW_S, 0, MAX_AGE_S + MAX_SKEW_S):
        verified(headers, now_s=NOW_S + age_s)
    for age_s in (-MAX_SKEW_S - 1, MAX_AGE_S + MAX_SKEW_S + 1):
        with pytest.raises(Unauthenticated, match=r"created|older"):
            verified(headers, now_s=NOW_S + age_s)
    with pytest.raises(Unauthenticated, match="expired"):
        verified(signed(expires=NOW_S + 1), now_s=NOW_S + 1 + MAX_SKEW_S + 1)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"created": True}, "are not an AudioHook client's"),
        ({"alg": "hmac-sha1"}, "alg"),
        ({"keyid": "another"}, "keyid"),
        ({"nonce": "short"}, "nonce"),
        ({"expires": "soon"}, "expired"),
    ],
)
def test_parameters_are_what_they_must_be(parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(Unauthenticated, match=named):
        verified(signed(**parameters))


@pytest.mark.parametrize(
    "text",
    [
        "sig1=()",
        'sig1=("@authority");created=1',
        'sig1=("@authority" "@authority")',
        "sig1=(",
        "(",
        'sig2=("@authority")',
        "sig1=1",
        'sig1=("@authority";req)',
        '"' * 4000,
        "sig1=(" + '"a" ' * 2000,
        "sig1=(" + " " * 50_000,
        'sig1=("a"' + ' ;a="b"' * 5000,
    ],
)
def test_what_is_no_signature_input_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        verified(signed() | {"signature-input": text})


@pytest.mark.parametrize("text", ["sig1=:a:", "sig1=::", "sig1=abc", "", "sig1=:====:"])
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        verified(signed() | {"signature": text})


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["a" * 2**20, " " * 2**20, "a=:b" * 2**18, "a," * 2**19])
def test_a_long_header_is_read_once(text: str) -> None:
    """Anybody may send it: a search from each of its places would take hours."""
    with pytest.raises(Unauthenticated, match="AudioHook client's"):
        documented().check(scope(DOCUMENTED | {"Signature": text}, DOCUMENTED_TARGET))


def test_a_covered_header_may_not_be_added_to() -> None:
    headers = [*signed().items(), ("audiohook-session-id", "another")]
    with pytest.raises(Unauthenticated):
        verified(headers)


def test_a_parameter_may_not_be_given_twice() -> None:
    headers = signed()
    headers["signature-input"] += ';nonce="AAAAAAAAAAAAAAAAAAAAAAAA"'
    with pytest.raises(Unauthenticated, match="twice"):
        verified(headers)


def test_nonces_are_kept_as_long_as_they_could_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "MAX_NONCES", 3)
    now_s = float(NOW_S)
    verifier = AudioHookSignature([base64.b64decode(SECRET)], clock=lambda: now_s)
    for _ in range(3):
        verifier.check(scope(signed(), "/v1/audiohook"))
    with pytest.raises(Overloaded):
        verifier.check(scope(signed(), "/v1/audiohook"))
    now_s += MAX_AGE_S + 2 * MAX_SKEW_S + 1
    verifier.check(scope(signed(created=round(now_s)), "/v1/audiohook"))


def test_a_signature_is_good_at_one_worker_only(tmp_path: Path) -> None:
    now_s = float(NOW_S)
    one, other = (
        AudioHookSignature([base64.b64decode(SECRET)], shared=Shared(tmp_path), clock=lambda: now_s)
        for _ in range(2)
    )
    request = scope(signed(), "/v1/audiohook")
    one.check(request)
    for verifier in (one, other):
        with pytest.raises(Unauthenticated, match="used before"):
            verifier.check(request)
    now_s += MAX_AGE_S + 2 * MAX_SKEW_S + 1
    one.check(scope(signed(created=round(now_s)), "/v1/audiohook"))
    assert len(list((tmp_path / "claims").iterdir())) == 1


def test_workers_know_of_each_others_signatures(tmp_path: Path) -> None:
    settings = Settings(audiohook_secret=SECRET)  # type: ignore[arg-type]
    one, other = (Access(settings, Shared(tmp_path)) for _ in range(2))
    headers = signed(created=round(time.time()))
    one.admit(scope(headers, "/v1/audiohook"))
    with pytest.raises(Unauthenticated, match="used before"):
        other.admit(scope(headers, "/v1/audiohook"))


def test_a_bad_signature_takes_no_nonce() -> None:
    verifier = AudioHookSignature([base64.b64decode(SECRET)], clock=lambda: NOW_S)
    nonce = "A" * 24
    with pytest.raises(Unauthenticated, match="client secret"):
        verifier.check(scope(signed(nonce=nonce, secret="YWJj"), "/v1/audiohook"))
    verifier.check(scope(signed(nonce=nonce), "/v1/audiohook"))


# --- Twilio -----------------------------------------------------------------------------------


def twilio(headers: dict[str, str], **kwargs: Any) -> SerError | None:
    verifier = TwilioSignature([b"an old one", AUTH_TOKEN.encode()], **kwargs)
    try:
        verifier.check(scope({"host": "glrf.example.com"} | headers, "/v1/twilio"))
    except Unauthenticated as error:
        return error
    return None


def test_twilio_signs_the_address() -> None:
    good = twilio_signature("wss://glrf.example.com/v1/twilio")
    with_port = twilio_signature("wss://glrf.example.com:443/v1/twilio")
    assert twilio({"x-twilio-signature": good}) is None
    assert twilio({"x-twilio-signature": with_port}) is None
    assert twilio({"x-twilio-signature": good, "host": "glrf.example.com:443"}) is None
    for headers in (
        {"x-twilio-signature": good, "host": "other.example.com"},
        {"x-twilio-signature": good, "host": "glrf.example.com:8000"},
        {"x-twilio-signature": twilio_signature("https://glrf.example.com/v1/twilio")},
        {"x-twilio-signature": twilio_signature("wss://glrf.example.com/v1/twilio", "another")},
        {"x-twilio-signature": "\xff" * 28},
        {"x-twilio-signature": ""},
        {},
    ):
        assert twilio(headers) is not None


def test_behind_a_proxy_twilios_address_is_a_setting() -> None:
    url = "wss://calls.example.com/in"
    assert twilio({"x-twilio-signature": twilio_signature(url)}, url=url) is None
    assert twilio({"x-twilio-signature": twilio_signature(url)}) is not None
