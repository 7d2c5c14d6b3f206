"""One attempt, against a real receiver over TLS."""

import ssl
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from service.webhooks import (
    Delivered,
    GivenUp,
    Message,
    Outcome,
    RetryAt,
    Schedule,
    Sender,
    Signer,
    Targets,
)
from tests.service.webhooks.receiver import HOST, Receiver, certificate, receiver
from tests.service.webhooks.test_signing import NEW, OLD
from tests.service.webhooks.test_targets import names

BODY = b'{"type": "job.succeeded"}'


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


def sender(pem: Path, allowed: tuple[str, ...] = (HOST,), *, timeout_s: float = 10.0) -> Sender:
    trusted = ssl.create_default_context(cafile=pem)
    schedule = Schedule((10, 20), jitter=0)
    return Sender(
        Signer([OLD, NEW]), Targets(allowed), schedule, timeout_s=timeout_s, certificates=trusted
    )


async def answered(pem: Path, answer: bytes, n_failed: int = 0) -> tuple[Outcome, Receiver]:
    async with receiver(pem) as it:
        it.answer = answer
        return await sender(pem).attempt(Message("m1", it.url(), BODY), n_failed), it


async def test_a_delivery(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the address that was looked up once, under the host's name, signed."""
    asked = names(monkeypatch, hooks_example=["127.0.0.1"])
    outcome, it = await answered(pem, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert outcome == Delivered(200)
    assert asked == [HOST]
    [got] = it.received
    assert got.head == "POST /hook?a=1 HTTP/1.1"
    assert got.headers["host"] == f"{HOST}:{it.port}"
    assert got.server_name == HOST
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == "m1"
    assert Webhook(OLD).verify(got.body, got.headers) == {"type": "job.succeeded"}
    assert Webhook(NEW).verify(got.body, got.headers)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 408, 429, 500, 503])
async def test_what_is_tried_again(pem: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])
    answer = f"HTTP/1.1 {status} No\r\nLocation: https://elsewhere.example/\r\n\r\n"
    now_s = time.time()
    outcome, it = await answered(pem, answer.encode(), n_failed=1)
    assert isinstance(outcome, RetryAt)
    assert outcome.status == status
    assert str(status) in outcome.cause
    assert 20 <= outcome.at_s - now_s < 80
    assert len(it.received) == 1  # a redirect is not followed


@pytest.mark.parametrize("status", [410, 413, 414, 415, 422])
async def test_what_is_given_up_at_once(
    pem: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])
    outcome, _ = await answered(pem, f"HTTP/1.1 {status} No\r\n\r\n".encode())
    assert outcome == GivenUp(f"the receiver answered {status}", status)


async def test_after_the_last_try(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])
    outcome, _ = await answered(pem, b"HTTP/1.1 500 No\r\n\r\n", n_failed=2)
    assert outcome == GivenUp("the receiver answered 500, at the last of 3 tries", 500)


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [("120", 120), ("soon", 10), ("-5", 10), ("", 10), (-1000, 10), (1000, 999)],
)
async def test_a_receiver_says_when(
    pem: Path, monkeypatch: pytest.MonkeyPatch, value: str | int, wait_s: float
) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])
    now_s = time.time()
    if isinstance(value, int):  # a date, so far from now
        value = formatdate(now_s + value, usegmt=True)
    outcome, _ = await answered(pem, f"HTTP/1.1 503 No\r\nRetry-After: {value}\r\n\r\n".encode())
    assert isinstance(outcome, RetryAt)
    assert wait_s <= outcome.at_s - now_s < wait_s + 60


async def test_a_private_address_is_given_up_without_a_connection(
    pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])

    async with receiver(pem) as it:
        outcome = await sender(pem, ()).attempt(Message("m1", it.url(), BODY))
    assert isinstance(outcome, GivenUp)
    assert "127.0.0.1, which is not public" in outcome.cause
    assert not it.received


async def test_a_certificate_of_another_name_is_not_taken(
    pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, other_example=["127.0.0.1"])

    async with receiver(pem) as it:
        message = Message("m1", it.url("other.example"), BODY)
        outcome = await sender(pem, ("other.example",)).attempt(message)
    assert isinstance(outcome, RetryAt)
    assert "certificate" in outcome.cause
    assert not it.received


async def test_plain_http_where_the_operator_says_so(pem: Path) -> None:
    async with receiver(None) as it:
        message = Message("m1", it.url("127.0.0.1", "http"), BODY)
        outcome = await sender(pem, (f"127.0.0.1:{it.port}",)).attempt(message)
    assert outcome == Delivered(204)
    assert it.received[0].headers["host"] == f"127.0.0.1:{it.port}"


async def test_the_next_address_where_one_does_not_answer(
    pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, hooks_example=["127.0.0.2", "127.0.0.1"])  # nobody listens at the first
    outcome, it = await answered(pem, b"HTTP/1.1 204 No Content\r\n\r\n")
    assert outcome == Delivered(204)
    assert len(it.received) == 1


async def test_nobody_there(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hooks_example=["127.0.0.3"])
    outcome, _ = await answered(pem, b"")
    assert isinstance(outcome, RetryAt)
    assert outcome.status is None
    assert "ConnectError" in outcome.cause


async def test_no_such_name(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch)
    outcome, _ = await answered(pem, b"")
    assert isinstance(outcome, RetryAt)
    assert "cannot be resolved" in outcome.cause


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + 10 * b"x"])
async def test_an_answer_that_is_none(
    pem: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])
    outcome, _ = await answered(pem, answer)
    assert isinstance(outcome, RetryAt)


async def test_a_body_without_end_is_not_read(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    began_s = time.monotonic()
    outcome, _ = await answered(pem, head + bytes(1000))
    assert outcome == Delivered(200)
    assert time.monotonic() - began_s < 5


async def test_headers_without_end_are_not_kept(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])
    outcome, _ = await answered(pem, b"HTTP/1.1 200 OK\r\n" + 20_000 * b"x: aaaaaaaaaaaa\r\n")
    assert isinstance(outcome, RetryAt)


async def test_a_receiver_that_is_slow(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])

    async with receiver(pem) as it:
        it.delay_s = 1.5
        outcome = await sender(pem, timeout_s=0.5).attempt(Message("m1", it.url(), BODY))
    assert isinstance(outcome, RetryAt)
    assert "within 0.5 s" in outcome.cause or "Timeout" in outcome.cause


async def test_proxies_and_cookies_have_no_say(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hooks_example=["127.0.0.1"])
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    async with receiver(pem) as it:
        it.answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n\r\n"
        one = sender(pem)
        await one.attempt(Message("m1", it.url(), BODY))
        outcome = await one.attempt(Message("m2", it.url(), BODY))
    assert outcome == Delivered(200)
    assert "cookie" not in it.received[1].headers
