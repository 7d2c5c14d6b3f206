import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

from glrf.main import app
from tests.synthetic import voice

METRICS = {"wa": 0.5, "ua": 0.25, "micro_f1": 0.5, "pure_acc": 0.125, "n": 8, "confusion": {}}
RESULT = {"corpora": {"acted": METRICS}, "all": METRICS}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a function in the place of a module of the extra `train`."""

    def put(module: str, name: str, function: Callable[..., Any]) -> None:
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{name: function}))  # type: ignore[arg-type]

    return put


def test_evaluate_takes_the_models_folder_and_keeps_stdout_clean(
    cli: CliRunner, stub, model_dir: Path
) -> None:
    def evaluate(model, manifest, data, split, subset, *, svm, conditions, on_progress):
        assert (model, data) == (model_dir / "tiny.onnx", Path("d"))
        assert (svm, conditions) == (False, ())
        on_progress(1, 2)
        return RESULT

    stub("model_export.evaluation", "evaluate", evaluate)
    arguments = ["evaluate", "--manifest", "m.csv", "--data", "d"]
    done = cli.invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == RESULT
    table = cli.invoke(app, arguments).stdout.splitlines()
    assert table[1].split() == ["acted", "8", "0.500", "0.250", "0.500", "0.125"]
    assert table[2].split()[0] == "all"


def test_crossval_prints_its_cells(cli: CliRunner, stub) -> None:
    asked: list[dict[str, Any]] = []

    def cross_validate(config, manifest, data, folds, results, **options):
        options.pop("on_cell")(1, 2)
        asked.append(options)
        return [results / "one.json", results / "two.json"]

    stub("model_export.crossval", "cross_validate", cross_validate)
    paths = [f"--{name}={name}" for name in ("config", "manifest", "data", "folds", "results")]
    options = ["--seeds=1,2", "--only=0,3", "--jobs=2", "--condition=a", "--condition=b"]
    options += ["--init=start.pt"]
    done = cli.invoke(app, ["crossval", *paths, *options])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["results/one.json", "results/two.json"]
    assert asked[0] == {
        "runs": Path("runs"), "seeds": [1, 2], "only": [0, 3], "teacher": None,
        "init": Path("start.pt"), "conditions": ["a", "b"], "n_jobs": 2,
    }  # fmt: skip
    wrong = cli.invoke(app, ["crossval", *paths, "--seeds=one"])
    assert wrong.exit_code == 2
    assert "--seeds 'one' is not numbers" in wrong.stderr


def test_train_prints_the_checkpoint(cli: CliRunner, stub) -> None:
    def train(config, manifest, data, split, out, *, init, teacher, resume, on_epoch):
        assert (init, teacher, resume) == (None, None, False)
        on_epoch(SimpleNamespace(epoch=1, n_epochs=2))
        return out / "final.pt"

    stub("model_export.train", "train", train)
    paths = [f"--{name}={name}" for name in ("config", "manifest", "data", "split", "out")]
    done = cli.invoke(app, ["train", *paths, "--no-resume"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "out/final.pt"


def test_export(cli: CliRunner, stub, tmp_path: Path) -> None:
    def export(
        checkpoint,
        out,
        manifest,
        data,
        split,
        *,
        version,
        license,
        name,
        cells,
        provenance,
        precision,
        on_progress,
    ):
        assert (name, cells, provenance) == (None, None, {"data": "acted speech"})
        out.write_bytes(bytes(2_000_000))
        return SimpleNamespace(name="glrf", version=version, precision=precision)

    stub("model_export.export", "export", export)
    provenance = tmp_path / "provenance.json"
    provenance.write_text('{"data": "acted speech"}')
    arguments = ["export", "final.pt", str(tmp_path / "glrf.onnx"), "--manifest=m", "--data=d"]
    arguments += ["--split=s", "--version=1.0.0", "--license=MIT", f"--provenance={provenance}"]
    done = cli.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("glrf.onnx: glrf@1.0.0, fp32, 2.0 MB\n")
    done = cli.invoke(app, [*arguments, "--precision=int8"])
    assert done.stdout.endswith("glrf@1.0.0, int8, 2.0 MB\n")
    provenance.write_text("[]")
    assert cli.invoke(app, arguments).exit_code == 2


def test_without_the_extra(cli: CliRunner, without) -> None:
    without("model_export.train")
    paths = [f"--{name}={name}" for name in ("config", "manifest", "data", "split", "out")]
    done = cli.invoke(app, ["train", *paths])
    assert done.exit_code == 2
    assert "glrf[cpu,train]" in done.stderr


def test_two_models_need_a_name(cli: CliRunner, stub, tmp_path: Path) -> None:
    stub("model_export.evaluation", "evaluate", lambda *_, **__: RESULT)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    arguments = ["evaluate", "--manifest", "m.csv", "--data", "d"]
    done = cli.invoke(app, arguments, env={"GLRF_MODEL_DIR": str(tmp_path)})
    assert done.exit_code == 2
    assert "holds 2 models" in done.stderr


def test_the_calls_fit_the_real_functions() -> None:
    from model_export.evaluation import evaluate
    from model_export.export import export
    from model_export.train import train

    inspect.signature(train).bind(*"abcde", init=None, resume=True, on_epoch=None)
    inspect.signature(evaluate).bind(*"abcde", svm=True, conditions=(), on_progress=None)
    inspect.signature(export).bind(
        *"abcde", version="", license="", provenance=None, on_progress=None
    )


def test_evaluate_for_real_on_a_corpus_of_two(cli: CliRunner, tmp_path: Path) -> None:
    header = "path,corpus,speaker,gender,original_label,label,duration_s"
    lines = []
    for seed, label in enumerate(("angry", "sad")):
        soundfile.write(tmp_path / f"{label}.wav", voice(40_000, seed=seed), 16_000)
        lines.append(f"{label}.wav,mine,speaker-{seed},female,{label},{label},2.5")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join([header, *lines]) + "\n")
    done = cli.invoke(
        app, ["evaluate", "--manifest", str(manifest), "--data", str(tmp_path), "--json"]
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert set(result["corpora"]) == {"mine"}
    assert result["all"]["n"] == 2
    assert {"wa", "ua", "micro_f1", "pure_acc", "confusion"} <= set(result["all"])


def test_an_svm_stands_beside_the_model(cli: CliRunner, stub, model_dir: Path) -> None:
    metrics = RESULT["all"] | {"pure_acc": None}
    both = RESULT | {"svm": {"corpora": {"acted": metrics}, "all": metrics}}
    stub("model_export.evaluation", "evaluate", lambda *_, svm, **__: both if svm else RESULT)
    arguments = ["evaluate", "--manifest", "m.csv", "--data", "d"]
    table = cli.invoke(app, [*arguments, "--svm"]).stdout.splitlines()
    assert table[3].split() == ["acted,", "SVM", "8", "0.500", "0.250", "0.500", "-"]
    assert len(cli.invoke(app, arguments).stdout.splitlines()) == 3


def test_each_condition_has_its_rows(cli: CliRunner, stub, model_dir: Path) -> None:
    def evaluate(*_, conditions, **__):
        return RESULT | {"conditions": dict.fromkeys(conditions, RESULT)}

    stub("model_export.evaluation", "evaluate", evaluate)
    arguments = ["evaluate", "--manifest", "m.csv", "--data", "d"]
    arguments += ["--condition", "mulaw-8k", "--condition", "car-10db"]
    table = [line.split() for line in cli.invoke(app, arguments).stdout.splitlines()[1:]]
    names = ["acted", "all", "acted, mulaw-8k", "all, mulaw-8k", "acted, car-10db", "all, car-10db"]
    assert [" ".join(line[:-5]) for line in table] == names
    assert table[2][-5:] == ["8", "0.500", "0.250", "0.500", "0.125"]


def test_what_whisper_hears_is_a_vector_or_frames_and_pretraining_takes_frames(
    cli: CliRunner, stub
) -> None:
    asked: list[tuple[Any, ...]] = []
    stub("model_export.functionals", "embed", lambda *given: asked.append(given[:-1]))
    stub("model_export.teacher_frames", "write_frames", lambda *given: asked.append(given[:-1]))

    def pretrain(config, manifest, data, frames, out, *, resume, on_epoch):
        asked.append((config, manifest, data, frames, out, resume))
        return out / "final.pt"

    stub("model_export.pretraining", "pretrain", pretrain)
    pool = ["--manifest=m.csv", "--data=d", "--out=o"]
    m, d, o = Path("m.csv"), Path("d"), Path("o")
    assert cli.invoke(app, ["embed", *pool]).exit_code == 0
    assert cli.invoke(app, ["embed", *pool, "--vector=whisper-frames"]).exit_code == 0
    done = cli.invoke(app, ["pretrain", "--config=c", *pool, "--frames=f.npz", "--no-resume"])
    assert done.stdout.splitlines() == ["o/final.pt"]
    assert asked == [
        ("whisper-speech", m, d, o), (m, d, o), (Path("c"), m, d, Path("f.npz"), o, False)
    ]  # fmt: skip
