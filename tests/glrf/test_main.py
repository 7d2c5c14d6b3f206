import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from glrf.main import app

COMMANDS = ("serve", "analyze", "stream", "demo", "train", "evaluate", "export", "bench")
HEAVY = ("torch", "librosa", "onnxruntime", "fastapi", "numpy", "matplotlib", "soundfile", "httpx")


@pytest.mark.parametrize("arguments", [["--help"], ["analyze", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from glrf.main import app\n"
        "try:\n"
        "    app(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


def test_version(cli: CliRunner) -> None:
    assert cli.invoke(app, ["--version"]).stdout.strip() == f"glrf {version('glrf')}"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does(cli: CliRunner, command: str) -> None:
    done = cli.invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "Usage: " in done.stdout


def test_an_unknown_option_is_a_usage_error(cli: CliRunner) -> None:
    done = cli.invoke(app, ["analyze", "--jsn", "x.wav"])
    assert done.exit_code == 2
    assert "--jsn" in done.stderr


def test_serve_names_a_setting_that_is_wrong(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLRF_PRT", "1")
    done = cli.invoke(app, ["serve"])
    assert done.exit_code == 2
    assert done.stderr.startswith("glrf: GLRF_PRT is not a setting; ")
    assert done.stderr.count("\n") == 1
