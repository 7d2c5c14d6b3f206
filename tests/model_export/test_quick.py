import json
import re

from model_export.quick import run_quick


def test_the_whole_chain_in_two_minutes_and_again_from_what_is_there(tmp_path):
    stages: list[str] = []
    written = run_quick(tmp_path, stages.append)
    assert (written.n_cells, written.n_experiments) == (4, 2)
    assert set(written.figures) == {"confusion.svg", "pure-accuracy.svg", "reliability.svg"}
    page = written.path.read_text()
    assert re.search(r"\| GLRF \(our stem\) \|.*\| 2 of 2 folds \|", page)
    assert re.search(r"\| Light-SERNet \|.*\| 2 of 2 folds \|", page)
    assert re.search(r"\| GLAM \|.*\| missing \|", page)
    assessed = json.loads((tmp_path / "evaluation.json").read_text())
    assert assessed["corpora"]["synthetic"]["n"] == 10
    assert (tmp_path / "glrf-0.0.0.onnx").is_file()
    assert len(stages) == 5

    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")}
    assert run_quick(tmp_path).path.read_text() == page
    assert {path: path.stat().st_mtime_ns for path in cells} == cells
