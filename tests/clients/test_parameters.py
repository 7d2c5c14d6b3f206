"""What becomes of the key and of the caller's headers, before anything is sent."""

import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from glrf_client import ClientError, analyze_file, connect, models, submit_job
from glrf_client.parameters import request_headers

URL = "http://127.0.0.1:1"  # nobody is asked


def test_the_key_is_sent_without_the_white_space_around_it() -> None:
    expected = {"X-Trace": "7 a", "Authorization": "Bearer a-key"}
    assert request_headers(" a-key\r\n", {"X-Trace": "7 a"}) == expected


async def open_stream(**options: Any) -> None:
    async with connect(URL, **options):
        pass


CALLS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    "stream": open_stream,
    "models": lambda **options: models(URL, **options),
    "file": lambda **options: analyze_file(URL, b"", **options),
    "job": lambda **options: submit_job(URL, b"", **options),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "the\nsecret"},
        {"api_key": "the secret"},
        {"api_key": "the-secret-\N{EURO SIGN}"},
        {"api_key": " \n"},
        {"headers": {"X-Key": "the-secret\n"}},
        {"headers": {"X-Key": "the-secret-\N{EURO SIGN}"}},
        {"headers": {"X Key": "the-secret"}},
    ],
)
async def test_a_secret_that_cannot_be_sent_is_in_no_message(
    call: Callable[..., Coroutine[Any, Any, Any]], options: dict[str, Any]
) -> None:
    with pytest.raises(ClientError, match="cannot be sent") as error:
        await call(**options)
    shown = "".join(traceback.format_exception_only(error.value))
    assert "secret" not in shown
    assert error.value.__cause__ is None
