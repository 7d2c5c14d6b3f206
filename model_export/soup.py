"""Several trainings from one start, and the mean of their weights: a model soup.

Networks that start from the same pretrained weights end near each other, and what lies between them
is as good as their ensemble, at the cost of one (Wortsman et al., 2022, arXiv:2203.05482).
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_export.fitting import Progress, Task, fit, origin_of_run
from ser_core.errors import BadParameter

#: The first run of a soup, in its folder.
_FIRST = "run-1"
#: Of the seeds of a soup's runs, so that soups of neighbouring seeds share none.
_APART = 1_000


def fit_soup(
    task: Task,
    out: Path,
    *,
    start: Callable[[nn.Module], None] | None = None,
    resume: bool = True,
    on_epoch: Callable[[Progress], None] | None = None,
) -> nn.Module:
    """Fits as many networks as `training.soup` says, and returns the mean of their weights.

    The first run has the task's seed and is what it would be alone; the others' seeds are far from
    it. They stand in `out/run-1` and so on and go on as `fit` does; a single one stands in `out`.
    Epochs are counted through. Raises as `fit` does, and `BadParameter` for a run without a start.
    """
    n_runs, n_epochs = task.experiment.training.soup, task.experiment.training.epochs
    if n_runs == 1:
        return fit(task, out, start=start, resume=resume, on_epoch=on_epoch)
    networks: list[nn.Module] = []

    def tell(progress: Progress) -> None:
        if on_epoch is not None:
            epoch = len(networks) * n_epochs + progress.epoch
            on_epoch(replace(progress, epoch=epoch, n_epochs=n_runs * n_epochs))

    for index in range(n_runs):
        run = replace(task, seed=task.seed + _APART * index)
        folder = out / f"run-{index + 1}"
        if start is None and not (resume and origin_of_run(folder)):
            raise BadParameter(
                f"{folder} has not begun, and starts from finished weights", remedy="give --init"
            )
        networks.append(fit(run, folder, start=start, resume=resume, on_epoch=tell))
    return averaged(networks)


def averaged(networks: Sequence[nn.Module]) -> nn.Module:
    """A network whose weights and batch-norm statistics are the means of those of `networks`."""
    states = [network.state_dict() for network in networks]
    soup = copy.deepcopy(networks[0])
    for name, kept in soup.state_dict().items():
        if kept.dtype.is_floating_point:
            kept.copy_(torch.stack([state[name] for state in states]).mean(dim=0))
    return soup


def origin_of(out: Path) -> dict[str, Any]:
    """Where the unfinished training in `out` comes from; empty where there is none."""
    return origin_of_run(out) or origin_of_run(out / _FIRST)
