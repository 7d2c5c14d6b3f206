import hashlib
import io
import json
import re

import pytest
import torch

from model_export.export import export
from model_export.fitting import AveragedWeights, origin_of, write_checkpoint
from model_export.train import train
from ser_core.errors import BadParameter
from tests.model_export.corpus import write_config, write_corpus, write_split


@pytest.fixture
def inputs(tmp_path):
    return {
        "config": write_config(tmp_path),
        "manifest": write_corpus(tmp_path),
        "data": tmp_path,
        "split": write_split(tmp_path),
    }


class Stop(Exception):
    pass


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path, inputs, mixup):
    inputs["config"] = write_config(tmp_path, mixup=mixup)
    seen = []
    whole = torch.load(train(**inputs, out=tmp_path / "whole", on_epoch=seen.append))
    assert [progress.epoch for progress in seen] == [1, 2]
    assert 0 <= seen[-1].dev_ua["toy"] <= 1

    def stop(progress):
        raise Stop

    with pytest.raises(Stop):
        train(**inputs, out=tmp_path / "cut", on_epoch=stop)
    resumed = []
    cut = torch.load(train(**inputs, out=tmp_path / "cut", on_epoch=resumed.append))
    assert [progress.epoch for progress in resumed] == [2]
    for name, weights in whole["network"].items():
        torch.testing.assert_close(cut["network"][name], weights, atol=1e-6, rtol=1e-5)
    log = [json.loads(line) for line in (tmp_path / "cut/log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    assert whole["training_data"]["toy"]["speakers"] == 2  # the train speakers and no other


def _damaged(whole: bytes) -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    return {
        "cut": whole[:20_000],
        "empty": b"",
        "text": b"epoch,loss",
        "another": buffer.getvalue(),
    }


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "another"])
def test_a_damaged_checkpoint_is_named(tmp_path, inputs, damage):
    final = train(**inputs, out=tmp_path / "out")
    for file, remedy, options in (
        ("last.pt", "delete it to begin anew", {"out": tmp_path / "out"}),
        ("final.pt", "give a final.pt", {"out": tmp_path / "second", "init": final}),
    ):
        path = tmp_path / "out" / file
        path.write_bytes(_damaged(path.read_bytes())[damage])
        with pytest.raises(BadParameter, match=f"{re.escape(str(path))} is no checkpoint") as told:
            train(**inputs, **options)
        assert told.value.remedy == remedy
    del inputs["config"]
    with pytest.raises(BadParameter, match=f"{re.escape(str(final))} is no checkpoint"):
        export(final, tmp_path / "x.onnx", **inputs, version="1", license="x")


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced: list[bool] = []
    monkeypatch.setattr("os.fsync", lambda _: synced.append((tmp_path / "last.pt").exists()))
    write_checkpoint(tmp_path / "last.pt", {"origin": {}})
    assert synced == [False]
    assert origin_of(tmp_path) == {}


def test_test_speakers_are_not_even_read(tmp_path, inputs):
    for path in tmp_path.glob("toy-s4-*"):
        path.write_bytes(b"not audio")
    train(**inputs, out=tmp_path / "out")


def test_a_checkpoint_of_another_config_is_refused(tmp_path, inputs):
    train(**inputs, out=tmp_path / "out")
    inputs["config"] = write_config(tmp_path, epochs=3)
    with pytest.raises(BadParameter, match="another config, split"):
        train(**inputs, out=tmp_path / "out")


def test_a_run_does_not_go_on_with_other_labels(tmp_path, inputs):
    train(**inputs, out=tmp_path / "out")
    rows = inputs["manifest"].read_text()
    inputs["manifest"].write_text(rows.replace("sad,sad", "fear,fear", 1))
    with pytest.raises(BadParameter, match="manifest or teacher"):
        train(**inputs, out=tmp_path / "out")


def test_a_split_without_train_speakers_is_refused(tmp_path, inputs):
    inputs["split"].write_text('{"train": {}, "dev": {}, "test": {}}')
    with pytest.raises(BadParameter, match="no recording of the manifest is in train"):
        train(**inputs, out=tmp_path / "out")


@pytest.mark.parametrize("subset", ["train", "dev"])
def test_speakers_that_the_manifest_lacks_are_refused_by_name(tmp_path, inputs, subset):
    split = json.loads(inputs["split"].read_text())
    split[subset]["toy"].append("s9")
    inputs["split"].write_text(json.dumps(split))
    with pytest.raises(BadParameter, match=f"1 speakers of {subset} are not in .*: toy s9"):
        train(**inputs, out=tmp_path / "out")


def test_a_run_too_short_for_its_schedule_is_refused(tmp_path, inputs):
    config = write_config(tmp_path, epochs=1)
    config.write_text(re.sub("batch_size = .*", "batch_size = 64", config.read_text()))
    with pytest.raises(BadParameter, match="1 epochs of 20 recordings are 1 steps"):
        train(**inputs, out=tmp_path / "out")


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, inputs):
    inputs["config"] = write_config(tmp_path, learning_rate=1e30)
    with pytest.raises(BadParameter, match=r"loss of epoch 1, step [23], is (nan|inf)"):
        train(**inputs, out=tmp_path / "out")
    assert not (tmp_path / "out/final.pt").exists()


def test_average_follows_the_weights():
    network = torch.nn.Linear(1, 1, bias=False)
    average = AveragedWeights(network, decay=0.9)
    with torch.no_grad():
        network.weight.fill_(1.0)
    for _ in range(200):
        average.update(network)
    assert average.network.weight.item() == pytest.approx(1.0, abs=1e-6)
    assert not average.network.weight.requires_grad


def test_a_finished_checkpoint_can_be_the_start(tmp_path, inputs):
    first = train(**inputs, out=tmp_path / "first")
    write_config(inputs["config"].parent, epochs=1, learning_rate=1e-9)
    second = torch.load(train(**inputs, out=tmp_path / "second", init=first))
    assert len(second["init_sha256"]) == 64
    name = "blocks.0.global_.qkv.weight"
    torch.testing.assert_close(second["network"][name], torch.load(first)["network"][name])


def test_a_resumed_run_remembers_where_it_started(tmp_path, inputs):
    first = train(**inputs, out=tmp_path / "first")
    started = torch.load(train(**inputs, out=tmp_path / "second", init=first))["init_sha256"]
    (tmp_path / "second/final.pt").unlink()
    resumed = torch.load(train(**inputs, out=tmp_path / "second"))
    assert resumed["init_sha256"] == started
    with pytest.raises(BadParameter, match="another config, split, seed, start"):
        train(**inputs, out=tmp_path / "first", init=first)


def test_a_checkpoint_of_another_network_is_no_start(tmp_path, inputs):
    first = train(**inputs, out=tmp_path / "first")
    text = inputs["config"].read_text()
    inputs["config"].write_text(text.replace("channels = 8", "channels = 16"))
    with pytest.raises(BadParameter, match="does not fit"):
        train(**inputs, out=tmp_path / "second", init=first)
    with pytest.raises(BadParameter, match="does not exist"):
        train(**inputs, out=tmp_path / "second", init=tmp_path / "none.pt")


def test_a_start_that_knows_dev_or_test_voices_is_refused(tmp_path, inputs):
    everyone = tmp_path / "everyone.json"
    everyone.write_text('{"train": {"toy": ["s1", "s2", "s3", "s4"]}, "dev": {}, "test": {}}')
    first = train(**inputs | {"split": everyone}, out=tmp_path / "first")
    with pytest.raises(BadParameter, match="2 speakers of dev and test: toy s3, toy s4"):
        train(**inputs, out=tmp_path / "second", init=first)


def test_a_run_inherits_the_speakers_of_its_start(tmp_path, inputs):
    def split(**parts):
        path = tmp_path / f"{'-'.join(parts)}.json"
        path.write_text(
            json.dumps({"train": {}, "dev": {}, "test": {}} | {p: {"toy": parts[p]} for p in parts})
        )
        return path

    first = train(**inputs | {"split": split(train=["s1"])}, out=tmp_path / "first")

    def stop(progress):
        raise Stop

    then = inputs | {"split": split(train=["s2"], dev=["s3"])}
    with pytest.raises(Stop):
        train(**then, out=tmp_path / "second", init=first, on_epoch=stop)
    second = train(**then, out=tmp_path / "second")  # goes on, its start not named again
    assert torch.load(second)["speakers"] == [["toy", "s1"], ["toy", "s2"]]
    last = inputs | {"split": split(train=["s4"], test=["s1"])}
    with pytest.raises(BadParameter, match="1 speakers of dev and test: toy s1"):
        train(**last, out=tmp_path / "third", init=second)


def test_of_an_older_start_the_speakers_stay_unknown(tmp_path, inputs, caplog):
    first = train(**inputs, out=tmp_path / "first")
    state = torch.load(first)
    del state["speakers"]
    torch.save(state, first)
    second = train(**inputs, out=tmp_path / "second", init=first)
    assert "does not tell whose voices" in caplog.text
    assert torch.load(second)["speakers"] is None


def test_a_start_of_the_same_labels_in_another_order_is_refused(tmp_path, inputs):
    first = train(**inputs, out=tmp_path / "first")
    config = inputs["config"]
    config.write_text('labels = ["sad", "angry", "happy", "neutral", "fear"]' + config.read_text())
    with pytest.raises(BadParameter, match="the labels angry, happy, neutral, sad, fear, in this"):
        train(**inputs, out=tmp_path / "second", init=first)
    with pytest.raises(BadParameter, match="is no finished checkpoint"):
        train(**inputs, out=tmp_path / "second", init=tmp_path / "first/last.pt")


def test_a_config_that_is_edited_meanwhile_is_not_what_was_trained(tmp_path, inputs):
    config = inputs["config"]
    text = config.read_text()

    def edit(progress):
        config.write_text(text.replace("n_mfcc = 13", "n_mfcc = 13\nfmax_hz = 3000.0"))

    state = torch.load(train(**inputs, out=tmp_path / "run", on_epoch=edit))
    assert state["config"] == text
    assert state["config_sha256"] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("old", "new"),
    [("n_mfcc = 13", "n_mfcc = 13\nfmax_hz = 3400.0"), ("n_heads = 2", "n_heads = 4")],
)
def test_a_start_whose_weights_fit_but_mean_something_else_is_refused(tmp_path, inputs, old, new):
    first = train(**inputs, out=tmp_path / "first")
    text = inputs["config"].read_text()
    inputs["config"].write_text(text.replace(old, new))
    with pytest.raises(BadParameter, match="does not fit"):
        train(**inputs, out=tmp_path / "second", init=first)
    inputs["config"].write_text(text.replace("n_heads = 2", "n_heads = 2\ndropout = 0.2"))
    train(**inputs, out=tmp_path / "third", init=first)  # what has no part in the served network
