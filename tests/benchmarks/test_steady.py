"""The slope of memory over time."""

import json
from pathlib import Path

import pytest

from benchmarks import steady
from benchmarks.steady import Minute, slope_kb_h


def test_a_slope_is_told_in_kilobytes_an_hour() -> None:
    grows = [Minute(minute, 100.0 + minute / 60, 4.0) for minute in range(15, 31)]
    assert slope_kb_h(grows) == pytest.approx(1000.0)
    assert slope_kb_h([Minute(minute, 100.0, 4.0) for minute in range(15)]) == pytest.approx(
        0, abs=1e-6
    )
    assert slope_kb_h(grows[:1]) == 0.0


def test_more_streams_than_a_server_lets_in_by_default_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "steady.json"
    monkeypatch.setattr(steady, "MINUTE_S", 0.5)
    monkeypatch.setenv("GLRF_MAX_SESSIONS", "2")
    monkeypatch.setattr(
        "sys.argv", ["steady", "--streams", "4", "--minutes", "2", "--out", str(out)]
    )
    steady.main()
    assert [minute["minute"] for minute in json.loads(out.read_text())] == [1, 2]
