"""The making of the model, from the extra `train`: from `glrf train` to `glrf export`."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from glrf.failure import needed

_INSTALL = "install the training extra: pip install 'glrf[cpu,train]'"

Manifest = Annotated[
    Path,
    typer.Option(
        help="CSV: path,corpus,speaker,gender,original_label,label,duration_s.",
    ),
]
Data = Annotated[Path, typer.Option(help="Folder that the manifest's paths start from.")]
Teacher = Annotated[
    Path | None,
    typer.Option(help="Embeddings (.npz) of a frozen encoder, for a config that distils."),
]
Init = Annotated[Path | None, typer.Option(help="A final.pt whose weights are the start.")]


def train(
    config: Annotated[Path, typer.Option(help="TOML of one experiment.")],
    manifest: Manifest,
    data: Data,
    split: Annotated[Path, typer.Option(help="JSON: the speakers of train, dev and test.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the log.")],
    init: Init = None,
    teacher: Teacher = None,
    resume: Annotated[bool, typer.Option(help="Go on from out/last.pt if it is there.")] = True,
) -> None:
    """Train GLRF on the split's train speakers; prints the path of the checkpoint."""
    from glrf.progress import bar

    module = needed("model_export.train", _INSTALL)
    with bar("training, epochs") as report:
        checkpoint = module.train(
            config,
            manifest,
            data,
            split,
            out,
            init=init,
            teacher=teacher,
            resume=resume,
            on_epoch=lambda epoch: report(epoch.epoch, epoch.n_epochs),
        )
    typer.echo(checkpoint)


def embed(
    manifest: Manifest,
    data: Data,
    out: Annotated[Path, typer.Option(help="The .npz to write.")],
    vector: Annotated[
        Literal["whisper-speech", "whisper", "egemaps", "mfcc", "whisper-frames"],
        typer.Option(
            help="Whisper wants the extra whisper, eGeMAPS the extra egemaps. "
            "whisper-frames: one every 40 ms, for `glrf pretrain`."
        ),
    ] = "whisper-speech",
) -> None:
    """Write a vector a recording, for --teacher of train and crossval, or frames for pretrain."""
    from glrf.progress import bar

    if vector == "whisper-frames":
        frames = needed("model_export.teacher_frames", _INSTALL)
        with bar("recordings") as report:
            frames.write_frames(manifest, data, out, report)
    else:
        module = needed("model_export.functionals", _INSTALL)
        with bar("recordings") as report:
            module.embed(vector, manifest, data, out, report)
    typer.echo(out)


def pretrain(
    config: Annotated[Path, typer.Option(help="TOML of one experiment.")],
    manifest: Manifest,
    data: Data,
    frames: Annotated[
        Path, typer.Option(help="The manifest's .npz of `glrf embed --vector whisper-frames`.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the log.")],
    resume: Annotated[bool, typer.Option(help="Go on from out/last.pt if it is there.")] = True,
) -> None:
    """Train GLRF on speech without labels, as a start (--init) of train and crossval."""
    from glrf.progress import bar

    module = needed("model_export.pretraining", _INSTALL)
    with bar("pretraining, epochs") as report:
        checkpoint = module.pretrain(
            config,
            manifest,
            data,
            frames,
            out,
            resume=resume,
            on_epoch=lambda epoch: report(epoch.epoch, epoch.n_epochs),
        )
    typer.echo(checkpoint)


def crossval(
    config: Annotated[Path, typer.Option(help="TOML of one experiment.")],
    manifest: Manifest,
    data: Data,
    folds: Annotated[Path, typer.Option(help="JSON of folds: glrf corpus split.")],
    results: Annotated[Path, typer.Option(help="Folder of the result cells.")] = Path(
        "model_export/results"
    ),
    runs: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("runs"),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1",
    only: Annotated[
        str | None, typer.Option(help="Folds to make, comma-separated. Default: all.")
    ] = None,
    teacher: Teacher = None,
    init: Init = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="Also assess under this condition, as car-10db; repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cells made side by side.")] = 1,
) -> None:
    """Train and assess an experiment on every fold and seed; prints the cells' paths."""
    from glrf.progress import bar

    module = needed("model_export.crossval", _INSTALL)
    with bar("cells") as report:
        paths = module.cross_validate(
            config,
            manifest,
            data,
            folds,
            results,
            runs=runs,
            seeds=_numbers("seeds", seeds),
            only=None if only is None else _numbers("only", only),
            teacher=teacher,
            init=init,
            conditions=condition or (),
            n_jobs=jobs,
            on_cell=report,
        )
    for path in paths:
        typer.echo(path)


def evaluate(
    manifest: Manifest,
    data: Data,
    model: Annotated[
        Path | None, typer.Option(help="An .onnx model file. Default: the shipped one.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option(help="JSON of the split's speakers, to take one subset of.")
    ] = None,
    subset: Annotated[str | None, typer.Option(help="train, dev or test; needs --split.")] = None,
    svm: Annotated[
        bool,
        typer.Option(help="Assess an SVM on the same MFCC beside it, from the split's train part."),
    ] = False,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="Assess also under this condition, as mulaw-8k or car-10db; repeatable."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything, confusion matrices too, as JSON.")
    ] = False,
) -> None:
    """Assess a model on labelled recordings: WA, UA, micro-F1 and Pure-Acc by corpus, 0 to 1."""
    from glrf.progress import bar

    module = needed("model_export.evaluation", _INSTALL)
    with bar("recordings") as report:
        result = module.evaluate(
            model or shipped_model(),
            manifest,
            data,
            split,
            subset,
            svm=svm,
            conditions=condition or (),
            on_progress=report,
        )
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        _print_table(result)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that `glrf train` wrote.")],
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    manifest: Manifest,
    data: Data,
    split: Annotated[Path, typer.Option(help="The split it was trained on; dev calibrates it.")],
    version: Annotated[str, typer.Option(help="Of the model, as 1.0.0.")],
    license: Annotated[str, typer.Option(help="Of the weights, as an SPDX identifier.")],
    name: Annotated[
        str | None, typer.Option(help="Of the model; default: its experiment's.")
    ] = None,
    cells: Annotated[
        Path | None,
        typer.Option(help="Results of the experiment's cross-validation, to calibrate on instead."),
    ] = None,
    provenance: Annotated[
        Path | None, typer.Option(help="JSON of what the weights were made from.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "int8", "fp16"],
        typer.Option(help="int8: convolutions in 8 bits; fp16: for CUDA. Refused if UA moves."),
    ] = "fp32",
) -> None:
    """Write a checkpoint as one self-describing .onnx file, calibrated and checked."""
    from glrf.progress import bar

    module = needed("model_export.export", _INSTALL)
    with bar("calibrating, recordings") as report:
        spec = module.export(
            checkpoint,
            out,
            manifest,
            data,
            split,
            version=version,
            license=license,
            name=name,
            cells=cells,
            provenance=None if provenance is None else _read_object(provenance),
            precision=precision,
            on_progress=report,
        )
    megabytes = out.stat().st_size / 1e6
    typer.echo(f"{out}: {spec.name}@{spec.version}, {spec.precision}, {megabytes:.1f} MB")


def shipped_model() -> Path:
    """The one model file in the server's model folder. Raises `ModelNotFound`."""
    from ser_core.errors import ModelNotFound
    from service.settings import Settings

    folder = Path(Settings.from_environment().model_dir)
    files = sorted(folder.glob("*.onnx"))
    if len(files) != 1:
        raise ModelNotFound(
            f"{folder} holds {len(files)} models, not one",
            remedy="name the file with --model",
        )
    return files[0]


def _numbers(option: str, text: str) -> list[int]:
    from ser_core.errors import BadParameter

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise BadParameter(
            f"--{option} {text!r} is not numbers", remedy="write them as 1,2,3"
        ) from error


def _read_object(path: Path) -> dict[str, Any]:
    from ser_core.errors import BadParameter

    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise BadParameter(f"{path} is not JSON: {error}", remedy="write a JSON object") from error
    if not isinstance(content, dict):
        raise BadParameter(f"{path} holds no JSON object", remedy="write one")
    return content


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("corpus")
    for column in ("utterances", "WA", "UA", "micro-F1", "Pure-Acc"):
        table.add_column(column, justify="right")
    for name, metrics in {**result["corpora"], "all": result["all"]}.items():
        table.add_row(name, str(metrics["n"]), *_figures(metrics))
    for condition, assessed in result.get("conditions", {}).items():
        for name, metrics in {**assessed["corpora"], "all": assessed["all"]}.items():
            table.add_row(f"{name}, {condition}", str(metrics["n"]), *_figures(metrics))
    if "svm" in result:
        for name, metrics in {**result["svm"]["corpora"], "all": result["svm"]["all"]}.items():
            table.add_row(f"{name}, SVM", str(metrics["n"]), *_figures(metrics))
    Console().print(table)


def _figures(metrics: dict[str, Any]) -> list[str]:
    figures = (metrics[key] for key in ("wa", "ua", "micro_f1", "pure_acc"))
    return ["-" if figure is None else f"{figure:.3f}" for figure in figures]
