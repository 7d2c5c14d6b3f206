"""How a command fails: one clear line on stderr, never a traceback for a known cause."""

import functools
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

#: The command was given something that it cannot use.
EXIT_USAGE = 2
#: The command was right, and it did not work out.
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turns the project's errors into a line and an exit status; other errors are bugs and rise."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:  # `glrf analyze ... | head`
            # Python flushes stdout at exit: let that go nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_FAILED) from None
        except Exception as error:
            status = print_error(error)
            if status is None:
                raise
            raise typer.Exit(status) from None

    return run


def print_error(error: Exception, about: str | None = None) -> int | None:
    """Says a known error in one line on stderr; the exit status for it, `None` for a bug."""
    known = _known(error)
    if known is None:
        return None
    line, status = known
    prefix = "" if about is None or line.startswith(about) else f"{about}: "
    print(f"glrf: {prefix}{line}", file=sys.stderr)
    return status


def needed(module: str, remedy: str) -> ModuleType:
    """Imports an optional package; raises `SerError` with the remedy when it is not installed."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library behind it is missing
        from ser_core.errors import SerError

        raise SerError(
            f"this needs {module.partition('.')[0]}, which cannot be imported ({error})",
            remedy=remedy,
            code="missing_package",
        ) from error


def _known(error: Exception) -> tuple[str, int] | None:
    from glrf_client.errors import ClientError, SourceUnavailable, Unreachable
    from ser_core.errors import SerError, Unavailable

    match error:
        case SerError():
            return error.detail, EXIT_FAILED if isinstance(error, Unavailable) else EXIT_USAGE
        case Unreachable():
            return f"{error}; start one with `glrf serve`, or give --url", EXIT_FAILED
        case SourceUnavailable():
            return str(error), EXIT_USAGE
        case ClientError():
            return str(error), EXIT_FAILED
        case BrokenPipeError():
            return None
        case OSError(filename=str() as name, strerror=str() as cause):
            return f"{name}: {cause}", EXIT_FAILED
        case OSError():
            return str(error), EXIT_FAILED
        case _:
            return None
