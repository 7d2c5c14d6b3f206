"""One experiment as a TOML file: everything that makes a training run."""

import hashlib
import tomllib
from dataclasses import field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from model_export.augment import AugmentConfig
from model_export.glrf import GlrfConfig
from model_export.losses import LossKind
from model_export.mel import feature_spec
from model_export.network import NetworkConfig
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec
from ser_core.labels import LABELS
from ser_core.model_file import ModelSpec, Thresholds
from ser_core.posteriors import Calibration
from ser_core.segments import SegmentSpec

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class FeatureConfig:
    n_mels: int = 64
    n_mfcc: int = 40
    fmin_hz: float = 50.0
    fmax_hz: float = 7_600.0

    def spec(self) -> FeatureSpec:
        return feature_spec(self.n_mels, self.n_mfcc, self.fmin_hz, self.fmax_hz)


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """`head-k` is the paper's; `cross-entropy`, over softmax, is what its peers were made with."""

    kind: LossKind = "head-k"
    k: float = 70.0
    negative_sampling: bool = True
    label_smoothing: float = 0.1


@dataclass(frozen=True, config=_STRICT)
class DistillationConfig:
    """What the network learns from a teacher besides the labels; 0 leaves that out.

    `posterior` is the share of the teacher's posteriors in the decision-makers' targets (Hinton et
    al., 2015), `embedding` the weight of the error in telling the teacher's standardised embedding
    of the utterance from the network's own (Romero et al., 2015).
    """

    posterior: float = 0.0
    embedding: float = 0.0


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.998
    seed: int = 1
    n_threads: int = 1
    max_segments: int = 10
    """Of one utterance in one step, a run of them drawn at random."""


@dataclass(frozen=True, config=_STRICT)
class Experiment:
    """`sha256` is of the file's text and goes into every checkpoint."""

    name: str
    labels: tuple[str, ...] = LABELS
    features: FeatureConfig = field(default_factory=FeatureConfig)
    network: NetworkConfig = field(default_factory=GlrfConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def untrained_spec(self) -> ModelSpec:
        """What a model file of this experiment says before calibration: raw sigmoids."""
        n_labels = len(self.labels)
        return ModelSpec(
            name=self.name,
            version="0",
            labels=self.labels,
            features=self.features.spec(),
            segments=SegmentSpec(),
            calibration=Calibration((1.0,) * n_labels, (0.0,) * n_labels),
            thresholds=Thresholds(uncertain_below=0.0, min_samples=0),
            provenance={},
            license="",
            self_test_logits=(0.0,) * n_labels,
        )


def read_experiment(path: Path) -> tuple[Experiment, str]:
    """The experiment and the sha256 of its text. Raises `BadParameter`, naming what is wrong."""
    if not path.is_file():
        raise BadParameter(f"config {path} does not exist", remedy="see model_export/configs")
    text = path.read_bytes()
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise BadParameter(f"{path}: {error}", remedy="mend the config") from error
    return parse_experiment(decoded, str(path)), hashlib.sha256(text).hexdigest()


def parse_experiment(text: str, where: str) -> Experiment:
    """The experiment of a config's text; `where` it stands is told by the `BadParameter`."""
    try:
        return TypeAdapter(Experiment).validate_python(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadParameter(f"{where}: {error}", remedy="mend the config") from error
