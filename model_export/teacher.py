"""What a frozen encoder with a trained head says of the training recordings, to be distilled."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from model_export.arrays import read_arrays
from model_export.corpora import Recording
from ser_core.errors import BadParameter
from ser_core.features import Float32

#: Inverse strength of the head's L2 penalty.
_C = 1e-2


@dataclass(frozen=True)
class Lesson:
    """A teacher on the train recordings, in their order.

    `posteriors` float32 `(n, n_labels)` sum to 1; `embeddings` float32 `(n, d)` are standardised.
    """

    posteriors: Tensor
    embeddings: Tensor


def read_embeddings(path: Path) -> dict[str, Float32]:
    """Embeddings `(d,)` by recording, from an .npz of `paths` (`Recording.name`) and `stats`.

    Raises `BadParameter` for a file that is none.
    """
    try:
        paths, stats = read_arrays(path, "paths", "stats")
        if stats.ndim != 2 or stats.dtype.kind not in "fiu" or paths.shape != stats.shape[:1]:
            raise ValueError(f"stats of the shape {stats.shape} for paths of {paths.shape}")
        if not np.isfinite(stats).all():
            raise ValueError("some of its stats are no numbers")
        return dict(zip(map(str, paths), stats, strict=True))
    except (OSError, ValueError) as error:
        raise BadParameter(
            f"{path} holds no embeddings: {error}", remedy="make them with glrf embed"
        ) from error


def prepare(
    embeddings: dict[str, Float32], train: list[Recording], labels: tuple[str, ...]
) -> Lesson:
    """The lesson for a training set: nothing in it comes from any other recording.

    Posteriors are cross-fitted by speaker: a recording's come from a head that has not heard its
    speaker, so that they tell what generalises and not what was learned by heart.

    Raises `BadParameter` where an embedding is missing, for a single speaker, and where without
    some speakers a single label is left.
    """
    missing = [r.name for r in train if r.name not in embeddings]
    if missing:
        raise BadParameter(
            f"no embedding of {missing[0]} and {len(missing) - 1} others",
            remedy="make the embeddings from this manifest",
        )
    x = np.stack([embeddings[r.name] for r in train])
    y = np.array([labels.index(r.label) for r in train])
    groups = np.array([f"{r.corpus} {r.speaker}" for r in train])
    if len(set(groups)) < 2:
        raise BadParameter(
            "a teacher needs two train speakers: each is told by a head that has not heard them",
            remedy="train on a split of more speakers, or without --teacher",
        )
    # Labels weigh the same. Corpora do not: each recording counts once.
    head = make_pipeline(
        StandardScaler(), LogisticRegression(C=_C, max_iter=500, class_weight="balanced")
    )
    folds = GroupKFold(min(8, len(set(groups))), shuffle=True, random_state=1)
    for learned, told_of in folds.split(x, y, groups):
        if len(set(y[learned])) < 2:
            raise BadParameter(
                f"without {', '.join(sorted(set(groups[told_of])))} a teacher would hear one label,"
                f" {labels[y[learned][0]]}",
                remedy="train on speakers who show several labels each, or without --teacher",
            )
    told = cross_val_predict(head, x, y, groups=groups, cv=folds, method="predict_proba")
    posteriors = np.zeros((len(train), len(labels)), np.float32)
    posteriors[:, np.unique(y)] = np.asarray(told)
    standardised = StandardScaler().fit_transform(x).astype(np.float32)
    return Lesson(torch.from_numpy(posteriors), torch.from_numpy(standardised))
