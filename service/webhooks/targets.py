"""Where webhooks may go: https to public addresses, and hosts that the operator has named.

A client names the address, and the service sits where the client does not: a name may point to
the operator's own network, or change where it points between a check and a connection. So a name
is resolved once for an attempt, all its addresses are checked, and the connection is made to one
of those.
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from ser_core.errors import BadParameter
from service.threads import Threads

MAX_URL_CHARS = 2_000
#: Addresses of one name that are tried.
MAX_ADDRESSES = 4
#: Names that are looked up at a time.
N_RESOLVERS = 32
_PORTS = {"https": 443, "http": 80}
#: IPv6 addresses that carry IPv4 ones (RFC 6052), and lead where those lead.
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
#: In IANA's registries, and not known to `is_global` of every Python that this runs on.
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class TargetRefused(BadParameter):
    """A webhook's name leads to an address that webhooks may not go to."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, and the addresses that its host had when it was looked at."""

    url: httpx.URL
    addresses: tuple[IpAddress, ...]


class Targets:
    """What may be named; `allowed_hosts` (`host` or `host:port`) may be private and speak http."""

    def __init__(self, allowed_hosts: Iterable[str] = ()) -> None:
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        # A resolver may hang for longer than anybody waits, and nothing else is to wait for it.
        self._resolving = Threads("resolver", N_RESOLVERS)

    def check(self, url: str) -> httpx.URL:
        """Looks at an address without resolving it; raises `BadParameter` with the cause."""
        try:
            parsed = httpx.URL(url)
            _ = parsed.host  # an international name is only read here
        except (httpx.InvalidURL, UnicodeError) as error:
            raise _refused(f"is no address ({error})") from error
        if len(url) > MAX_URL_CHARS:
            raise _refused(f"is longer than {MAX_URL_CHARS} characters")
        if parsed.scheme not in _PORTS or not parsed.host:
            raise _refused("is not an https address")
        if parsed.scheme != "https" and not self._is_allowed(parsed):
            raise _refused("is not https, and its host is not in GLRF_WEBHOOK_ALLOWED_HOSTS")
        if parsed.port is not None and not 0 < parsed.port < 65_536:
            raise _refused("names a port that is none")
        if parsed.userinfo:
            raise _refused("holds a user name or password")
        return parsed.copy_with(fragment=None)

    async def resolve(self, url: str) -> Target:
        """Where the address leads now.

        Raises as `check`, `TargetRefused` where one of the host's addresses is not public, and
        `OSError` where the name cannot be resolved now.
        """
        parsed = self.check(url)
        host = parsed.raw_host.decode("ascii")  # an international name in its ASCII form
        try:
            found = await self._resolving.run(
                socket.getaddrinfo, host, port_of(parsed), 0, socket.SOCK_STREAM
            )
        except UnicodeError as error:  # a label is too long
            raise _refused(f"names no host that can be looked up ({error})") from error
        # A scope (fe80::1%eth0) is cut off: no such address is public.
        addresses = tuple(
            dict.fromkeys(ipaddress.ip_address(str(item[4][0]).split("%")[0]) for item in found)
        )
        if not self._is_allowed(parsed):
            for address in addresses:
                if not is_public(address):
                    raise TargetRefused(
                        f"webhook_url: {parsed.host} leads to {address}, which is not public",
                        remedy="name a public host, or have the operator put it in "
                        "GLRF_WEBHOOK_ALLOWED_HOSTS",
                    )
        return Target(parsed, addresses[:MAX_ADDRESSES])

    def _is_allowed(self, url: httpx.URL) -> bool:
        host = url.host.lower()
        return not self._allowed_hosts.isdisjoint((host, f"{host}:{port_of(url)}"))


def port_of(url: httpx.URL) -> int:
    """The URL's port, its scheme's own where it names none."""
    return url.port or _PORTS[url.scheme]


def receiver_of(url: str) -> str:
    """Host and port of a URL that was checked: whose hands a message is in."""
    parsed = httpx.URL(url)
    return f"{parsed.raw_host.decode('ascii')}:{port_of(parsed)}"


def is_public(address: IpAddress) -> bool:
    """Whether it is an address of the internet (IANA's special-purpose registries), of one host.

    IPv6 addresses that carry an IPv4 one are not: what they reach depends on the network.
    """
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if any(address in network for network in _SPECIAL):
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    carries_ipv4 = address.ipv4_mapped or address.sixtofour or address.teredo
    return (
        not address.is_site_local
        and not carries_ipv4
        and not any(address in network for network in _NAT64)
    )


def _refused(cause: str) -> BadParameter:
    return BadParameter(
        f"webhook_url {cause}", remedy="name an https address of a public host, without credentials"
    )
