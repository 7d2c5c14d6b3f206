from dataclasses import replace

import numpy as np
import pytest

from model_export.calibration import (
    ABSTAIN_SHARE,
    Reliability,
    fit,
    from_cells,
    pooled,
    reliability,
    segments_of,
    unseen_reliability,
)
from model_export.cells import SegmentLogits, write_cell
from model_export.ledger import read_ledger
from model_export.neutral import neutral_voice
from ser_core.errors import BadParameter
from ser_core.posteriors import Calibration
from tests.model_export.ledgers import CORPORA, share_speakers, write_experiment

RAW = Calibration((1.0, 1.0), (0.0, 0.0))


def said(logits, truth, n_segments=1, corpora=None):
    n = len(truth)
    return SegmentLogits(
        logits=np.repeat(np.asarray(logits, np.float16), n_segments, axis=0),
        recording=np.repeat(np.arange(n, dtype=np.int32), n_segments),
        paths=np.array([f"{i}" for i in range(n)]),
        reference=np.array(truth, str),
        corpus=np.array(corpora or ["a"] * n, str),
        speaker=np.array(["s"] * n, str),
        labels=np.array(["sad", "happy"]),
    )


def overconfident(n=4000, factor=3.0, seed=1):
    """Logits `factor` times as sure as they should be."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, n)
    is_sad = rng.random(n) < 1 / (1 + np.exp(-z))
    logits = np.stack([factor * z, -factor * z], axis=1)
    return said(logits, np.where(is_sad, "sad", "happy"))


def test_overconfidence_is_seen_and_mended():
    segments = segments_of([overconfident()])
    before, fitted = reliability(segments, RAW), fit(segments)
    assert before.ece > 0.1
    assert fitted.scale == pytest.approx((1 / 3, 1 / 3), rel=0.15)
    unseen = segments_of([overconfident(seed=2)])
    assert reliability(unseen, fitted).ece < 0.03


def test_what_tells_nothing_keeps_its_sigmoids():
    backwards = said([[-2, 2], [-1, 1], [2, -2], [1, -1]], ["sad", "sad", "happy", "happy"])
    assert fit(segments_of([backwards])) == RAW


def often_right(strength):
    """80 % of the time the own label has the larger logit."""
    truth = ["sad" if i % 2 else "happy" for i in range(200)]
    lean = [strength if i % 10 < 8 else -strength for i in range(200)]
    logits = [[z, -z] if own == "sad" else [-z, z] for own, z in zip(truth, lean, strict=True)]
    return segments_of([said(logits, truth)])


def test_one_pair_for_all_labels_makes_scores_the_share_that_is_right():
    calibration = fit(often_right(4.0), per_label=False)
    assert len(set(calibration.scale)) == len(set(calibration.bias)) == 1
    assert calibration.scores(np.array([4.0, -4.0], "f4")) == pytest.approx([0.8, 0.2], abs=1e-3)
    assert fit(often_right(-4.0), per_label=False) == RAW


def test_nothing_to_fit_to_keeps_the_sigmoids():
    assert fit(segments_of([said(np.zeros((0, 2)), [])])) == RAW


def test_ece_by_hand():
    nan = np.nan
    one = Reliability(np.array([0.2, nan, 0.9]), np.array([0.5, nan, 0.8]), np.array([0.5, 0, 0.5]))
    assert one.ece == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)


def test_corpora_labels_and_utterances_weigh_the_same():
    truth = ["sad", "sad", "sad", "happy", "sad", "happy"]
    corpora = ["a", "a", "a", "a", "b", "b"]
    segments = segments_of([said(np.zeros((6, 2)), truth, n_segments=3, corpora=corpora)])
    assert segments.weight.sum() == pytest.approx(1)
    by_recording = segments.weight.reshape(6, 3).sum(axis=1)
    np.testing.assert_allclose(by_recording, [1 / 12, 1 / 12, 1 / 12, 1 / 4, 1 / 4, 1 / 4])
    assert len(segments_of([said(np.zeros((6, 2)), truth, corpora=corpora)], "b").truth) == 2


def test_on_speakers_unknown_to_both_fits(tmp_path):
    write_experiment(tmp_path, "glrf", 0.7)
    ledger = read_ledger(tmp_path)
    raw, fitted = (
        unseen_reliability(ledger, ledger.of("glrf"), "nemo", calibrated=calibrated)
        for calibrated in (False, True)
    )
    assert len(raw) == len(fitted) == 3
    assert pooled(fitted).ece < pooled(raw).ece
    assert pooled(raw).weight.sum() == pytest.approx(1)
    assert not unseen_reliability(ledger, ledger.of("glrf")[:1], "nemo", calibrated=True)


def test_folds_that_err_both_ways_make_up_for_each_other_when_pooled():
    high, low = (
        Reliability(np.array([0.5]), np.array([right]), np.array([1.0])) for right in (0.4, 0.6)
    )
    assert (high.ece, low.ece) == (pytest.approx(0.1), pytest.approx(0.1))
    assert pooled([high, low]).ece == pytest.approx(0)


def test_no_fold_is_calibrated_on_itself(tmp_path, monkeypatch):
    write_experiment(tmp_path, "glrf", 0.7)
    ledger = read_ledger(tmp_path)
    sizes = [len(ledger.logits(cell).logits) for cell in ledger.of("glrf")]
    fitted_to = []

    def recorded(segments):
        fitted_to.append(len(segments.truth))
        return fit(segments)

    monkeypatch.setattr("model_export.calibration.fit", recorded)
    unseen_reliability(ledger, ledger.of("glrf"), "nemo", calibrated=True)
    assert fitted_to == [sum(sizes) - own for own in sizes]


def test_a_label_that_nobody_shows_is_left_as_it_is():
    overconfident_one = overconfident()
    shown = SegmentLogits(
        **vars(overconfident_one)
        | {
            "labels": np.array(["sad", "happy", "fear"]),
            "logits": np.pad(overconfident_one.logits, ((0, 0), (0, 1))),
        }
    )
    fitted = fit(segments_of([shown]))
    assert fitted.scale[:2] == pytest.approx((1 / 3, 1 / 3), rel=0.15)
    assert (fitted.scale[2], fitted.bias[2]) == (1, 0)


def test_a_corpus_may_have_a_name_of_two_words():
    truth, corpora = ["sad", "sad", "sad"], ["lab one", "lab two", "c"]
    segments = segments_of([said(np.zeros((3, 2)), truth, corpora=corpora)])
    np.testing.assert_allclose(segments.weight, 1 / 3)


def test_a_model_of_everyone_is_calibrated_on_its_cross_validation(tmp_path):
    write_experiment(tmp_path, "glrf", 0.7)
    found = from_cells(read_ledger(tmp_path), "glrf", f"{4:064x}", None, CORPORA)
    ledger = read_ledger(tmp_path)
    logits = np.concatenate([ledger.logits(cell).logits for cell in ledger.of("glrf")])
    largest = found.calibration.scores(logits.astype(np.float32)).max(axis=1)
    assert np.mean(largest < found.uncertain_below) == pytest.approx(ABSTAIN_SHARE, abs=0.03)
    said = [one for cell in ledger.of("glrf") if (one := ledger.logits(cell)) is not None]
    assert found.neutral_voice == neutral_voice(said)
    write_experiment(tmp_path, "glrf-k10", 0.7, folds=(0, 1))
    with pytest.raises(BadParameter, match="logits of 2 folds, not of all"):
        from_cells(read_ledger(tmp_path), "glrf-k10", f"{8:064x}", None, CORPORA)
    with pytest.raises(BadParameter, match="the model of ffff"):
        from_cells(read_ledger(tmp_path), "glrf", "f" * 64, None, CORPORA)


def test_scores_of_other_corpora_calibrate_nothing(tmp_path):
    write_experiment(tmp_path, "glrf", 0.7)
    with pytest.raises(BadParameter, match="cells of glrf are of mine, nemo, the model of theirs"):
        from_cells(read_ledger(tmp_path), "glrf", f"{4:064x}", None, ["theirs"])


@pytest.mark.parametrize(
    ("cells", "model", "told"),
    [
        (
            "a" * 64,
            "b" * 64,
            "start from the weights aaaaaaaa, the model from the weights bbbbbbbb",
        ),
        ("a" * 64, None, "start from the weights aaaaaaaa, the model from random weights"),
        (None, "b" * 64, "start from random weights, the model from the weights bbbbbbbb"),
    ],
)
def test_scores_from_another_start_calibrate_nothing(tmp_path, cells, model, told):
    write_experiment(tmp_path, "glrf", 0.7, init_sha256=cells)
    with pytest.raises(BadParameter, match=told):
        from_cells(read_ledger(tmp_path), "glrf", f"{4:064x}", model, CORPORA)
    from_cells(read_ledger(tmp_path), "glrf", f"{4:064x}", cells, CORPORA)
    write_experiment(tmp_path, "glrf", 0.7)  # as before cells told it
    from_cells(read_ledger(tmp_path), "glrf", f"{4:064x}", model, CORPORA)


def test_a_fold_without_the_corpus_says_nothing_of_it(tmp_path):
    write_experiment(tmp_path, "glrf", 0.7)
    ledger = read_ledger(tmp_path)
    cells = ledger.of("glrf")
    whole = unseen_reliability(ledger, cells, "nemo", calibrated=False)
    first = ledger.logits(cells[0])
    assert first is not None
    write_cell(tmp_path, cells[0], replace(first, corpus=np.full_like(first.corpus, "mine")))
    parts = unseen_reliability(ledger, cells, "nemo", calibrated=False)
    assert [part.ece for part in parts] == [part.ece for part in whole[1:]]
    assert pooled(parts).ece > 0.01
    second = ledger.logits(cells[1])
    assert second is not None
    write_cell(tmp_path, cells[1], replace(second, corpus=np.full_like(second.corpus, "mine")))
    assert not unseen_reliability(ledger, cells, "nemo", calibrated=False)


def test_scores_of_known_voices_calibrate_nothing(tmp_path):
    write_experiment(tmp_path, "glrf", 0.7)
    share_speakers(tmp_path, "glrf")
    with pytest.raises(BadParameter, match="share speakers"):
        from_cells(read_ledger(tmp_path), "glrf", f"{4:064x}", None, CORPORA)
