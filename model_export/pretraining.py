"""Pretrains GLRF on speech without labels: it learns to tell what a frozen encoder hears.

Emotional corpora have few voices. What is learned here of many others is the start of a training
on labels (`--init` of `glrf train` and `glrf crossval`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_export.corpora import read_manifest
from model_export.experiment import parse_experiment, read_config
from model_export.fitting import Progress, Task, fit, write_final
from model_export.teacher_frames import read_frames


def pretrain(
    config: Path,
    manifest: Path,
    data: Path,
    frames: Path,
    out: Path,
    *,
    resume: bool = True,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Path:
    """Trains on all recordings of the manifest and returns the checkpoint `out/final.pt`.

    Labels are not looked at; a manifest without them says `neutral`. `frames` is the file that
    `glrf embed --vector whisper-frames` made of the manifest. The checkpoint names the voices, so
    that nobody is tested on one of them later. It goes on, and may be spread over processes, as
    `model_export.train`'s.

    Raises `BadParameter` for a config, manifest or file of frames that cannot be used.
    """
    text, config_sha256 = read_config(config)
    experiment = parse_experiment(text, str(config))
    recordings = read_manifest(manifest, data, experiment.labels)
    origin: dict[str, Any] = {"config_sha256": config_sha256, "init_sha256": None}
    task = Task(
        experiment,
        experiment.training.seed,
        recordings,
        frames=read_frames(frames, recordings),
        origin=origin,
    )
    network = fit(task, out, resume=resume, on_epoch=on_epoch)
    return write_final(out, task, network, text)
