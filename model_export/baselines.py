"""What a user would take instead of GLRF: a support vector machine on one vector an utterance."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from model_export.corpora import Recording
from model_export.functionals import Functionals, Input, functionals, mfcc_statistics, vectors
from model_export.metrics import Assessed
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MachineConfig:
    """The vector it is given, and scikit-learn's two settings, by default as scikit-learn has them.

    `gamma` of the RBF kernel is of standardised inputs; "scale" is 1 / their number.
    """

    kind: Literal["svm"] = "svm"
    input: Input = "mfcc"
    C: float = Field(default=1.0, gt=0)
    gamma: Annotated[float, Field(gt=0)] | Literal["scale"] = "scale"


class MachineDescription(TypedDict):
    """As `model_export.network.Description`; `macs` is `None` where multiplications say nothing."""

    parameters: int
    macs: int | None
    input: str


def assess_machine(
    config: MachineConfig,
    features: FeatureSpec,
    train: list[Recording],
    test: list[Recording],
    corpora: Mapping[str, tuple[str, ...]],
    on_recording: Callable[[], None] | None = None,
    *,
    cache: Path | None = None,
    heard: Functionals | None = None,
) -> tuple[list[Assessed], MachineDescription]:
    """Trains on `train` and decides on `test`: one prediction an utterance, and what it costs.

    Standardised inputs, RBF kernel, balanced classes; one machine for all corpora, as GLRF is one
    network. In a corpus that lacks a label, decisions are taken among the labels it has, as for
    GLRF: `corpora` are those of each whole corpus. Labels that nobody shows in `train` score below
    all others; among such alone it is the first. A machine decides an utterance at once, so there
    are no segments.

    `features` are the MFCC of the input `mfcc`. `on_recording` is called after each recording is
    read. `cache` is a folder that keeps vectors, see `functionals.vectors`. `heard` takes the place
    of the config's input.

    Raises `BadParameter` when there is nothing to train on, and what `functionals` raises.
    """
    if not train:
        raise BadParameter("no recording of the manifest is in train", remedy="check the split")
    if len({recording.label for recording in train}) < 2:
        raise BadParameter(
            f"all recordings to learn from are {train[0].label}",
            remedy="give a split whose train speakers show two labels at least",
        )
    heard = heard or functionals(config.input, features)
    gamma: Any = config.gamma  # scikit-learn's type is that of its default, a string
    kernel = SVC(C=config.C, gamma=gamma, class_weight="balanced")
    machine = make_pipeline(StandardScaler(), kernel)
    machine.fit(
        vectors(train, heard, cache, on_recording), [recording.label for recording in train]
    )
    known = tuple(str(label) for label in machine.classes_)
    inputs = vectors(test, heard, cache, on_recording)
    margins = np.reshape(machine.decision_function(inputs), (len(test), -1))
    if len(known) == 2:  # one margin, for the second
        margins = np.hstack([-margins, margins])
    assessed: list[Assessed] = []
    for recording, margin in zip(test, margins, strict=True):
        score = dict(zip(known, margin, strict=True))
        predicted = max(corpora[recording.corpus], key=lambda label: score.get(label, -math.inf))
        assessed.append(Assessed(recording.label, predicted, segments=None))
    return assessed, _describe(kernel, heard)


def predict_with_svm(
    features: FeatureSpec,
    train: list[Recording],
    test: list[Recording],
    corpora: Mapping[str, tuple[str, ...]],
    on_recording: Callable[[], None] | None = None,
) -> list[Assessed]:
    """`assess_machine` on statistics of the MFCC of any spec, with scikit-learn's C and gamma."""
    heard = mfcc_statistics(features)
    return assess_machine(
        MachineConfig(), features, train, test, corpora, on_recording, heard=heard
    )[0]


def _describe(kernel: SVC, heard: Functionals) -> MachineDescription:
    """Support vectors, their weights in each pair of labels, offsets and the scaler are parameters.

    A decision is one product with every support vector, and one with its weights.
    """
    n_vectors, n_inputs = kernel.support_vectors_.shape
    n_weights = kernel.dual_coef_.size
    scaler = 2 * n_inputs
    own = n_vectors * n_inputs + n_weights + kernel.intercept_.size + scaler
    return {
        "parameters": heard.parameters + own,
        "macs": None if heard.macs is None else heard.macs + n_vectors * n_inputs + n_weights,
        "input": heard.input,
    }
