"""A receiver of webhooks over TLS on loopback, which answers as it is told."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "hooks.example"


@dataclass
class Received:
    head: str
    headers: dict[str, str]
    body: bytes
    server_name: str | None


@dataclass
class Receiver:
    port: int = 0
    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"
    delay_s: float = 0.0
    received: list[Received] = field(default_factory=list)

    def url(self, host: str = HOST, scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.port}/hook?a=1"


def certificate(folder: Path) -> Path:
    """A self-signed certificate of `HOST` and 127.0.0.1, with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "receiver.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextlib.asynccontextmanager
async def receiver(pem: Path | None, host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """Runs one; without a certificate it speaks plain http."""
    it = Receiver()
    names: list[str | None] = []
    context = None
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.sni_callback = lambda _, name, __: names.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            it.received.append(Received(head, headers, body, names[-1] if names else None))
            await asyncio.sleep(it.delay_s)
            writer.write(it.answer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = serve
    server = await asyncio.start_server(handle, host, 0, ssl=context)
    it.port = server.sockets[0].getsockname()[1]
    async with server:
        yield it
