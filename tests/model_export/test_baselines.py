import numpy as np
import pytest

from model_export.baselines import predict_with_svm, statistics
from model_export.corpora import read_manifest
from model_export.mel import feature_spec
from model_export.metrics import metrics
from model_export.splits import read_split
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_corpus, write_split


def test_statistics_by_hand():
    features = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]], np.float32)
    values = statistics(features)
    assert values == pytest.approx(
        [2, 1, np.sqrt(8 / 3), 0, 3.6, 0, 4 / 3, 0, np.sqrt(8 / 9), 0], abs=1e-5
    )


def test_the_svm_learns_what_is_plain_to_hear(tmp_path):
    recordings = read_manifest(write_corpus(tmp_path), tmp_path, LABELS)
    split = read_split(write_split(tmp_path))
    train, test = (split.select(recordings, subset) for subset in ("train", "test"))
    assessed = predict_with_svm(feature_spec(24, 13, 50, 7600), train, test)
    assert metrics(assessed, LABELS)["ua"] > 0.6  # pitch tells the label; chance is 0.2
    with pytest.raises(BadParameter, match="is in train"):
        predict_with_svm(feature_spec(24, 13, 50, 7600), [], test)


def test_the_svm_decides_among_the_labels_of_the_corpus(tmp_path):
    recordings = read_manifest(write_corpus(tmp_path), tmp_path, LABELS)
    two = [r for r in recordings if r.speaker == "s4" and r.label in ("sad", "fear")]
    train = [r for r in recordings if r.speaker in ("s1", "s2")]
    assessed = predict_with_svm(feature_spec(24, 13, 50, 7600), train, two)
    assert {one.predicted for one in assessed} <= {"sad", "fear"}
