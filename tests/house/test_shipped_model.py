"""The model that ships: one file that can be traced to the configs and the split of this tree."""

import hashlib
from pathlib import Path

import model_export
from model_export.corpora import read_manifest
from model_export.export import features_of
from model_export.onnx_model import OnnxModel
from service.inference.onnx import OnnxBackend
from service.settings import SHIPPED_MODELS
from tests.model_export.corpus import write_corpus

(FILE,) = SHIPPED_MODELS.glob("*.onnx")
EXPORT = Path(model_export.__file__).parent


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_small_file_that_passes_its_self_test():
    assert FILE.stat().st_size <= 4_000_000
    spec = OnnxModel(FILE).spec  # raises if the self-test fails
    assert FILE.stem == f"{spec.name}-{spec.version}"
    assert spec.labels == ("angry", "happy", "neutral", "sad", "fear")
    assert (spec.segments.segment_samples, spec.segments.hop_samples) == (32_000, 6_400)


def test_its_license_is_told():
    assert OnnxModel(FILE).spec.license == "CC-BY-NC-SA-4.0"
    assert "CC BY-NC-SA 4.0" in (SHIPPED_MODELS / "LICENSE").read_text()


def test_its_origin_is_in_this_tree():
    provenance = OnnxModel(FILE).spec.provenance
    assert provenance["config_sha256"] == sha256(EXPORT / "configs/glrf-pretrained.toml")
    assert provenance["init_sha256"] == sha256(EXPORT / "pretrained/glrf-pretraining.pt")
    assert provenance["split_sha256"] == sha256(EXPORT / "splits/nemo-ravdess-all.json")
    assert set(provenance["training_data"]) == {"nemo", "ravdess"}


def test_both_doors_to_the_runtime_give_the_same_logits(tmp_path):
    network, backend = OnnxModel(FILE), OnnxBackend.load(FILE, "cpu")
    recording = read_manifest(write_corpus(tmp_path), tmp_path, network.spec.labels)[1]
    segments = features_of(recording, network.spec)
    assert abs(network.run(segments) - backend.score(segments)).max() < 1e-5


def test_the_model_card_is_of_this_file():
    card = (EXPORT.parent / "docs/model-card.md").read_text()
    assert sha256(FILE) in card
