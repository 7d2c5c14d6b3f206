"""The guard against slow code: what it compares, and what it says where it cannot."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.house.repository import ROOT

SCRIPT = ROOT / "benchmarks" / "instructions.py"


@pytest.fixture(scope="module")
def guard() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(
    ("n", "is_good", "said"),
    [(100, True, "ok"), (104, True, "ok"), (106, False, "TOO MANY"), (90, True, "record anew")],
)
def test_a_step_may_take_five_percent_more(
    guard: dict[str, Any], n: int, is_good: bool, said: str
) -> None:
    lines, verdict = guard["compared"]({"features": 100}, {"features": n})
    assert verdict is is_good
    assert said in lines[0]


def test_a_step_that_is_not_recorded_is_no_success(guard: dict[str, Any]) -> None:
    lines, is_good = guard["compared"]({"features": 100}, {"features": 100, "batch": 5})
    assert not is_good
    assert "record anew" in lines[-1]


def test_the_recorded_steps_are_those_counted(guard: dict[str, Any]) -> None:
    recorded = json.loads(SCRIPT.with_suffix(".json").read_text())
    assert recorded["steps"].keys() == guard["STEPS"].keys()
    assert recorded["made_with"].keys() == guard["made_with"]().keys()


def test_counts_of_another_python_are_not_compared(guard: dict[str, Any]) -> None:
    here = guard["made_with"]()
    assert guard["differences"](here, here) == ""
    assert "python 2.7" in guard["differences"](here | {"python": "2.7"}, here)


@pytest.mark.parametrize(("option", "status"), [((), 0), (("--record",), 1)])
def test_without_valgrind_it_says_that_it_did_not_run(
    tmp_path: Path, option: tuple[str, ...], status: int
) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *option],
        env={"PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert "did NOT run" in done.stderr


def test_outside_of_valgrind_the_steps_run_and_a_request_does_nothing(
    guard: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[str, int]] = []

    class Counting(guard["Callgrind"]):
        def count(self, step: str, work: Any, n: int) -> None:
            super().count(step, work, 1)
            counted.append((step, n))

    guard["run_steps"](Counting())
    assert [step for step, _ in counted] == [s for s in guard["STEPS"] for _ in range(2)]
    once, twice = (dict(counted[start::2]) for start in (0, 1))
    assert twice == {step: 2 * n for step, n in once.items()}
