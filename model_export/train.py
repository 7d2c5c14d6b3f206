"""Trains an experiment on a split: one model, with speakers to watch it on."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from model_export.corpora import describe, read_manifest
from model_export.experiment import read_experiment
from model_export.fitting import Progress, Task, fit, origin_of, write_checkpoint
from model_export.splits import read_split
from model_export.teacher import prepare, read_embeddings
from model_export.world import World
from ser_core.errors import BadParameter


def train(
    config: Path,
    manifest: Path,
    data: Path,
    split: Path,
    out: Path,
    *,
    init: Path | None = None,
    teacher: Path | None = None,
    resume: bool = True,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Path:
    """Trains on the split's train speakers and returns the checkpoint `out/final.pt`.

    `out/last.pt` is written after every epoch; with `resume` a run that stopped goes on from it,
    with the same draws as if it had not. `init` is a finished checkpoint of the same network whose
    weights are the start, for a second stage or another corpus; `teacher` a file of embeddings for
    an experiment that distils. `out/log.jsonl` has a line an epoch. The development speakers are
    only watched; the test speakers are not even read.

    Raises `BadParameter` for a config, manifest, split or checkpoint that cannot be used.
    """
    experiment, config_sha256 = read_experiment(config)
    speakers = read_split(split)
    recordings = read_manifest(manifest, data, experiment.labels)
    speakers.check_heard(recordings, "train", "dev")
    train_set = speakers.select(recordings, "train")
    if not train_set:
        raise BadParameter("no recording of the manifest is in train", remedy="check the split")
    if init is not None:
        init_sha256 = hashlib.sha256(_read_start(init)).hexdigest()
    else:
        init_sha256 = origin_of(out).get("init_sha256") if resume else None
    lesson = None
    if teacher is not None:
        lesson = prepare(read_embeddings(teacher), train_set, experiment.labels)
    origin = {
        "config_sha256": config_sha256,
        "split_sha256": speakers.sha256,
        "init_sha256": init_sha256,
    }
    task = Task(
        experiment,
        experiment.training.seed,
        train_set,
        speakers.select(recordings, "dev"),
        lesson,
        origin,
    )

    def start(network: nn.Module) -> None:
        if init is not None:
            start_from(init, network)

    network = fit(task, out, start=start, resume=resume, on_epoch=on_epoch)
    final = out / "final.pt"
    world = World.of_this_process()
    if world.rank == 0:
        write_checkpoint(
            final,
            {
                "config": config.read_text(),
                **origin,
                "network": network.state_dict(),
                "training_data": describe(train_set),
            },
        )
    world.meet()
    return final


def start_from(checkpoint: Path, network: nn.Module) -> None:
    """Takes the weights of a finished checkpoint.

    Raises `BadParameter` when it is missing or of another network.
    """
    try:
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        network.load_state_dict(state["network"])
    except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise BadParameter(
            f"{checkpoint} does not fit the config's network",
            remedy="give the config's own [network], [features] and labels",
        ) from error


def _read_start(checkpoint: Path) -> bytes:
    if not checkpoint.is_file():
        raise BadParameter(f"checkpoint {checkpoint} does not exist", remedy="give a final.pt")
    return checkpoint.read_bytes()
