from dataclasses import replace

import numpy as np
import onnx
import pytest

from model_export import precision
from model_export.calibration import Decisive
from model_export.corpora import read_manifest
from model_export.export import export, features_of
from model_export.onnx_model import Network, OnnxModel
from model_export.precision import Comparison, compare, quantise
from model_export.train import train
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_config, write_corpus, write_split


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("precision")


@pytest.fixture(scope="module")
def inputs(root):
    return {"manifest": write_corpus(root), "data": root, "split": write_split(root)}


@pytest.fixture(scope="module")
def checkpoint(root, inputs):
    return train(write_config(root, epochs=1), out=root / "run", **inputs)


@pytest.fixture(scope="module")
def plain(root, inputs, checkpoint):
    path = root / "plain.onnx"
    export(checkpoint, path, **inputs, version="1", license="CC0-1.0")
    return path


@pytest.fixture
def any_move(monkeypatch):
    """Ten recordings by a network of one epoch: one that is near the border may fall."""
    monkeypatch.setattr(precision, "UA_MOVED", 1.1)


@pytest.mark.usefixtures("any_move")
@pytest.mark.parametrize("name", ["int8", "fp16"])
def test_a_file_says_its_precision_and_tests_itself_in_it(root, inputs, checkpoint, plain, name):
    out = root / f"{name}.onnx"
    how = inputs | {"version": "1", "license": "x", "precision": name}
    spec = export(checkpoint, out, **how)
    model, before = OnnxModel(out), OnnxModel(plain)
    assert (model.spec.precision, before.spec.precision) == (name, "fp32")
    compared = model.spec.provenance["compared_with_fp32"]
    assert compared["n_recordings"] == 10  # those of the development speaker
    assert compared["logits_moved"] > 0
    assert model.spec.self_test_logits == spec.self_test_logits != before.spec.self_test_logits
    segments = features_of(read_manifest(inputs["manifest"], root, LABELS)[0], spec)
    np.testing.assert_allclose(model.run(segments), before.run(segments), atol=0.1)
    onnx.checker.check_model(onnx.load(str(out)), full_check=True)
    assert not list(root.glob("*.converted"))


def test_only_convolutions_are_quantised(root, inputs, plain):
    spec = OnnxModel(plain).spec
    segments = features_of(read_manifest(inputs["manifest"], root, LABELS)[1], spec)
    quantise(plain, root / "q.onnx", segments)
    nodes = onnx.load(str(root / "q.onnx")).graph.node
    integers = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    n_fed = {kind: [] for kind in ("Conv", "MatMul", "Gemm", "LayerNormalization", "Attention")}
    for node in nodes:
        if node.op_type in n_fed:
            n_fed[node.op_type].append(len(integers & set(node.input)))
    assert min(n_fed.pop("Conv")) >= 2  # activations and weights
    assert {count for counts in n_fed.values() for count in counts} == {0}


def test_a_precision_that_moves_ua_is_refused_and_nothing_is_written(
    root, inputs, checkpoint, monkeypatch
):
    monkeypatch.setattr(precision, "UA_MOVED", 0.0)
    out = root / "moved.onnx"
    how = inputs | {"version": "1", "license": "x", "precision": "int8"}
    with pytest.raises(BadParameter, match=r"int8 moves UA in \w+ from .* on 10 recordings"):
        export(checkpoint, out, **how)
    assert not list(root.glob("moved.*"))


def test_half_a_point_is_too_much():
    moved = Comparison(1000, {"one": (0.600, 0.600), "other": (0.500, 0.4951)}, 0.1)
    moved.check("int8")
    assert moved.ua_moved == pytest.approx(0.0049)
    with pytest.raises(BadParameter, match=r"UA in other from 50\.0% to 50\.5%"):
        replace(moved, ua={"one": (0.6, 0.6), "other": (0.5, 0.505)}).check("int8")


def test_a_network_compared_with_itself_does_not_move(root, inputs, plain):
    network, spec = Network(plain), OnnxModel(plain).spec
    recordings = read_manifest(inputs["manifest"], root, LABELS)
    same = compare(network.run, network.run, recordings, spec)
    assert (same.n_recordings, same.ua_moved, same.logits_moved) == (40, 0, 0)
    other = compare(network.run, lambda part: network.run(part)[:, ::-1], recordings, spec)
    assert other.ua_moved > 0
    assert other.logits_moved > 0
    with pytest.raises(BadParameter, match="no recording to compare"):
        compare(network.run, network.run, [], spec)


@pytest.mark.usefixtures("any_move")
def test_without_development_speakers_it_is_the_rest_of_train(root, inputs, monkeypatch):
    monkeypatch.setattr("model_export.export.N_CALIBRATION", 8)
    everyone = root / "everyone.json"
    everyone.write_text('{"train": {"toy": ["s1", "s2", "s3", "s4"]}, "dev": {}, "test": {}}')
    config = write_config(root, epochs=1)
    trained = train(config, out=root / "all", **inputs | {"split": everyone})
    monkeypatch.setattr(
        "model_export.export.from_cells",
        lambda *_: Decisive(OnnxModel(root / "plain.onnx").spec.calibration, 0.2, None),
    )
    monkeypatch.setattr("model_export.export.read_ledger", lambda _: None)
    how = inputs | {"split": everyone, "version": "1", "license": "x", "cells": root}
    spec = export(trained, root / "all.onnx", **how, precision="int8")
    assert 30 <= spec.provenance["compared_with_fp32"]["n_recordings"] < 40


def test_without_train_recordings_there_are_no_scales(root, inputs, checkpoint):
    dev = root / "dev.csv"
    head, *rows = inputs["manifest"].read_text().splitlines()
    dev.write_text("\n".join([head, *(row for row in rows if ",s3," in row)]) + "\n")
    how = inputs | {"manifest": dev, "version": "1", "license": "x", "precision": "int8"}
    with pytest.raises(BadParameter, match="in train, and int8's scales"):
        export(checkpoint, root / "no.onnx", **how)


@pytest.mark.usefixtures("any_move")
def test_only_int8_looks_at_train(root, inputs, checkpoint, monkeypatch):
    speakers = set()

    def heard(recording, spec):
        speakers.add(recording.speaker)
        return features_of(recording, spec)

    monkeypatch.setattr("model_export.export.features_of", heard)
    how = inputs | {"version": "1", "license": "x", "precision": "fp16"}
    export(checkpoint, root / "half.onnx", **how)
    assert speakers == {"s3"}
