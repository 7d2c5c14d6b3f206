"""The address that is listened on."""

import contextlib
import socket

from ser_core.errors import SerError

_BACKLOG = 2048


def announced(listener: socket.socket) -> str:
    """As a browser takes it, with the port that it has, also where the settings say 0."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket that listens at the address; raises `SerError` (`address_unusable`)."""
    with contextlib.ExitStack() as undo:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = undo.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise SerError(
                f"{host}:{port} cannot be listened on: {error.strerror or error}",
                remedy="stop what uses it, or choose another GLRF_HOST or GLRF_PORT",
                code="address_unusable",
            ) from error
        undo.pop_all()
        return listener
