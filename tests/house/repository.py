"""The files of this repository, as git tracks them."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def tracked() -> tuple[str, ...]:
    """Paths from the repository's root, sorted, of every tracked file that is still there."""
    listed = subprocess.run(
        # A checkout that belongs to another user (a container's) is no danger to a listing.
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(sorted(path for path in listed.split("\0") if path and (ROOT / path).exists()))


def read(path: str) -> str:
    """A tracked file as text."""
    return (ROOT / path).read_text(encoding="utf-8")
