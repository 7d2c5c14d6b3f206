import json
from dataclasses import replace

import numpy as np
import pytest

from model_export import breakdowns
from model_export.breakdowns import confusion, labels_of, loss, recall
from model_export.cells import cell_path, load_logits, write_cell
from model_export.decisions import decide
from model_export.ledger import Ledger, read_ledger
from model_export.metrics import Assessed, metrics
from ser_core.labels import LABELS
from tests.model_export.ledgers import CORPORA, write_experiment


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    write_experiment(tmp_path, "glrf-bands", 0.7, with_conditions=True)
    write_experiment(tmp_path, "glam", 0.5)
    return read_ledger(tmp_path)


def row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return line.strip("| ").split(" | ")


def test_a_condition_costs_what_the_same_cell_had_clean(ledger):
    text = breakdowns.conditions(ledger)
    assert row(text, "car-0db")[2:] == ["+15.0 ± 0.0", "3 of 3 folds"]
    assert "### GLRF (our stem) on nemo (Polish)" in text
    assert "GLAM" not in text  # was tried under none


def test_a_clean_figure_of_the_cell_goes_before_its_metrics(ledger):
    cell = ledger.of("glrf-bands")[0]
    before = loss("car-0db", "nemo")(cell)
    assert before == pytest.approx(0.15)
    cell.conditions["clean"] = {"nemo": {"ua": 0.9, "n": 10}}
    after = loss("car-0db", "nemo")(cell)
    assert after == pytest.approx(0.9 - cell.conditions["car-0db"]["nemo"]["ua"])
    assert "clean" not in breakdowns.conditions_of([cell])
    assert loss("unheard-of", "nemo")(cell) is None


def test_a_condition_of_some_folds_says_so(tmp_path, ledger):
    path = cell_path(tmp_path, "glrf-bands", 1, 2)
    content = json.loads(path.read_text())
    del content["conditions"]["car-0db"]
    path.write_text(json.dumps(content))
    assert row(breakdowns.conditions(read_ledger(tmp_path)), "car-0db")[-1] == "2 of 3 folds"


def test_no_conditions_are_missing(tmp_path):
    write_experiment(tmp_path, "glrf-bands", 0.7)
    assert breakdowns.conditions(read_ledger(tmp_path)).startswith("*missing*")


def test_a_baseline_takes_off_what_is_the_speakers_own(tmp_path):
    """Speakers whose every logit is moved by one number a label: known after one recording."""
    write_experiment(tmp_path, "glrf-bands", 0.95)
    for cell in read_ledger(tmp_path).of("glrf-bands"):
        said = load_logits(tmp_path, cell)
        assert said is not None
        own = {
            name: np.random.default_rng(i).normal(0, 3, 5)
            for i, name in enumerate(sorted(set(said.speaker)), 10 * cell.fold)
        }
        moved = said.logits + np.array([own[name] for name in said.speaker])[said.recording]
        moved = replace(said, logits=moved.astype(np.float16))
        decided = decide(moved, CORPORA)
        for corpus, labels in CORPORA.items():
            mine = decided.corpus == corpus
            pairs = zip(decided.reference[mine], decided.predicted[mine], strict=True)
            told = metrics([Assessed(str(a), str(b), (str(b),)) for a, b in pairs], labels)
            cell.metrics["corpora"][corpus] = told
        write_cell(tmp_path, cell, moved)
    text = breakdowns.baseline(read_ledger(tmp_path))
    for corpus in ("nemo (Polish)", "mine"):
        part = text[text.index(f"### {corpus}") :]
        for n in ("1", "2", "4"):
            told = [float(figure.split(" ")[0]) for figure in row(part, n)[1:7]]
            gains = [after - before for before, after in zip(told[::2], told[1::2], strict=True)]
            assert min(gains) > 10
    assert row(text, "4")[7] == "3 of 3 folds"


def test_a_baseline_of_more_neutral_recordings_than_anybody_has(tmp_path, monkeypatch):
    write_experiment(tmp_path, "glrf-bands", 0.7)
    monkeypatch.setattr(breakdowns, "N_NEUTRAL", (1, 5))
    text = breakdowns.baseline(read_ledger(tmp_path))
    assert "–" not in row(text, "1")
    assert row(text, "5")[1:7] == ["–"] * 6


def test_a_baseline_needs_logits_of_two_folds(tmp_path):
    write_experiment(tmp_path, "glrf-bands", 0.7, folds=(0,))
    assert breakdowns.baseline(read_ledger(tmp_path)).startswith("*missing*")


def test_recalls_average_to_ua(ledger):
    cell = ledger.of("glrf-bands")[0]
    recalls = [recall("nemo", label)(cell) for label in LABELS]
    assert np.mean([r for r in recalls if r is not None]) == pytest.approx(
        cell.metrics["corpora"]["nemo"]["ua"]
    )
    assert recall("mine", "fear")(cell) is None
    text = breakdowns.recalls(ledger)
    assert len(row(text, "GLRF (our stem)")) == 5  # name, three labels, cells
    assert row(text, "GLAM")[-1] == "3 of 3 folds"


def test_confusion_is_shares_of_the_reference(ledger):
    cells = ledger.of("glrf-bands")
    assert labels_of(cells, "mine") == ["angry", "neutral", "sad"]
    shares = confusion(cells, "mine", ["angry", "neutral", "sad"])
    assert shares is not None
    assert shares.sum(axis=1) == pytest.approx(1)
    # An angry utterance that is wrong is taken for neutral: rows are the reference.
    assert shares[0, 1] > 0
    assert shares[0, 2] == 0
    assert confusion(cells, "other", ["angry"]) is None


def test_the_spread_of_speakers(ledger):
    text = breakdowns.speakers(ledger)
    cells = row(text, "GLRF (our stem) on nemo")
    assert cells[1] == "12"
    figures = [float(cell.split()[0]) for cell in cells[2:]]
    assert figures == sorted(figures)
    assert cells[2].split()[1].startswith("(nemo-")


def test_speakers_need_logits(tmp_path):
    write_experiment(tmp_path, "glrf-bands", 0.7, with_logits=False)
    assert (
        row(breakdowns.speakers(read_ledger(tmp_path)), "GLRF (our stem) on nemo")[2:]
        == ["*missing*"] * 5
    )
