import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from model_export.evaluation import evaluate
from model_export.export import check_parity, export
from model_export.fitting import origin_of, write_checkpoint
from model_export.onnx_model import OnnxModel
from model_export.train import train
from ser_core.errors import BadParameter, ModelCorrupt, SelfTestFailed
from tests.model_export.corpus import write_config, write_corpus, write_split
from tests.model_export.ledgers import write_experiment


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def inputs(root):
    return {"manifest": write_corpus(root), "data": root, "split": write_split(root)}


@pytest.fixture(scope="module")
def checkpoint(root, inputs):
    return train(write_config(root, epochs=1), out=root / "run", **inputs)


@pytest.fixture(scope="module")
def exported(root, checkpoint, inputs):
    path = root / "toy.onnx"
    export(checkpoint, path, **inputs, version="1.2.3", license="CC0-1.0")
    return path


def test_the_file_describes_itself(exported):
    model = OnnxModel(exported)  # its self-test has passed
    spec = model.spec
    assert (spec.name, spec.version, spec.license) == ("toy", "1.2.3", "CC0-1.0")
    assert spec.provenance["training_data"]["toy"]["speakers"] == 2
    assert spec.features.mel_filters.shape == (24, 201)
    assert spec.calibration.scale[0] > 0
    assert spec.thresholds.min_samples == 12_800
    onnx.checker.check_model(onnx.load(str(exported)), full_check=True)


def test_the_file_tells_nothing_of_the_machine_that_wrote_it(exported):
    assert Path(__file__).parents[2].as_posix().encode() not in exported.read_bytes()
    assert b"site-packages" not in exported.read_bytes()


def test_any_batch_size_and_each_segment_by_itself(exported):
    model = OnnxModel(exported)
    features = np.random.default_rng(1).normal(0, 30, (5, 198, 13)).astype(np.float32)
    together = model.run(features)
    assert together.shape == (5, 5)
    for i in range(5):
        assert model.run(features[i : i + 1]) == pytest.approx(together[i : i + 1], abs=1e-5)


def test_evaluate_reads_what_export_wrote(exported, inputs):
    result = evaluate(exported, inputs["manifest"], inputs["data"], inputs["split"], "dev")
    assert result["all"]["n"] == 10
    assert result["split"]["is_the_models"]


def test_who_assesses_on_speakers_that_the_model_may_know_is_told(exported, inputs, caplog):
    how = (exported, inputs["manifest"], inputs["data"])
    evaluate(*how, inputs["split"], "test")
    assert not caplog.messages
    other = inputs["split"].with_name("turned.json")
    other.write_text('{"train": {"toy": ["s4"]}, "dev": {"toy": ["s3"]}, "test": {"toy": ["s1"]}}')
    assert not evaluate(*how, other, "test")["split"]["is_the_models"]
    evaluate(*how)
    by_another, without = caplog.messages
    assert by_another.startswith("toy@1.2.3 has learned from speakers of toy, by another split")
    assert without.startswith("toy@1.2.3 has learned from speakers of toy: those")


def test_a_graph_that_differs_from_torch_is_noticed(exported):
    model = OnnxModel(exported)
    batch = model.spec.self_test_features()
    assert check_parity(model.run, model, [batch]) == 0
    with pytest.raises(SelfTestFailed, match="differ by"):
        check_parity(lambda features: model.run(features) + 2e-4, model, [batch])


def test_without_dev_speakers_or_cells_there_is_nothing_to_calibrate_on(root, inputs):
    alone = root / "alone.json"
    split = json.loads(inputs["split"].read_text())
    alone.write_text(json.dumps(split | {"dev": {}}))
    others = inputs | {"split": alone}
    checkpoint = train(write_config(root, epochs=1), out=root / "alone", **others)
    with pytest.raises(BadParameter, match="is in dev"):
        export(checkpoint, root / "no.onnx", **others, version="1", license="x")
    with pytest.raises(BadParameter, match="without a version or a licence"):
        export(checkpoint, root / "no.onnx", **others, version="1", license=" ")


def test_another_split_than_trained_on_is_refused(root, checkpoint, inputs):
    other = root / "other.json"
    other.write_text(inputs["split"].read_text() + "\n")
    with pytest.raises(BadParameter, match="trained on another split"):
        export(
            checkpoint, root / "no.onnx", **(inputs | {"split": other}), version="1", license="x"
        )
    assert not (root / "no.onnx").exists()


def test_a_damaged_file_is_refused(root, exported):
    damaged = root / "damaged.onnx"
    damaged.write_bytes(exported.read_bytes()[:-4000])
    with pytest.raises(ModelCorrupt):
        OnnxModel(damaged)
    model = onnx.load(str(exported))
    weights = next(i for i in model.graph.initializer if len(i.dims) == 4 and i.dims[1] > 1)
    weights.raw_data = (np.frombuffer(weights.raw_data, "f4") * 1.1).tobytes()
    onnx.save(model, str(damaged))
    with pytest.raises(SelfTestFailed, match="self-test differs"):
        OnnxModel(damaged)


def test_an_export_that_fails_leaves_the_older_file(root, checkpoint, inputs, monkeypatch):
    def differ(*_):
        raise SelfTestFailed("differ")

    older = root / "older.onnx"
    older.write_bytes(b"older")
    monkeypatch.setattr("model_export.export.check_parity", differ)
    with pytest.raises(SelfTestFailed):
        export(checkpoint, older, **inputs, version="1", license="x")
    assert older.read_bytes() == b"older"
    assert not list(root.glob("*.partial"))


def test_checkpoints_load_without_running_code(checkpoint):
    assert set(torch.load(checkpoint, weights_only=True)) >= {"config", "network"}


def test_checkpoints_of_a_gpu_are_read_without_one(root, checkpoint, inputs, monkeypatch):
    folder = root / "gpu"
    folder.mkdir()
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
    for file in ("final.pt", "last.pt"):
        state = torch.load(checkpoint.parent / file, weights_only=True)
        write_checkpoint(folder / file, state)
    monkeypatch.undo()
    final = folder / "final.pt"
    export(final, root / "gpu.onnx", **inputs, version="1", license="x")
    assert origin_of(folder) == origin_of(checkpoint.parent)
    train(write_config(root, epochs=1), out=root / "from-gpu", init=final, **inputs)


def test_a_model_of_everyone_takes_its_calibration_from_its_cross_validation(
    root, inputs, checkpoint
):
    cells = root / "cells"
    config = write_config(root, epochs=1)
    digest = hashlib.sha256(config.read_bytes()).hexdigest()
    write_experiment(cells, "toy", 0.7, config_sha256=digest)
    for path in cells.glob("toy/*.npz"):  # of the corpus that the model learns from
        with np.load(path) as arrays:
            said = dict(arrays)
        np.savez(path, **said | {"corpus": np.full_like(said["corpus"], "toy")})
    for path in cells.glob("toy/*.json"):
        cell = json.loads(path.read_text())
        cell["metrics"]["corpora"] = {"toy": cell["metrics"]["corpora"]["nemo"]}
        path.write_text(json.dumps(cell))
    everyone = root / "everyone.json"
    everyone.write_text('{"train": {"toy": ["s1", "s2", "s3", "s4"]}, "dev": {}, "test": {}}')
    trained = train(config, out=root / "all", **inputs | {"split": everyone})
    out = root / "all.onnx"
    how = inputs | {"split": everyone, "version": "1", "license": "x"}
    spec = export(trained, out, **how, name="all", cells=cells)
    assert spec.name == "all"
    assert len(set(spec.calibration.scale)) == 5  # a scale a label
    assert 0 < spec.thresholds.uncertain_below < 1
    assert OnnxModel(out).spec.thresholds == spec.thresholds


@pytest.mark.parametrize("option", [{"version": "1.0 beta"}, {"name": "MyCorpus"}])
def test_what_cannot_stand_in_a_model_file_is_told_before_calibrating(
    root, checkpoint, inputs, option
):
    heard = []
    how = inputs | {"version": "1", "license": "x"} | option
    with pytest.raises(BadParameter, match="cannot stand in a model file"):
        export(checkpoint, root / "no.onnx", **how, on_progress=lambda *done: heard.append(done))
    assert not heard


def test_a_run_that_has_not_ended_is_no_model(root, checkpoint, inputs):
    with pytest.raises(BadParameter, match="not ended") as refused:
        export(checkpoint.parent / "last.pt", root / "no.onnx", **inputs, version="1", license="x")
    assert "final.pt" in refused.value.remedy


def test_a_pretraining_is_no_model(root, checkpoint, inputs):
    state = torch.load(checkpoint)
    del state["split_sha256"]
    torch.save(state, root / "pretraining.pt")
    with pytest.raises(BadParameter, match="has learned no labels"):
        export(root / "pretraining.pt", root / "no.onnx", **inputs, version="1", license="x")
