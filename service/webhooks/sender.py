"""One attempt to deliver a webhook, and what is to be done after it."""

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

from ser_core.errors import BadParameter
from service.webhooks.schedule import Schedule
from service.webhooks.signing import Signer
from service.webhooks.targets import IpAddress, Target, Targets, port_of

#: Answers by which a receiver says that this message will never be taken. 410 is the scheme's own
#: word for "no more"; the others refuse the content. Everything else may be a bad day: a 404 during
#: a rollout, a 401 while a secret changes, a redirect to a login page.
FINAL_STATUSES = frozenset({410, 413, 414, 415, 422})


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a stable `id` (receivers know repetitions by it), where to, JSON in UTF-8."""

    id: str
    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver answered 2xx."""

    status: int


@dataclass(frozen=True, slots=True)
class RetryAt:
    """It failed, and is to be tried again at Unix time `at_s`. `status`: what was answered."""

    at_s: float
    cause: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It failed, and another try mends nothing, or all are used up."""

    cause: str
    status: int | None = None


Outcome = Delivered | RetryAt | GivenUp


@dataclass(frozen=True, slots=True)
class _Failure:
    cause: str
    status: int | None = None
    is_final: bool = False
    retry_after_s: float | None = None


class Sender:
    """Sends messages; holds no connections and keeps nothing, so one serves any number of tasks.

    `timeout_s` bounds a whole attempt, from the look-up of the name to the answer's head. Answers
    are not read further, redirects are not followed, and no proxy is used: it would resolve the
    name anew. `certificates` decides whom to trust; by default, certifi's or `SSL_CERT_FILE`'s.
    """

    def __init__(
        self,
        signer: Signer,
        targets: Targets,
        schedule: Schedule,
        *,
        timeout_s: float = 15.0,
        certificates: ssl.SSLContext | None = None,
    ) -> None:
        self.targets = targets
        self._signer = signer
        self._schedule = schedule
        self._timeout_s = timeout_s
        self._certificates = certificates or httpx.create_ssl_context(trust_env=True)

    async def attempt(self, message: Message, n_failed: int = 0) -> Outcome:
        """Sends the message once; `n_failed` attempts failed before.

        Raises nothing for what the receiver, the network or the address does.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                target = await self.targets.resolve(message.url)
                status, retry_after_s = await self._send(message, target)
            failure = _failure_of(status, retry_after_s)
        except TimeoutError:
            failure = _Failure(f"no answer within {self._timeout_s:g} s")
        except BadParameter as error:
            failure = _Failure(error.detail, is_final=True)
        except OSError as error:
            failure = _Failure(f"the host's name cannot be resolved: {error.strerror or error}")
        except httpx.HTTPError as error:
            failure = _Failure(f"{type(error).__name__}: {error}".rstrip(": "))
        if failure is None:
            return Delivered(status)
        if failure.is_final:
            return GivenUp(failure.cause, failure.status)
        wait_s = self._schedule.wait_s(n_failed + 1, failure.retry_after_s)
        if wait_s is None:
            return GivenUp(f"{failure.cause}, at the last of {n_failed + 1} tries", failure.status)
        return RetryAt(time.time() + wait_s, failure.cause, failure.status)

    async def _send(self, message: Message, target: Target) -> tuple[int, float | None]:
        """Status, and the seconds of `Retry-After`."""
        headers = {
            "Host": target.url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "glrf-webhooks/1",
            **self._signer.headers(message.id, message.body, time.time()),
        }
        # A client of its own: the next message's host may have the same address, and cookies, if
        # there were any, would go by that.
        async with httpx.AsyncClient(
            verify=self._certificates, trust_env=False, timeout=self._timeout_s
        ) as client:
            for address in target.addresses[:-1]:
                with contextlib.suppress(httpx.ConnectError):  # the next one may be reachable
                    return await _post(client, target, address, headers, message.body)
            return await _post(client, target, target.addresses[-1], headers, message.body)


async def _post(
    client: httpx.AsyncClient,
    target: Target,
    address: IpAddress,
    headers: dict[str, str],
    body: bytes,
) -> tuple[int, float | None]:
    """Sent to the checked address, under the host's name for TLS and HTTP."""
    request = client.build_request(
        "POST",
        target.url.copy_with(host=str(address), port=port_of(target.url)),
        headers=headers,
        content=body,
        extensions={"sni_hostname": target.url.raw_host.decode("ascii")},
    )
    answer = await client.send(request, stream=True)
    try:
        return answer.status_code, _retry_after_s(answer.headers.get("Retry-After", ""))
    finally:
        await answer.aclose()


def _failure_of(status: int, retry_after_s: float | None) -> _Failure | None:
    if 200 <= status < 300:
        return None
    cause = f"the receiver answered {status}"
    if 300 <= status < 400:
        cause += " (redirects are not followed)"
    return _Failure(cause, status, status in FINAL_STATUSES, retry_after_s)


def _retry_after_s(value: str) -> float | None:
    """Seconds, or a date (RFC 9110, Section 10.2.3)."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
