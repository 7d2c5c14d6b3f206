"""The self-describing model file: what its ONNX metadata must say.

One `.onnx` holds the network and, in the metadata property `glrf`, a JSON document with the
feature spec (mel filters included), labels, segment and hop, calibration and thresholds,
provenance and licence, and a self-test. A server takes these from the file and never from
settings. The network maps `features` float32 `(batch, n_frames, n_mfcc)` to `logits` float32
`(batch, n_labels)`; normalisation of a segment happens inside it.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ser_core.baseline import NeutralVoice
from ser_core.errors import BadParameter, ModelCorrupt, ModelIncompatible, SelfTestFailed
from ser_core.features import FeatureSpec, Float32, mfcc
from ser_core.posteriors import Calibration
from ser_core.segments import SegmentSpec

METADATA_KEY = "glrf"
FORMAT = 1
INPUT_NAME, OUTPUT_NAME = "features", "logits"

#: What the network computes in: float32; 8-bit integers in its convolutions; float16, for GPUs.
#: Features and logits are float32 in all.
Precision = Literal["fp32", "int8", "fp16"]


ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
ModelVersion = Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]+$")]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Features(_Document):
    kind: Literal["mfcc"]
    sample_rate_hz: int = Field(ge=8_000, le=48_000)
    frame_samples: int = Field(ge=16, le=8_192)
    hop_samples: int = Field(ge=1, le=8_192)
    n_mels: int = Field(ge=1, le=512)
    n_mfcc: int = Field(ge=1, le=512)
    mel_filters: str = Field(description="base64 of float32 little-endian (n_mels, n_bins)")


class _Segments(_Document):
    segment_samples: int = Field(ge=1)
    hop_samples: int = Field(ge=1)


class _Calibration(_Document):
    scale: tuple[float, ...]
    bias: tuple[float, ...]


class _NeutralVoice(_Document):
    logits: tuple[float, ...]
    share: float = Field(ge=0, le=1)


class Thresholds(_Document):
    """When a segment abstains. Chosen on development speakers, stored with the model."""

    uncertain_below: float = Field(default=0.0, ge=0, le=1, description="largest score under this")
    by_label: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description="the same for a label of its own"
    )
    min_samples: int = Field(default=0, ge=0, description="partial segments shorter than this")

    def is_uncertain(self, label: str, score: float) -> bool:
        """Whether `score` is too small to say `label`, whose score is the largest."""
        return score < self.by_label.get(label, self.uncertain_below)

    def changed(self, by_label: Mapping[str, float], labels: tuple[str, ...]) -> "Thresholds":
        """These, with other ones for some of a model's `labels`.

        Raises `BadParameter` for an unknown label and for a threshold outside 0..1.
        """
        for label, threshold in by_label.items():
            if label not in labels:
                raise BadParameter(
                    f"thresholds: the model has no label {label[:64]!r}",
                    remedy=f"name some of {', '.join(labels)}",
                )
            if not 0 <= threshold <= 1:
                raise BadParameter(
                    f"thresholds: {label}={threshold:g} is out of range", remedy="send 0 to 1"
                )
        return self.model_copy(update={"by_label": {**self.by_label, **by_label}})


class _SelfTest(_Document):
    logits: tuple[float, ...]
    tolerance: float = Field(gt=0, le=0.1)


class _Metadata(_Document):
    format: Literal[1]
    name: ModelName
    version: ModelVersion
    labels: tuple[str, ...] = Field(min_length=2)
    features: _Features
    segments: _Segments
    calibration: _Calibration
    thresholds: Thresholds
    provenance: dict[str, Any]
    license: str
    self_test: _SelfTest
    precision: Precision = "fp32"
    neutral_voice: _NeutralVoice | None = None


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """Everything about a model but its weights."""

    name: str
    version: str
    labels: tuple[str, ...]
    features: FeatureSpec
    segments: SegmentSpec
    calibration: Calibration
    thresholds: Thresholds
    provenance: dict[str, Any]
    license: str
    self_test_logits: tuple[float, ...]
    self_test_tolerance: float = 1e-3
    precision: Precision = "fp32"
    neutral_voice: NeutralVoice | None = None

    def __post_init__(self) -> None:
        per_label = [self.calibration.scale, self.calibration.bias, self.self_test_logits]
        if self.neutral_voice is not None:
            per_label.append(self.neutral_voice.logits)
        if any(len(values) != len(self.labels) for values in per_label):
            raise ValueError(
                f"calibration, self-test and neutral voice must have {len(self.labels)} values"
            )
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels repeat: {self.labels}")
        if strange := self.thresholds.by_label.keys() - set(self.labels):
            raise ValueError(f"thresholds of labels that the model lacks: {sorted(strange)}")

    @property
    def segments_hz(self) -> float:
        """Segments a second of one channel."""
        return self.features.sample_rate_hz / self.segments.hop_samples

    @property
    def n_frames(self) -> int:
        """Frames of one segment."""
        return self.features.n_frames(self.segments.segment_samples)

    def to_metadata(self) -> dict[str, str]:
        """The ONNX metadata properties that `from_metadata` reads back."""
        document = _Metadata(
            format=FORMAT,
            name=self.name,
            version=self.version,
            labels=self.labels,
            features=_Features(
                kind="mfcc",
                sample_rate_hz=self.features.sample_rate_hz,
                frame_samples=self.features.frame_samples,
                hop_samples=self.features.hop_samples,
                n_mels=self.features.n_mels,
                n_mfcc=self.features.n_mfcc,
                mel_filters=base64.b64encode(
                    self.features.mel_filters.astype("<f4").tobytes()
                ).decode(),
            ),
            segments=_Segments(
                segment_samples=self.segments.segment_samples,
                hop_samples=self.segments.hop_samples,
            ),
            calibration=_Calibration(scale=self.calibration.scale, bias=self.calibration.bias),
            thresholds=self.thresholds,
            provenance=self.provenance,
            license=self.license,
            self_test=_SelfTest(logits=self.self_test_logits, tolerance=self.self_test_tolerance),
            precision=self.precision,
            neutral_voice=None
            if self.neutral_voice is None
            else _NeutralVoice(logits=self.neutral_voice.logits, share=self.neutral_voice.share),
        )
        # Left out where there is nothing to say, so that an older service can read it.
        unsaid: dict[str, Any] = {}
        if not self.thresholds.by_label:
            unsaid["thresholds"] = {"by_label"}
        if self.precision == "fp32":
            unsaid["precision"] = True
        if self.neutral_voice is None:
            unsaid["neutral_voice"] = True
        return {METADATA_KEY: document.model_dump_json(exclude=unsaid)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ModelSpec":
        """Reads what `to_metadata` wrote.

        Raises `ModelCorrupt` when there is no such document and `ModelIncompatible` when it is of
        another format or describes features that this code does not compute.
        """
        if METADATA_KEY not in metadata:
            raise ModelCorrupt(
                f"the model file has no {METADATA_KEY!r} metadata",
                remedy="use a file written by `glrf export`",
            )
        try:
            document = _Metadata.model_validate_json(metadata[METADATA_KEY])
            return cls._from_document(document)
        except (ValidationError, ValueError, binascii.Error) as error:
            raise ModelIncompatible(
                f"the model file's metadata does not fit this version: {_first_line(error)}",
                remedy="export the model again with this version's `glrf export`",
            ) from error

    @classmethod
    def _from_document(cls, document: _Metadata) -> "ModelSpec":
        features, neutral = document.features, document.neutral_voice
        filters = np.frombuffer(base64.b64decode(features.mel_filters, validate=True), "<f4")
        return cls(
            name=document.name,
            version=document.version,
            labels=document.labels,
            features=FeatureSpec(
                mel_filters=filters.reshape(features.n_mels, -1),
                n_mfcc=features.n_mfcc,
                sample_rate_hz=features.sample_rate_hz,
                frame_samples=features.frame_samples,
                hop_samples=features.hop_samples,
            ),
            segments=SegmentSpec(document.segments.segment_samples, document.segments.hop_samples),
            calibration=Calibration(document.calibration.scale, document.calibration.bias),
            thresholds=document.thresholds,
            provenance=document.provenance,
            license=document.license,
            self_test_logits=document.self_test.logits,
            self_test_tolerance=document.self_test.tolerance,
            precision=document.precision,
            neutral_voice=None if neutral is None else NeutralVoice(neutral.logits, neutral.share),
        )

    def self_test_features(self) -> Float32:
        """Features `(1, n_frames, n_mfcc)` of the self-test signal, one segment long.

        They go through the same code as live audio, so that the self-test notices a feature step
        that differs from the one the model was trained with, not only other weights.
        """
        signal = self_test_signal(self.segments.segment_samples, self.features.sample_rate_hz)
        return mfcc(signal, self.features)[None]

    def check_self_test(self, logits: Float32) -> None:
        """Compares logits `(1, n_labels)` of `self_test_features`; raises `SelfTestFailed`."""
        expected = np.asarray(self.self_test_logits, np.float32)
        error = float(np.max(np.abs(logits[0] - expected)))
        if not error <= self.self_test_tolerance:
            raise SelfTestFailed(
                f"the model's self-test differs by {error:.2g} "
                f"(allowed: {self.self_test_tolerance:.2g})",
                remedy="the file or the runtime is damaged: export or download it again",
            )


def self_test_signal(n_samples: int, sample_rate_hz: int) -> Float32:
    """A voice-like signal by formula: ten harmonics of a gliding pitch, four beats a second.

    float32 `(n_samples,)`, peak below 0.6.
    """
    t = np.arange(n_samples) / sample_rate_hz
    phase = 2 * np.pi * (160 * t + 12 * np.sin(2 * np.pi * 1.3 * t))
    voice = sum(np.sin(k * phase) / k for k in range(1, 11))
    beat = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * t)
    return (0.3 * voice * beat).astype(np.float32)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0]
