import asyncio
import json
import os
import runpy
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.stream_cost import run_streams
from glrf import bench
from glrf.local_server import LocalServer
from glrf.main import app
from glrf_client import Unreachable
from service.settings import SHIPPED_MODELS
from tests.model_export.corpus import write_corpus


def test_the_benchmark_measures_and_prints(cli: CliRunner, tmp_path: Path) -> None:
    out = tmp_path / "new" / "cost.json"
    done = cli.invoke(app, ["bench", "--streams", "3", "--seconds", "2.5", "--out", str(out)])
    assert done.exit_code == 0, done.output
    cost = json.loads(out.read_text())
    assert cost["n_segments"] == 3 * (3 + 2)  # partial ones from 0.8 s, whole ones from 2 s
    for name in ("service_cpu_ms", "model_batch_1_cpu_ms", "features_cpu_ms", "lag_p50_ms"):
        assert cost[name] > 0
    raw_ms = cost["model_same_batch_cpu_ms"] + cost["features_cpu_ms"]
    assert cost["ratio_to_same_batch"] == pytest.approx(cost["service_cpu_ms"] / raw_ms)
    assert cost["lag_p50_ms"] <= cost["lag_p99_ms"]
    assert cost["stall_p99_ms"] >= 1
    assert "service, whole process" in done.stdout
    assert "lag p50" in done.stdout


def test_an_installed_package_has_no_benchmarks(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "SCRIPT", tmp_path / "stream_cost.py")
    done = cli.invoke(app, ["bench"])
    assert done.exit_code == 2
    assert "in a checkout" in done.stderr


async def test_streams_that_cannot_open_end_the_benchmark() -> None:
    nowhere = LocalServer("http://127.0.0.1:1", os.getpid())
    with pytest.raises(Unreachable):
        await asyncio.wait_for(run_streams(nowhere, 2, 2.0), 10)


def script(name: str, *arguments: str) -> int:
    """Exit status of a script of `benchmarks/`, run here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        try:
            runpy.run_path(str(bench.SCRIPT.parent / name), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def test_without_a_gpu_nothing_is_claimed_of_one(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert script("gpu.py") == 3
    out, err = capfd.readouterr()
    assert (out, err[:35]) == ("", "Did not run, nothing was measured: ")


def test_the_gpu_benchmark_can_be_tried_on_the_cpu(
    capfd: pytest.CaptureFixture[str], model_dir: Path
) -> None:
    assert script("gpu.py", str(model_dir / "tiny.onnx"), "--device=cpu", "--runs=2") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "tiny.onnx, fp32, cpu"
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:] == [
        str(2**power) for power in range(9)
    ]


def test_precisions_are_measured_side_by_side(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifest = write_corpus(tmp_path)
    (shipped,) = SHIPPED_MODELS.glob("*.onnx")
    corpus = [f"--manifest={manifest}", f"--data={tmp_path}", "--compared=4", "--rounds=1"]
    script("precision.py", str(shipped), str(shipped), *corpus)
    out = capfd.readouterr().out
    other = f"fp32 ({shipped.name})"
    size = f"{shipped.stat().st_size / 1e6:.2f} MB"
    assert f"| {other} | {size} | 0.00 | 0.00 |" in out
    for name in ("fp32", "int8", "int8, products too", other):
        for batch in (1, 32):
            assert out.count(f"| {name} | 2 | {batch} |") == 1
