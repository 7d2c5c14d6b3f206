"""One experiment as a TOML file: everything that makes a training run."""

import hashlib
import tomllib
from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from model_export.augment import AugmentConfig
from model_export.glrf import GlrfConfig
from model_export.mel import feature_spec
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec
from ser_core.labels import LABELS

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

    kind: Literal["head-k", "cross-entropy"] = "head-k"
    k: float = 70.0
    negative_sampling: bool = True
    label_smoothing: float = 0.1


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.998
    seed: int = 1
    n_threads: int = 1


@dataclass(frozen=True, config=_STRICT)
class Experiment:
    """`sha256` is of the file's text and goes into every checkpoint."""

    name: str
    labels: tuple[str, ...] = LABELS
    features: FeatureConfig = field(default_factory=FeatureConfig)
    network: GlrfConfig = field(default_factory=GlrfConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def read_experiment(path: Path) -> tuple[Experiment, str]:
    """The experiment and the sha256 of its text. Raises `BadParameter`, naming what is wrong."""
    if not path.is_file():
        raise BadParameter(f"config {path} does not exist", remedy="see model_export/configs")
    text = path.read_bytes()
    try:
        document = tomllib.loads(text.decode())
        experiment = TypeAdapter(Experiment).validate_python(document)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise BadParameter(f"{path}: {error}", remedy="mend the config") from error
    return experiment, hashlib.sha256(text).hexdigest()
