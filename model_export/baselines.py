"""What GLRF must beat: a support vector machine on utterance statistics of the same MFCC."""

from collections.abc import Callable

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from model_export.corpora import Recording, labels_by_corpus, load
from model_export.metrics import Assessed
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec, Float32, mfcc

_PERCENTILES = (5, 95)


def statistics(features: Float32) -> Float32:
    """MFCC `(T, n_mfcc)`, T >= 1, to statistics `(5 * n_mfcc,)`.

    Mean, standard deviation and 5-95 % range, then mean and standard deviation of the
    frame-to-frame difference.
    """
    delta = np.diff(features, axis=0, prepend=features[:1])
    low, high = np.percentile(features, _PERCENTILES, axis=0)
    parts = (features.mean(0), features.std(0), high - low, delta.mean(0), delta.std(0))
    return np.concatenate(parts).astype(np.float32)


def predict_with_svm(
    features: FeatureSpec,
    train: list[Recording],
    test: list[Recording],
    on_recording: Callable[[], None] | None = None,
) -> list[Assessed]:
    """Trains on `train` and decides on `test`, one prediction an utterance.

    Standardised statistics, RBF kernel, scikit-learn's default C and gamma, balanced classes; one
    machine for all corpora, as GLRF is one network. In a corpus that lacks a label, decisions are
    taken among the labels it has, as for GLRF. The silence at a recording's edges is left in for
    both. `on_recording` is called after each recording is read.

    Raises `BadParameter` when there is nothing to train on.
    """
    if not train:
        raise BadParameter("no recording of the manifest is in train", remedy="check the split")

    def inputs(recordings: list[Recording]) -> Float32:
        rows: list[Float32] = []
        for recording in recordings:
            samples = load(recording.path, features.sample_rate_hz)
            rows.append(statistics(mfcc(samples, features)))
            if on_recording is not None:
                on_recording()
        return np.stack(rows)

    machine = make_pipeline(StandardScaler(), SVC(class_weight="balanced"))
    machine.fit(inputs(train), [recording.label for recording in train])
    known = tuple(str(label) for label in machine.classes_)
    margins = np.reshape(machine.decision_function(inputs(test)), (len(test), -1))
    among = labels_by_corpus(test, known)
    assessed: list[Assessed] = []
    for recording, margin in zip(test, margins, strict=True):
        score = dict(zip(known, margin, strict=True))
        predicted = max(among[recording.corpus], key=lambda label: score[label])
        assessed.append(Assessed(recording.label, predicted, (predicted,)))
    return assessed
