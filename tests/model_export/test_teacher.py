import re

import numpy as np
import pytest
import torch

from model_export.corpora import read_manifest
from model_export.experiment import read_experiment
from model_export.fitting import Task, fit
from model_export.teacher import prepare, read_embeddings
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_config, write_corpus


@pytest.fixture
def recordings(tmp_path):
    return read_manifest(write_corpus(tmp_path), tmp_path, LABELS)


def write_embeddings(path, recordings, tell):
    rng = np.random.default_rng(1)
    stats = rng.normal(0, 0.1, (len(recordings), 8)).astype(np.float32)
    for row, recording in zip(stats, recordings, strict=True):
        row[:5] += tell(recording)
    np.savez(path, paths=[r.name for r in recordings], stats=stats)
    return path


def one_hot(recording):
    return np.eye(5)[LABELS.index(recording.label)]


def test_a_teacher_tells_speakers_that_it_has_not_heard(tmp_path, recordings):
    path = write_embeddings(tmp_path / "e.npz", recordings, one_hot)
    lesson = prepare(read_embeddings(path), recordings, LABELS)
    truth = [LABELS.index(r.label) for r in recordings]
    assert lesson.posteriors.shape == (len(recordings), 5)
    np.testing.assert_allclose(lesson.posteriors.sum(dim=1), 1, atol=1e-5)
    assert (lesson.posteriors.argmax(dim=1).numpy() == truth).mean() > 0.9
    np.testing.assert_allclose(lesson.embeddings.mean(dim=0), 0, atol=1e-5)


def test_what_tells_the_speaker_only_teaches_nothing(tmp_path, recordings):
    def by_heart(recording):
        rng = np.random.default_rng(sum(map(ord, f"{recording.speaker}{recording.label}")))
        return rng.normal(0, 1, 5)

    path = write_embeddings(tmp_path / "e.npz", recordings, by_heart)
    lesson = prepare(read_embeddings(path), recordings, LABELS)
    truth = [LABELS.index(r.label) for r in recordings]
    assert (lesson.posteriors.argmax(dim=1).numpy() == truth).mean() < 0.6


def test_missing_embeddings_and_other_files_are_told(tmp_path, recordings):
    path = write_embeddings(tmp_path / "e.npz", recordings[1:], one_hot)
    with pytest.raises(BadParameter, match=f"no embedding of {recordings[0].name}"):
        prepare(read_embeddings(path), recordings, LABELS)
    (tmp_path / "x.npz").write_bytes(b"no arrays")
    with pytest.raises(BadParameter, match="holds no embeddings"):
        read_embeddings(tmp_path / "x.npz")


def test_one_speaker_is_too_few(tmp_path, recordings):
    path = write_embeddings(tmp_path / "e.npz", recordings, one_hot)
    alone = [r for r in recordings if r.speaker == recordings[0].speaker]
    with pytest.raises(BadParameter, match="two train speakers"):
        prepare(read_embeddings(path), alone, LABELS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[loss]\nkind = "cross-entropy"\n[distillation]\nposterior = 0.4', "no posteriors"),
        ("[distillation]\nembedding = 0.5", "tells no embedding"),
    ],
)
def test_what_cannot_be_distilled_is_refused(tmp_path, recordings, text, told):
    path = write_embeddings(tmp_path / "e.npz", recordings, one_hot)
    lesson = prepare(read_embeddings(path), recordings, LABELS)
    config = write_config(tmp_path)
    plain = config.read_text()
    if "embedding =" in text:
        plain = re.sub(
            r"\[network\][^[]*", '[network]\nkind = "light-sernet"\nn_mfcc = 13\n', plain
        )
    config.write_text(f"{plain}{text}\n")
    with pytest.raises(BadParameter, match=told):
        fit(Task(read_experiment(config)[0], 1, recordings, lesson=lesson), tmp_path / "run")


def test_both_ways_of_learning_from_it(tmp_path, recordings):
    lesson = prepare(
        read_embeddings(write_embeddings(tmp_path / "e.npz", recordings, one_hot)),
        recordings,
        LABELS,
    )
    config = write_config(tmp_path)
    plain = fit(Task(read_experiment(config)[0], 1, recordings), tmp_path / "plain")
    for what in ("posterior", "embedding"):
        config.write_text(
            config.read_text().split("[distillation]")[0] + f"[distillation]\n{what} = 0.5\n"
        )
        experiment, _ = read_experiment(config)
        taught = fit(Task(experiment, 1, recordings, lesson=lesson), tmp_path / what)
        assert taught.state_dict().keys() == plain.state_dict().keys()
        weights, untaught = (n.state_dict()["score.weight"] for n in (taught, plain))
        assert not torch.equal(weights, untaught)


@pytest.mark.parametrize("damage", ["empty", "half", "other", "nan", "flat"])
def test_embeddings_that_cannot_be_used_are_told(tmp_path, recordings, damage):
    path = write_embeddings(tmp_path / "e.npz", recordings, one_hot)
    with np.load(path) as arrays:
        paths, stats = arrays["paths"], arrays["stats"]
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(path.read_bytes()[:500])
        case "other":
            np.save(tmp_path / "e.npy", stats)
            path = tmp_path / "e.npy"
        case "nan":
            np.savez(path, paths=paths, stats=np.where(stats == stats[3, 2], np.nan, stats))
        case _:
            np.savez(path, paths=paths, stats=stats[:, 0])
    with pytest.raises(BadParameter, match="holds no embeddings"):
        read_embeddings(path)


def test_heads_that_would_hear_one_label_are_told(tmp_path, recordings):
    path = write_embeddings(tmp_path / "e.npz", recordings, one_hot)
    own = [r for r in recordings if (r.speaker, r.label) in (("s1", "sad"), ("s2", "happy"))]
    with pytest.raises(BadParameter, match="hear one label"):
        prepare(read_embeddings(path), own, LABELS)
