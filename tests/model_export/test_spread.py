from dataclasses import astuple, replace

import pytest

from model_export.cells import Cell
from model_export.spread import Spread, by_fold_mean, corpora_of, coverage, metric, spread
from tests.model_export.test_cells import CELL


def cell(seed: int, fold: int, ua: float | None) -> Cell:
    return replace(CELL, seed=seed, fold=fold, metrics={"corpora": {"a": {"ua": ua}}})


def test_deviation_over_folds_is_of_the_means_over_seeds():
    cells = [cell(1, 0, 0.4), cell(2, 0, 0.6), cell(1, 1, 0.6), cell(2, 1, 0.8)]
    found = spread(cells, metric("a", "ua"))
    # Folds 0.5 and 0.7, seeds 0.5 and 0.7: sample deviation 0.2 / sqrt 2.
    assert found is not None
    assert astuple(found) == pytest.approx((0.6, 0.02**0.5, 0.02**0.5))
    assert by_fold_mean(cells, metric("a", "ua")) == {0: 0.5, 1: pytest.approx(0.7)}


def test_one_fold_or_one_seed_has_no_deviation():
    assert spread([cell(1, 0, 0.4)], metric("a", "ua")) == Spread(0.4, None, None)


def test_seeds_are_compared_on_the_folds_that_all_have():
    cells = [cell(1, 0, 0.4), cell(1, 1, 0.9), cell(2, 0, 0.4)]
    found = spread(cells, metric("a", "ua"))
    assert found is not None
    assert found.seeds == 0  # fold 1 is not in seed 2: its 0.9 says nothing of the seeds
    assert found.mean == pytest.approx(0.65)
    apart = spread([cell(1, 0, 0.4), cell(2, 1, 0.4)], metric("a", "ua"))
    assert apart is not None
    assert apart.seeds is None


def test_what_has_no_such_figure_is_none_and_not_zero():
    assert spread([cell(1, 0, None)], metric("a", "ua")) is None
    assert spread([cell(1, 0, 0.4)], metric("b", "ua")) is None
    assert spread([], metric("a", "ua")) is None
    found = spread([cell(1, 0, None), cell(1, 1, 0.5)], metric("a", "ua"))
    assert found == Spread(0.5, None, None)


def test_coverage_tells_what_is_missing():
    assert coverage([]) == "missing"
    assert coverage([cell(1, fold, 0.4) for fold in range(3)]) == "3 of 5 folds"
    cells = [cell(seed, fold, 0.4) for seed in (1, 2, 3) for fold in range(5)]
    assert coverage(cells) == "15 of 15 cells (3 seeds)"
    assert coverage(cells[1:]) == "14 of 15 cells (3 seeds)"
    assert corpora_of(cells) == ["a"]
