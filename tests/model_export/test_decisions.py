from collections.abc import Sequence

import numpy as np

from model_export.cells import SegmentLogits
from model_export.decisions import decide

ALL = ("angry", "neutral", "sad")


def said(
    logits: Sequence[Sequence[float]], recording: list[int], reference: list[str]
) -> SegmentLogits:
    n = len(reference)
    return SegmentLogits(
        logits=np.array(logits, np.float16).reshape(-1, 3),
        recording=np.array(recording, np.int32),
        paths=np.array([str(i) for i in range(n)]),
        reference=np.array(reference),
        corpus=np.array(["a"] * n),
        speaker=np.array(["x"] * n),
        labels=np.array(ALL),
    )


def test_scores_are_averaged_and_not_logits():
    # Mean logits favour angry (4 against 3), mean sigmoids favour sad (0.95 against 0.5).
    logits = [[20, -9, 3], [-12, -9, 3]]
    decided = decide(said(logits, [0, 0], ["sad"]), {"a": ALL})
    assert decided.predicted.tolist() == ["sad"]


def test_pure_needs_the_label_once_and_nothing_but_neutral_beside_it():
    angry, neutral, sad = [3, 0, 0], [0, 3, 0], [0, 0, 3]
    logits = [angry, neutral, angry, sad, neutral, neutral, neutral, sad]
    decided = decide(
        said(logits, [0, 0, 1, 1, 2, 2, 3, 3], ["angry", "angry", "neutral", "neutral"]),
        {"a": ALL},
    )
    assert decided.is_pure.tolist() == [True, False, True, False]


def test_a_label_that_the_corpus_lacks_is_never_decided():
    decided = decide(said([[9, 1, 2]], [0], ["sad"]), {"a": ("neutral", "sad")})
    assert decided.predicted.tolist() == ["sad"]
    assert decided.is_pure.tolist() == [True]


def test_a_recording_without_segments_is_neutral():
    decided = decide(said([[3, 0, 0]], [1], ["neutral", "angry", "sad"]), {"a": ALL})
    assert decided.predicted.tolist() == ["neutral", "angry", "neutral"]
    assert decided.is_pure.tolist() == [True, True, False]


def test_segments_need_not_stand_in_a_row():
    decided = decide(
        said([[3, 0, 0], [0, 0, 3], [3, 0, 0]], [0, 1, 0], ["angry", "sad"]), {"a": ALL}
    )
    assert decided.predicted.tolist() == ["angry", "sad"]
    assert decided.is_pure.all()
