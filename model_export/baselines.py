"""What GLRF must beat: a support vector machine on utterance statistics of the same MFCC."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from model_export.corpora import Recording, load, read_manifest
from model_export.metrics import Assessed, metrics
from model_export.splits import read_split
from ser_core.features import FeatureSpec, Float32, mfcc

_PERCENTILES = (5, 95)


def statistics(features: Float32) -> Float32:
    """MFCC `(T, n_mfcc)`, T >= 1, to `(5 * n_mfcc,)`: mean, standard deviation, 5-95 % range, and
    mean and standard deviation of the frame-to-frame difference.
    """
    delta = np.diff(features, axis=0, prepend=features[:1])
    low, high = np.percentile(features, _PERCENTILES, axis=0)
    parts = (features.mean(0), features.std(0), high - low, delta.mean(0), delta.std(0))
    return np.concatenate(parts).astype(np.float32)


def evaluate_svm(
    features: FeatureSpec,
    labels: tuple[str, ...],
    manifest: Path,
    data: Path,
    split: Path,
    subset: str = "test",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Trains on the split's train speakers, assesses on `subset`: `{"corpora": {name: metrics}}`.

    Standardised statistics, RBF kernel, scikit-learn's default C and gamma, balanced classes; one
    machine for all corpora, as GLRF is one network. The silence at a recording's edges is left in
    for both.
    """
    speakers = read_split(split)
    recordings = read_manifest(manifest, data, labels)
    parts: list[list[Recording]] = [
        speakers.select(recordings, "train"),
        speakers.select(recordings, subset),  # pyright: ignore[reportArgumentType]
    ]
    total, done = sum(len(part) for part in parts), 0
    inputs: list[list[Float32]] = [[], []]
    for part, kept in zip(parts, inputs, strict=True):
        for recording in part:
            kept.append(statistics(mfcc(load(recording.path, features.sample_rate_hz), features)))
            done += 1
            on_progress(done, total)
    machine = make_pipeline(StandardScaler(), SVC(class_weight="balanced"))
    machine.fit(np.stack(inputs[0]), [recording.label for recording in parts[0]])
    predicted = machine.predict(np.stack(inputs[1]))
    assessed = [
        Assessed(recording.label, str(label), (str(label),))
        for recording, label in zip(parts[1], predicted, strict=True)
    ]
    corpora: dict[str, Any] = {}
    for corpus in sorted({recording.corpus for recording in parts[1]}):
        own = [one for one, r in zip(assessed, parts[1], strict=True) if r.corpus == corpus]
        corpora[corpus] = metrics(own, labels)
    return {"corpora": corpora}
