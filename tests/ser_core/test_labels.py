import pytest

from ser_core.labels import LABELS, NEUTRAL, affect_distance, is_pure


def test_neutral_is_one_of_the_labels() -> None:
    assert NEUTRAL in LABELS
    assert len(set(LABELS)) == len(LABELS) == 5


# Worked out by hand from the paper, Section 3.1.
@pytest.mark.parametrize(
    ("label", "predictions", "pure"),
    [
        ("angry", ["angry"], True),
        ("angry", ["angry", "neutral", "angry"], True),
        ("angry", ["neutral", "angry"], True),
        ("angry", ["angry", "sad"], False),
        ("angry", ["angry", "neutral", "sad"], False),
        ("angry", ["neutral", "neutral"], False),  # its own label is never predicted
        ("angry", ["sad"], False),
        ("neutral", ["neutral", "neutral"], True),
        ("neutral", ["neutral", "happy"], False),
        ("neutral", ["happy"], False),
        ("angry", [], False),
        ("neutral", [], False),
    ],
)
def test_pure_criterion(label: str, predictions: list[str], pure: bool) -> None:
    assert is_pure(label, predictions) is pure


def test_predictions_may_be_any_iterable() -> None:
    assert is_pure("sad", iter(("neutral", "sad")))


def test_affect_distance() -> None:
    for one in LABELS:
        assert affect_distance(one, one) == 0
        for other in LABELS:
            assert affect_distance(one, other) == affect_distance(other, one) <= 2
    # Anger and fear lie side by side, joy and sadness on opposite sides, neutral in the middle.
    nearest = min(set(LABELS) - {"angry"}, key=lambda label: affect_distance("angry", label))
    assert nearest == "fear"
    assert affect_distance("happy", "sad") > 1.9
    for label in set(LABELS) - {NEUTRAL}:
        assert affect_distance(NEUTRAL, label) == pytest.approx(1)


def test_a_label_without_a_place_is_one_away() -> None:
    assert affect_distance("bored", "bored") == 0
    assert affect_distance("bored", "happy") == affect_distance(NEUTRAL, "bored") == 1
