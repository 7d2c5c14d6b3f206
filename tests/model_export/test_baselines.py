from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from model_export import whisper
from model_export.baselines import MachineConfig, assess_machine, predict_with_svm
from model_export.corpora import labels_by_corpus, read_manifest
from model_export.evaluation import metrics_by_corpus
from model_export.functionals import Functionals, whisper_mean
from model_export.mel import feature_spec
from model_export.metrics import metrics
from model_export.network import build
from model_export.splits import read_split
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_corpus, write_split

SPEC = feature_spec(24, 13, 50, 7600)
ALL = {"toy": LABELS}


@pytest.fixture
def parts(tmp_path):
    recordings = read_manifest(write_corpus(tmp_path), tmp_path, LABELS)
    split = read_split(write_split(tmp_path))
    return split.select(recordings, "train"), split.select(recordings, "test")


def test_the_svm_learns_what_is_plain_to_hear(parts):
    train, test = parts
    assessed = predict_with_svm(SPEC, train, test, ALL)
    assert metrics(assessed, LABELS)["ua"] > 0.6  # pitch tells the label; chance is 0.2
    with pytest.raises(BadParameter, match="is in train"):
        predict_with_svm(SPEC, [], test, ALL)


def test_the_svm_decides_among_the_labels_of_the_corpus(parts):
    train, test = parts
    two = [r for r in test if r.label in ("sad", "fear")]
    assessed = predict_with_svm(SPEC, train, two, labels_by_corpus(two, LABELS))
    assert {one.predicted for one in assessed} <= {"sad", "fear"}


def test_the_config_of_the_defaults_is_the_svm_of_evaluate(parts, tmp_path):
    train, test = parts
    ticks = []
    assessed, description = assess_machine(
        MachineConfig(), SPEC, train, test, ALL, lambda: ticks.append(1), cache=tmp_path / "cache"
    )
    assert assessed == predict_with_svm(SPEC, train, test, ALL)
    assert len(ticks) == len(train) + len(test)
    # Every recording of so few is a support vector, with a weight in each of 4 pairs of labels.
    n, d = len(train), 5 * 13
    assert description == {
        "parameters": n * d + 4 * n + 10 + 2 * d,
        "macs": n * d + 4 * n,
        "input": "65 statistics of 13 MFCC, the utterance",
    }


def test_any_vector_will_do(parts):
    """A machine on a made-up encoder, whose cost comes on top of the machine's own."""
    train, test = parts

    def encoder(log_mel):
        return np.repeat(log_mel.T[::2], 5, axis=1)[:, :384]

    heard = whisper_mean(encoder)
    config = MachineConfig(input="whisper", C=10.0, gamma=0.01)
    assessed, description = assess_machine(config, SPEC, train, test, ALL, heard=heard)
    assert metrics(assessed, LABELS)["ua"] > 0.6
    assert description["input"] == heard.input
    own = description["parameters"] - whisper.n_parameters() - 10 - 2 * 384
    assert description["macs"] == whisper.n_macs(32_000) + own


def test_what_multiplications_do_not_measure_has_no_macs(parts):
    heard = Functionals("made-up", "two numbers", 0, None, lambda samples: samples[:2])
    _, description = assess_machine(MachineConfig(), SPEC, *parts, ALL, heard=heard)
    assert description["macs"] is None
    assert description["parameters"] > 0


@pytest.mark.parametrize(
    "wrong",
    [{"C": 0.0}, {"gamma": "auto"}, {"gamma": 0.0}, {"input": "wav2vec"}, {"kernel": "rbf"}],
)
def test_a_setting_that_is_not_understood_is_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(MachineConfig).validate_python(wrong)


def test_a_machine_is_not_built_as_a_network():
    with pytest.raises(BadParameter, match="no network"):
        build(MachineConfig(), SPEC, 5)


def test_two_labels_are_told_apart_and_one_is_nothing_to_learn(parts):
    train, test = ([r for r in part if r.label in ("sad", "fear")] for part in parts)
    assessed = predict_with_svm(SPEC, train, test, labels_by_corpus(test, LABELS))
    assert metrics(assessed, LABELS)["ua"] > 0.7
    with pytest.raises(BadParameter, match="all recordings to learn from are sad"):
        predict_with_svm(SPEC, [r for r in train if r.label == "sad"], test, ALL)


def test_a_corpus_of_labels_that_were_not_learned_is_decided_among_its_own(parts):
    """`corpus-out`: what is learned of one corpus need not be what the other shows."""
    train, test = parts
    train = [replace(r, corpus="one") for r in train if r.label in ("angry", "sad")]
    test = [r for r in test if r.label in ("neutral", "fear")]
    corpora = labels_by_corpus(train + test, LABELS)
    assessed = predict_with_svm(SPEC, train, test, corpora)
    assert {one.predicted for one in assessed} == {"neutral"}  # they tie: the first
    assert metrics_by_corpus(test, assessed, corpora)["all"]["ua"] == 0.5
    sad = [replace(r, label="sad") if r.label == "fear" else r for r in test]
    assessed = predict_with_svm(SPEC, train, sad, labels_by_corpus(sad, LABELS))
    assert {one.predicted for one in assessed} == {"sad"}  # the one that was learned
