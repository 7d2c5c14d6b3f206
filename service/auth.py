"""Who may use the service: API keys, browser tokens, origins, and loopback alone without keys.

Telephony platforms sign their requests instead (`service.signatures`), each in the name of a key.

Everything under `/v1` needs credentials, and `/metrics` unless the settings open it. Probes and
pages (`/livez`, `/readyz`, `/docs`) hold nothing that is anybody's and are open.
"""

import ipaddress
import logging
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from ser_core.errors import BadParameter, NotAllowed, NotFound, SerError, Unauthenticated
from service.keys import ApiKey, KeyLimits, KeyRing, parse_keys
from service.settings import Settings
from service.shared import Shared
from service.signatures import AudioHookSignature, TwilioSignature
from service.tokens import Tokens, parse_secrets

SUBPROTOCOL = "glrf.v1"
TOKEN_SUBPROTOCOL = "glrf.token."
#: Longer credentials are refused unread.
MAX_CREDENTIAL_CHARS = 4096

TWILIO_PATH = "/v1/twilio"
AUDIOHOOK_PATH = "/v1/audiohook"

PROBES = frozenset({"/livez", "/readyz"})
_SECRET_HEADERS = frozenset({b"authorization", b"x-api-key", b"sec-websocket-protocol"})
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_ORIGIN = re.compile(r"https?://[^/\s?#@,*]+")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks: `id` is the key's, or `local` where the service has no keys."""

    id: str
    name: str
    limits: KeyLimits


LOCAL = Caller("local", "local", KeyLimits())


def caller_of(scope: Scope) -> Caller:
    """Who asks, as `service.auth_middleware` found out."""
    return scope["state"]["caller"]


def is_loopback(host: str) -> bool:
    """Whether an address (or `localhost`) is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def check_exposure(settings: Settings) -> None:
    """Raises `SerError` when the service would listen to others without keys."""
    has_keys = settings.api_keys_file is not None or settings.api_keys is not None
    if not has_keys and not is_loopback(settings.host):
        raise SerError(
            f"GLRF_HOST={settings.host} without API keys would serve anybody",
            remedy="set GLRF_API_KEYS_FILE and make a key with `glrf keys create NAME`, "
            "or listen on 127.0.0.1",
            code="access_misconfigured",
        )


def parse_origins(text: str) -> tuple[str, ...]:
    """Origins of `GLRF_ALLOWED_ORIGINS`, exact and in lower case; raises `BadParameter`."""
    origins = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise BadParameter(
                f"GLRF_ALLOWED_ORIGINS: {origin[:80]!r} is not an origin",
                remedy="write scheme, host and port as a browser does, like https://app.example",
            )
    return origins


class Access:
    """The rules of one service; raises `SerError` for settings that cannot be meant."""

    def __init__(self, settings: Settings, shared: Shared | None = None) -> None:
        check_exposure(settings)
        fixed = settings.api_keys
        self.keys = KeyRing(
            settings.api_keys_file,
            parse_keys(fixed.get_secret_value()) if fixed is not None else (),
        )
        if fixed is not None and self.keys.is_open:
            raise SerError(
                "GLRF_API_KEYS holds no key",
                remedy="unset it, or write what `glrf keys create` prints",
                code="access_misconfigured",
            )
        signing = settings.token_keys
        self.tokens = Tokens(
            parse_secrets(None if signing is None else signing.get_secret_value()),
            settings.token_s,
            shared=shared,
        )
        self.origins = parse_origins(settings.allowed_origins)
        twilio, audiohook = settings.twilio_token_bytes(), settings.audiohook_secret_bytes()
        self._twilio = TwilioSignature(twilio, settings.twilio_url) if twilio else None
        self._twilio_key = settings.twilio_key
        if twilio and not self.keys.is_open:
            self._check_twilio_key()
        self._audiohook = (
            AudioHookSignature(audiohook, settings.audiohook_url, shared=shared)
            if audiohook
            else None
        )
        self._metrics_open = settings.metrics_open

    def _check_twilio_key(self) -> None:
        """Raises `SerError` where no call of Twilio's could be let in; warns where one may soon."""
        name = self._twilio_key
        if not name:
            raise SerError(
                "GLRF_TWILIO_AUTH_TOKEN is set, there are API keys, and none is named for calls",
                remedy="set GLRF_TWILIO_KEY to the name of the key in whose name they are",
                code="access_misconfigured",
            )
        if self.keys.by_name(name) is None:
            log.warning(
                "GLRF_TWILIO_KEY=%s names no API key: Twilio's calls get 403; "
                "`glrf keys create` one of that name, or name another",
                name,
            )

    def admit(self, scope: Scope) -> Caller | None:
        """Who asks, or `None` where nobody needs to say; credentials leave the scope.

        Raises `NotFound`, `NotAllowed`, `Unauthenticated` and `LimitReached`.
        """
        path, headers = scope["path"], Headers(scope=scope)
        if "\n" in path:  # routes match before one at the end, the rules here do not
            raise NotFound("no such path", remedy="see /docs")
        self._check_peer(scope, path, headers)
        is_guarded = path == "/v1" or path.startswith("/v1/")
        is_metrics = path == "/metrics" and not self._metrics_open
        if scope["type"] == "http" and not is_guarded and not is_metrics:
            return None
        self._check_origin(headers)
        if scope["type"] == "websocket" and path in (TWILIO_PATH, AUDIOHOOK_PATH):
            caller = self._platform(scope, headers)
        else:
            caller = self._authenticated(scope, headers)
        scope["headers"] = [h for h in scope["headers"] if h[0].lower() not in _SECRET_HEADERS]
        return caller

    def _check_peer(self, scope: Scope, path: str, headers: Headers) -> None:
        # A Unix socket has no peer address: its permissions say who may use it.
        peer = scope.get("client")
        if not self.keys.is_open or path in PROBES or not peer:
            return
        if not is_loopback(peer[0]):
            raise NotAllowed(
                "without API keys only this machine is served",
                remedy="the operator makes keys with `glrf keys create`",
                code="not_loopback",
            )
        # A page whose own name was made to point here (DNS rebinding) sends no Origin with a GET.
        host = headers.get("host", "").lower()
        if scope.get("method") in ("GET", "HEAD") and not self._is_known(host):
            raise NotAllowed(
                f"without API keys this service has no name {host[:80]!r}",
                remedy="ask 127.0.0.1 or localhost; the operator makes keys, or adds the name's "
                "origin to GLRF_ALLOWED_ORIGINS",
                code="origin_not_allowed",
            )

    def _is_known(self, host: str) -> bool:
        named = {origin.partition("://")[2] for origin in self.origins}
        return not host or _host_of(host) in _LOCAL_NAMES or host in named

    def _check_origin(self, headers: Headers) -> None:
        origins = headers.getlist("origin")
        if not origins:
            return
        origin = origins[0].lower()
        if len(origins) == 1 and (origin in self.origins or self._is_own(origin, headers)):
            return
        raise NotAllowed(
            f"pages of the origin {origin[:80]!r} may not use this service",
            remedy="the operator can add it to GLRF_ALLOWED_ORIGINS",
            code="origin_not_allowed",
        )

    def _is_own(self, origin: str, headers: Headers) -> bool:
        """Whether the page was served by the address that it asks now."""
        if not _ORIGIN.fullmatch(origin):
            return False
        address = origin.partition("://")[2]
        if address != headers.get("host", "").lower():
            return False
        # Without keys, a stranger's host name that was made to point here is still a stranger's.
        return not self.keys.is_open or _host_of(address) in _LOCAL_NAMES

    def _authenticated(self, scope: Scope, headers: Headers) -> Caller:
        offered: list[str] = scope.get("subprotocols") or []
        tokens = [name for name in offered if name.startswith(TOKEN_SUBPROTOCOL)]
        if scope["type"] == "websocket":
            # What is not a secret stays for the answer.
            scope["subprotocols"] = [SUBPROTOCOL] if SUBPROTOCOL in offered else []
        credentials = headers.getlist("authorization")
        if len(credentials) + len(tokens) > 1:
            raise _unauthenticated("more than one credential was sent")
        self.keys.refresh()
        if credentials:
            return self._caller(self._key(credentials[0]))
        if tokens:
            return self._token_caller(tokens[0].removeprefix(TOKEN_SUBPROTOCOL), offered)
        if self.keys.is_open:
            return LOCAL
        raise _unauthenticated("no API key was sent")

    def _platform(self, scope: Scope, headers: Headers) -> Caller:
        """A telephony platform, by what it signs, and the API key in whose name it comes.

        Twilio can send no key of ours, so a setting names it; Genesys Cloud sends it as X-API-KEY.
        """
        is_twilio = scope["path"] == TWILIO_PATH
        signature = self._twilio if is_twilio else self._audiohook
        if signature is None:
            raise NotAllowed(
                f"{scope['path']} is closed: nothing is set that its platform could sign with",
                remedy="the operator sets "
                + ("GLRF_TWILIO_AUTH_TOKEN" if is_twilio else "GLRF_AUDIOHOOK_SECRET"),
                code="telephony_closed",
            )
        scope["subprotocols"] = []
        signature.check(scope)
        self.keys.refresh()
        if self.keys.is_open:
            return LOCAL
        if is_twilio:
            key = self.keys.by_name(self._twilio_key or "")
            if key is None:
                raise NotAllowed(
                    "Twilio's calls are of no API key",
                    remedy="the operator sets GLRF_TWILIO_KEY to the name of one",
                    code="telephony_closed",
                )
            return self._caller(key)
        key = self.keys.find(headers.get("x-api-key", "")[:MAX_CREDENTIAL_CHARS])
        if key is None:
            raise _unauthenticated("the X-API-KEY is not an API key of this service")
        return self._caller(key)

    def _key(self, credential: str) -> ApiKey | None:
        scheme, _, key = credential.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key or len(key) > MAX_CREDENTIAL_CHARS:
            raise _unauthenticated("the Authorization header is not `Bearer KEY`")
        found = self.keys.find(key)
        if found is None and not self.keys.is_open:
            raise _unauthenticated("the API key is not known here")
        return found

    def _token_caller(self, token: str, offered: list[str]) -> Caller:
        if SUBPROTOCOL not in offered:
            raise BadParameter(
                f"a token was offered without {SUBPROTOCOL}",
                remedy=f"offer both: {SUBPROTOCOL}, {TOKEN_SUBPROTOCOL}<token>",
            )
        subject = self.tokens.redeem(token)
        if self.keys.is_open:
            return LOCAL
        key = self.keys.by_id(subject)
        if key is None:
            raise _unauthenticated("the token's API key was revoked")
        return self._caller(key)

    def _caller(self, key: ApiKey | None) -> Caller:
        return LOCAL if key is None else Caller(key.id, key.name, key.limits)

    def is_current(self, caller: Caller) -> bool:
        """Whether a caller that was let in would still be."""
        return self.keys.is_open or self.keys.by_id(caller.id) is not None


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(f"//{address}").hostname
    except ValueError:
        return None


def _unauthenticated(cause: str) -> Unauthenticated:
    return Unauthenticated(
        cause,
        remedy="send `Authorization: Bearer KEY`, or from a browser a token of POST /v1/tokens",
    )
