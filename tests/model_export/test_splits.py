import hashlib
from pathlib import Path

import pytest

from model_export.corpora import Recording, read_manifest
from model_export.splits import SUBSETS, FoldsFile, read_folds, read_split, write_division
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_corpus, write_split

SPLITS = Path(__file__).parents[2] / "model_export" / "splits"


def test_speakers_do_not_mix(tmp_path):
    recordings = read_manifest(write_corpus(tmp_path), tmp_path, LABELS)
    split = read_split(write_split(tmp_path))
    chosen = [{r.speaker for r in split.select(recordings, subset)} for subset in SUBSETS]
    assert chosen == [{"s1", "s2"}, {"s3"}, {"s4"}]


def test_a_speaker_in_two_subsets_is_refused(tmp_path):
    split = write_split(tmp_path)
    split.write_text(split.read_text().replace('"s4"', '"s1"'))
    with pytest.raises(BadParameter, match=r"\('toy', 's1'\).*stand in train and in test"):
        read_split(split)


def test_a_missing_subset_or_file_is_refused(tmp_path):
    split = write_split(tmp_path)
    split.write_text('{"train": {}}')
    with pytest.raises(BadParameter, match="dev Field required"):
        read_split(split)
    with pytest.raises(BadParameter, match="does not exist"):
        read_split(tmp_path / "none.json")


def test_folds_are_no_split_and_a_split_no_folds(tmp_path):
    with pytest.raises(BadParameter) as caught:
        read_split(written(tmp_path))
    assert "glrf corpus split --protocol train-dev-test" in caught.value.remedy
    with pytest.raises(BadParameter) as caught:
        read_folds(write_split(tmp_path))
    assert "glrf corpus split does" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "[]", '{"train": ["s1"]}', '{"train": {"toy": "s1"}}', "{"])
def test_a_file_of_another_shape_is_refused(tmp_path, text):
    split = tmp_path / "split.json"
    split.write_text(text)
    with pytest.raises(BadParameter, match=r"split\.json"):
        read_split(split)


def recording(name: str, speaker: str, corpus: str = "toy") -> Recording:
    return Recording(Path(name), corpus, speaker, "sad", 1.0, name=name)


def written(root: Path, **changes) -> Path:
    """Folds of the toy corpus: s1, then s2 and s3; s4 is always in training."""
    parts = {
        "protocol": "mine",
        "by": "speaker",
        "train": {"toy": ["s4"]},
        "folds": [{"toy": ["s1"]}, {"toy": ["s2", "s3"]}],
    }
    path = root / "folds.json"
    write_division(FoldsFile.model_validate(parts | changes), path)
    return path


def test_a_fold_tests_its_part_and_learns_the_rest(tmp_path):
    recordings = read_manifest(write_corpus(tmp_path), tmp_path, LABELS)
    path = written(tmp_path)
    folds = read_folds(path)
    assert folds.n_folds == 2
    assert folds.is_speaker_disjoint
    assert folds.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    train, test = folds.select(recordings, 1)
    assert [r.speaker for r in train] == ["s1"] * 10 + ["s4"] * 10
    assert {r.speaker for r in test} == {"s2", "s3"}
    assert sorted(train + test, key=lambda r: r.name) == sorted(recordings, key=lambda r: r.name)


def test_folds_by_recording_know_them_by_name(tmp_path):
    path = written(
        tmp_path, by="recording", train={}, folds=[{"toy": ["a/1.wav"]}, {"toy": ["a/2.wav"]}]
    )
    folds = read_folds(path)
    assert not folds.is_speaker_disjoint
    recordings = [recording("a/1.wav", "s1"), recording("a/2.wav", "s1")]
    assert folds.select(recordings, 0) == ([recordings[1]], [recordings[0]])
    with pytest.raises(BadParameter, match="has no name in a manifest"):
        folds.select([Recording(Path("a/1.wav"), "toy", "s1", "sad", 1.0)], 0)


def test_speakers_that_the_folds_do_not_know_have_no_part(tmp_path):
    folds = read_folds(written(tmp_path))
    recordings = [recording(f"{name}.wav", name) for name in ("s5", "s1", "s2", "s0")]
    train, test = folds.select(recordings, 0)
    assert {r.speaker for r in train + test} == {"s1", "s2"}
    assert folds.others(recordings) == [("toy", "s0"), ("toy", "s5")]
    assert folds.others(recordings[1:3]) == []
    assert folds.missing(recordings) == [("toy", "s3"), ("toy", "s4")]
    assert folds.missing([recording(f"s{n}.wav", f"s{n}") for n in (1, 2, 3, 4)]) == []


@pytest.mark.parametrize(
    ("speakers", "fold", "said"),
    [
        (("s1", "s2"), 2, "there is no fold 2"),
        (("s1", "s2"), -1, "there is no fold -1"),
        (("s2", "s4"), 0, "fold 0 has no recordings to test on"),
        (("s1",), 0, "fold 0 has no recordings to learn from"),
    ],
)
def test_a_selection_that_makes_no_fold_is_refused(tmp_path, speakers, fold, said):
    folds = read_folds(written(tmp_path))
    with pytest.raises(BadParameter, match=said):
        folds.select([recording(f"{name}.wav", name) for name in speakers], fold)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds": [{"toy": ["s1"]}, {"toy": ["s1"]}]}, r"\('toy', 's1'\).* more than once"),
        ({"train": {"toy": ["s1"]}}, r"\('toy', 's1'\).* more than once"),
        ({"folds": [{"toy": ["s1"]}, {}]}, "has an empty fold"),
    ],
)
def test_folds_that_overlap_or_are_empty_are_refused(tmp_path, changes, said):
    with pytest.raises(BadParameter, match=said):
        read_folds(written(tmp_path, **changes))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"protocol": "mine", "by": "mood", "folds": [{}]}', '{"folds": []}']
)
def test_folds_of_another_shape_are_refused(tmp_path, text):
    path = tmp_path / "folds.json"
    path.write_text(text)
    with pytest.raises(BadParameter, match=r"folds\.json"):
        read_folds(path)


def test_the_committed_folds_have_both_corpora_and_both_genders_known():
    folds = read_folds(SPLITS / "nemo-ravdess-5fold.json")
    assert folds.n_folds == 5
    everyone = frozenset[tuple[str, str]]().union(*folds.test)
    assert [sum(corpus == name for corpus, _ in everyone) for name in ("nemo", "ravdess")] == [
        7,
        20,
    ]
    for part in folds.test:
        actors = [int(speaker[1:]) for corpus, speaker in part if corpus == "ravdess"]
        assert [sum(n % 2 == parity for n in actors) for parity in (0, 1)] == [2, 2]
        assert 1 <= sum(corpus == "nemo" for corpus, _ in part) <= 2
