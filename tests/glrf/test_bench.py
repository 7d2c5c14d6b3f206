import asyncio
import json
import os
import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glrf import bench
from glrf.local_server import LocalServer
from glrf.main import app
from glrf_client import Unreachable


def test_the_benchmark_measures_and_prints(cli: CliRunner, tmp_path: Path) -> None:
    out = tmp_path / "cost.json"
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


def test_streams_that_cannot_open_end_the_benchmark() -> None:
    run_streams = runpy.run_path(str(bench.SCRIPT))["run_streams"]
    nowhere = LocalServer("http://127.0.0.1:1", os.getpid())
    with pytest.raises(Unreachable):
        asyncio.run(asyncio.wait_for(run_streams(nowhere, 2, 2.0), 10))
