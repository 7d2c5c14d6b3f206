"""From a checkpoint to the self-describing model file."""

import datetime as dt
import logging
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from model_export.calibration import Decisive, fit, from_cells, segments_of
from model_export.corpora import Recording, load, read_manifest
from model_export.evaluation import logits_of, score_recording
from model_export.experiment import Experiment, parse_experiment
from model_export.fitting import read_checkpoint
from model_export.folded import folded, in_half
from model_export.ledger import read_ledger
from model_export.network import build, scorer, served
from model_export.neutral import neutral_voice
from model_export.onnx_model import Network, OnnxModel, describe
from model_export.precision import N_CALIBRATION, TOLERANCE, compare, quantise
from model_export.splits import Split, read_split
from ser_core.errors import BadParameter, SelfTestFailed
from ser_core.events import Segment
from ser_core.features import Float32, mfcc
from ser_core.model_file import (
    INPUT_NAME,
    OUTPUT_NAME,
    ModelName,
    ModelSpec,
    ModelVersion,
    Precision,
    Thresholds,
)
from ser_core.segments import cut

OPSET = 23

#: Recordings, at most, that both runtimes are tried on.
N_PARITY = 40
#: Largest difference of a logit between PyTorch and ONNX Runtime that an export may show.
PARITY = 1e-4


def export(
    checkpoint: Path,
    out: Path,
    manifest: Path,
    data: Path,
    split: Path,
    *,
    version: str,
    license: str,
    name: str | None = None,
    cells: Path | None = None,
    provenance: dict[str, Any] | None = None,
    precision: Precision = "fp32",
    on_progress: Callable[[int, int], None] | None = None,
) -> ModelSpec:
    """Writes the model file `out`, calibrated on the split's development speakers.

    A model trained on everyone has none: with `cells`, a folder of results, its calibration, its
    threshold of uncertainty and its neutral voice come from what the experiment's cross-validation
    said of the speakers that each fold hadn't heard. `name` is the model's; by default its
    experiment's.

    The dynamo exporter makes the graph of the folded network, with a free batch dimension. Before
    the file is kept, ONNX Runtime must agree with PyTorch to 1e-4 on random and on real segments,
    in batches and alone.

    Another `precision` is then made of that. int8's scales are found on the train speakers. What it
    decides is compared with fp32 on the dev speakers or, where there are none, on recordings of
    train that the scales do not come from; test speakers are not even read.

    Raises `BadParameter` for inputs that do not fit the checkpoint and where UA moves by half a
    point, `SelfTestFailed` when the two runtimes disagree.
    """
    _check_words(version, license, name)
    trained = _Trained.read(checkpoint, split)
    everyone = read_manifest(manifest, data, trained.experiment.labels)
    dev = trained.split.select(everyone, "dev")
    if cells is None:
        decisive = _decisive_of(trained, dev, on_progress)
    else:
        state = trained.state
        decisive = from_cells(
            read_ledger(cells),
            trained.experiment.name,
            state["config_sha256"],
            state["init_sha256"],
            state["training_data"],
        )
    spec = _spec_of(trained, decisive, version, license, name, provenance)
    score = scorer(trained.network)
    tried = _tried(dev or trained.split.select(everyone, "train"), spec)
    partial = out.with_suffix(".partial")
    try:
        write(folded(trained.network), spec, partial)
        check_parity(score, OnnxModel(partial), tried)
        if precision != "fp32":
            spec = _convert(partial, trained.network, spec, precision, trained.split, everyone)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return spec


def _check_words(version: str, license: str, name: str | None) -> None:
    """Raises `BadParameter` for what may not stand in a model file."""
    if not license.strip() or not version.strip():
        raise BadParameter(
            "a model without a version or a licence", remedy="give --version and --license"
        )
    _check("version", version, ModelVersion, "letters, digits, '.', '+' and '-'")
    if name is not None:
        _check("name", name, ModelName, "lower-case letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class _Trained:
    """A run that has ended: its checkpoint, the split it was trained on, the network to serve."""

    state: dict[str, Any]
    experiment: Experiment
    split: Split
    network: nn.Module

    @classmethod
    def read(cls, checkpoint: Path, split: Path) -> "_Trained":
        """Raises `BadParameter` for a pretraining, a run that has not ended, or another split's."""
        state = read_checkpoint(checkpoint, "give the run's final.pt")
        if "config" not in state:
            raise BadParameter(
                f"{checkpoint} is of a run that has not ended", remedy="give the run's final.pt"
            )
        if "split_sha256" not in state:
            raise BadParameter(
                f"{checkpoint} is of a pretraining, which has learned no labels",
                remedy="train from it, glrf train --init, and give that run's final.pt",
            )
        experiment = parse_experiment(state["config"], f"{checkpoint}, its config")
        speakers = read_split(split)
        if speakers.sha256 != state["split_sha256"]:
            raise BadParameter(
                f"{checkpoint} was trained on another split than {split}",
                remedy="give the split it was trained on",
            )
        network = build(experiment.network, experiment.features.spec(), len(experiment.labels))
        network.load_state_dict(state["network"])
        return cls(state, experiment, speakers, served(network, experiment.loss.kind))


def _decisive_of(
    trained: _Trained, dev: list[Recording], on_progress: Callable[[int, int], None] | None
) -> Decisive:
    """From what the network says of the development speakers; `BadParameter` without any."""
    if not dev:
        raise BadParameter(
            "no recording of the manifest is in dev, and scores are calibrated on those",
            remedy="name speakers under dev, or give --cells of a cross-validation",
        )
    raw, score = trained.experiment.untrained_spec(), scorer(trained.network)
    scored: list[tuple[Recording, list[Segment]]] = []
    for done, recording in enumerate(dev, 1):
        scored.append((recording, score_recording(recording, raw, score)))
        if on_progress is not None:
            on_progress(done, len(dev))
    said = [logits_of(scored, trained.experiment.labels)]
    return Decisive(fit(segments_of(said), per_label=False), 0.0, neutral_voice(said))


def _spec_of(
    trained: _Trained,
    decisive: Decisive,
    version: str,
    license: str,
    name: str | None,
    provenance: dict[str, Any] | None,
) -> ModelSpec:
    """What the model file says of itself, in fp32."""
    raw, score = trained.experiment.untrained_spec(), scorer(trained.network)
    kept = ("training_data", "config_sha256", "split_sha256", "init_sha256")
    return replace(
        raw,
        name=name or trained.experiment.name,
        version=version,
        calibration=decisive.calibration,
        thresholds=Thresholds(
            uncertain_below=decisive.uncertain_below,
            min_samples=raw.features.sample_rate_hz * 4 // 5,
        ),
        neutral_voice=decisive.neutral_voice,
        provenance={
            "exported": dt.datetime.now(dt.UTC).date().isoformat(),
            **{key: trained.state[key] for key in kept},
            **(provenance or {}),
        },
        license=license,
        self_test_logits=tuple(score(raw.self_test_features())[0].tolist()),
    )


def _tried(recordings: list[Recording], spec: ModelSpec) -> list[Float32]:
    """Batches on which both runtimes must agree: self-test, up to `N_PARITY` real ones, random."""
    step = -(-len(recordings) // N_PARITY) or 1
    batches = [
        batch for recording in recordings[::step] if len(batch := features_of(recording, spec))
    ]
    shape = (7, spec.n_frames, spec.features.n_mfcc)
    random = np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(30)
    return [spec.self_test_features(), *batches, random]


def _check(option: str, value: str, kind: Any, signs: str) -> None:
    """Raises `BadParameter` for what may not stand in a model file."""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise BadParameter(
            f"--{option} {value!r} cannot stand in a model file", remedy=f"use {signs}"
        ) from error


def _convert(
    path: Path,
    network: nn.Module,
    spec: ModelSpec,
    precision: Precision,
    speakers: Split,
    everyone: list[Recording],
) -> ModelSpec:
    """The file in fp32 replaced by one in another precision; its spec."""
    plain = OnnxModel(path)
    train = speakers.select(everyone, "train")
    converted = path.with_suffix(".converted")
    try:
        if precision == "int8":
            scales, train = _for_scales(train, spec)
            quantise(path, converted, scales)
        else:
            write(in_half(network), spec, converted)
        compared = speakers.select(everyone, "dev") or train
        other = Network(converted)
        comparison = compare(plain.run, other.run, compared, spec)
        comparison.check(precision)
        spec = replace(
            spec,
            precision=precision,
            self_test_logits=tuple(other.run(spec.self_test_features())[0].tolist()),
            self_test_tolerance=TOLERANCE,
            provenance={**spec.provenance, "compared_with_fp32": asdict(comparison)},
        )
        model = onnx.load(str(converted))
        describe(model, spec)
        onnx.save(model, str(path))
        OnnxModel(path)
    finally:
        converted.unlink(missing_ok=True)
    return spec


def _for_scales(train: list[Recording], spec: ModelSpec) -> tuple[Float32, list[Recording]]:
    """Features of up to `N_CALIBRATION` segments, of recordings drawn from `train`; the others.

    Raises `BadParameter` where there is none.
    """
    if not train:
        raise BadParameter(
            "no recording of the manifest is in train, and int8's scales are found on those",
            remedy="give a manifest with recordings of the split's train speakers",
        )
    order = np.random.default_rng(0).permutation(len(train))
    found, n_segments = [], 0
    while len(order) and n_segments < N_CALIBRATION:
        found.append(features_of(train[order[0]], spec))
        n_segments, order = n_segments + len(found[-1]), order[1:]
    return np.concatenate(found)[:N_CALIBRATION], [train[i] for i in sorted(order)]


def write(network: nn.Module, spec: ModelSpec, out: Path) -> None:
    """Writes `network` with the spec's metadata as one ONNX file."""
    example = torch.from_numpy(np.concatenate([spec.self_test_features()] * 2))
    # The exporter's own, on torch's internals and on torchvision, which is not used here.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    describe(model, spec)
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(out))


def features_of(recording: Recording, spec: ModelSpec) -> Float32:
    """A recording's segments, float32 `(n_segments, n_frames, n_mfcc)`."""
    samples = load(recording.path, spec.features.sample_rate_hz)
    hop_frames = spec.segments.hop_samples // spec.features.hop_samples
    return cut(mfcc(samples, spec.features), spec.n_frames, hop_frames)


def check_parity(
    score: Callable[[Float32], Float32], exported: OnnxModel, batches: list[Float32]
) -> float:
    """Largest difference of logits over `batches`; raises `SelfTestFailed` above `PARITY`."""
    worst = max(
        float(np.abs(score(part) - exported.run(part)).max())
        for batch in batches
        for part in (batch, batch[:1])
    )
    if not worst <= PARITY:
        raise SelfTestFailed(
            f"PyTorch and ONNX Runtime differ by {worst:.2g} (allowed: {PARITY:.2g})",
            remedy="report this with the versions of torch and onnxruntime",
        )
    return worst
