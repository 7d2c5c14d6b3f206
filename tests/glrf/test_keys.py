import contextlib
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glrf.keys import create, revoke
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


@pytest.mark.parametrize("command", [["list"], ["revoke", "kiosk"]])
def test_a_file_that_is_missing_is_told_and_not_made(
    cli: CliRunner, tmp_path: Path, command: list[str]
) -> None:
    path = tmp_path / "folder" / "keys.json"
    done = cli.invoke(app, ["keys", *command, "--file", str(path)])
    assert done.exit_code == 2
    assert f"there is no file {path}" in done.stderr
    assert not path.parent.exists()


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


def test_changes_at_the_same_time_are_all_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "keys.json"
    create("old", path)
    n_changes = 3
    meeting = threading.Barrier(n_changes)

    def read_and_meet(path: Path) -> object:
        """Where all may read before one writes, they do."""
        keys = read_keys(path)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(0.2)
        return keys

    monkeypatch.setattr("service.keys.read_keys", read_and_meet)
    changes = [
        threading.Thread(target=create, args=("one", path)),
        threading.Thread(target=create, args=("two", path)),
        threading.Thread(target=revoke, args=("old", path)),
    ]
    for change in changes:
        change.start()
    for change in changes:
        change.join()
    assert {key.name for key in read_keys(path)} == {"one", "two"}
