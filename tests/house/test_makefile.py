"""The recipes that hand on what a user names."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.house.repository import ROOT

#: In the place of `glrf`: one argument a line.
TELLS_ITS_ARGUMENTS = """\
#!/bin/sh
printf '%s\\n' "$@"
"""


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment in which all is installed already."""
    glrf = tmp_path / "bin" / "glrf"
    glrf.parent.mkdir()
    glrf.write_text(TELLS_ITS_ARGUMENTS)
    glrf.chmod(0o755)
    (tmp_path / "bin" / "python").touch()
    for stamp in (".run-cpu", ".dev-cpu"):
        (tmp_path / stamp).touch()
    return tmp_path


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "EXTRA=cpu", *arguments]
    environment = {"PATH": os.environ["PATH"]}  # without what `make test ARGS=...` hands on
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


NAMES = ("CONFIG", "SPLIT", "OUT", "DATA", "MANIFEST", "ONNX", "VERSION", "LICENSE")
GIVEN = [f"{name}=my {name}" for name in NAMES]


def test_names_with_spaces_are_one_argument_each(venv: Path) -> None:
    train = made("train", f"VENV={venv}", *GIVEN)
    assert train.stdout.splitlines() == [
        *("train", "--config", "my CONFIG", "--split", "my SPLIT", "--out", "my OUT"),
        *("--data", "my DATA", "--manifest", "my MANIFEST"),
    ]
    export = made("export", f"VENV={venv}", *GIVEN)
    assert export.stdout.splitlines() == [
        *("export", "my OUT/final.pt", "my ONNX", "--split", "my SPLIT"),
        *("--data", "my DATA", "--manifest", "my MANIFEST"),
        *("--version", "my VERSION", "--license", "my LICENSE"),
    ]


def test_a_name_that_is_missing_is_told(venv: Path) -> None:
    done = made("train", f"VENV={venv}", "DATA=my corpus")
    assert done.returncode != 0
    assert "Error: give MANIFEST=" in done.stderr
