import math

import numpy as np
import pytest

from model_export import margins as module
from model_export.ledger import Ledger, read_ledger
from model_export.margins import best_peer, margins, speaker_ua
from tests.model_export.ledgers import write_experiment


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    write_experiment(tmp_path, "glrf", 0.8)
    write_experiment(tmp_path, "aa-cnn", 0.5)
    write_experiment(tmp_path, "glam", 0.95, folds=(0,))
    write_experiment(tmp_path, "svm", 0.4, with_logits=False)
    write_experiment(tmp_path, "elsewhere", 0.4, split_sha256="other")
    return read_ledger(tmp_path)


def test_speakers_are_drawn_where_both_have_logits(ledger):
    found = margins(ledger, "glrf", "aa-cnn", "nemo")
    assert set(found) == {"wa", "ua", "pure_acc"}
    ua = found["ua"]
    assert (ua.unit, ua.n) == ("speakers", 12)  # 4 a fold
    assert ua.low < ua.difference < ua.high
    assert ua.verdict == "ahead"
    # Balanced labels and folds: pooled UA is the mean over folds.
    means = [
        np.mean([cell.metrics["corpora"]["nemo"]["ua"] for cell in ledger.of(name)])
        for name in ("glrf", "aa-cnn")
    ]
    assert ua.difference == pytest.approx(means[0] - means[1])


def test_the_other_way_round_is_the_mirror(ledger):
    one = margins(ledger, "glrf", "aa-cnn", "nemo")["wa"]
    other = margins(ledger, "aa-cnn", "glrf", "nemo")["wa"]
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.verdict == "behind"


def test_an_experiment_is_no_better_than_itself(ledger):
    one = margins(ledger, "glrf", "glrf", "nemo")["ua"]
    assert (one.low, one.difference, one.high) == (0, 0, 0)
    assert one.verdict == "undecided"


def test_only_folds_that_both_have_count(ledger):
    found = margins(ledger, "glrf", "glam", "mine")["wa"]
    assert found.n == 4
    wa = [ledger.of(name)[0].metrics["corpora"]["mine"]["wa"] for name in ("glrf", "glam")]
    assert found.difference == pytest.approx(wa[0] - wa[1])


def test_folds_are_drawn_where_one_has_no_logits(ledger):
    found = margins(ledger, "glrf", "svm", "nemo")
    assert set(found) == {"wa", "ua"}  # nothing is said of a Pure-Acc that isn't there
    assert (found["ua"].unit, found["ua"].n) == ("folds", 3)
    assert found["ua"].low < found["ua"].difference < found["ua"].high


def test_one_fold_gives_no_interval(tmp_path):
    write_experiment(tmp_path, "glrf", 0.8, folds=(0,))
    write_experiment(tmp_path, "svm", 0.4, folds=(0,), with_logits=False)
    found = margins(read_ledger(tmp_path), "glrf", "svm", "nemo")["ua"]
    assert math.isnan(found.low)
    assert found.verdict == "undecided"


def test_nothing_is_compared_across_splits_or_without_cells(ledger):
    assert margins(ledger, "glrf", "elsewhere", "nemo") == {}
    assert margins(ledger, "glrf", "missing", "nemo") == {}
    assert margins(ledger, "glrf", "aa-cnn", "no such corpus") == {}


def test_seeds_are_averaged(tmp_path):
    write_experiment(tmp_path, "glrf", 0.8, seeds=(1, 2))
    write_experiment(tmp_path, "aa-cnn", 0.5)
    ledger = read_ledger(tmp_path)
    wa = {
        name: np.mean([cell.metrics["corpora"]["nemo"]["wa"] for cell in ledger.of(name)])
        for name in ("glrf", "aa-cnn")
    }
    found = margins(ledger, "glrf", "aa-cnn", "nemo")["wa"]
    assert found.difference == pytest.approx(wa["glrf"] - wa["aa-cnn"])


def test_an_interval_covers_what_it_promises(monkeypatch):
    """95 % intervals of 30 speakers' mean hold the truth in 88 to 99 % of 200 repetitions."""
    monkeypatch.setattr(module, "N_RESAMPLES", 1_000)
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        n = rng.binomial(20, 0.6, 30).astype(float)[:, None]
        total = np.full((30, 1), 20.0)
        mine = module._Tally(n, total, n[:, 0])
        other = module._Tally(total * 0.5, total, total[:, 0] * 0.5)
        margin = module._over_speakers(mine, other)["wa"]
        held += margin.low <= 0.1 <= margin.high
    assert 176 <= held <= 198


def test_the_best_peer_is_of_the_papers(ledger):
    assert best_peer(ledger) == "glam"
    assert best_peer(Ledger(ledger.folder, {"glrf": ledger.of("glrf")})) is None


def test_speakers_one_by_one(ledger):
    found = speaker_ua(ledger, "glrf", "nemo")
    assert len(found) == 12
    ua = np.mean([cell.metrics["corpora"]["nemo"]["ua"] for cell in ledger.of("glrf")])
    assert np.mean(list(found.values())) == pytest.approx(ua)
    assert speaker_ua(ledger, "svm", "nemo") == {}
