"""How telephony platforms sign the handshakes of their streams.

Twilio (docs: "Webhooks security", "Media Streams configuration") signs the address: base64 of
HMAC-SHA1 over the URL that TwiML names, keyed by the account's auth token, in `X-Twilio-Signature`.
It holds no time, so whoever has seen one may use it again: TLS keeps it from being seen.

Genesys Cloud (developer documentation, "AudioHook session walkthrough") signs by HTTP message
signatures, draft-ietf-httpbis-message-signatures-11: HMAC-SHA-256 over the components that
`Signature-Input` lists, with `keyid` (the `X-API-KEY`), `nonce`, `created` and `expires`.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from ser_core.errors import Overloaded, Unauthenticated
from service.nonces import Full, Nonces
from service.shared import Shared

#: How far the two clocks may be apart, and how old a signature may be beyond that, in seconds.
MAX_SKEW_S: Final = 5
MAX_AGE_S: Final = 30
#: 128 bits in base64 without padding.
MIN_NONCE_CHARS: Final = 22
MAX_NONCES: Final = 10_000

_REQUIRED: Final = frozenset(
    {
        "@request-target",
        "@authority",
        "audiohook-organization-id",
        "audiohook-session-id",
        "audiohook-correlation-id",
        "x-api-key",
    }
)
_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_KEY = r"[a-z*][a-z0-9_.*-]*"
_MEMBER = re.compile(
    rf"[ \t]*({_KEY})=(\((?: *{_STRING})* *\)(?:; *{_KEY}=(?:{_STRING}|\d{{1,15}}))*)[ \t]*(?:,|$)"
)
_COMPONENTS = re.compile(_STRING)
_PARAMETER = re.compile(rf"; *({_KEY})=({_STRING}|\d{{1,15}})")
_BYTES = re.compile(rf"[ \t]*({_KEY})=:([A-Za-z0-9+/=]*):[ \t]*")


class TwilioSignature:
    """Verifies `X-Twilio-Signature`; `url` is the stream's address as TwiML names it."""

    def __init__(self, auth_tokens: Iterable[bytes], url: str | None = None) -> None:
        self._auth_tokens = tuple(auth_tokens)
        self._url = url

    def check(self, scope: Scope) -> None:
        """Raises `Unauthenticated`."""
        headers = Headers(scope=scope)
        given = headers.getlist("x-twilio-signature")
        if len(given) != 1:
            raise _refused("one X-Twilio-Signature is needed")
        url = self._url or f"wss://{headers.get('host', '')}{_target(scope)}"
        is_good = False
        for address in _with_and_without_port(url):
            for token in self._auth_tokens:
                digest = hmac.new(token, address.encode(), hashlib.sha1).digest()
                is_good |= hmac.compare_digest(base64.b64encode(digest), given[0].encode("latin-1"))
        if not is_good:
            raise _refused("X-Twilio-Signature is not of this address and auth token")


@dataclass(frozen=True, slots=True)
class _Input:
    """One member of `Signature-Input`, and how it is serialised (RFC 8941, Section 4.1)."""

    components: tuple[str, ...]
    parameters: dict[str, str | int]

    @property
    def serialised(self) -> str:
        parts = [f"({' '.join(map(_quoted, self.components))})"]
        for name, value in self.parameters.items():
            parts.append(f"{name}={_quoted(value) if isinstance(value, str) else value}")
        return ";".join(parts)


class AudioHookSignature:
    """Verifies `Signature` by client secrets. `url` as Genesys has it.

    A nonce is taken once, in this process or in all that have `shared`.
    """

    def __init__(
        self,
        secrets: Iterable[bytes],
        url: str | None = None,
        *,
        shared: Shared | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = tuple(secrets)
        self._url = url
        self._clock = clock
        self._nonces = Nonces(MAX_AGE_S + 2 * MAX_SKEW_S, MAX_NONCES, shared, "nonce ")

    def check(self, scope: Scope) -> None:
        """Raises `Unauthenticated`, and `Overloaded` where too many nonces are kept."""
        headers = Headers(scope=scope)
        now_s = self._clock()
        given, signature = _signature(headers)
        self._check_parameters(given.parameters, headers, now_s)
        base = self._base(given, scope, headers)
        is_good = False
        for secret in self._secrets:
            digest = hmac.new(secret, base, hashlib.sha256).digest()
            is_good |= hmac.compare_digest(digest, signature)
        if not is_good:
            raise _refused("the signature is not of this request and client secret")
        self._take_nonce(str(given.parameters["nonce"]), now_s)

    def _check_parameters(
        self, parameters: dict[str, str | int], headers: Headers, now_s: float
    ) -> None:
        if parameters.get("alg", "hmac-sha256") != "hmac-sha256":
            raise _refused("the signature's alg is not hmac-sha256")
        if parameters.get("keyid") != headers.get("x-api-key"):
            raise _refused("the signature's keyid is not the X-API-KEY")
        nonce = parameters.get("nonce")
        if not isinstance(nonce, str) or len(nonce) < MIN_NONCE_CHARS:
            raise _refused(f"the signature has no nonce of {MIN_NONCE_CHARS} characters or more")
        created, expires = parameters.get("created"), parameters.get("expires")
        if not isinstance(created, int) or created > now_s + MAX_SKEW_S:
            raise _refused("the signature was not created by now; compare the clocks")
        if now_s > created + MAX_AGE_S + MAX_SKEW_S:
            raise _refused(f"the signature is older than {MAX_AGE_S} s")
        if expires is not None and (not isinstance(expires, int) or now_s > expires + MAX_SKEW_S):
            raise _refused("the signature has expired")

    def _base(self, given: _Input, scope: Scope, headers: Headers) -> bytes:
        """What is signed (Section 2.3 of the draft)."""
        if len(set(given.components)) < len(given.components) or _REQUIRED - {*given.components}:
            raise _refused(f"the signature must cover {', '.join(sorted(_REQUIRED))}, each once")
        target, authority = _target(scope), headers.get("host", "").lower()
        if self._url is not None:
            address = urlsplit(self._url)
            authority = address.netloc.lower()
            target = address.path + (f"?{address.query}" if address.query else "")
        derived = {
            "@request-target": target,
            "@authority": authority.removesuffix(":443"),
            "@method": "GET",
            "@path": target.partition("?")[0],
        }
        lines: list[str] = []
        for name in given.components:
            values = [derived[name]] if name in derived else headers.getlist(name)
            if not values or name == "signature":
                raise _refused(f"the signature covers {name[:64]!r}, which is not there")
            lines.append(f"{_quoted(name)}: {', '.join(value.strip() for value in values)}")
        lines.append(f'"@signature-params": {given.serialised}')
        return "\n".join(lines).encode("latin-1", "replace")

    def _take_nonce(self, nonce: str, now_s: float) -> None:
        try:
            is_new = self._nonces.take(nonce, now_s)
        except Full as error:
            raise Overloaded(
                "too many requests were signed lately", remedy="try again later"
            ) from error
        if not is_new:
            raise _refused("the signature was used before")


def _signature(headers: Headers) -> tuple[_Input, bytes]:
    """The first signature of the request and what it covers; raises `Unauthenticated`."""
    text = ",".join(headers.getlist("signature-input"))
    # Cut first: a search would try each place of a long header for a beginning.
    parts = map(_BYTES.fullmatch, ",".join(headers.getlist("signature")).split(","))
    signatures = {part[1]: part[2] for part in parts if part is not None}
    member = _MEMBER.match(text)
    if member is None or member[1] not in signatures:
        raise _refused("Signature-Input and Signature are not an AudioHook client's")
    listed, _, parameters = member[2].partition(")")
    pairs = _PARAMETER.findall(parameters)
    given = _Input(
        tuple(map(_unquoted, _COMPONENTS.findall(listed))),
        {name: _unquoted(text) if text[0] == '"' else int(text) for name, text in pairs},
    )
    try:
        signature = base64.b64decode(signatures[member[1]], validate=True)
    except binascii.Error as error:
        raise _refused("the Signature is not base64") from error
    if len(given.parameters) < len(pairs):
        raise _refused("a parameter of the signature is given twice")
    return given, signature


def _target(scope: Scope) -> str:
    """Path and query as they were asked for."""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    return (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def _with_and_without_port(url: str) -> tuple[str, ...]:
    """The address, and with the port that `wss` implies put in or left out: Twilio does either."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if authority.endswith(":443"):
        return url, f"{scheme}://{authority.removesuffix(':443')}{slash}{path}"
    if ":" not in authority:
        return url, f"{scheme}://{authority}:443{slash}{path}"
    return (url,)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _refused(cause: str) -> Unauthenticated:
    return Unauthenticated(cause, remedy="see docs/telephony.md", code="bad_signature")
