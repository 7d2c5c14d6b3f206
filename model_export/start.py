"""Finished weights as the start of another training: a pretraining, a stage, another corpus."""

import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from model_export.experiment import Experiment, parse_experiment
from model_export.fitting import read_checkpoint
from ser_core.errors import BadParameter

#: What to do about a start that is none.
_FINAL = "give a final.pt"
_OWN = "give the config the start's own [network] and [features]"

log = logging.getLogger(__name__)


def read_start(
    checkpoint: Path, experiment: Experiment, unheard: Collection[tuple[str, str]]
) -> dict[str, Any]:
    """A start's part of a run's origin: its sha256 and, where it tells them, its speakers.

    Raises `BadParameter` for a start of other labels than the experiment's, of other features or
    another network, also where its weights would fit, and for one that knows a voice (corpus and
    speaker) of `unheard`, on whom the new run is watched, calibrated or tested.
    """
    found: dict[str, Any] = {"init_sha256": sha256_of_start(checkpoint)}
    state = read_checkpoint(checkpoint, _FINAL)
    if "config" not in state:
        raise BadParameter(f"{checkpoint} is no finished checkpoint", remedy=_FINAL)
    own = parse_experiment(state["config"], str(checkpoint))
    if own.labels != experiment.labels:
        raise BadParameter(
            f"{checkpoint} was trained on the labels {', '.join(own.labels)}, in this order",
            remedy="give the config the same labels in the same order",
        )
    if own.features != experiment.features:
        raise BadParameter(f"{checkpoint} does not fit the config's features", remedy=_OWN)
    if _served(own) != _served(experiment):
        raise BadParameter(f"{checkpoint} does not fit the config's network", remedy=_OWN)
    speakers = state.get("speakers")
    if speakers is None:
        log.warning(
            "%s does not tell whose voices it has learned: dev and test may know them", checkpoint
        )
        return found
    if shared := sorted({(corpus, speaker) for corpus, speaker in speakers} & set(unheard)):
        names = ", ".join(" ".join(one) for one in shared[:8])
        raise BadParameter(
            f"{checkpoint} has learned from {len(shared)} speakers of dev and test: {names}",
            remedy="start from weights that have not heard them, or put them into train",
        )
    return found | {"init_speakers": speakers}


def sha256_of_start(checkpoint: Path) -> str:
    """Of the whole file. Raises `BadParameter` where there is none."""
    if not checkpoint.is_file():
        raise BadParameter(f"checkpoint {checkpoint} does not exist", remedy=_FINAL)
    return hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def start_from(checkpoint: Path, network: nn.Module) -> None:
    """Takes the weights of a finished checkpoint.

    Raises `BadParameter` when it is damaged or of another network.
    """
    state = read_checkpoint(checkpoint, _FINAL)
    try:
        network.load_state_dict(state["network"])
    except (RuntimeError, KeyError) as error:
        raise BadParameter(
            f"{checkpoint} does not fit the config's network", remedy=_OWN
        ) from error


def _served(experiment: Experiment) -> dict[str, Any]:
    """What the network is, but for what it has in training only."""
    return {
        key: one for key, one in asdict(experiment.network).items() if not key.endswith("dropout")
    }


def check_started(experiment: Experiment, origin: Mapping[str, Any]) -> None:
    """Raises `BadParameter` for an experiment that wants a start where the run has none."""
    if experiment.training.pretrained and not origin.get("init_sha256"):
        raise BadParameter(
            f"{experiment.name} starts from pretrained weights",
            remedy="give --init, a final.pt of glrf pretrain",
        )
