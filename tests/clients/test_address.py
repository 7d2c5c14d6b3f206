import pytest

from glrf_client import Unreachable, connect, models
from glrf_client.address import http_url, is_loopback, stream_url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ws://h:1", "ws://h:1/v1/stream"),
        ("http://h:1/", "ws://h:1/v1/stream"),
        ("https://h/emotions", "wss://h/emotions/v1/stream"),
        ("wss://h/v1/stream", "wss://h/v1/stream"),
        ("ws://h/v1/stream?model=glrf", "ws://h/v1/stream?model=glrf"),
    ],
)
def test_stream_url(given: str, expected: str) -> None:
    assert stream_url(given, {}) == expected


def test_parameters_are_spelt_as_the_contract_says() -> None:
    parameters = {"roles": ["customer", "agent"], "partial": False, "model": None, "channels": 2}
    url = stream_url("ws://h?model=a", parameters)
    assert url == "ws://h/v1/stream?model=a&roles=customer%2Cagent&partial=false&channels=2"


def test_http_url_of_a_stream_url() -> None:
    assert http_url("ws://h:1/v1/stream", "/v1/files") == "http://h:1/v1/files"
    assert http_url("wss://h/emotions/", "/v1/models") == "https://h/emotions/v1/models"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://h",
        "ws://",
        "ws://:80",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:-1",
        "http://127.0.0.1:abc",
        "http://[::1",
        "http://[zz]",
        "http://h\x00i",
        "http://a..b",
        f"http://{'x' * 64}.example",
    ],
)
def test_no_address(url: str) -> None:
    with pytest.raises(Unreachable, match="is no server address; write it like"):
        stream_url(url, {})
    with pytest.raises(Unreachable, match="is no server address; write it like"):
        http_url(url, "/v1/models")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://user:word@127.0.0.1:1",
        "user:word@proxy",
        "foo://user:word@proxy:1",
        "http://user:word@127.0.0.1:99999",
        "http://user:word@proxy:abc",
        "http://user:word@[::1",
        f"http://user:word@{'x' * 64}:3128",
    ],
)
async def test_a_proxy_that_cannot_be_used(
    scheme: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    url = f"{scheme}://server.invalid"

    async def open_stream() -> None:
        async with connect(url):
            pass

    for call in (open_stream(), models(url)):
        with pytest.raises(Unreachable) as error:
            await call
        assert "word" not in str(error.value)


def test_loopback() -> None:
    assert is_loopback("ws://[::1]:8000/")
    assert not is_loopback("ws://example.org/")
