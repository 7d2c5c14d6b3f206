import numpy as np
import pytest

from model_export.cells import SegmentLogits
from model_export.neutral import neutral_voice, with_baseline
from ser_core.baseline import NeutralVoice

LABELS = ("angry", "neutral", "sad")
USUAL = {"angry": (2.0, 0.0, -1.0), "neutral": (-1.0, 1.0, 0.0), "sad": (-2.0, 0.5, 2.0)}


def said(
    people: dict[str, tuple[float, float]], *, corpus: str = "a", n_each: int = 4, noise: float = 0
) -> SegmentLogits:
    """Speakers whose neutral logits are moved by one number, and the others by another."""
    rng = np.random.default_rng(1)
    rows = [
        (speaker, label, np.add(USUAL[label], calm if label == "neutral" else moved))
        for speaker, (calm, moved) in people.items()
        for label in LABELS
        for _ in range(n_each)
    ]
    logits = np.repeat([row[2] for row in rows], 2, axis=0)
    logits = logits + noise * rng.standard_normal(logits.shape)
    return SegmentLogits(
        logits=logits.astype(np.float16),
        recording=np.repeat(np.arange(len(rows), dtype=np.int32), 2),
        paths=np.array([f"{i:03}.wav" for i in range(len(rows))]),
        reference=np.array([row[1] for row in rows]),
        corpus=np.array([corpus] * len(rows)),
        speaker=np.array([row[0] for row in rows]),
        labels=np.array(LABELS),
    )


def test_the_share_is_how_much_of_it_other_moods_show() -> None:
    found = neutral_voice([said({"x": (2, 1), "y": (-2, -1)})])
    assert found is not None
    assert found.logits == pytest.approx(USUAL["neutral"], abs=1e-3)
    assert found.share == pytest.approx(0.5, abs=1e-3)


def test_noise_in_what_is_heard_makes_it_smaller() -> None:
    people = {f"s{i}": (x, x) for i, x in enumerate(np.linspace(-1, 1, 21))}
    assert neutral_voice([said(people, noise=0)]).share == pytest.approx(1, abs=1e-2)  # type: ignore[union-attr]
    assert 0.2 < neutral_voice([said(people, noise=1.5)]).share < 0.8  # type: ignore[union-attr]


def test_corpora_weigh_the_same_however_many_speak_in_them() -> None:
    many = said({f"m{i}": (1.0, 1.0) for i in range(9)}, corpus="many")
    few = said({"f": (-1.0, -1.0)}, corpus="few")
    found = neutral_voice([many, few])
    assert found is not None
    assert found.logits == pytest.approx(USUAL["neutral"], abs=1e-3)
    assert found.share == pytest.approx(1.0, abs=1e-3)


def test_it_is_never_taken_off_the_wrong_way_round() -> None:
    assert neutral_voice([said({"x": (1, -1), "y": (-1, 1)})]).share == 0  # type: ignore[union-attr]
    assert neutral_voice([said({"x": (0.1, 1), "y": (-0.1, -1)})]).share == 1  # type: ignore[union-attr]


def test_without_speakers_or_the_label_there_is_none() -> None:
    assert neutral_voice([said({"x": (1, 1)})]) is None
    two = said({"x": (1, 1), "y": (0, 0)})
    assert neutral_voice([SegmentLogits(**vars(two) | {"labels": np.array(list("abc"))})]) is None
    calm = two.reference == "neutral"
    only = SegmentLogits(
        **vars(two)
        | {
            "logits": two.logits[calm[two.recording]],
            "recording": (np.cumsum(calm) - 1)[two.recording[calm[two.recording]]].astype("i4"),
            **{
                name: getattr(two, name)[calm]
                for name in ("paths", "reference", "corpus", "speaker")
            },
        }
    )
    assert neutral_voice([only]) is None


def test_a_test_fold_with_a_baseline() -> None:
    fold = said({"x": (2, 1), "y": (-2, -1)})
    neutral = NeutralVoice(USUAL["neutral"], 0.5)
    plain, relative = with_baseline(fold, neutral, 2)
    assert len(plain.paths) == len(fold.paths) - 4
    assert list(plain.paths) == list(relative.paths)
    first = [p for p, r in zip(fold.paths, fold.reference, strict=True) if r == "neutral"]
    assert not {*first[:2], *first[4:6]} & set(plain.paths)
    for name in ("angry", "sad"):
        own = (relative.reference == name)[relative.recording]
        np.testing.assert_allclose(
            relative.logits[own].astype(float), [USUAL[name]] * own.sum(), atol=2e-3
        )
    moved = plain.logits.astype(float) - relative.logits.astype(float)
    speaker = plain.speaker[plain.recording]
    np.testing.assert_allclose(moved[speaker == "x"], 1, atol=2e-3)
    np.testing.assert_allclose(moved[speaker == "y"], -1, atol=2e-3)


def test_who_has_too_little_neutral_speech_is_left_out() -> None:
    plain, relative = with_baseline(
        said({"x": (0, 0)}, n_each=2), NeutralVoice(USUAL["neutral"], 0.5), 2
    )
    assert len(plain.paths) == len(relative.logits) == 0
