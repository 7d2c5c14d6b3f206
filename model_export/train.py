"""Trains an experiment on a split: one model, with speakers to watch it on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from model_export.corpora import read_manifest
from model_export.experiment import parse_experiment, read_config
from model_export.fitting import Progress, Task, fit, origin_of, write_final
from model_export.splits import read_split
from model_export.start import check_started, read_start, start_from
from model_export.teacher import prepare, read_embeddings
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
    only watched; the test speakers are not even read. `final.pt` names all speakers that its
    weights come from, those of its start among them.

    Raises `BadParameter` for a config, manifest, split or checkpoint that cannot be used: a start
    of other labels, features or network, or that has learned from a dev or test speaker, is none.
    """
    text, config_sha256 = read_config(config)
    experiment = parse_experiment(text, str(config))
    speakers = read_split(split)
    recordings = read_manifest(manifest, data, experiment.labels)
    speakers.check_heard(recordings, "train", "dev")
    train_set = speakers.select(recordings, "train")
    if not train_set:
        raise BadParameter("no recording of the manifest is in train", remedy="check the split")
    origin: dict[str, Any] = {"config_sha256": config_sha256, "split_sha256": speakers.sha256}
    if init is not None:
        unheard = speakers.speakers["dev"] | speakers.speakers["test"]
        origin |= read_start(init, experiment, unheard)
    else:
        begun = origin_of(out) if resume else {}
        origin |= {key: begun[key] for key in ("init_sha256", "init_speakers") if key in begun}
    check_started(experiment, origin)
    lesson = None
    if teacher is not None:
        lesson = prepare(read_embeddings(teacher), train_set, experiment.labels)
    origin.setdefault("init_sha256", None)
    task = Task(
        experiment,
        experiment.training.seed,
        train_set,
        speakers.select(recordings, "dev"),
        lesson=lesson,
        origin=origin,
    )

    def start(network: nn.Module) -> None:
        if init is not None:
            start_from(init, network)

    network = fit(task, out, start=start, resume=resume, on_epoch=on_epoch)
    return write_final(out, task, network, text)
