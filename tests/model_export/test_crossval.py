import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export import evaluation
from model_export.cells import load_logits, read_cells, write_cell
from model_export.corpora import read_manifest
from model_export.crossval import cross_validate
from model_export.ledger import read_ledger
from model_export.protocols import grouped
from model_export.splits import write_division
from model_export.train import train
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_config, write_corpus

#: `glrf` as in a terminal, also where the tests run in a background that ignores SIGINT.
HEARS_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from glrf.main import app
app()
"""


@pytest.fixture
def job(tmp_path):
    manifest = write_corpus(tmp_path)
    folds = tmp_path / "folds.json"
    write_division(grouped(read_manifest(manifest, tmp_path, LABELS), 2), folds)
    return {
        "config": write_config(tmp_path, epochs=1),
        "manifest": manifest,
        "data": tmp_path,
        "folds": folds,
        "results": tmp_path / "results",
        "runs": tmp_path / "runs",
    }


def test_a_cell_a_seed_and_fold_and_only_those_that_are_missing(job):
    told = []
    paths = cross_validate(**job, seeds=(1, 2), on_cell=lambda done, n: told.append((done, n)))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert [path.name for path in paths] == [
        f"seed-{seed}-fold-{fold}.json" for seed in (1, 2) for fold in (0, 1)
    ]
    cells = read_cells(job["results"])
    assert {(cell.seed, cell.fold, cell.n_folds) for cell in cells} == {
        (1, 0, 2), (1, 1, 2), (2, 0, 2), (2, 1, 2)
    }  # fmt: skip
    assert cells[0].model["parameters"] > 1000
    assert cells[0].metrics["corpora"]["toy"]["n"] == 20
    logits = load_logits(job["results"], cells[0])
    assert {str(name) for name in logits.speaker}.isdisjoint(
        str(name) for name in load_logits(job["results"], cells[1]).speaker
    )
    read_ledger(job["results"]).decisions(cells[0])  # raises where logits and metrics disagree

    written = {path: path.stat().st_mtime_ns for path in paths}
    paths[3].unlink()
    cross_validate(**job, seeds=(1, 2))
    assert {p: p.stat().st_mtime_ns for p in paths[:3]} == {p: written[p] for p in paths[:3]}
    assert paths[3].is_file()


def test_speakers_that_the_folds_do_not_know_are_told_and_change_nothing(job, caplog):
    cross_validate(**job, only=[0])
    (before,) = read_cells(job["results"])
    more = job["manifest"].read_text().replace("toy-s1-angry-0", "new").replace("toy,s1", "toy,new")
    (job["data"] / "new.flac").write_bytes((job["data"] / "toy-s1-angry-0.flac").read_bytes())
    row = more.splitlines()[1]
    with job["manifest"].open("a") as file:
        file.write(row + "\n")
    cross_validate(**job | {"results": job["data"] / "again"}, only=[0])
    assert "left out, as the folds do not have it: 1 (toy new)" in caplog.text
    (after,) = read_cells(job["data"] / "again")
    assert after.metrics == before.metrics


def test_speakers_of_the_folds_without_a_recording_are_told(job, caplog):
    folds = json.loads(job["folds"].read_text())
    folds["folds"][0]["toy"].append("gone")
    job["folds"].write_text(json.dumps(folds))
    cross_validate(**job, only=[0])
    assert "without what the manifest has not: 1 (toy gone)" in caplog.text


def test_babble_is_of_voices_that_the_fold_learned_from(job, monkeypatch):
    given = []
    condition = evaluation.condition

    def noted(name, others):
        given.append((name, len(others)))
        return condition(name, others)

    monkeypatch.setattr(evaluation, "condition", noted)
    cross_validate(**job, only=[0], conditions=["babble-10db", "mulaw-8k"])
    assert given == [("babble-10db", 20), ("mulaw-8k", 20)]
    (cell,) = read_cells(job["results"])
    assert list(cell.conditions) == ["babble-10db", "mulaw-8k"]
    assert cell.conditions["babble-10db"]["toy"]["n"] == 20


def test_a_cell_that_answers_another_question_is_refused(job, tmp_path):
    cross_validate(**job, only=[0])
    with pytest.raises(BadParameter, match="made with other conditions"):
        cross_validate(**job, only=[0], conditions=["mulaw-8k"])
    other = tmp_path / "other.json"
    recordings = read_manifest(job["manifest"], tmp_path, LABELS)
    write_division(grouped(recordings, 2, seed=5), other)
    with pytest.raises(BadParameter, match="made with other folds"):
        cross_validate(**job | {"folds": other}, only=[0])
    write_config(tmp_path, epochs=2)
    other_config = "seed 1, fold 0 is there already, made with other conf"
    with pytest.raises(BadParameter, match=other_config) as refused:
        cross_validate(**job, only=[0, 1])
    assert refused.value.remedy.startswith("give another --results")
    assert len(read_cells(job["results"])) == 1


def test_cells_of_a_manifest_that_was_corrected_are_not_taken(job):
    cross_validate(**job, only=[0])
    rows = job["manifest"].read_text()
    head, *lines = rows.splitlines()
    job["manifest"].write_text("\n".join([head, *reversed(lines)]) + "\n")
    cross_validate(**job, only=[0])  # the same recordings in another order
    swap = {"angry,angry": "sad,sad", "sad,sad": "angry,angry"}
    swapped = re.sub("|".join(swap), lambda found: swap[found[0]], rows)
    job["manifest"].write_text(swapped)
    for folds in ([0], [0, 1]):
        with pytest.raises(
            BadParameter, match="made with other recordings, labels, teacher or start"
        ):
            cross_validate(**job, only=folds)
    assert len(read_cells(job["results"])) == 1

    [cell] = read_cells(job["results"])
    write_cell(job["results"], replace(cell, data_sha256=""))  # as before cells told it
    cross_validate(**job, only=[0])


def test_cells_tell_the_same_data_in_every_fold(job):
    cross_validate(**job)
    assert len({cell.data_sha256 for cell in read_cells(job["results"])}) == 1


def test_a_cell_of_another_teacher_is_refused(job, tmp_path):
    recordings = read_manifest(job["manifest"], tmp_path, LABELS)
    teachers = []
    for seed in (1, 2):
        stats = np.random.default_rng(seed).normal(size=(40, 4)).astype(np.float32)
        teachers.append(tmp_path / f"{seed}.npz")
        np.savez(teachers[-1], paths=[one.name for one in recordings], stats=stats)
    cross_validate(**job | {"results": tmp_path / "untaught"}, only=[0], teacher=teachers[0])
    cross_validate(**job | {"results": tmp_path / "untaught"}, only=[0], teacher=teachers[1])
    job["config"].write_text(job["config"].read_text() + "[distillation]\nposterior = 0.5\n")
    job["runs"] = tmp_path / "taught"
    cross_validate(**job, only=[0], teacher=teachers[0])
    cross_validate(**job, only=[0], teacher=teachers[0])
    with pytest.raises(BadParameter, match="made with other recordings, labels, teacher or start"):
        cross_validate(**job, only=[0], teacher=teachers[1])


def trained_on_others(config, root):
    """Weights that have heard four other voices, one of them named as each of the job's."""
    root.mkdir()
    manifest = write_corpus(root, corpus="other")
    split = root / "split.json"
    split.write_text('{"train": {"other": ["s1", "s2", "s3", "s4"]}, "dev": {}, "test": {}}')
    return train(config, manifest, root, split, root / "run")


def test_cells_start_from_weights_that_have_not_heard_their_test_speakers(job, tmp_path):
    start = trained_on_others(job["config"], tmp_path / "other")
    job["config"].write_text(job["config"].read_text() + "pretrained = true\n")
    with pytest.raises(BadParameter, match="toy starts from pretrained weights"):
        cross_validate(**job, only=[0])
    cross_validate(**job, only=[0], init=start)
    (cell,) = read_cells(job["results"])
    assert cell.init_sha256 == hashlib.sha256(start.read_bytes()).hexdigest()
    weights = torch.load(start)
    weights["network"]["score.bias"] += 1
    torch.save(weights, start)
    with pytest.raises(BadParameter, match="made with other recordings, labels, teacher or start"):
        cross_validate(**job, only=[0], init=start)
    torch.save(weights | {"speakers": [["toy", "s1"], ["toy", "s2"]]}, start)
    job |= {"results": tmp_path / "known"}
    with pytest.raises(BadParameter, match="speakers of dev and test: toy s"):
        cross_validate(**job, init=start)


def test_what_a_cell_starts_from_is_what_it_ends_with_where_nothing_is_learned(job, tmp_path):
    start = trained_on_others(job["config"], tmp_path / "other")
    write_config(tmp_path, epochs=1, learning_rate=1e-9)
    cross_validate(**job, only=[0], init=start)
    ended = torch.load(job["runs"] / "toy/seed-1-fold-0/last.pt")["average"]["network"]
    name = "blocks.0.global_.qkv.weight"
    torch.testing.assert_close(ended[name], torch.load(start)["network"][name])


@pytest.mark.parametrize("change", ["k = 10.0", "negative_sampling = false"])
def test_the_loss_is_the_configs(job, tmp_path, change):
    said = []
    for loss in ("k = 70.0", change):
        config = write_config(tmp_path)
        config.write_text(config.read_text() + f"[loss]\n{loss}\n")
        names = {"results": tmp_path / loss, "runs": tmp_path / f"{loss}-runs"}
        cross_validate(**job | names, only=[0])
        [cell] = read_cells(tmp_path / loss)
        said.append(load_logits(tmp_path / loss, cell).logits)
    assert not np.array_equal(*said)


def test_a_seed_is_another_training(job):
    cross_validate(**job, only=[0], seeds=(1, 2))
    one, two = (load_logits(job["results"], cell) for cell in read_cells(job["results"]))
    assert not np.array_equal(one.logits, two.logits)


def test_a_seed_is_counted_once_and_not_below_zero(job):
    told = []
    paths = cross_validate(
        **job, seeds=(1, 1), only=[0], on_cell=lambda done, n: told.append((done, n))
    )
    assert (len(paths), told) == (1, [(0, 1), (1, 1)])
    with pytest.raises(BadParameter, match="no seed -1"):
        cross_validate(**job, seeds=(1, -1))


def test_only_some_folds_and_side_by_side_as_one_after_the_other(job, tmp_path):
    cross_validate(**job, n_jobs=2)
    alone = job | {"results": tmp_path / "alone", "runs": tmp_path / "alone-runs"}
    cross_validate(**alone, only=[1])
    [cell] = read_cells(alone["results"])
    twin = read_cells(job["results"])[1]
    assert (cell.fold, cell.metrics) == (twin.fold, twin.metrics)


@pytest.mark.parametrize("when", ["importing", "training"])
def test_ctrl_c_ends_the_processes_without_a_traceback(job, tmp_path, when):
    write_config(tmp_path, epochs=2000)
    options = [f"--{name}={path}" for name, path in job.items()]
    command = [sys.executable, "-c", HEARS_CTRL_C, "crossval", *options, "--seeds=1,2", "--jobs=2"]
    ready = {
        "importing": lambda: [has_numpy(one) for one in processes(crossval.pid)] == [True, True],
        "training": lambda: len(list(job["runs"].glob("*/*/last.pt"))) == 2,
    }
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as crossval:
        try:
            deadline_s = time.monotonic() + 120
            while not ready[when]():
                assert crossval.poll() is None
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            started = processes(crossval.pid)
            os.killpg(crossval.pid, signal.SIGINT)  # as a terminal does
            _, told = crossval.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(crossval.pid, signal.SIGKILL)
    assert crossval.returncode == 130
    assert b"Traceback" not in told
    assert len(started) == 2
    assert not any(Path(f"/proc/{process}").exists() for process in started)


def processes(parent: int) -> list[int]:
    """Those that `parent` spawned to make cells."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def has_numpy(process: int) -> bool:
    """Whether it has come as far as that: PyTorch is then still to come."""
    return "numpy" in Path(f"/proc/{process}/maps").read_text()


def test_the_first_error_is_told_while_others_are_made(job, caplog):
    empty = job["runs"] / "toy" / "seed-1-fold-0" / "last.pt"
    empty.parent.mkdir(parents=True)
    empty.touch()
    with pytest.raises(BadParameter, match="is no checkpoint"):
        cross_validate(**job, n_jobs=2)
    assert f"the others are made first: {empty} is no checkpoint" in caplog.text
    assert [cell.fold for cell in read_cells(job["results"])] == [1]


def test_a_config_that_is_edited_meanwhile_changes_no_cell(job):
    config, text = job["config"], job["config"].read_text()
    sha256 = hashlib.sha256(text.encode()).hexdigest()

    def edit(n_done: int, n_cells: int) -> None:
        if (n_done, n_cells) == (1, 2):
            config.write_text(text.replace('name = "toy"', 'name = "other"'))

    cross_validate(**job, on_cell=edit)
    cells = read_cells(job["results"])
    assert [(cell.experiment, cell.config_sha256) for cell in cells] == [("toy", sha256)] * 2


def test_test_speakers_are_not_learned_from(job):
    cross_validate(**job, only=[0])
    first = torch.load(job["runs"] / "toy" / "seed-1-fold-0" / "last.pt", weights_only=True)
    cross_validate(**job | {"runs": job["runs"].with_name("again")}, only=[0])
    cell = read_cells(job["results"])[0]
    heard = set(map(str, load_logits(job["results"], cell).speaker))
    for path in job["data"].glob("toy-*.flac"):
        if path.name.split("-")[1] in heard:
            path.write_bytes(path.read_bytes()[:200])  # unreadable: training must not mind
    from model_export.experiment import read_experiment
    from model_export.fitting import Task, fit
    from model_export.splits import read_folds

    experiment, _ = read_experiment(job["config"])
    recordings = read_manifest(job["manifest"], job["data"], LABELS)
    train, _ = read_folds(job["folds"]).select(recordings, 0)
    network = fit(Task(experiment, 1, train), job["runs"] / "unheard")
    for name, weights in network.state_dict().items():
        torch.testing.assert_close(weights, first["average"]["network"][name])


def test_peers_are_assessed_with_one_vs_rest_logits(job):
    text = (
        job["config"]
        .read_text()
        .replace("[training]", '[loss]\nkind = "cross-entropy"\n[training]')
    )
    job["config"].write_text(text)
    cross_validate(**job, only=[0])
    [cell] = read_cells(job["results"])
    logits = load_logits(job["results"], cell).logits.astype(np.float64)
    posteriors = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(posteriors.sum(axis=1), 1, atol=0.01)


def test_a_teacher_is_asked_for_by_name(job):
    text = job["config"].read_text() + "[distillation]\nposterior = 0.5\n"
    job["config"].write_text(text)
    with pytest.raises(BadParameter, match="learns from a teacher"):
        cross_validate(**job, only=[0])
