"""One experiment as a TOML file: everything that makes a training run."""

import hashlib
import tomllib
from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from model_export.augment import AugmentConfig
from model_export.glrf import GlrfConfig
from model_export.losses import LossKind
from model_export.mel import feature_spec
from model_export.mixup import MixupConfig
from model_export.network import NetworkConfig
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec
from ser_core.labels import LABELS
from ser_core.model_file import ModelName, ModelSpec, Thresholds
from ser_core.posteriors import Calibration
from ser_core.segments import SegmentSpec

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_Positive = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=_STRICT)
class FeatureConfig:
    n_mels: _Positive = 64
    n_mfcc: _Positive = 40
    fmin_hz: float = Field(default=50.0, ge=0)
    fmax_hz: float = Field(default=7_600.0, le=FeatureSpec.sample_rate_hz / 2)

    def __post_init__(self) -> None:
        if self.fmin_hz >= self.fmax_hz:
            raise ValueError("fmin_hz must be below fmax_hz")

    def spec(self) -> FeatureSpec:
        """Raises `ValueError` as `model_export.mel.feature_spec` does."""
        return feature_spec(self.n_mels, self.n_mfcc, self.fmin_hz, self.fmax_hz)


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """`head-k` is the paper's; `cross-entropy`, over softmax, is what its peers were made with."""

    kind: LossKind = "head-k"
    k: float = Field(default=70.0, ge=10, le=100)
    negative_sampling: bool = True
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


@dataclass(frozen=True, config=_STRICT)
class DistillationConfig:
    """What the network learns from a teacher besides the labels; 0 leaves that out.

    `posterior` is the share of the teacher's posteriors in the decision-makers' targets (Hinton et
    al., 2015), `embedding` the weight of the error in telling the teacher's standardised embedding
    of the utterance from the network's own (Romero et al., 2015).
    """

    posterior: _Share = 0.0
    embedding: float = Field(default=0.0, ge=0)


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    epochs: _Positive = 60
    batch_size: _Positive = 32
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    ema_decay: _Share = 0.998
    seed: int = Field(default=1, ge=0)
    n_threads: _Positive = 1
    hop_samples: _Positive = 3_200
    """From one segment's start to the next."""
    max_segments: _Positive = 10
    """Of one utterance in one step, a run of them drawn at random."""
    pretrained: bool = False
    """Whether it starts from finished weights, and not without."""


@dataclass(frozen=True, config=_STRICT)
class Experiment:
    """`sha256` is of the file's text and goes into every checkpoint.

    `name` is the model's, if no other is given. Raises `ValueError` for what cannot be trained.
    """

    name: ModelName
    labels: Annotated[tuple[str, ...], Field(min_length=2)] = LABELS
    features: FeatureConfig = field(default_factory=FeatureConfig)
    network: NetworkConfig = field(default_factory=GlrfConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mixup: MixupConfig = field(default_factory=MixupConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels repeat: {', '.join(self.labels)}")
        if self.augment.mask_mels > self.features.n_mels:
            raise ValueError(
                f"augment.mask_mels = {self.augment.mask_mels} is more than"
                f" features.n_mels = {self.features.n_mels}"
            )
        if self.mixup.probability and (self.network.kind, self.loss.kind) != ("glrf", "head-k"):
            raise ValueError("mixup is for network.kind glrf with loss.kind head-k")

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
    text, sha256 = read_config(path)
    return parse_experiment(text, str(path)), sha256


def read_config(path: Path) -> tuple[str, str]:
    """A config's text, for `parse_experiment`, and its sha256. Raises `BadParameter`."""
    if not path.is_file():
        raise BadParameter(f"config {path} does not exist", remedy="see model_export/configs")
    text = path.read_bytes()
    try:
        return text.decode(), hashlib.sha256(text).hexdigest()
    except UnicodeDecodeError as error:
        raise BadParameter(f"{path}: {error}", remedy="mend the config") from error


def parse_experiment(text: str, where: str) -> Experiment:
    """The experiment of a config's text; `where` it stands is told by the `BadParameter`."""
    remedy = "mend the config"
    try:
        experiment = TypeAdapter(Experiment).validate_python(tomllib.loads(text))
        experiment.features.spec()
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ")
            for one in error.errors(include_url=False)
        ]
        raise BadParameter(f"{where}: {'; '.join(told)}", remedy=remedy) from error
    except ValueError as error:
        raise BadParameter(f"{where}: {error}", remedy=remedy) from error
    return experiment
