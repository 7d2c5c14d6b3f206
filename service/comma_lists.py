"""Settings that are lists with commas, read where they are checked and where they are used.

Apart from what they are lists of: a server without webhooks loads no HTTP client.
"""


def hosts_of(text: str) -> tuple[str, ...]:
    """Each `host` or `host:port`; raises `ValueError`."""
    hosts = _parts(text)
    for host in hosts:
        if "/" in host or "@" in host:
            raise ValueError(f"{host!r} is no host: leave scheme and path out")
    return hosts


def seconds_of(text: str) -> tuple[float, ...]:
    """Each a number of seconds; raises `ValueError`."""
    waits = _parts(text)
    for wait in waits:
        if not wait.replace(".", "", 1).isdecimal():
            raise ValueError(f"{wait!r} is no number of seconds")
    return tuple(map(float, waits))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
