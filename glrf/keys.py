"""`glrf keys`: the API keys of a server, in the file that it watches."""

from pathlib import Path
from typing import Annotated

import typer

_FILE = typer.Option(
    "--file",
    envvar="GLRF_API_KEYS_FILE",
    show_envvar=True,
    help="The file of keys; the server notices a change within a second.",
)


def create(
    name: Annotated[str, typer.Argument(help="What the key is for; one name, one key.")],
    file: Annotated[Path | None, _FILE] = None,
    max_sessions: Annotated[
        int | None, typer.Option(min=1, help="Streams at a time. Default: the server's.")
    ] = None,
    max_files: Annotated[
        int | None, typer.Option(min=1, help="Recordings at a time. Default: the server's.")
    ] = None,
    max_requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Requests and streams. Default: the server's.")
    ] = None,
    max_audio_s_per_hour: Annotated[
        int | None, typer.Option(min=1, help="Seconds of audio. Default: the server's.")
    ] = None,
) -> None:
    """Make a key and show it, this once: only its hash is kept.

    Without a file, the line for the server's environment is shown too.
    """
    from service.keys import KeyLimits, changing, new_key, read_keys, write_keys

    limits = KeyLimits(
        sessions=max_sessions,
        files=max_files,
        requests_per_minute=max_requests_per_minute,
        audio_s_per_hour=max_audio_s_per_hour,
    )
    key, kept = new_key(name, limits)
    if file is None:
        if limits != KeyLimits():
            raise _misuse("limits are kept in a file only", "give --file, or leave them out")
        typer.echo(f"GLRF_API_KEYS={kept.name}:{kept.sha256}", err=True)
    else:
        with changing(file):
            keys = read_keys(file)
            if any(other.name == name for other in keys):
                raise _misuse(f"{file} has a key named {name}", "revoke it first, or choose a name")
            write_keys(file, [*keys, kept])
        typer.echo(f"{file} has the new key's hash. The key, shown only now:", err=True)
    typer.echo(key)


def list_keys(file: Annotated[Path | None, _FILE] = None) -> None:
    """List the keys of a file: name, time of creation, limits."""
    from service.keys import read_keys

    for key in read_keys(_there(file)):
        limits = key.limits.model_dump(exclude_none=True)
        told = " ".join(f"{name}={limit}" for name, limit in limits.items())
        typer.echo(f"{key.name}  {key.created or '-'}  {told}".rstrip())


def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    file: Annotated[Path | None, _FILE] = None,
) -> None:
    """Take a key out of the file; its streams end within a second."""
    from service.keys import changing, read_keys, write_keys

    path = _there(file)
    with changing(path):
        keys = read_keys(path)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            known = ", ".join(key.name for key in keys) or "none"
            raise _misuse(f"{path} has no key named {name}", f"names there: {known}")
        write_keys(path, left)
    typer.echo(f"{name} is revoked", err=True)


def _there(file: Path | None) -> Path:
    if file is None:
        raise _misuse("no file of keys is named", "give --file or set GLRF_API_KEYS_FILE")
    if not file.exists():
        raise _misuse(f"there is no file {file}", "name the server's; glrf keys create makes one")
    return file


def _misuse(cause: str, remedy: str) -> Exception:
    from ser_core.errors import BadParameter

    return BadParameter(cause, remedy=remedy)
