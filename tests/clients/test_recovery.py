import pytest

from glrf_client import (
    BadServerMessage,
    ClientError,
    StreamClosed,
    StreamError,
    StreamRefused,
    TimelineLost,
    Unreachable,
)
from glrf_client.recovery import is_mendable, not_before_s


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013, 1014, 4408, 4410, 4429])
def test_codes_after_which_the_stream_goes_on(code: int) -> None:
    assert is_mendable(StreamClosed(code, ""))


@pytest.mark.parametrize("code", [1000, 1002, 1005, 1009, 1015, 3000, 4000, 4400, 4401, 4403, 4415])
def test_codes_that_are_final(code: int) -> None:
    assert not is_mendable(StreamClosed(code, ""))


@pytest.mark.parametrize(
    ("error", "is_mended"),
    [
        (StreamError("overloaded", "", retryable=True, close_code=1013), True),
        (StreamError("inference_failed", "", retryable=False, close_code=1011), False),
        (StreamError("moved", "", retryable=True, close_code=4499), True),
        (StreamError("moved", "", retryable=True, close_code=1000), True),
        (StreamError("overloaded", "", retryable=False, close_code=1013), False),
        (TimelineLost("checkpoint", "", retryable=True, close_code=4404), False),
        (StreamRefused(503, {}), True),
        (StreamRefused(401, {}), False),
        (Unreachable(""), True),
        (BadServerMessage(""), False),
    ],
)
def test_the_servers_word_is_followed(error: ClientError, is_mended: bool) -> None:
    assert is_mendable(error) == is_mended


def test_when() -> None:
    assert not_before_s(StreamError("overloaded", "", retry_after_ms=1500)) == 1.5
    assert not_before_s(StreamError("overloaded", "")) is None
    assert not_before_s(StreamRefused(503, {}, 2.0)) == 2.0
    assert not_before_s(Unreachable("")) is None
