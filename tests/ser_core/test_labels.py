import pytest

from ser_core.labels import LABELS, NEUTRAL, is_pure


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
