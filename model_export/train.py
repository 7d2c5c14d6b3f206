"""Trains GLRF with the head-k-pooling loss; checkpoints after every epoch and resumes."""

import copy
import hashlib
import json
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_export.corpora import describe, read_manifest
from model_export.dataset import TrainingSet
from model_export.evaluation import report, score_recording
from model_export.experiment import Experiment, read_experiment
from model_export.glrf import Glrf
from model_export.losses import head_k_pooling_loss
from model_export.splits import read_split
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec, Float32
from ser_core.labels import NEUTRAL
from ser_core.model_file import ModelSpec, Thresholds
from ser_core.posteriors import Calibration
from ser_core.segments import SegmentSpec


class AveragedWeights:
    """Exponential moving average of weights and batch-norm statistics."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._n_updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average towards `network`; early updates move it faster."""
        self._n_updates += 1
        decay = min(self._decay, self._n_updates / (self._n_updates + 10))
        for kept, new in zip(
            self.network.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "n_updates": self._n_updates}

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._n_updates = state["n_updates"]


@dataclass(frozen=True)
class Progress:
    """After each epoch: the mean loss, the UA on the development speakers by corpus, seconds."""

    epoch: int
    n_epochs: int
    loss: float
    dev_ua: dict[str, float]
    duration_s: float


def scorer(network: nn.Module) -> Callable[[Float32], Float32]:
    """The network as a function of NumPy segments."""

    @torch.inference_mode()
    def score(features: Float32) -> Float32:
        return network(torch.from_numpy(features)).numpy()

    return score


def untrained_spec(experiment: Experiment, features: FeatureSpec) -> ModelSpec:
    """The experiment's spec before calibration: raw sigmoids."""
    n_labels = len(experiment.labels)
    return ModelSpec(
        name="glrf",
        version="0",
        labels=experiment.labels,
        features=features,
        segments=SegmentSpec(),
        calibration=Calibration((1.0,) * n_labels, (0.0,) * n_labels),
        thresholds=Thresholds(uncertain_below=0.0, min_samples=0),
        provenance={},
        license="",
        self_test_logits=(0.0,) * n_labels,
    )


def train(
    config: Path,
    manifest: Path,
    data: Path,
    split: Path,
    out: Path,
    *,
    init: Path | None = None,
    resume: bool = True,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Path:
    """Trains on the split's train speakers and returns the checkpoint `out/final.pt`.

    `out/last.pt` is written after every epoch; with `resume` a run that stopped goes on from it,
    with the same draws as if it had not. `init` is a finished checkpoint of the same network whose
    weights are the start, for a second stage or another corpus. `out/log.jsonl` has a line an
    epoch. The development speakers are only watched; the test speakers are not even read.

    Raises `BadParameter` for a config, manifest, split or checkpoint that cannot be used.
    """
    experiment, config_sha256 = read_experiment(config)
    speakers = read_split(split)
    recordings = read_manifest(manifest, data, experiment.labels)
    train_set = speakers.select(recordings, "train")
    dev_set = speakers.select(recordings, "dev")
    if not train_set:
        raise BadParameter("no recording of the manifest is in train", remedy="check the split")

    settings = experiment.training
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.n_threads)
    features = experiment.features.spec()
    network = Glrf(experiment.network, features, len(experiment.labels))
    init_sha256 = None if init is None else start_from(init, network)
    average = AveragedWeights(network, settings.ema_decay)
    dataset = TrainingSet(train_set, experiment.labels, features, experiment.augment)
    steps_per_epoch = -(-len(dataset) // settings.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=settings.epochs * steps_per_epoch,
        pct_start=0.1,
    )
    neutral = experiment.labels.index(NEUTRAL) if NEUTRAL in experiment.labels else None
    spec = untrained_spec(experiment, features)

    out.mkdir(parents=True, exist_ok=True)
    last = out / "last.pt"
    first_epoch = 0
    if resume and last.is_file():
        state = torch.load(last, weights_only=True)
        if state["config_sha256"] != config_sha256 or state["split_sha256"] != speakers.sha256:
            raise BadParameter(f"{last} is of another config or split", remedy="give another --out")
        if init is not None and init_sha256 != state["init_sha256"]:
            raise BadParameter(f"{last} started elsewhere", remedy="give another --out")
        init_sha256 = state["init_sha256"]
        network.load_state_dict(state["network"])
        average.load(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first_epoch = state["epoch"] + 1

    for epoch in range(first_epoch, settings.epochs):
        started = time.monotonic()
        rng = np.random.default_rng((settings.seed, epoch))
        torch.manual_seed(settings.seed * 10_007 + epoch)
        network.train()
        losses: list[float] = []
        for batch in dataset.epoch(rng, settings.batch_size):
            loss: Tensor = head_k_pooling_loss(
                network(batch.features),
                batch.n_segments,
                batch.labels,
                neutral=neutral,
                k=experiment.loss.k,
                negative_sampling=experiment.loss.negative_sampling,
                label_smoothing=experiment.loss.label_smoothing,
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update(network)
            losses.append(loss.item())
        score = scorer(average.network)
        scored = [(one, score_recording(one, spec, score)) for one in dev_set]
        assessed = report(scored, experiment.labels) if scored else {"corpora": {}}
        progress = Progress(
            epoch=epoch + 1,
            n_epochs=settings.epochs,
            loss=float(np.mean(losses)),
            dev_ua={name: corpus["ua"] for name, corpus in assessed["corpora"].items()},
            duration_s=time.monotonic() - started,
        )
        _write(
            last,
            {
                "epoch": epoch,
                "network": network.state_dict(),
                "average": average.state(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "config_sha256": config_sha256,
                "split_sha256": speakers.sha256,
                "init_sha256": init_sha256,
            },
        )
        line = asdict(progress) | {
            "dev_pure_acc": {n: c["pure_acc"] for n, c in assessed["corpora"].items()}
        }
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if on_epoch is not None:
            on_epoch(progress)

    final = out / "final.pt"
    _write(
        final,
        {
            "config": config.read_text(),
            "config_sha256": config_sha256,
            "split_sha256": speakers.sha256,
            "init_sha256": init_sha256,
            "network": average.network.state_dict(),
            "training_data": describe(train_set),
        },
    )
    return final


def start_from(checkpoint: Path, network: nn.Module) -> str:
    """Takes the weights of a finished checkpoint; returns its sha256.

    Raises `BadParameter` when it is missing or of another network.
    """
    if not checkpoint.is_file():
        raise BadParameter(f"checkpoint {checkpoint} does not exist", remedy="give a final.pt")
    try:
        network.load_state_dict(torch.load(checkpoint, weights_only=True)["network"])
    except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise BadParameter(
            f"{checkpoint} does not fit the config's network",
            remedy="give the config's own [network], [features] and labels",
        ) from error
    return hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def _write(path: Path, state: dict[str, Any]) -> None:
    """Replaces the file whole, so that a kill never leaves half of one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
