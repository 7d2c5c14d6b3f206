"""Packages that only one experiment needs, imported when it does."""

import importlib
from typing import Any

from ser_core.errors import SerError


def needed(module: str, extra: str) -> Any:
    """The module; raises `SerError`, naming the extra that brings it, where it is not installed."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library behind it is missing
        raise SerError(
            f"this experiment needs {module}, which cannot be imported ({error})",
            remedy=f"install the extra: pip install 'glrf[{extra}]'",
            code="missing_package",
        ) from error
