import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks import side_by_side
from benchmarks.servers import Peer, versions
from benchmarks.side_by_side import OURS, Plan, Result, markdown, run, verdict_of
from benchmarks.streams import Stage


def stage(lags_ms: list[float], n_missing: int = 0, late_ms: float = 1.0) -> Stage:
    return Stage(
        n_streams=10,
        n_due=len(lags_ms) + n_missing,
        lags_ms=lags_ms,
        cpu_ms=10.0,
        server_cores=0.1,
        generator_cores=0.1,
        generator_late_ms=late_ms,
        is_hopeless=False,
        fault=None,
    )


def test_a_stage_holds_when_all_came_and_99_of_100_in_time() -> None:
    assert verdict_of(stage([200.0] * 99 + [9000.0])) == "holds"
    assert verdict_of(stage([200.0] * 98 + [201.0] * 2)) == "fails"
    assert verdict_of(stage([1.0] * 999, n_missing=1)) == "fails"


def test_a_late_generator_is_blamed_only_for_a_failure() -> None:
    assert verdict_of(stage([100.0] * 100, late_ms=60.0)) == "holds"
    assert verdict_of(stage([300.0] * 100, late_ms=60.0)) == "generator"


def test_a_name_that_nothing_has_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["side_by_side", "--only", "LitServe", "Litserve"])
    with pytest.raises(SystemExit, match="2"):
        side_by_side.main()
    assert "'Litserve'" in capsys.readouterr().err


def test_the_table_has_ratios_to_this_service_and_says_what_did_not_run() -> None:
    ours = Result(
        OURS, n_streams=10, cpu_ms=10.0, lag_p50_ms=4.0, lag_p99_ms=9.0, memory_mb=150.0,
        streams_a_core=80, failed_at=88, ramp_ended_by="resolution",
    )  # fmt: skip
    slow = Result(
        "slow", n_streams=10, cpu_ms=25.0, lag_p50_ms=40.0, lag_p99_ms=None, memory_mb=300.0,
        streams_a_core=20, failed_at=None, ramp_ended_by="generator",
    )  # fmt: skip
    alone = Result("alone", cpu_ms=1250.0, lag_p50_ms=500.0, lag_p99_ms=510.0, streams_a_core=0.8)
    absent = Result("absent", not_run="absent: not installed")
    lines = markdown([ours, slow, alone, absent]).splitlines()
    assert lines[2] == "| this service | 10.0 | 1.0 | 4 | 9 | 150 | 1.0 | 80 | 1.0 |"
    assert lines[3] == (
        "| slow | 25.0 | 2.5 | 40 | missing | 300 | 2.0 | at least 20 (generator) | 4.0 |"
    )
    assert lines[4] == "| alone | 1250.0 | 125.0 | 500 | 510 |  |  | at most 0.8 | 100.0 |"
    assert lines[5].startswith("| absent | not run: absent: not installed |")
    assert {line.count("|") for line in lines} == {10}


def test_this_service_is_measured_and_a_peer_that_is_absent_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = Peer("absent", ("no-such-package",), ("-m", "no_such_package"), "/")
    monkeypatch.setattr(side_by_side, "PEERS", (absent,))
    said: list[str] = []
    plan = Plan(
        cpu=max(os.sched_getaffinity(0)), n_streams=2, n_windows=2, budget_s=0.0, say=said.append
    )
    ours, peer = run(plan, sys.executable, ["absent"])
    assert ours.not_run is None
    assert ours.fault is None
    assert ours.cpu_ms is not None
    assert ours.cpu_ms > 0
    assert ours.lag_p50_ms is not None
    assert ours.lag_p99_ms is not None
    assert 0 < ours.lag_p50_ms <= ours.lag_p99_ms
    assert ours.memory_mb is not None
    assert ours.memory_mb > 20
    assert peer.not_run is not None
    assert "no-such-package: not installed" in peer.not_run
    assert any("2 streams" in line for line in said)


def test_versions_are_of_what_is_installed() -> None:
    assert versions(("numpy", "no-such-package"), sys.executable).keys() == {"numpy"}


def test_too_few_cpus_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(sys, "argv", ["side_by_side"])
    with pytest.raises(SystemExit, match="two or more"):
        side_by_side.main()


def test_the_document_is_json_without_infinities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: None)
    monkeypatch.setattr(sys, "argv", ["x", "--peers-python", sys.executable, "--out", str(out)])
    monkeypatch.setattr(side_by_side, "run", lambda *_: [Result(OURS, cpu_ms=1.0)])
    side_by_side.main()
    document = json.loads(out.read_text())
    assert document["results"][0]["name"] == OURS
    assert document["plan"] == {"streams": 10, "windows": 16, "cpu": 1}
    assert "numpy" in document["versions"]
