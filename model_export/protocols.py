"""Protocols: how recordings are divided, for cross-validation or for one training.

    grouped         k folds of speakers, each with all corpora and genders
    speaker-out     one fold a speaker
    corpus-out      one fold a corpus: what is left in another language, room and style
    random          k folds of recordings, whoever speaks: the paper's protocol on IEMOCAP
    holdout         one fold of speakers, 8:2: the paper's protocol on ST-EMO
    train-dev-test  speakers of one training, 6:2:2
    everyone        one training on all speakers

All of them are the same for the same recordings and seed, in whatever order these come.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from model_export.corpora import Recording
from model_export.splits import By, FoldsFile, SplitFile, Unit, unit_of, units
from ser_core.errors import BadParameter


def grouped(recordings: list[Recording], n_folds: int = 5, seed: int = 1) -> FoldsFile:
    """Speakers over `n_folds` folds: every corpus evenly, its genders evenly, then recordings.

    In each corpus the folds differ by one speaker at most, and by one of each gender. Raises
    `BadParameter` where a corpus has fewer speakers than there are folds.
    """
    _check_n_folds(n_folds)
    # Each corpus deals its speakers by itself, so `total` alone sees the folds' size over all.
    total: Counter[int] = Counter()
    folds: list[list[Unit]] = [[] for _ in range(n_folds)]
    for corpus, speakers in _speakers(recordings).items():
        if len(speakers) < n_folds:
            raise BadParameter(
                f"{corpus} has {len(speakers)} speakers for {n_folds} folds",
                remedy="ask for fewer folds, or leave the corpus out",
            )
        n_speakers: Counter[int] = Counter()
        by_gender: dict[str, list[str]] = defaultdict(list)
        for speaker in _shuffled(speakers, seed, corpus):
            by_gender[speakers[speaker][0].gender].append(speaker)
        # The rarer gender last: it fills up the folds that the other left small.
        for names in sorted(by_gender.values(), key=len, reverse=True):
            of_gender: Counter[int] = Counter()
            for name in names:
                smallest = min(
                    range(n_folds), key=lambda i: (of_gender[i], n_speakers[i], total[i], i)
                )
                folds[smallest].append((corpus, name))
                of_gender[smallest] += 1
                n_speakers[smallest] += 1
                total[smallest] += len(speakers[name])
    return _file("grouped", "speaker", folds, seed)


def speaker_out(recordings: list[Recording]) -> FoldsFile:
    """Leave one speaker out: a fold a speaker, in the order of corpora and names."""
    everyone = [
        (corpus, name) for corpus, names in _speakers(recordings).items() for name in sorted(names)
    ]
    if len(everyone) < 2:
        raise BadParameter("there is one speaker only", remedy="give a manifest of more")
    return _file("speaker-out", "speaker", [[unit] for unit in everyone])


def corpus_out(recordings: list[Recording]) -> FoldsFile:
    """Leave one corpus out: a fold a corpus, in the order of their names."""
    corpora = _speakers(recordings)
    if len(corpora) < 2:
        raise BadParameter("there is one corpus only", remedy="give a manifest of more")
    folds = [[(corpus, name) for name in names] for corpus, names in corpora.items()]
    return _file("corpus-out", "speaker", folds)


def random_folds(recordings: list[Recording], n_folds: int = 5, seed: int = 1) -> FoldsFile:
    """Recordings over `n_folds` folds, whoever speaks: 80 % and 20 % with five.

    The paper's protocol on IEMOCAP (section 3). It is **not speaker-disjoint**: the voices of the
    test are known from training, which reads higher than what new speakers would get.
    """
    _check_n_folds(n_folds)
    by_corpus: dict[str, list[str]] = defaultdict(list)
    for recording in recordings:
        by_corpus[recording.corpus].append(unit_of(recording, "recording")[1])
    folds: list[list[Unit]] = [[] for _ in range(n_folds)]
    for corpus in sorted(by_corpus):
        names = _shuffled(by_corpus[corpus], seed, corpus)
        if len(names) < n_folds:
            raise BadParameter(
                f"{corpus} has {len(names)} recordings for {n_folds} folds",
                remedy="ask for fewer folds",
            )
        for i, name in enumerate(names):
            folds[i % n_folds].append((corpus, name))
    return _file("random", "recording", folds, seed)


def holdout(recordings: list[Recording], n_parts: int = 5, seed: int = 1) -> FoldsFile:
    """One part of `n_parts` of the speakers is tested, the rest trained on: 8:2 with five.

    The paper's protocol on ST-EMO (section 3), with no speaker on both sides.
    """
    parts = grouped(recordings, n_parts, seed).folds
    train = [unit for part in parts[1:] for unit in units(part)]
    return _file("holdout", "speaker", [units(parts[0])], seed, train)


def train_dev_test(recordings: list[Recording], n_parts: int = 5, seed: int = 1) -> SplitFile:
    """One part of `n_parts` of the speakers is tested, one watched, the rest trained on."""
    if n_parts < 3:
        raise BadParameter(
            f"{n_parts} parts are no train, dev and test", remedy="ask for 3 or more"
        )
    test, dev, *train = grouped(recordings, n_parts, seed).folds
    return SplitFile(
        train=_by_corpus(unit for part in train for unit in units(part)), dev=dev, test=test
    )


def everyone(recordings: list[Recording]) -> SplitFile:
    """All speakers are trained on; nobody is left to watch or to test."""
    speakers = {recording.speaker_key for recording in recordings}
    return SplitFile(train=_by_corpus(speakers), dev={}, test={})


#: What `glrf corpus split` can make, from recordings, number of parts and seed.
PROTOCOLS: dict[str, Callable[[list[Recording], int, int], FoldsFile | SplitFile]] = {
    "grouped": grouped,
    "speaker-out": lambda recordings, _n_folds, _seed: speaker_out(recordings),
    "corpus-out": lambda recordings, _n_folds, _seed: corpus_out(recordings),
    "random": random_folds,
    "holdout": holdout,
    "train-dev-test": train_dev_test,
    "everyone": lambda recordings, _n_parts, _seed: everyone(recordings),
}


def _file(
    protocol: str,
    by: By,
    folds: Iterable[Iterable[Unit]],
    seed: int | None = None,
    train: Iterable[Unit] = (),
) -> FoldsFile:
    return FoldsFile(
        protocol=protocol,
        seed=seed,
        by=by,
        train=_by_corpus(train),
        folds=[_by_corpus(part) for part in folds],
    )


def _by_corpus(part: Iterable[Unit]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = defaultdict(list)
    for corpus, name in sorted(part):
        named[corpus].append(name)
    return dict(named)


def _speakers(recordings: list[Recording]) -> dict[str, dict[str, list[Recording]]]:
    """Recordings by corpus, in order, and speaker."""
    found: dict[str, dict[str, list[Recording]]] = defaultdict(lambda: defaultdict(list))
    for recording in sorted(recordings, key=lambda r: r.corpus):
        found[recording.corpus][recording.speaker].append(recording)
    return found


def _shuffled(names: Iterable[str], seed: int, corpus: str) -> list[str]:
    """In an order that the seed gives to a corpus, whatever the manifest's order and company."""
    ordered = sorted(names)
    random.Random(f"{seed} {corpus}").shuffle(ordered)
    return ordered


def _check_n_folds(n_folds: int) -> None:
    if n_folds < 2:
        raise BadParameter(
            f"{n_folds} folds leave nothing to learn from", remedy="ask for 2 or more"
        )
