import pytest

from glrf_client import Unreachable
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


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://h", "ws://"])
def test_no_address(url: str) -> None:
    with pytest.raises(Unreachable, match="is no server address; write it like"):
        stream_url(url, {})


def test_loopback() -> None:
    assert is_loopback("ws://[::1]:8000/")
    assert not is_loopback("ws://example.org/")
