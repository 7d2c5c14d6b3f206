from collections import Counter
from pathlib import Path

import pytest

from model_export.corpora import Recording
from model_export.protocols import (
    PROTOCOLS,
    corpus_out,
    everyone,
    grouped,
    holdout,
    random_folds,
    speaker_out,
    train_dev_test,
)
from model_export.splits import FoldsFile, read_folds, read_split, units, write_division
from ser_core.errors import BadParameter


def corpus(
    name: str, women: int, men: int, *, n_recordings: int = 6, unknown: int = 0
) -> list[Recording]:
    """Speaker i of a gender has `n_recordings + i` recordings."""
    made = []
    for gender, n in (("female", women), ("male", men), ("", unknown)):
        for i in range(n):
            speaker = f"{gender[:1]}{i}"
            for take in range(n_recordings + i):
                path = f"{name}/{speaker}-{take}.wav"
                made.append(
                    Recording(Path(path), name, speaker, "sad", 1.0, gender=gender, name=path)
                )
    return made


def both() -> list[Recording]:
    return corpus("polish", 3, 4) + corpus("english", 10, 10)


def parts(file: FoldsFile) -> list[set[tuple[str, str]]]:
    return [set(units(part)) for part in file.folds]


def spread(file: FoldsFile, name: str, initial: str = "") -> list[int]:
    """Speakers of a corpus in each fold, all or those of one gender."""
    return sorted(
        sum(corpus == name and speaker.startswith(initial) for corpus, speaker in part)
        for part in parts(file)
    )


@pytest.mark.parametrize("seed", range(1, 6))
def test_grouped_folds_spread_corpora_and_genders(seed):
    file = grouped(both(), 5, seed)
    assert spread(file, "polish") == [1, 1, 1, 2, 2]
    assert spread(file, "polish", "f") == [0, 0, 1, 1, 1]
    assert spread(file, "polish", "m") == [0, 1, 1, 1, 1]
    assert spread(file, "english", "f") == spread(file, "english", "m") == [2] * 5
    everyone = Counter(unit for part in parts(file) for unit in part)
    assert set(everyone.values()) == {1}
    assert len(everyone) == 27


@pytest.mark.parametrize(
    ("women", "men", "unknown", "n_folds"), [(6, 6, 0, 5), (4, 4, 0, 5), (7, 1, 3, 4), (0, 0, 9, 2)]
)
def test_folds_differ_by_one_speaker_at_most(women, men, unknown, n_folds):
    file = grouped(corpus("c", women, men, unknown=unknown), n_folds)
    assert spread(file, "c")[-1] - spread(file, "c")[0] <= 1
    for initial in "fm":
        assert spread(file, "c", initial)[-1] - spread(file, "c", initial)[0] <= 1


def test_recordings_are_balanced_where_speakers_leave_a_choice():
    """Three light speakers beside a heavy and a lighter one: two of them join the lighter."""
    heavy = corpus("a", 2, 0, n_recordings=50)[:60]  # f0 with 50, f1 with 10
    light = corpus("b", 3, 0)
    file = grouped(heavy + light, 2)
    with_f1 = next(part for part in parts(file) if ("a", "f1") in part)
    assert sum(corpus == "b" for corpus, _ in with_f1) == 2


def test_the_same_seed_gives_the_same_folds_in_any_order():
    recordings = both()
    for make in PROTOCOLS.values():
        assert make(recordings, 5, 3) == make(recordings[::-1], 5, 3)
    assert grouped(recordings, 5, 1) != grouped(recordings, 5, 2)


def test_one_speaker_is_left_out_at_a_time():
    alone = speaker_out(corpus("polish", 3, 4))
    assert [units(part) for part in alone.folds][:2] == [[("polish", "f0")], [("polish", "f1")]]
    assert len(speaker_out(both()).folds) == 27


def test_one_corpus_is_left_out_at_a_time(tmp_path):
    recordings = both()
    path = tmp_path / "corpora.json"
    write_division(corpus_out(recordings), path)
    folds = read_folds(path)
    assert (folds.n_folds, folds.is_speaker_disjoint) == (2, True)
    for fold, tested in enumerate(["english", "polish"]):
        train, test = folds.select(recordings, fold)
        assert {r.corpus for r in test} == {tested}
        assert tested not in {r.corpus for r in train}
        assert len(train) + len(test) == len(recordings)


def test_random_folds_are_by_recording_and_say_so(tmp_path):
    recordings = both()
    path = tmp_path / "random.json"
    write_division(random_folds(recordings, 5), path)
    folds = read_folds(path)
    assert (folds.by, folds.is_speaker_disjoint) == ("recording", False)
    for fold in range(5):
        train, test = folds.select(recordings, fold)
        assert len(test) / len(recordings) == pytest.approx(0.2, abs=0.01)
        assert {r.speaker_key for r in test} & {r.speaker_key for r in train}
        assert {r.corpus for r in test} == {"polish", "english"}


def test_holdout_is_8_to_2_with_no_speaker_on_both_sides(tmp_path):
    recordings = corpus("st-emo", 50, 50, n_recordings=1)
    path = tmp_path / "holdout.json"
    write_division(holdout(recordings), path)
    folds = read_folds(path)
    assert folds.n_folds == 1
    train, test = folds.select(recordings, 0)
    assert Counter(s[0] for s in {r.speaker for r in test}) == {"f": 10, "m": 10}
    assert len({r.speaker for r in train}) == 80
    assert not {r.speaker_key for r in test} & {r.speaker_key for r in train}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: grouped(both(), 8), "polish has 7 speakers for 8 folds"),
        (lambda: grouped(both(), 1), "1 folds leave nothing to learn from"),
        (lambda: random_folds(both(), 0), "0 folds leave nothing to learn from"),
        (lambda: random_folds(corpus("c", 1, 0, n_recordings=3), 5), "c has 3 recordings for 5"),
        (lambda: speaker_out(corpus("c", 1, 0)), "there is one speaker only"),
        (lambda: corpus_out(corpus("c", 4, 3)), "there is one corpus only"),
    ],
)
def test_what_cannot_be_divided_is_refused(make, said):
    with pytest.raises(BadParameter, match=said):
        make()


class TestOneTraining:
    def test_parts_of_the_speakers(self, tmp_path):
        recordings = both()
        divided = train_dev_test(recordings)
        assert divided == train_dev_test(recordings[::-1])
        assert divided != train_dev_test(recordings, seed=2)
        path = tmp_path / "split.json"
        write_division(divided, path)
        split = read_split(path)  # refuses a speaker in two subsets
        assert sum(map(len, split.speakers.values())) == 27
        for part in (divided.dev, divided.test):
            assert set(part) == {"polish", "english"}
            assert len(part["english"]) == 4
            assert 1 <= len(part["polish"]) <= 2

    def test_too_few_parts(self):
        with pytest.raises(BadParameter, match="2 parts are no train, dev and test"):
            train_dev_test(both(), 2)

    def test_everyone(self):
        divided = everyone(both())
        assert len(units(divided.train)) == 27
        assert not divided.dev
        assert not divided.test
