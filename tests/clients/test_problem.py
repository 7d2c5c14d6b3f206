from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from glrf_client.problem import problem_from


def retry_after_s(value: str, **headers: str) -> float | None:
    return problem_from(503, {"Retry-After": value, **headers}, b"")[2]


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [("30", 30.0), ("0.5", 0.5), *((v, None) for v in ("", "soon", "nan", "inf", "-1"))],
)
def test_seconds(value: str, wait_s: float | None) -> None:
    assert retry_after_s(value) == wait_s


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 30.0),
        ("Sun Nov  6 08:49:37 1994", 30.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("Sun, 36 Nov 1994 08:49:00 GMT", None),
    ],
)
def test_a_date_by_the_servers_clock(value: str, wait_s: float | None) -> None:
    assert retry_after_s(value, Date="Sun, 06 Nov 1994 08:49:07 GMT") == wait_s


def test_a_date_by_the_own_clock() -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after_s(value) == pytest.approx(30, abs=2)


@pytest.mark.parametrize("location", ["https://b.example/x?code=1#2", "https://b.example/x"])
def test_a_redirect_is_told_by_its_target(location: str) -> None:
    problem = problem_from(307, {"Location": location}, b"<h1>moved</h1>")[1]
    assert problem["detail"] == "a redirect to https://b.example/x, which is not followed"
    assert "remedy" in problem
    assert problem_from(307, {}, b"moved")[1] == {"title": "moved"}
    assert problem_from(401, {"Location": location}, b"no")[1] == {"title": "no"}
