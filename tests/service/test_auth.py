from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Scope

from ser_core.errors import (
    AccessError,
    BadParameter,
    InputError,
    NotAllowed,
    NotFound,
    SerError,
    Unauthenticated,
)
from service.auth import LOCAL, Access, check_exposure, is_loopback, parse_origins
from service.keys import hashed
from service.settings import Settings

KEY = "glrf_" + "k" * 43
LOCKED = Access(
    Settings(
        api_keys=f"kiosk:{hashed(KEY)}",  # pyright: ignore[reportArgumentType]
        allowed_origins="https://app.example",
    )
)
OPEN = Access(Settings())


def scope(
    path: str = "/v1/models",
    *headers: tuple[str, str],
    kind: str = "http",
    peer: str | None = "127.0.0.1",
    offered: tuple[str, ...] = (),
    method: str = "POST",
) -> Scope:
    return {
        "type": kind,
        "method": method,
        "path": path,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": None if peer is None else (peer, 1234),
        "subprotocols": list(offered),
    }


def bearer(key: str = KEY) -> tuple[str, str]:
    return "Authorization", f"Bearer {key}"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        *(("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True)),
        *(("::ffff:127.0.0.1", True), ("::ffff:10.0.0.1", False), ("10.0.0.1", False)),
        *(("0.0.0.0", False), ("::", False), ("", False), ("localhost.evil.example", False)),
    ],
)
def test_loopback(host: str, is_ours: bool) -> None:
    assert is_loopback(host) == is_ours


def test_without_keys_no_other_address_is_listened_on(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        with pytest.raises(SerError, match=f"GLRF_HOST={host}") as refused:
            check_exposure(Settings(host=host))
        assert "glrf keys create" in refused.value.remedy
        check_exposure(Settings(host=host, api_keys_file=tmp_path / "keys.json"))
    check_exposure(Settings())


def test_an_empty_list_of_keys_is_a_mistake() -> None:
    with pytest.raises(SerError, match="GLRF_API_KEYS holds no key"):
        Access(Settings(api_keys=" "))  # pyright: ignore[reportArgumentType]


def test_without_keys_this_machine_is_served_and_no_other() -> None:
    assert OPEN.admit(scope()) == LOCAL
    assert OPEN.admit(scope(peer=None)) == LOCAL
    assert OPEN.admit(scope("/v1/models", bearer("whatever"))) == LOCAL
    for path in ("/v1/models", "/metrics", "/docs"):
        with pytest.raises(NotAllowed) as refused:
            OPEN.admit(scope(path, peer="192.0.2.1"))
        assert refused.value.code == "not_loopback"
    assert OPEN.admit(scope("/readyz", peer="192.0.2.1")) is None


@pytest.mark.parametrize("path", ["/v1/models", "/v1/files", "/v1/", "/v1", "/v1/new", "/metrics"])
def test_with_keys_data_is_for_their_holders(path: str) -> None:
    caller = LOCKED.admit(scope(path, bearer(), peer="192.0.2.1"))
    assert caller is not None
    assert caller.name == "kiosk"
    with pytest.raises(Unauthenticated, match="no API key"):
        LOCKED.admit(scope(path))


@pytest.mark.parametrize("path", ["/metrics\n", "/v1/twilio\n", "/v1/models\r\n"])
def test_a_path_with_a_newline_is_nobodys(path: str) -> None:
    """A route's pattern matches before a newline at the end."""
    for access in (LOCKED, OPEN):
        with pytest.raises(NotFound):
            access.admit(scope(path))


@pytest.mark.parametrize("host", ["evil.example:8000", "evil.example", "localhost.evil.example"])
def test_without_keys_a_name_that_was_made_to_point_here_is_not_served(host: str) -> None:
    """A browser sends no Origin with a GET of the page's own host."""
    for path in ("/v1/jobs", "/metrics", "/"):
        with pytest.raises(NotAllowed) as refused:
            OPEN.admit(scope(path, ("Host", host), method="GET"))
        assert refused.value.code == "origin_not_allowed"
    assert OPEN.admit(scope("/readyz", ("Host", host), method="GET")) is None
    assert LOCKED.admit(scope("/v1/jobs", bearer(), ("Host", host), method="GET"))
    allowing = Access(Settings(allowed_origins=f"http://{host}"))
    assert allowing.admit(scope("/v1/jobs", ("Host", host), method="GET")) == LOCAL


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000", "LocalHost:1"])
def test_without_keys_this_machines_names_are_served(host: str) -> None:
    assert OPEN.admit(scope("/v1/jobs", ("Host", host), method="GET")) == LOCAL


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json", "/"])
def test_probes_and_pages_are_for_all(path: str) -> None:
    assert LOCKED.admit(scope(path, peer="192.0.2.1")) is None


def test_every_websocket_is_guarded() -> None:
    with pytest.raises(Unauthenticated):
        LOCKED.admit(scope("/elsewhere", kind="websocket"))


def test_metrics_can_be_opened() -> None:
    keys = f"kiosk:{hashed(KEY)}"
    access = Access(
        Settings(api_keys=keys, metrics_open=True)  # pyright: ignore[reportArgumentType]
    )
    assert access.admit(scope("/metrics", peer="192.0.2.1")) is None


@pytest.mark.parametrize(
    "headers",
    [
        [bearer(KEY + "x")],
        [bearer(KEY[:-1])],
        [bearer("")],
        [bearer("x" * 5000)],
        [("Authorization", KEY)],
        [("Authorization", f"Basic {KEY}")],
        [("Authorization", "Bearer")],
        [bearer(), bearer()],
    ],
)
def test_wrong_credentials(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthenticated) as refused:
        LOCKED.admit(scope("/v1/models", *headers))
    assert KEY not in refused.value.detail


def test_credentials_leave_the_scope() -> None:
    asked = scope("/v1/models", bearer(), ("Accept", "text/csv"))
    LOCKED.admit(asked)
    assert asked["headers"] == [(b"accept", b"text/csv")]
    caller = LOCKED.admit(scope("/v1/models", bearer()))
    assert caller is not None
    token = LOCKED.tokens.issue(caller.id)
    offered = ("glrf.v1", f"glrf.token.{token}")
    header = ("Sec-WebSocket-Protocol", ", ".join(offered))
    asked = scope("/v1/stream", header, kind="websocket", offered=offered)
    assert LOCKED.admit(asked) == caller
    assert asked["subprotocols"] == ["glrf.v1"]
    assert asked["headers"] == []


def test_a_token_opens_one_stream_and_nothing_else() -> None:
    caller = LOCKED.admit(scope("/v1/models", bearer()))
    assert caller is not None
    token = LOCKED.tokens.issue(caller.id)
    with pytest.raises(Unauthenticated):
        LOCKED.admit(scope("/v1/models", bearer(token)))
    with pytest.raises(BadParameter, match=r"without glrf\.v1"):
        LOCKED.admit(scope(kind="websocket", offered=(f"glrf.token.{token}",)))
    offered = ("glrf.v1", f"glrf.token.{token}")
    with pytest.raises(Unauthenticated, match="more than one"):
        LOCKED.admit(scope("/v1/stream", bearer(), kind="websocket", offered=offered))
    assert LOCKED.admit(scope(kind="websocket", offered=offered)) == caller
    with pytest.raises(Unauthenticated, match="used already"):
        LOCKED.admit(scope(kind="websocket", offered=offered))
    stranger = ("glrf.v1", "glrf.token." + LOCKED.tokens.issue("gone"))
    with pytest.raises(Unauthenticated, match="revoked"):
        LOCKED.admit(scope(kind="websocket", offered=stranger))


@pytest.mark.parametrize(
    ("origin", "host"),
    [("https://app.example", "api.example"), ("https://api.example:8443", "api.example:8443")],
)
def test_origins_that_are_served(origin: str, host: str) -> None:
    asked = scope("/v1/models", bearer(), ("Origin", origin), ("Host", host))
    assert LOCKED.admit(asked) is not None


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "https://evil.example", "http://app.example", "https://app.example:444"),
        *("https://app.example.evil.example", "https://evil-app.example", "app.example", "file://"),
        *("https://app.example/", "https://api.example@evil.example"),
    ],
)
def test_origins_that_are_not(origin: str) -> None:
    for kind in ("http", "websocket"):
        asked = scope(
            "/v1/stream", bearer(), ("Origin", origin), ("Host", "api.example"), kind=kind
        )
        with pytest.raises(NotAllowed) as refused:
            LOCKED.admit(asked)
        assert refused.value.code == "origin_not_allowed"


def test_without_keys_only_a_loopback_name_is_our_own() -> None:
    for address in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        asked = scope("/v1/models", ("Origin", f"http://{address}"), ("Host", address))
        assert OPEN.admit(asked) == LOCAL
    # A name of somebody else's that was made to point here (DNS rebinding).
    evil = scope(
        "/v1/models", ("Origin", "http://evil.example:8000"), ("Host", "evil.example:8000")
    )
    with pytest.raises(NotAllowed):
        OPEN.admit(evil)


def test_allowed_origins_are_exact() -> None:
    assert parse_origins(" https://A.example, http://b:81 ,") == (
        "https://a.example",
        "http://b:81",
    )
    for text in ("*", "https://*.example", "a.example", "https://a.example/", "ftp://a"):
        with pytest.raises(BadParameter, match="GLRF_ALLOWED_ORIGINS"):
            parse_origins(text)


HEADER = st.binary(max_size=80) | st.sampled_from(
    [b"Bearer ", b"Bearer \xff\xfe", b"bearer  x", b"http://[", b"http://]:x", b"null"]
)


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([b"authorization", b"origin", b"host"]), HEADER), max_size=4
    ),
    st.lists(st.text(max_size=20) | st.text(max_size=40).map("glrf.token.{}".format), max_size=3),
    st.sampled_from(["http", "websocket"]),
    st.sampled_from([LOCKED, OPEN]),
)
def test_no_header_whatever_is_more_than_refused(
    headers: list[tuple[bytes, bytes]], offered: list[str], kind: str, access: Access
) -> None:
    asked = {**scope(kind=kind, offered=tuple(offered)), "headers": headers}
    try:
        caller = access.admit(asked)
    except (AccessError, InputError):
        return
    assert access is OPEN
    assert caller == LOCAL
