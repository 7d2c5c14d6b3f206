"""How a file's name is shown: bytes in it that are no text are told in hexadecimal."""

import os
from pathlib import Path


def shown(path: Path | str) -> str:
    """The path as text that can be printed and stored, if not always opened by."""
    return os.fsencode(path).decode(errors="backslashreplace")
