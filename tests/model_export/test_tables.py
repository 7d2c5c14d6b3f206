import hashlib
import re
from pathlib import Path

import pytest

import model_export
from model_export import tables
from model_export.catalogue import ABLATIONS, OURS, PEERS, PLAIN, ROWS, SHIPPED, K, shown
from model_export.ledger import Ledger, read_ledger
from model_export.margins import Margin
from model_export.markdown import count, listed, percent, points, spread_percent, table
from model_export.spread import Spread
from tests.model_export.ledgers import write_experiment


@pytest.fixture
def root(tmp_path) -> Path:
    write_experiment(tmp_path, "glrf-bands", 0.7, seeds=(1, 2))
    write_experiment(tmp_path, "light-sernet", 0.4)
    write_experiment(tmp_path, "aa-cnn", 0.95, folds=(0, 1))
    write_experiment(tmp_path, "egemaps-svm", 0.4, with_logits=False)
    write_experiment(tmp_path, "glrf", 0.9)
    write_experiment(tmp_path, "glrf-k10", 0.6, folds=(0, 1))
    write_experiment(tmp_path, "try-7", 0.6)
    return tmp_path


@pytest.fixture
def ledger(root) -> Ledger:
    return read_ledger(root)


def line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_figures_as_text():
    assert [percent(x) for x in (0.7123, None, 0)] == ["71.2", "–", "0.0"]
    assert [points(x) for x in (0.024, -0.024)] == ["+2.4", "−2.4"]
    assert spread_percent(Spread(0.5, 0.02, 0.01)) == "50.0 ± 2.0 (seeds 1.0)"
    assert spread_percent(Spread(0.5, None, None)) == "50.0"
    assert [count(x) for x in (None, 12, 1_500, 102_400, 3_100_000)] == [
        "–", "12", "1.5 k", "102 k", "3.1 M",
    ]  # fmt: skip
    assert [listed(x) for x in ([], ["a"], ["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert table(["", "x"], [["a|b", "1"]]) == "|  | x |\n| --- | ---: |\n| a\\|b | 1 |"


def test_every_row_of_the_issue_is_there():
    assert list(K) == [10, 30, 50, 70, 90, 100]
    assert K[70].experiment == PLAIN.experiment == ABLATIONS[0].experiment
    assert len(PEERS) == 8
    assert len(ABLATIONS) == 6
    assert shown("glrf-k10") == "GLRF, k = 10"
    assert shown("glrf-k100") == "GLRF, k = 100"
    assert shown("my-own") == "my-own"
    rows = (OURS, PLAIN, SHIPPED, *PEERS, *K.values(), *ABLATIONS)
    assert {row.experiment for row in rows} == set(ROWS)


def test_a_peer_that_wins_is_named_first(ledger):
    text = tables.who_wins(ledger)
    assert text.startswith("**A peer wins**")
    first = text.split(".** ")[0].split(" GLRF is ahead")[0]
    assert "AA-CNN on nemo in WA (−" in first
    assert "Light-SERNet" not in first
    assert "in 10 of 16 comparisons" in text  # Light-SERNet 2 x 3, eGeMAPS 2 x 2, of AA-CNN none
    assert "GLAM (mine, nemo)" in text


def test_no_win_is_claimed_or_denied_without_cells(tmp_path):
    write_experiment(tmp_path, "glrf-bands", 0.7)
    assert "nothing can be said of who wins" in tables.who_wins(read_ledger(tmp_path))


def test_a_peer_above_us_by_the_figure_alone_is_told(ledger, monkeypatch):
    close = {"ua": Margin(-0.011, -0.03, 0.02, "speakers", 12)}
    monkeypatch.setattr(
        tables, "margins", lambda _, ours, theirs, corpus: close if theirs == "glam" else {}
    )
    text = tables.who_wins(ledger)
    assert text.startswith("No peer that was compared wins")
    assert "**A peer stands above GLRF**" in text
    assert "GLAM on nemo in UA (−1.1, −3.0 to +2.0)" in text
    assert "in 0 of 2 comparisons" in text


def test_missing_cells_are_told(ledger):
    text = tables.peers(ledger)
    assert line(text, "| GLAM |").endswith("| *missing* | missing |")
    assert line(text, "| AA-CNN |").endswith("| 2 of 3 folds |")
    assert line(text, "| GLRF (our stem) |").endswith("| 6 of 6 cells (2 seeds) |")
    assert "*missing*" in line(text.split("our stem) over each")[1], "| GLAM |")


def test_an_ablation_stands_beside_the_same_folds_of_what_it_is_taken_from(ledger):
    margin = line(tables.k(ledger).split("Its margin over each")[1], "| 10 |")
    wa, low, high = (float(x.replace("−", "-")) for x in re.findall(r"[+−][\d.]+", margin)[:3])
    ours, theirs = (
        [cell.metrics["corpora"]["mine"]["wa"] for cell in ledger.of(name)[:2]]
        for name in ("glrf", "glrf-k10")
    )
    assert wa == pytest.approx(50 * (sum(ours) - sum(theirs)), abs=0.06)
    assert low <= wa <= high
    assert "| 70 |" not in tables.k(ledger).split("Its margin over each")[1].split("###")[0]


def test_a_row_has_mean_and_spread_of_the_cells(ledger):
    wa = [cell.metrics["corpora"]["mine"]["wa"] for cell in ledger.of("light-sernet")]
    mean = sum(wa) / 3
    deviation = (sum((x - mean) ** 2 for x in wa) / 2) ** 0.5
    row = line(tables.peers(ledger), "| Light-SERNet |")  # mine comes first
    assert row.split(" | ")[1] == f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def test_pure_acc_of_what_has_no_segments_is_not_told(ledger):
    cells = line(tables.peers(ledger), "| eGeMAPS + SVM |").split(" | ")
    assert cells[4] == "–"
    for ours in ("our stem", "the paper's stem"):
        table_ = tables.peers(ledger).split(f"The margin of GLRF ({ours}) over each")[1]
        assert "3 folds" in line(table_, "| eGeMAPS")


def test_the_recipe_that_ships_has_a_row(root):
    write_experiment(root, SHIPPED.experiment, 0.8)
    text = tables.other(read_ledger(root))
    assert line(text, f"| {SHIPPED.name} |").endswith("| 3 of 3 folds |")


def test_conditions_are_in_the_command_of_the_cells_that_have_them(root):
    write_experiment(root, "glrf-bands", 0.7, seeds=(3,), with_conditions=True)
    cells = [c for c in read_ledger(root).of("glrf-bands") if c.conditions]
    text = tables.origin_of(cells, with_conditions=True)
    assert "seeds 3: glrf-bands." in text
    assert " --condition mulaw-8k --condition opus-12k " in text
    assert "--condition" not in tables.origin_of(cells)


def test_the_papers_figures_stand_apart_and_are_marked(ledger):
    for text in (tables.peers(ledger), tables.k(ledger), tables.ablations(ledger)):
        own, paper = text.split("### What the paper reports")
        assert "IEMOCAP" not in own
        assert "**not comparable**" in " ".join(paper.split())
    assert "| 70.4 | 71.7 | 72.5 | 71.2 |" in tables.peers(ledger)
    assert "| 10 | 68.1 | 69.4 | 51.1 |" in tables.k(ledger)


def test_a_table_tells_command_seeds_and_split(ledger):
    text = tables.origin(ledger, ["glrf-bands", "light-sernet", "aa-cnn", "glam"])
    assert "Split `555555555555`, seeds 1,2: glrf-bands." in text
    assert "seeds 1: light-sernet and aa-cnn." in text
    assert "    for name in light-sernet aa-cnn; do glrf crossval --config" in text
    assert "glam" not in text
    assert tables.origin(ledger, ["glam"]) == "No cell yet."


def test_a_committed_split_is_found_by_its_hash():
    path = Path(model_export.__file__).parent / "splits/nemo-ravdess-5fold.json"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert tables.split_file(sha256) == "model_export/splits/nemo-ravdess-5fold.json"
    assert "--folds model_export/splits/nemo-ravdess-5fold.json" in tables.command(
        ["a"], sha256, "1"
    )


def test_an_experiment_of_no_table_is_told_too(ledger):
    assert "| `try-7` |" in tables.other(ledger)
    assert "glrf-bands" not in tables.other(ledger).split("Split")[0]
    assert tables.other(Ledger(ledger.folder, {"glrf-bands": ledger.of("glrf-bands")})) == "None."


def test_a_command_names_teacher_and_start_where_there_are_any():
    assert "--teacher embeddings.npz" in tables.command(["glrf-distilled"], "0" * 64, "1")
    assert "--teacher" not in tables.command(["glrf-bands", "aa-cnn"], "0" * 64, "1,2")
    assert "--init model_export/pretrained/glrf-pretraining.pt" in tables.command(
        ["glrf-pretrained"], "0" * 64, "1"
    )
    assert "--init" not in tables.command(["glrf-distilled"], "0" * 64, "1")
