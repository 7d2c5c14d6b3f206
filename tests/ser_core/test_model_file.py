import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from ser_core.errors import BadParameter, ModelCorrupt, ModelIncompatible, SelfTestFailed
from ser_core.model_file import METADATA_KEY, ModelSpec, Thresholds, self_test_signal
from ser_core.posteriors import Calibration
from tests.synthetic import logits, model_spec, write_model


def _changed(path: str, value: Any) -> dict[str, str]:
    """The tiny model's metadata with one field set to another value, or removed (`...`)."""
    document = json.loads(model_spec().to_metadata()[METADATA_KEY])
    *parents, name = path.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    if value is ...:
        del target[name]
    else:
        target[name] = value
    return {METADATA_KEY: json.dumps(document)}


def test_round_trip() -> None:
    spec = replace(
        model_spec(),
        calibration=Calibration(scale=(1.1, 0.9, 1.0, 2.0, 3.0), bias=(0.1, -0.2, 0.3, 0.0, 0.5)),
        thresholds=Thresholds(uncertain_below=0.25, min_samples=8_000),
        provenance={"training_data": ["a", "b"], "epochs": 3},
    )
    read = ModelSpec.from_metadata(spec.to_metadata())
    for name in ("name", "version", "labels", "segments", "calibration", "thresholds"):
        assert getattr(read, name) == getattr(spec, name)
    for name in ("provenance", "license", "self_test_logits", "self_test_tolerance", "n_frames"):
        assert getattr(read, name) == getattr(spec, name)
    np.testing.assert_array_equal(read.features.mel_filters, spec.features.mel_filters)
    for name in ("n_mfcc", "n_mels", "sample_rate_hz", "frame_samples", "hop_samples"):
        assert getattr(read.features, name) == getattr(spec.features, name)
    assert read.to_metadata() == spec.to_metadata()


def test_thresholds_by_label() -> None:
    thresholds = Thresholds(uncertain_below=0.3, by_label={"angry": 0.6})
    assert thresholds.is_uncertain("angry", 0.59)
    assert not thresholds.is_uncertain("angry", 0.6)
    assert thresholds.is_uncertain("sad", 0.29)
    assert not thresholds.is_uncertain("sad", 0.3)
    spec = replace(model_spec(), thresholds=thresholds)
    assert ModelSpec.from_metadata(spec.to_metadata()).thresholds == thresholds


def test_precision_is_told_where_it_is_not_that_of_every_older_file() -> None:
    assert "precision" not in json.loads(model_spec().to_metadata()[METADATA_KEY])
    assert ModelSpec.from_metadata(model_spec().to_metadata()).precision == "fp32"
    half = replace(model_spec(), precision="fp16")
    assert ModelSpec.from_metadata(half.to_metadata()).precision == "fp16"
    with pytest.raises(ModelIncompatible, match="precision"):
        ModelSpec.from_metadata(_changed("precision", "int4"))


def test_a_neutral_voice_is_told_where_it_is_known() -> None:
    spec = model_spec()
    assert spec.neutral_voice is not None
    assert ModelSpec.from_metadata(spec.to_metadata()).neutral_voice == spec.neutral_voice
    without = replace(spec, neutral_voice=None)
    assert "neutral_voice" not in json.loads(without.to_metadata()[METADATA_KEY])
    assert ModelSpec.from_metadata(without.to_metadata()).neutral_voice is None
    for wrong in ({"logits": [0.0] * 4, "share": 0.3}, {"logits": [0.0] * 5, "share": 1.5}):
        with pytest.raises(ModelIncompatible, match="neutral"):
            ModelSpec.from_metadata(_changed("neutral_voice", wrong))


def test_metadata_without_thresholds_by_label_is_as_it_was() -> None:
    document = json.loads(model_spec().to_metadata()[METADATA_KEY])
    assert set(document["thresholds"]) == {"uncertain_below", "min_samples"}
    assert ModelSpec.from_metadata(model_spec().to_metadata()).thresholds.by_label == {}


def test_changed_thresholds() -> None:
    before = Thresholds(uncertain_below=0.3, by_label={"angry": 0.6})
    after = before.changed({"sad": 0.5}, ("angry", "sad"))
    assert (after.by_label, after.uncertain_below) == ({"angry": 0.6, "sad": 0.5}, 0.3)
    assert before.by_label == {"angry": 0.6}
    with pytest.raises(BadParameter, match="no label 'bored'"):
        before.changed({"bored": 0.5}, ("angry", "sad"))
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadParameter, match="out of range"):
            before.changed({"sad": value}, ("angry", "sad"))


def test_round_trip_through_a_file(tmp_path) -> None:
    spec = write_model(tmp_path / "tiny.onnx")
    model = onnx.load(tmp_path / "tiny.onnx")
    read = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert read.to_metadata() == spec.to_metadata()


def test_an_onnx_file_of_another_kind_is_corrupt() -> None:
    with pytest.raises(ModelCorrupt, match="no 'glrf' metadata") as caught:
        ModelSpec.from_metadata({"author": "somebody"})
    assert "glrf export" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "not json", "[]", "null", '{"format": 1}', "{" * 10_000])
def test_metadata_that_is_no_document(text: str) -> None:
    with pytest.raises(ModelIncompatible) as caught:
        ModelSpec.from_metadata({METADATA_KEY: text})
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("format", 2, "format"),
        ("format", ..., "format"),
        ("features.kind", "log_mel", "features.kind"),
        ("features.sample_rate_hz", 4_000, "features.sample_rate_hz"),
        ("features.n_mfcc", 0, "features.n_mfcc"),
        ("features.n_mfcc", 21, "n_mfcc"),
        ("features.frame_samples", 512, "do not fit"),
        ("features.hop_samples", 401, "hop_samples"),
        ("features.mel_filters", "%%%", ""),
        ("features.mel_filters", "AAAA", ""),
        ("features.mel_filters", "", ""),
        ("features.n_mels", 19, ""),
        ("features.pre_emphasis", 0.97, "features.pre_emphasis"),
        ("segments.hop_samples", 6_401, "whole number"),
        ("segments.hop_samples", 0, "segments.hop_samples"),
        ("labels", ["angry"], "labels"),
        ("labels", ["angry", "angry", "sad", "fear", "happy"], "repeat"),
        ("labels", ["angry", "sad"], "must have 2"),
        ("calibration.scale", [1.0], "must have 5"),
        ("calibration.bias", "x", "calibration.bias"),
        ("thresholds.uncertain_below", 1.5, "thresholds.uncertain_below"),
        ("thresholds.min_samples", -1, "thresholds.min_samples"),
        ("thresholds.by_label", {"angry": 2}, "thresholds.by_label.angry"),
        ("thresholds.by_label", {"bored": 0.5}, "bored"),
        ("self_test.logits", [0.0], "must have 5"),
        ("self_test.tolerance", 0, "self_test.tolerance"),
        ("self_test.tolerance", 10, "self_test.tolerance"),
        ("name", "../../etc", "name"),
        ("version", "1 0", "version"),
        ("license", ..., "license"),
        ("new_field", 1, "new_field"),
    ],
)
def test_metadata_that_does_not_fit_is_incompatible(path: str, value: Any, named: str) -> None:
    with pytest.raises(ModelIncompatible) as caught:
        ModelSpec.from_metadata(_changed(path, value))
    assert named in str(caught.value)
    assert "glrf export" in caught.value.remedy


def test_self_test_passes_with_the_right_weights() -> None:
    spec = model_spec()
    features = spec.self_test_features()
    assert features.shape == (1, spec.n_frames, spec.features.n_mfcc)
    spec.check_self_test(logits(features))


def test_self_test_notices_other_weights() -> None:
    spec = model_spec(seed=0)
    with pytest.raises(SelfTestFailed, match="differs by") as caught:
        spec.check_self_test(logits(spec.self_test_features(), seed=1))
    assert "damaged" in caught.value.remedy


def test_self_test_notices_other_features() -> None:
    spec = model_spec()
    louder = replace(spec.features, mel_filters=spec.features.mel_filters * 2)
    with pytest.raises(SelfTestFailed):
        spec.check_self_test(logits(replace(spec, features=louder).self_test_features()))


def test_self_test_notices_nan() -> None:
    with pytest.raises(SelfTestFailed):
        model_spec().check_self_test(np.full((1, 5), np.nan, np.float32))


def test_self_test_signal() -> None:
    signal = self_test_signal(32_000, 16_000)
    assert signal.shape == (32_000,)
    assert signal.dtype == np.float32
    assert 0.3 < np.abs(signal).max() < 0.6


def test_per_label_values_must_fit_the_labels() -> None:
    with pytest.raises(ValueError, match="must have 5 values"):
        replace(model_spec(), self_test_logits=(0.0,))
