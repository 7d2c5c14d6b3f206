"""The tree of README.md, one line a file, and what the real tree has besides.

    python -m tests.house.tree           lines that are missing there, and paths that are no more
    python -m tests.house.tree --all     the whole block, for README.md

The block is the first fenced one after the line `<!-- tree -->`. A line is `name  what it is`;
folders end with a slash, and what they hold is indented below them. A folder's line stands for
its `__init__.py`. Lines that are missing are proposed with their module's first sentence.
"""

import ast
import re
import sys
from pathlib import PurePosixPath

from tests.house.repository import read, tracked

MARKER = "<!-- tree -->"
#: Every Python file below these has its line.
PACKAGES = ("ser_core", "service", "model_export", "glrf", "clients/python/glrf_client")
_INDENT = 2
_LINE = re.compile(r"^(?P<indent> *)(?P<name>\S+?)(?P<slash>/?)(?:\s+(?P<text>.*?))?\s*$")


class TreeError(ValueError):
    """README.md has no tree, or one whose indentation cannot be read."""


def described(readme: str) -> dict[str, str]:
    """Path to description (may be empty) of every line of a README's tree."""
    _, marker, rest = readme.partition(MARKER)
    block = re.search(r"^```\w*\n(.*?)^```", rest, re.DOTALL | re.MULTILINE)
    if not marker or block is None:
        raise TreeError(f"README.md has no fenced block after {MARKER}")
    entries: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for raw in block.group(1).splitlines():
        # Box-drawing characters may stand for the indentation.
        line = _LINE.match(re.sub(r"[│├└─]", " ", raw).replace("\u00a0", " "))
        if line is None:
            continue
        indent = len(line["indent"])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        path = (parents[-1][1] + "/" if parents else "") + line["name"]
        if path in entries:
            raise TreeError(f"README.md's tree names {path} twice")
        entries[path] = line["text"] or ""
        if line["slash"]:
            parents.append((indent, path))
    return entries


def expected() -> tuple[str, ...]:
    """Paths that must have a line: each package, and each Python file of it that holds code."""
    paths: set[str] = set()
    for path in tracked():
        package = next((name for name in PACKAGES if path.startswith(name + "/")), None)
        if package is None or not path.endswith(".py"):
            continue
        folder = str(PurePosixPath(path).parent)
        paths.add(folder)
        if PurePosixPath(path).name not in ("__init__.py", "__main__.py"):
            paths.add(path)
    return tuple(sorted(paths))


def missing(entries: dict[str, str]) -> list[str]:
    """Paths without a line, or with one that says nothing."""
    return [path for path in expected() if not entries.get(path)]


def stale(entries: dict[str, str]) -> list[str]:
    """Paths of the tree that are not in the repository."""
    real = set(tracked())
    real.update(str(parent) for path in tracked() for parent in PurePosixPath(path).parents)
    return [path for path in entries if path not in real]


def proposal(path: str) -> str:
    """The first line of a module's docstring, as a line of the tree has it."""
    source = path if path.endswith(".py") else f"{path}/__init__.py"
    docstring = ast.get_docstring(ast.parse(read(source))) if source in tracked() else None
    if not docstring:
        return ""
    return re.split(r"[.;]\s", " ".join(docstring.split("\n\n")[0].split()))[0].rstrip(".:")


def drawn(entries: dict[str, str]) -> str:
    """The whole block: lines as they are, missing ones proposed, stale ones gone."""
    paths = sorted(({*entries} - {*stale(entries)}) | {*expected()}, key=_order(entries))
    lines: list[tuple[str, str]] = []
    folders: list[str] = []
    for path in paths:
        while folders and not path.startswith(folders[-1] + "/"):
            folders.pop()
        name = path.removeprefix(folders[-1] + "/" if folders else "")
        is_folder = path not in tracked()
        name = " " * _INDENT * len(folders) + name + "/" * is_folder
        lines.append((name, entries.get(path) or proposal(path)))
        if is_folder:
            folders.append(path)
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in lines)


def _order(entries: dict[str, str]):
    """Keeps the order of the README, with new files beside their siblings and folders last."""
    place = {path: index for index, path in enumerate(entries)}

    def key(path: str) -> list[tuple[int, str]]:
        parts = PurePosixPath(path).parts
        steps = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
        return [(place.get(step, len(place)), step) for step in steps]

    return key


def main(arguments: list[str]) -> int:
    """Prints what is asked for; 1 when the tree is not the real one."""
    try:
        entries = described(read("README.md"))
    except TreeError as error:
        print(error, file=sys.stderr)
        entries = {}
    if arguments == ["--all"]:
        print(drawn(entries))
        return 0
    for path in missing(entries):
        print(f"missing: {path}  {proposal(path)}")
    for path in stale(entries):
        print(f"stale:   {path}")
    return int(bool(missing(entries) or stale(entries)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
