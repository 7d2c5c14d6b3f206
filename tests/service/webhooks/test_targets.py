import asyncio
import ipaddress
import socket
import threading
from typing import Any

import pytest

from ser_core.errors import BadParameter
from service.webhooks import Targets
from service.webhooks.targets import TargetRefused, is_public, receiver_of


def names(monkeypatch: pytest.MonkeyPatch, **addresses: list[str]) -> list[str]:
    """A name service that knows these names only, `_` for a dot; and what it was asked."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        found = addresses.get(host.replace(".", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (item, port)) for item in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("", "not an https address"),
        ("hooks.example/a", "not an https address"),
        ("ftp://hooks.example/", "not an https address"),
        ("file:///etc/passwd", "not an https address"),
        ("https:///a", "not an https address"),
        ("http://hooks.example/", "not https"),
        ("https://user:secret@hooks.example/", "user name or password"),
        ("https://hooks.example/" + 2000 * "a", "longer than 2000"),
        ("https://[::1/", "is no address"),
        ("https://hooks.example:99999/", "port that is none"),
        ("https://a\0b/", "is no address"),
        ("https://xn--ls8h.la/", "is no address"),
    ],
)
def test_an_address_that_is_none(url: str, cause: str) -> None:
    with pytest.raises(BadParameter) as caught:
        Targets().check(url)
    assert cause in str(caught.value)
    assert caught.value.remedy
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    "url",
    ["https://hooks.example", "https://hooks.example:8443/a?b=c#d", "https://bücher.example/"],
)
def test_an_address_that_is_one(url: str) -> None:
    assert Targets().check(url).fragment == ""


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1",
        "198.18.0.1", "192.0.2.1", "203.0.113.1", "::", "::1", "fe80::1", "fc00::1", "fd00::1",
        "ff02::1", "2001:db8::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a00:1",
        "2002:0a00:0001::1", "2001:0:1::1", "fec0::1", "192.0.0.8", "192.0.0.192", "192.88.99.1",
        "3fff::1",
    ],
)  # fmt: skip
async def test_an_address_that_is_not_public(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_public(ipaddress.ip_address(address))
    names(monkeypatch, trap_example=["93.184.216.34", address])
    with pytest.raises(TargetRefused) as caught:
        await Targets().resolve("https://trap.example/")
    assert str(ipaddress.ip_address(address)) in str(caught.value)
    assert "GLRF_WEBHOOK_ALLOWED_HOSTS" in caught.value.remedy


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1"])
async def test_a_public_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hooks_example=[address])
    target = await Targets().resolve("https://hooks.example/a")
    assert target.addresses == (ipaddress.ip_address(address),)
    assert str(target.url) == "https://hooks.example/a"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0x7f000001", "2130706433", "127.1"])
async def test_an_address_in_the_place_of_a_name(host: str) -> None:
    """However it is written: the system's own resolver says what it means."""
    with pytest.raises(TargetRefused):
        await Targets().resolve(f"https://{host}/")


async def test_an_international_name_is_asked_for_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = names(monkeypatch, **{"xn--bcher-kva_example": ["8.8.8.8"]})
    await Targets().resolve("https://bücher.example/")
    assert asked == ["xn--bcher-kva.example"]


async def test_a_name_that_cannot_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch)
    with pytest.raises(OSError, match="not known"):
        await Targets().resolve("https://none.example/")


async def test_a_resolver_that_hangs_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        answer.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    targets = Targets()
    looking = [
        asyncio.ensure_future(targets.resolve("https://tarpit.example/")) for _ in range(100)
    ]
    await asyncio.sleep(0.05)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(str, "done"), 10) == "done"
    finally:
        answer.set()
        await asyncio.gather(*looking, return_exceptions=True)


async def test_a_name_with_a_label_too_long() -> None:
    with pytest.raises(BadParameter):
        await Targets().resolve(f"https://{'a' * 70}.example/")


async def test_hosts_that_the_operator_names(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, hooks_internal=["10.0.0.7"], other_internal=["10.0.0.8"])
    targets = Targets(["Hooks.internal", "other.internal:8443"])
    assert (await targets.resolve("http://hooks.internal:99/")).addresses
    assert (await targets.resolve("https://hooks.internal/")).addresses
    assert (await targets.resolve("https://other.internal:8443/")).addresses
    for url in ("https://other.internal/", "https://hooks.internal.evil.example/"):
        with pytest.raises((TargetRefused, OSError)):
            await targets.resolve(url)
    with pytest.raises(BadParameter):
        targets.check("http://other.internal/")


async def test_few_of_many_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, many_example=[f"8.8.8.{n}" for n in range(40)])
    assert len((await Targets().resolve("https://many.example/")).addresses) == 4


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("https://hooks.example/a?b=c", "hooks.example:443"),
        ("https://HOOKS.example:8443/", "hooks.example:8443"),
        ("http://hooks.example/", "hooks.example:80"),
        ("https://bücher.example/", "xn--bcher-kva.example:443"),
    ],
)
def test_whose_hands_a_message_is_in(url: str, receiver: str) -> None:
    assert receiver_of(url) == receiver
