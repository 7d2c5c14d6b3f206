import pytest

from glrf_client import (
    Backoff,
    BadServerMessage,
    ClientError,
    StreamClosed,
    StreamError,
    StreamRefused,
    TimelineLost,
    Unreachable,
)
from glrf_client.recovery import Outage, is_mendable, not_before_s


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
    assert not_before_s(StreamClosed(1013, "")) is None


def test_too_fast_without_a_time_is_not_soon() -> None:
    """As in the TypeScript client."""
    assert not_before_s(StreamClosed(4429, "")) == 5.0
    assert not_before_s(StreamError("too_fast", "", retryable=True, close_code=4429)) == 5.0
    told = StreamError("too_fast", "", retryable=True, retry_after_ms=100, close_code=4429)
    assert not_before_s(told) == 0.1


class TestOutage:
    """Times are given, nothing is waited for."""

    LOST = StreamClosed(1006, "")

    def outage(self) -> Outage:
        return Outage(Backoff(first_s=0.0, longest_s=10.0, give_up_after_s=60.0))

    @pytest.mark.parametrize(
        ("is_of_use", "stood_s", "is_stalled", "is_over"),
        [
            (False, 9.0, False, False),
            (False, 11.0, False, True),
            (False, 11.0, True, False),
            (True, 1.0, True, True),
        ],
    )
    def test_what_a_connection_was_ends_it(
        self, is_of_use: bool, stood_s: float, is_stalled: bool, is_over: bool
    ) -> None:
        outage = self.outage()
        assert outage.next_try_s(self.LOST, 100.0, is_stalled=False) == 0.0
        outage.opened(140.0)
        if is_of_use:
            outage.over()
        lost_s = 140.0 + stood_s
        assert outage.next_try_s(self.LOST, lost_s, is_stalled=is_stalled) is not None
        assert outage.n_tries == (1 if is_over else 2)
        wait_s = outage.next_try_s(Unreachable(""), 161.5, is_stalled=False)
        assert (wait_s is not None) == is_over  # 61.5 s after it began

    def test_what_no_try_mends(self) -> None:
        assert self.outage().next_try_s(StreamClosed(4415, ""), 0.0, is_stalled=False) is None
