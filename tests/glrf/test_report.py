import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from glrf.main import app
from tests.model_export.ledgers import write_experiment


def test_it_writes_the_page_and_says_what_it_is_made_of(cli: CliRunner, tmp_path: Path) -> None:
    write_experiment(tmp_path / "cells", "glrf-bands", 0.7)
    out = tmp_path / "RESULTS.md"
    done = cli.invoke(app, ["report", f"--results={tmp_path / 'cells'}", f"--out={out}"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}: 3 cells of 1 experiments, 3 figures\n"
    assert out.read_text().startswith("# Results\n")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "confusion.svg", "pure-accuracy.svg", "reliability.svg",
    }  # fmt: skip


@pytest.mark.parametrize(("content", "cause"), [(None, "does not exist"), ("{", "is not a result")])
def test_what_cannot_be_read_is_one_line(
    cli: CliRunner, tmp_path: Path, content: str | None, cause: str
) -> None:
    if content is not None:
        (tmp_path / "cells/glrf").mkdir(parents=True)
        (tmp_path / "cells/glrf/seed-1-fold-0.json").write_text(content)
    out = tmp_path / "RESULTS.md"
    done = cli.invoke(app, ["report", f"--results={tmp_path / 'cells'}", f"--out={out}"])
    assert done.exit_code == 2
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_a_folder_that_is_not_there_yet_is_made(cli: CliRunner, tmp_path: Path) -> None:
    write_experiment(tmp_path / "cells", "glrf-bands", 0.7)
    out = tmp_path / "new/RESULTS.md"
    done = cli.invoke(app, ["report", f"--results={tmp_path / 'cells'}", f"--out={out}"])
    assert done.exit_code == 0, done.output
    assert out.exists()


def test_without_the_extra(cli: CliRunner, without) -> None:
    without("model_export.report")
    done = cli.invoke(app, ["report"])
    assert done.exit_code == 2
    assert "glrf[cpu,train]" in done.stderr


def test_quick_takes_a_folder_and_tells_its_stages_apart(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def run_quick(folder: Path, on_stage):
        folders.append(folder)
        on_stage("training")
        return SimpleNamespace(path=folder / "R.md", n_cells=4, n_experiments=2, figures=())

    stub: Any = SimpleNamespace(run_quick=run_quick)
    monkeypatch.setitem(sys.modules, "model_export.quick", stub)
    done = cli.invoke(app, ["report", "--quick", f"--out={tmp_path / 'lab'}"])
    assert done.stdout == f"{tmp_path / 'lab' / 'R.md'}: 4 cells of 2 experiments, 0 figures\n"
    assert done.stderr == "training ...\n"
    assert cli.invoke(app, ["report", "--quick"]).exit_code == 0
    assert folders[0] == tmp_path / "lab"
    assert folders[1].is_dir()
    folders[1].rmdir()
