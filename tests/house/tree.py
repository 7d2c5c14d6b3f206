"""The tree of README.md: a line for each package, and for each Python file of it that holds code.

    python -m tests.house.tree             shows it
    python -m tests.house.tree --write     puts it into README.md

There it is the fenced block after `<!-- tree -->`. A file's line is the first sentence of its
docstring, a folder's that of its `__init__.py`.
"""

import ast
import re
import sys
from pathlib import PurePosixPath

from tests.house.repository import ROOT, read, tracked

#: Every Python file below these has its line.
PACKAGES = ("ser_core", "service", "model_export", "glrf", "clients/python/glrf_client")
#: Folders without an `__init__.py` that could say what they are.
FOLDERS = {
    "clients/typescript": "Client for browsers and Node.js: streams that survive lost connections",
    "glrf/demo": "The synthetic demo clip, and how it was made",
    "service/web": "The try-it page: plain ES modules; `sdk/` is the TypeScript client, compiled",
}
_OPENING, _CLOSING = "<!-- tree -->\n```\n", "\n```\n"
_INDENT = 2


def described() -> dict[str, str]:
    """Path to description of all that has a line, in its order."""
    paths = set(FOLDERS)
    for path in map(PurePosixPath, tracked()):
        if path.suffix == ".py" and str(path).startswith(tuple(f"{one}/" for one in PACKAGES)):
            paths.add(str(path.parent))
            if path.name not in ("__init__.py", "__main__.py"):
                paths.add(str(path))
    ordered = sorted(paths, key=PurePosixPath)
    return {path: FOLDERS.get(path) or first_sentence(path) for path in ordered}


def first_sentence(path: str) -> str:
    """Of a module's or a package's docstring; empty without one."""
    source = path if path.endswith(".py") else f"{path}/__init__.py"
    docstring = ast.get_docstring(ast.parse(read(source))) or ""
    return re.split(r"[.;]\s", " ".join(docstring.split("\n\n")[0].split()))[0].rstrip(".:")


def drawn() -> str:
    """The whole tree: what a folder holds is indented below it."""
    lines: list[tuple[str, str]] = []
    folders: list[str] = []
    for path, text in described().items():
        while folders and not path.startswith(folders[-1] + "/"):
            folders.pop()
        name = path.removeprefix(folders[-1] + "/" if folders else "")
        is_folder = path not in tracked()
        lines.append((" " * _INDENT * len(folders) + name + "/" * is_folder, text))
        if is_folder:
            folders.append(path)
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in lines)


def block(readme: str) -> str:
    """The tree that a README shows; empty where it has none."""
    return readme.partition(_OPENING)[2].partition(_CLOSING)[0]


def main(arguments: list[str]) -> None:
    """Shows the tree, or writes it."""
    if arguments != ["--write"]:
        print(drawn())
        return
    readme = read("README.md")
    before, opening, rest = readme.partition(_OPENING)
    _, closing, after = rest.partition(_CLOSING)
    (ROOT / "README.md").write_text(before + opening + drawn() + closing + after, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
