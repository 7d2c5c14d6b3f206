"""The whole chain on synthetic voices: corpus, folds, cross-validation, export, assessment, report.

Two minutes on a core. It shows that the parts fit together; its figures say nothing of emotions.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from model_export.corpora import read_manifest
from model_export.crossval import cross_validate
from model_export.evaluation import evaluate
from model_export.export import export
from model_export.protocols import grouped
from model_export.report import Written, write_report
from model_export.splits import write_division
from model_export.synthetic_corpus import NAME, write_corpus
from model_export.train import train
from ser_core.labels import LABELS

N_FOLDS: Final = 2
_FEATURES: Final = """
[features]
n_mels = 32
n_mfcc = 32
[augment]
speeds = [1.0]
"""
_CONFIGS: Final = {
    "glrf-bands": """
[network]
stem = "bands"
stem_channels = [4, 8]
channels = 16
n_blocks = 2
n_heads = 2
[training]
epochs = 2
batch_size = 8
""",
    "light-sernet": """
[network]
kind = "light-sernet"
n_mfcc = 32
path_channels = 8
block_channels = [8, 8, 16, 16, 32]
[loss]
kind = "cross-entropy"
[training]
epochs = 1
batch_size = 8
""",
}


def _ignore(stage: str) -> None:
    """Stages that nobody watches."""


def run_quick(folder: Path, on_stage: Callable[[str], None] = _ignore) -> Written:
    """Runs the chain in `folder` and returns the report of its cells, `folder/RESULTS.md`.

    What is done is kept: the same call goes on where it was stopped. `on_stage` hears what begins.
    """
    on_stage("synthetic corpus")
    data = folder / "data"
    manifest = write_corpus(data)
    folds = folder / "folds.json"
    write_division(grouped(read_manifest(manifest, data, LABELS), N_FOLDS), folds)
    configs = [_write_config(folder, name) for name in _CONFIGS]
    for config in configs:
        on_stage(f"cross-validation of {config.stem}")
        cross_validate(config, manifest, data, folds, folder / "results", runs=folder / "runs")
    on_stage("one model for all, exported and assessed")
    split = _write_split(folder)
    checkpoint = train(configs[0], manifest, data, split, folder / "runs" / "shipped")
    model = folder / "glrf-0.0.0.onnx"
    export(checkpoint, model, manifest, data, split, version="0.0.0", license="CC0-1.0")
    assessed = evaluate(model, manifest, data, split, "test")
    (folder / "evaluation.json").write_text(json.dumps(assessed, indent=1) + "\n")
    on_stage("report")
    return write_report(folder / "results", folder / "RESULTS.md")


def _write_config(folder: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\n{_FEATURES}{_CONFIGS[name]}')
    return path


def _write_split(folder: Path) -> Path:
    path = folder / "split.json"
    parts = {"train": ["speaker-0", "speaker-1"], "dev": ["speaker-2"], "test": ["speaker-3"]}
    path.write_text(json.dumps({subset: {NAME: names} for subset, names in parts.items()}))
    return path
