"""Fits an experiment's network to recordings; checkpoints after every epoch and resumes."""

import copy
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from model_export.corpora import Recording, describe, labels_by_corpus, sha256_of
from model_export.dataset import TrainingSet, by_voice
from model_export.evaluation import report, score_recording
from model_export.experiment import Experiment
from model_export.glrf import Glrf
from model_export.network import build, scorer, served
from model_export.pupils import Classifying, TellingFrames
from model_export.teacher import Lesson
from model_export.teacher_frames import TeacherFrames
from model_export.world import World
from ser_core.errors import BadParameter

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
    watched. `lesson` is what a teacher says of the train recordings, for experiments that distil;
    with `frames` nothing but those is learned, and no label.
    """

    experiment: Experiment
    seed: int
    train: list[Recording]
    dev: list[Recording] = field(default_factory=list)
    lesson: Lesson | None = None
    frames: TeacherFrames | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data_sha256(self) -> str:
        """Of the train recordings, by name, speaker and label, and of what is taught of them."""
        lesson, frames = self.lesson, self.frames
        taught = [] if lesson is None else [lesson.posteriors, lesson.embeddings]
        if frames is not None:
            taught += [frames.frames, frames.lengths]
        return sha256_of(self.train, *(one.numpy().tobytes() for one in taught))


class _OnEpoch(Protocol):
    def __call__(self, progress: Progress, /) -> None: ...


class _Run:
    """A training under way: the network, the average of its weights, and what steps it."""

    def __init__(self, task: Task, world: World, start: Callable[[nn.Module], None] | None) -> None:
        experiment, settings = task.experiment, task.experiment.training
        features = experiment.features.spec()
        self.task, self.world = task, world
        self.network = build(experiment.network, features, len(experiment.labels)).to(world.device)
        if start is not None:
            start(self.network)
        self.average = AveragedWeights(self.network, settings.ema_decay)
        self.dataset = TrainingSet(
            task.train,
            experiment.labels,
            features,
            experiment.augment,
            hop_samples=settings.hop_samples,
            max_segments=settings.max_segments,
            weights=None if task.frames is None else by_voice(task.train),
        )
        self.pupil = _pupil(task, self.network).to(world.device)
        self.optimizer = torch.optim.AdamW(
            self.pupil.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        n_steps = settings.epochs * self.dataset.n_steps(settings.batch_size)
        if n_steps < MIN_STEPS:
            raise BadParameter(
                f"{settings.epochs} epochs of {len(task.train)} recordings are {n_steps} steps",
                remedy="give more recordings or epochs, or smaller batches",
            )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            settings.learning_rate,
            total_steps=n_steps,
            pct_start=max(0.1, 2 / n_steps),  # a run of ten steps would have no rise at all
        )
        self.origin = dict(task.origin, seed=str(task.seed), data_sha256=task.data_sha256)

    def restore(self, last: Path) -> int:
        """Takes up the run that wrote `last`; the epoch to go on with."""
        state = read_checkpoint(last, _ANEW)
        if state["origin"] != self.origin:
            raise BadParameter(
                f"{last} is of another config, split, seed, start, manifest or teacher",
                remedy="give another --out (of crossval, --runs), or delete it",
            )
        self.pupil.load_state_dict(state["pupil"])
        self.average.load(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return state["epoch"] + 1

    def save(self, last: Path, epoch: int) -> None:
        """Writes what `restore` takes up after that epoch."""
        write_checkpoint(
            last,
            {
                "epoch": epoch,
                "pupil": self.pupil.state_dict(),
                "average": self.average.state(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "origin": self.origin,
            },
        )

    def learn(self, forward: nn.Module, epoch: int) -> float:
        """One epoch through `forward`, the pupil or what shares it out; its mean loss."""
        task, world = self.task, self.world
        rng = np.random.default_rng((task.seed, epoch))
        torch.manual_seed((task.seed * 10_007 + epoch) * world.size + world.rank)
        self.pupil.train()
        losses: list[float] = []
        batch_size = task.experiment.training.batch_size
        for batch in self.dataset.epoch(rng, batch_size, world.rank, world.size):
            loss = forward(batch.to(world.device))
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise BadParameter(
                    f"the loss of epoch {epoch + 1}, step {len(losses)}, is {losses[-1]}",
                    remedy="give a smaller training.learning_rate",
                )
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.pupil.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.average.update(self.network)
        return float(np.mean(losses))

    def watched(self) -> dict[str, dict[str, Any]]:
        """Metrics of the average on the development recordings, by corpus."""
        task, experiment = self.task, self.task.experiment
        spec = experiment.untrained_spec()
        score = scorer(served(self.average.network, experiment.loss.kind))
        scored = [(one, score_recording(one, spec, score)) for one in task.dev]
        if not scored:
            return {}
        corpora = labels_by_corpus([*task.train, *task.dev], experiment.labels)
        return report(scored, corpora)["corpora"]


def _pupil(task: Task, network: nn.Module) -> nn.Module:
    """What gives a batch's loss."""
    if task.frames is None:
        return Classifying(network, task.experiment, task.lesson)
    if not isinstance(network, Glrf):
        raise BadParameter(
            f"{task.experiment.name}: a {task.experiment.network.kind} tells no frames",
            remedy="pretrain GLRF",
        )
    return TellingFrames(network, task.frames)


def fit(
    task: Task,
    out: Path,
    *,
    start: Callable[[nn.Module], None] | None = None,
    resume: bool = True,
    on_epoch: _OnEpoch | None = None,
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
    settings = task.experiment.training
    world = World.of_this_process()
    torch.manual_seed(task.seed)
    torch.set_num_threads(settings.n_threads)
    run = _Run(task, world, start)
    out.mkdir(parents=True, exist_ok=True)
    last = out / "last.pt"
    first_epoch = run.restore(last) if resume and last.is_file() else 0
    forward = DistributedDataParallel(run.pupil) if world.size > 1 else run.pupil
    for epoch in range(first_epoch, settings.epochs):
        started = time.monotonic()
        loss = run.learn(forward, epoch)
        if world.rank:
            continue
        corpora = run.watched()
        progress = Progress(
            epoch=epoch + 1,
            n_epochs=settings.epochs,
            loss=loss,
            dev_ua={name: corpus["ua"] for name, corpus in corpora.items()},
            duration_s=time.monotonic() - started,
        )
        run.save(last, epoch)
        line = asdict(progress) | {"dev_pure_acc": {n: c["pure_acc"] for n, c in corpora.items()}}
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if on_epoch is not None:
            on_epoch(progress)
    world.meet()
    return run.average.network


def write_final(out: Path, task: Task, network: nn.Module, config: str) -> Path:
    """Writes `out/final.pt`, the checkpoint of a run that has ended; returns its path.

    It holds `config`, the text that the experiment was read from, and names all speakers that the
    weights come from, those of their start among them (`None` where the start doesn't tell).
    """
    final = out / "final.pt"
    world = World.of_this_process()
    if world.rank == 0:
        write_checkpoint(
            final,
            {
                "config": config,
                **task.origin,
                "network": network.state_dict(),
                "speakers": _heard(task),
                "training_data": describe(task.train),
            },
        )
    world.meet()
    return final


def _heard(task: Task) -> list[list[str]] | None:
    if task.origin["init_sha256"] is not None and "init_speakers" not in task.origin:
        return None
    inherited = {(corpus, speaker) for corpus, speaker in task.origin.get("init_speakers", [])}
    return [list(one) for one in sorted(inherited | {r.speaker_key for r in task.train})]


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
