import pytest

from model_export.metrics import Assessed, metrics

LABELS = ("angry", "happy", "neutral")


def one(reference, predicted, *segments):
    return Assessed(reference, predicted, segments or (predicted,))


def test_by_hand():
    result = metrics(
        [
            one("angry", "angry", "angry", "neutral"),  # pure
            one("angry", "angry", "angry", "happy"),  # right, not pure
            one("angry", "neutral", "neutral"),  # never hits angry
            one("neutral", "neutral", "neutral", "neutral"),  # pure
            one("happy", "angry", "happy", "angry"),
        ],
        LABELS,
    )
    assert result["wa"] == pytest.approx(3 / 5)
    assert result["ua"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result["micro_f1"] == pytest.approx(3 / 5)
    assert result["pure_acc"] == pytest.approx(2 / 5)
    assert result["n"] == 5
    assert result["confusion"] == [[2, 0, 1], [1, 0, 0], [0, 0, 1]]


def test_neutral_is_pure_only_when_every_segment_is():
    result = metrics([one("neutral", "neutral", "neutral", "happy", "neutral")], LABELS)
    assert (result["wa"], result["pure_acc"]) == (1, 0)


def test_ua_leaves_out_labels_that_do_not_occur():
    assert metrics([one("angry", "angry"), one("happy", "neutral")], LABELS)["ua"] == 0.5


def test_nothing_to_assess():
    with pytest.raises(ValueError, match="no utterances"):
        metrics([], LABELS)
