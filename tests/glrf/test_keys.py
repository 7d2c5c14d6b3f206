from pathlib import Path

import pytest
from typer.testing import CliRunner

from glrf.main import app
from service.keys import hashed, parse_keys, read_keys


def test_keys_are_made_listed_and_revoked(cli: CliRunner, tmp_path: Path) -> None:
    path = str(tmp_path / "keys.json")
    made = cli.invoke(app, ["keys", "create", "kiosk", "--file", path, "--max-sessions", "3"])
    assert made.exit_code == 0
    key = made.stdout.strip()
    [kept] = read_keys(Path(path))
    assert (kept.sha256, kept.limits.sessions) == (hashed(key), 3)

    again = cli.invoke(app, ["keys", "create", "kiosk", "--file", path])
    assert again.exit_code == 2
    assert "has a key named kiosk" in again.stderr

    listed = cli.invoke(app, ["keys", "list", "--file", path]).stdout
    assert listed.startswith("kiosk  20")
    assert "sessions=3" in listed
    assert key not in listed
    assert kept.sha256 not in listed

    assert cli.invoke(app, ["keys", "revoke", "nobody", "--file", path]).exit_code == 2
    assert cli.invoke(app, ["keys", "revoke", "kiosk", "--file", path]).exit_code == 0
    assert read_keys(Path(path)) == []


def test_without_a_file_the_line_for_the_environment_is_told(cli: CliRunner) -> None:
    made = cli.invoke(app, ["keys", "create", "kiosk"])
    name, _, value = made.stderr.strip().partition("=")
    assert name == "GLRF_API_KEYS"
    assert parse_keys(value)[0].sha256 == hashed(made.stdout.strip())
    limited = cli.invoke(app, ["keys", "create", "kiosk", "--max-sessions", "3"])
    assert limited.exit_code == 2
    assert "--file" in limited.stderr


def test_the_file_is_named_by_the_servers_own_variable(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.invoke(app, ["keys", "list"]).exit_code == 2
    monkeypatch.setenv("GLRF_API_KEYS_FILE", str(tmp_path / "keys.json"))
    assert cli.invoke(app, ["keys", "create", "kiosk"]).exit_code == 0
    assert cli.invoke(app, ["keys", "list"]).stdout.startswith("kiosk")
