import numpy as np
import pytest
import torch

from model_export import whisper
from model_export.corpora import read_manifest
from model_export.crossval import cross_validate
from model_export.experiment import read_experiment
from model_export.fitting import Task, fit
from model_export.pretraining import pretrain
from model_export.protocols import grouped
from model_export.splits import write_division
from model_export.teacher_frames import N_COMPONENTS, TeacherFrames, read_frames, write_frames
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_config, write_corpus


def encoder(log_mel):
    """In the place of Whisper's: 20 ms frames `(n, 384)`, the bands through a fixed matrix."""
    mix = np.random.default_rng(0).normal(size=(80, whisper.WIDTH)).astype(np.float32)
    n = log_mel.shape[1] // 2
    return log_mel[:, : 2 * n].T.reshape(n, 2, 80).mean(axis=1) @ mix


@pytest.fixture
def pool(tmp_path):
    """Four voices that nobody labelled, and their frames."""
    root = tmp_path / "pool"
    root.mkdir()
    manifest = write_corpus(root, ("neutral", "sad"), corpus="pool")
    frames = root / "frames.npz"
    told = []
    write_frames(manifest, root, frames, lambda *done: told.append(done), encoder)
    assert told[-1] == (16, 16)
    return {"manifest": manifest, "data": root, "frames": frames}


def test_frames_are_40_ms_and_their_components_standardised(pool):
    recordings = read_manifest(pool["manifest"], pool["data"], LABELS)
    taught = read_frames(pool["frames"], recordings)
    # 1.2 s and 3.0 s, each with half a second of silence behind it
    assert set(taught.lengths.tolist()) == {42, 87}
    frames = taught.frames.float()
    assert frames.shape == (8 * (42 + 87), N_COMPONENTS)
    torch.testing.assert_close(frames.mean(dim=0), torch.zeros(128), atol=5e-2, rtol=0)
    assert frames.square().mean() == pytest.approx(1, abs=0.05)
    power = frames.square().mean(dim=0)
    assert (power[:-1] >= 0.9 * power[1:] - 1e-3).all()  # the largest first
    last = read_frames(pool["frames"], recordings[-1:])
    assert last.frames.equal(taught.frames[-87:])


def test_frames_are_found_by_their_seconds():
    frames = TeacherFrames(torch.arange(10.0).half()[:, None], torch.tensor([4, 6]))
    seconds = torch.tensor([[0.0, 0.039, 0.041, 9.0], [0.0125, 0.081, 0.2, 0.3]])
    found = frames.at(torch.tensor([0, 1]), seconds)[..., 0]
    assert found.tolist() == [[0, 0, 1, 3], [4, 6, 9, 9]]


def test_what_is_no_file_of_frames_and_what_lacks_a_recording(pool, tmp_path):
    recordings = read_manifest(pool["manifest"], pool["data"], LABELS)
    with pytest.raises(BadParameter, match="holds no frames"):
        read_frames(pool["manifest"], recordings)
    with np.load(pool["frames"]) as arrays:
        cut = dict(arrays) | {"frames": arrays["frames"][:-1]}
    np.savez(tmp_path / "cut.npz", **cut)
    with pytest.raises(BadParameter, match="not as many as it says"):
        read_frames(tmp_path / "cut.npz", recordings)
    half = tmp_path / "half.npz"
    for content in (b"", pool["frames"].read_bytes()[:5000]):
        half.write_bytes(content)
        with pytest.raises(BadParameter, match="holds no frames"):
            read_frames(half, recordings)
    np.savez(half, **cut | {"lengths": cut["lengths"].astype(float)})
    with pytest.raises(BadParameter, match="not as many as it says"):
        read_frames(half, recordings)
    other = tmp_path / "other"
    other.mkdir()
    others = read_manifest(write_corpus(other, corpus="other"), other, LABELS)
    with pytest.raises(BadParameter, match=r"no frames of other-s1-angry-0\.flac and 39 others"):
        read_frames(pool["frames"], recordings + others)


def test_the_loss_falls_and_a_stopped_run_goes_on(pool, tmp_path):
    config = write_config(tmp_path, epochs=6, learning_rate=1e-2)
    losses = []
    final = pretrain(config, **pool, out=tmp_path / "a", on_epoch=lambda p: losses.append(p.loss))
    assert losses[-1] < 0.8 * losses[0]

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, **pool, out=tmp_path / "b", on_epoch=stop)
    again = pretrain(config, **pool, out=tmp_path / "b")
    weights, resumed = (torch.load(path)["network"] for path in (final, again))
    for name, tensor in weights.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=1e-5)
    first = fit(Task(read_experiment(config)[0], 1, read_pool(pool)), tmp_path / "labels")
    assert first.state_dict().keys() == weights.keys()
    assert torch.load(final)["speakers"] == [["pool", f"s{n}"] for n in (1, 2, 3, 4)]


def read_pool(pool):
    return read_manifest(pool["manifest"], pool["data"], LABELS)


def test_labels_are_not_looked_at(pool, tmp_path):
    config = write_config(tmp_path)
    one = torch.load(pretrain(config, **pool, out=tmp_path / "a"))
    text = pool["manifest"].read_text()
    pool["manifest"].write_text(text.replace(",sad,sad,", ",sad,neutral,"))
    other = torch.load(pretrain(config, **pool, out=tmp_path / "b"))
    for name, tensor in one["network"].items():
        torch.testing.assert_close(other["network"][name], tensor, atol=0, rtol=0)


def test_cells_start_from_it(pool, tmp_path):
    manifest = write_corpus(tmp_path)
    folds = tmp_path / "folds.json"
    write_division(grouped(read_manifest(manifest, tmp_path, LABELS), 2), folds)
    config = write_config(tmp_path)
    start = pretrain(config, **pool, out=tmp_path / "pre")
    config.write_text(config.read_text() + "pretrained = true\n")
    results, runs = tmp_path / "results", tmp_path / "runs"
    (cell,) = cross_validate(
        config, manifest, tmp_path, folds, results, runs=runs, only=[0], init=start
    )
    assert cell.is_file()


def test_only_glrf_tells_frames(pool, tmp_path):
    config = write_config(tmp_path)
    text = config.read_text().replace("channels = 8\nn_blocks = 2\nn_heads = 2", "n_mfcc = 13")
    config.write_text(text.replace("[network]", '[network]\nkind = "light-sernet"'))
    with pytest.raises(BadParameter, match="a light-sernet tells no frames"):
        pretrain(config, **pool, out=tmp_path / "a")
