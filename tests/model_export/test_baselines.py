import numpy as np
import pytest

from model_export.baselines import evaluate_svm, statistics
from model_export.mel import feature_spec
from tests.model_export.corpus import LABELS, write_corpus, write_split


def test_statistics_by_hand():
    features = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]], np.float32)
    values = statistics(features)
    assert values == pytest.approx(
        [2, 1, np.sqrt(8 / 3), 0, 3.6, 0, 4 / 3, 0, np.sqrt(8 / 9), 0], abs=1e-5
    )


def test_the_svm_learns_what_is_plain_to_hear(tmp_path):
    result = evaluate_svm(
        feature_spec(24, 13, 50, 7600),
        LABELS,
        write_corpus(tmp_path),
        tmp_path,
        write_split(tmp_path),
    )
    assert result["corpora"]["toy"]["n"] == 10
    assert result["corpora"]["toy"]["ua"] > 0.6  # pitch tells the label; chance is 0.2
