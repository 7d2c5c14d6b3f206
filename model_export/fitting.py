"""Fits an experiment's network to recordings; checkpoints after every epoch and resumes."""

import copy
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from model_export.corpora import Recording, labels_by_corpus, sha256_of
from model_export.dataset import Batch, TrainingSet
from model_export.evaluation import report, score_recording
from model_export.experiment import Experiment
from model_export.glrf import Glrf
from model_export.losses import head_k_pooling_loss, segment_cross_entropy
from model_export.mixup import draw
from model_export.network import build, scorer, served
from model_export.teacher import Lesson
from model_export.world import World
from ser_core.errors import BadParameter
from ser_core.labels import NEUTRAL

#: The least that a one-cycle schedule can rise and fall in.
MIN_STEPS = 3
#: What to do about a `last.pt` that cannot be read.
_ANEW = "delete it to begin anew"


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


@dataclass(frozen=True)
class Task:
    """What is learned from what.

    `origin` says where the run comes from (config, split, start): a run goes on only
    from a checkpoint of the same, with the same recordings and lesson. `dev` recordings are only
    watched. `lesson` is what a teacher says of the train recordings, for experiments that distil.
    """

    experiment: Experiment
    seed: int
    train: list[Recording]
    dev: list[Recording] = field(default_factory=list)
    lesson: Lesson | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data_sha256(self) -> str:
        """Of the train recordings, by name, speaker and label, and of the lesson."""
        lesson = self.lesson
        taught = [] if lesson is None else [lesson.posteriors, lesson.embeddings]
        return sha256_of(self.train, *(one.numpy().tobytes() for one in taught))


class _Told(Protocol):
    def __call__(self, progress: Progress, /) -> None: ...


class _Pupil(nn.Module):
    """A network in training: logits `(B, n_labels)`, and what it tells of the teacher's embedding.

    The second is `None` where nothing of the kind is learned; its linear layer is thrown away
    after training.
    """

    def __init__(self, network: nn.Module, n_embedding: int) -> None:
        super().__init__()
        self.network = network
        self.tell = nn.LazyLinear(n_embedding) if n_embedding else None

    def forward(
        self, features: Tensor, mix: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if not isinstance(self.network, Glrf):
            return self.network(features), None
        embedded = (
            self.network.embed(features) if mix is None else self.network.embed(features, mix)
        )
        told = None if self.tell is None else self.tell(embedded)
        return self.network.decide(embedded), told


def fit(
    task: Task,
    out: Path,
    *,
    start: Callable[[nn.Module], None] | None = None,
    resume: bool = True,
    on_epoch: _Told | None = None,
) -> nn.Module:
    """Trains the experiment's network; returns the average of its weights.

    `out/last.pt` is written after every epoch; with `resume` a run that stopped goes on from it,
    with the same draws as if it had not. `out/log.jsonl` has a line an epoch. `start` may set the
    network's first weights.

    Under `torchrun` every process takes its share of each batch, and the first one writes.

    Raises `BadParameter` for a checkpoint that is damaged or of another origin, for an experiment
    that distils without a lesson, with a loss that takes no posteriors or a network that has no
    embedding to tell from, and for a loss that is not finite.
    """
    experiment, settings = task.experiment, task.experiment.training
    world = World.of_this_process()
    torch.manual_seed(task.seed)
    torch.set_num_threads(settings.n_threads)
    features = experiment.features.spec()
    network = build(experiment.network, features, len(experiment.labels)).to(world.device)
    if start is not None:
        start(network)
    average = AveragedWeights(network, settings.ema_decay)
    dataset = TrainingSet(
        task.train,
        experiment.labels,
        features,
        experiment.augment,
        max_segments=settings.max_segments,
    )
    pupil = _Pupil(network, _n_embedding(task)).to(world.device)
    if pupil.tell is not None:
        pupil(torch.zeros(2, dataset.n_frames, features.n_mfcc, device=world.device))
    optimizer = torch.optim.AdamW(
        pupil.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    n_steps = settings.epochs * dataset.n_steps(settings.batch_size)
    if n_steps < MIN_STEPS:
        raise BadParameter(
            f"{settings.epochs} epochs of {len(task.train)} recordings are {n_steps} steps",
            remedy="give more recordings or epochs, or smaller batches",
        )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=n_steps,
        pct_start=max(0.1, 2 / n_steps),  # a run of ten steps would have no rise at all
    )
    spec = experiment.untrained_spec()
    corpora = labels_by_corpus([*task.train, *task.dev], experiment.labels)

    out.mkdir(parents=True, exist_ok=True)
    last = out / "last.pt"
    origin = dict(task.origin, seed=str(task.seed), data_sha256=task.data_sha256)
    first_epoch = 0
    if resume and last.is_file():
        state = read_checkpoint(last, _ANEW)
        if state["origin"] != origin:
            raise BadParameter(
                f"{last} is of another config, split, seed, start, manifest or teacher",
                remedy="give another --out (of crossval, --runs), or delete it",
            )
        pupil.load_state_dict(state["pupil"])
        average.load(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first_epoch = state["epoch"] + 1

    forward = DistributedDataParallel(pupil) if world.size > 1 else pupil
    for epoch in range(first_epoch, settings.epochs):
        started = time.monotonic()
        rng = np.random.default_rng((task.seed, epoch))
        torch.manual_seed((task.seed * 10_007 + epoch) * world.size + world.rank)
        pupil.train()
        losses: list[float] = []
        for batch in dataset.epoch(rng, settings.batch_size, world.rank, world.size):
            loss = _loss(forward, batch.to(world.device), task)
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise BadParameter(
                    f"the loss of epoch {epoch + 1}, step {len(losses)}, is {losses[-1]}",
                    remedy="give a smaller training.learning_rate",
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update(network)
        if world.rank:
            continue
        score = scorer(served(average.network, experiment.loss.kind))
        scored = [(one, score_recording(one, spec, score)) for one in task.dev]
        assessed = report(scored, corpora) if scored else {"corpora": {}}
        progress = Progress(
            epoch=epoch + 1,
            n_epochs=settings.epochs,
            loss=float(np.mean(losses)),
            dev_ua={name: corpus["ua"] for name, corpus in assessed["corpora"].items()},
            duration_s=time.monotonic() - started,
        )
        write_checkpoint(
            last,
            {
                "epoch": epoch,
                "pupil": pupil.state_dict(),
                "average": average.state(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "origin": origin,
            },
        )
        line = asdict(progress) | {
            "dev_pure_acc": {n: c["pure_acc"] for n, c in assessed["corpora"].items()}
        }
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if on_epoch is not None:
            on_epoch(progress)
    world.meet()
    return average.network


def origin_of(out: Path) -> dict[str, Any]:
    """Where the unfinished run in `out` comes from; empty where there is none."""
    last = out / "last.pt"
    if not last.is_file():
        return {}
    return read_checkpoint(last, _ANEW)["origin"]


def read_checkpoint(path: Path, remedy: str) -> dict[str, Any]:
    """What `write_checkpoint` wrote of a run, ended or not, with its tensors on the CPU.

    Raises `BadParameter` with the remedy for another or a damaged file, and `OSError` where there
    is none to read.
    """
    with path.open("rb") as file:
        try:
            state = torch.load(file, weights_only=True, map_location="cpu")
        except Exception as error:  # a damaged pickle can raise any
            raise BadParameter(f"{path} is no checkpoint, or damaged", remedy=remedy) from error
    if not isinstance(state, dict) or not {"config", "origin"} & state.keys():
        raise BadParameter(f"{path} is no checkpoint of a training", remedy=remedy)
    return state


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replaces the file whole, so that a kill or a power cut never leaves half of one."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _loss(forward: nn.Module, batch: Batch, task: Task) -> Tensor:
    config, distil, lesson = task.experiment.loss, task.experiment.distillation, task.lesson
    mixture = draw(task.experiment.mixup, len(batch.labels), batch.features.device)
    mix = None if mixture is None else partial(mixture.of_segments, n_segments=batch.n_segments)
    logits, told = forward(batch.features, mix)
    if config.kind == "cross-entropy":
        loss = segment_cross_entropy(
            logits, batch.n_segments, batch.labels, label_smoothing=config.label_smoothing
        )
    else:
        labels = task.experiment.labels
        loss = head_k_pooling_loss(
            logits,
            batch.n_segments,
            batch.labels,
            neutral=labels.index(NEUTRAL) if NEUTRAL in labels else None,
            k=config.k,
            negative_sampling=config.negative_sampling,
            label_smoothing=config.label_smoothing,
            posteriors=(
                lesson.posteriors[batch.drawn.cpu()].to(logits.device)
                if lesson is not None and distil.posterior
                else None
            ),
            posterior_share=distil.posterior,
            mixture=mixture,
        )
    if told is None or lesson is None:
        return loss
    of_utterance = torch.arange(len(batch.labels), device=logits.device).repeat_interleave(
        batch.n_segments
    )
    taught = lesson.embeddings[batch.drawn.cpu()].to(logits.device)
    if mixture is not None:
        taught = mixture.of_utterances(taught)
    return loss + distil.embedding * functional.mse_loss(told, taught[of_utterance])


def _n_embedding(task: Task) -> int:
    distil, name = task.experiment.distillation, task.experiment.name
    if not distil.posterior and not distil.embedding:
        return 0
    if task.lesson is None:
        raise BadParameter(f"{name} learns from a teacher", remedy="give --teacher")
    if distil.posterior and task.experiment.loss.kind == "cross-entropy":
        raise BadParameter(
            f"{name}: cross-entropy learns from no posteriors",
            remedy="leave out distillation.posterior, or take loss.kind head-k",
        )
    if not distil.embedding:
        return 0
    if task.experiment.network.kind != "glrf":
        raise BadParameter(
            f"{name}: a {task.experiment.network.kind} tells no embedding",
            remedy="leave out distillation.embedding",
        )
    return task.lesson.embeddings.shape[1]
