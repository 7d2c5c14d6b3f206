"""The service beside what people would take instead: one run, one machine, the same model.

    python -m benchmarks.side_by_side [--peers-python PATH] [--out side_by_side.json]

Every server is pinned to one CPU (the last), this load generator to the others. Ten real-time
streams of 16 kHz PCM first, for what a stream costs; then more and more of them, in short stages,
until the 99th percentile of the lag is above 200 ms or answers are missing, for how many one core
holds. A stage that fails narrowly is tried once more. Last the work that runs without a server.
Peers that are not installed are told as not run. Takes less than 12 minutes.

*CPU* is of the server's whole process tree, a second of one stream's audio; *lag* counts from the
moment a window's last sample is due to its answer; *memory* is the largest proportional share
(PSS) of the tree, looked at after each stage.
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks import servers
from benchmarks.processes import tree_cpu_s, tree_memory_mb
from benchmarks.ramp import Verdict, most_streams
from benchmarks.servers import PEERS, Bare, Running
from benchmarks.streams import HOP_S, Stage
from glrf.lag import percentile
from glrf.training import shipped_model
from ser_core.errors import SerError

OURS = "this service"
#: What is measured without a server.
ALONE = {"eGeMAPS alone": servers.egemaps, "wav2vec 2.0 base alone": servers.wav2vec2}
LAG_LIMIT_MS = 200.0
#: Above this at the 99th percentile the generator was late itself, and a failure is not proven.
_GENERATOR_LATE_MS = 50.0
#: A stage beyond this is not tried again.
_NARROWLY_MS = 5 * LAG_LIMIT_MS
_PACKAGES = (
    *dict.fromkeys(name for peer in PEERS for name in peer.packages),
    "opensmile", "onnxruntime", "numpy",
)  # fmt: skip
_WARM_STREAMS, _WARM_STAGES = 2, 5
_SETTLED_CORES = 0.3
_SETTLE_S = 8.0


@dataclass(frozen=True)
class Result:
    """One line of the table. `None` where there is nothing to measure, or it was not run.

    `cpu_ms` and lags at `n_streams` streams; `streams_a_core` were held, and `failed_at` were not
    (`None`: no failure was seen); of work without a server, what its CPU time would allow.
    """

    name: str
    not_run: str | None = None
    n_streams: int | None = None
    cpu_ms: float | None = None
    lag_p50_ms: float | None = None
    lag_p99_ms: float | None = None
    memory_mb: float | None = None
    streams_a_core: float | None = None
    failed_at: int | None = None
    ramp_ended_by: str | None = None
    cpu_ms_when_full: float | None = None
    generator_cores: float | None = None
    generator_late_ms: float | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Plan:
    """How long and how hard."""

    cpu: int
    n_streams: int
    n_windows: int
    budget_s: float
    say: Callable[[str], None]


def main() -> None:
    """Measures, prints the table as Markdown, and writes JSON to `--out`."""
    parser = argparse.ArgumentParser(description="This service beside its peers, on one core each.")
    parser.add_argument("--peers-python", default=servers.default_python())
    parser.add_argument("--streams", type=int, default=10, help="streams of the first stage")
    parser.add_argument("--stage-s", type=float, default=6.0, help="steady part of a stage")
    parser.add_argument("--budget-s", type=float, default=95.0, help="of each server, start apart")
    parser.add_argument(
        "--only",
        nargs="*",
        choices=[*(peer.name for peer in PEERS), *ALONE],
        metavar="NAME",
        help="names of what is to run besides this service: %(choices)s",
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("Error: a server and its load need a CPU each. Remedy: use two or more.")
    os.sched_setaffinity(0, cpus[:-1])
    console = Console(stderr=True)
    plan = Plan(
        cpu=cpus[-1],
        n_streams=options.streams,
        n_windows=max(2, round(options.stage_s / HOP_S) + 1),
        budget_s=options.budget_s,
        say=lambda text: console.print(text, highlight=False, soft_wrap=True),
    )
    results = run(plan, options.peers_python, options.only)
    print(markdown(results))
    if options.out is not None:
        document = {
            "machine": machine(),
            "plan": {"streams": plan.n_streams, "windows": plan.n_windows, "cpu": plan.cpu},
            "versions": servers.versions(_PACKAGES, options.peers_python),
            "results": [asdict(result) for result in results],
        }
        options.out.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def run(plan: Plan, python: str, only: list[str] | None = None) -> list[Result]:
    """Everything, one after the other; what fails is told and the rest goes on."""
    began_s = time.monotonic()

    def is_wanted(name: str) -> bool:
        return only is None or name in only

    results = [_tried(OURS, plan, lambda: _served(OURS, servers.this_service(plan.cpu), plan))]
    for peer in PEERS:
        if is_wanted(peer.name):
            serving = servers.peer_server(peer, python, plan.cpu)
            results.append(_tried(peer.name, plan, lambda: _served(peer.name, serving, plan)))  # noqa: B023  (called at once)
    for name, work in ALONE.items():
        if is_wanted(name):
            results.append(_tried(name, plan, lambda: _alone(name, work(python, plan.cpu))))  # noqa: B023
    plan.say(f"took {time.monotonic() - began_s:.0f} s")
    return results


def _tried(name: str, plan: Plan, measured: Callable[[], Result]) -> Result:
    plan.say(f"[bold]{name}[/bold]")
    try:
        return measured()
    except SerError as error:
        plan.say(f"  not run: {error}")
        return Result(name, not_run=str(error))


def _alone(name: str, bare: Bare) -> Result:
    """Work without a server: its CPU time alone bounds the streams."""
    cpu_ms = bare.cpu_ms / HOP_S
    return Result(
        name,
        cpu_ms=cpu_ms,
        lag_p50_ms=percentile(bare.took_ms, 0.5),
        lag_p99_ms=percentile(bare.took_ms, 0.99),
        memory_mb=bare.memory_mb,
        streams_a_core=1000 / cpu_ms,
    )


def _served(name: str, serving: AbstractContextManager[Running], plan: Plan) -> Result:
    """A server's ramp, whose first stage tells what a stream costs."""
    with serving as server:
        climb = Climb(server, plan)
        climb.warm_up()
        ramp = most_streams(
            climb.verdict, plan.n_streams, is_time_up=lambda: time.monotonic() > climb.until_s
        )
    first = climb.stages[plan.n_streams]
    fullest = climb.stages.get(ramp.held, first)
    return Result(
        name,
        n_streams=first.n_streams,
        cpu_ms=first.cpu_ms,
        lag_p50_ms=_finite(first.lag_ms(0.5)),
        lag_p99_ms=_finite(first.lag_ms(0.99)),
        memory_mb=climb.memory_mb,
        streams_a_core=ramp.held,
        failed_at=ramp.failed,
        ramp_ended_by=ramp.ended_by,
        cpu_ms_when_full=fullest.cpu_ms,
        generator_cores=fullest.generator_cores,
        generator_late_ms=fullest.generator_late_ms,
        fault=climb.fault,
    )


class Climb:
    """The stages of one server."""

    def __init__(self, server: Running, plan: Plan) -> None:
        self._server, self._plan = server, plan
        self.until_s = math.inf
        self.memory_mb = 0.0
        self.stages: dict[int, Stage] = {}
        self.fault: str | None = None

    def warm_up(self) -> None:
        """Until all is answered, as first calls import and compile; from then on time runs."""
        for _ in range(_WARM_STAGES):
            if self.stage(_WARM_STREAMS).n_missing == 0:
                break
        self.fault = None
        self.until_s = time.monotonic() + self._plan.budget_s

    def stage(self, n_streams: int) -> Stage:
        """One stage, after the server has come to rest."""
        self._settle()
        stage = self._server.stage(n_streams, self._plan.n_windows, self._cpu_s)
        self.memory_mb = max(self.memory_mb, tree_memory_mb(self._server.pid))
        p99_ms = stage.lag_ms(0.99)
        self._plan.say(
            f"  {n_streams} streams: p50 {stage.lag_ms(0.5):.0f} ms, p99 {p99_ms:.0f} ms, "
            f"{stage.n_missing} of {stage.n_due} missing, {stage.cpu_ms:.1f} CPU ms a stream-second"
            f" ({stage.server_cores:.2f} cores), generator {stage.generator_cores:.2f} cores, "
            f"{stage.generator_late_ms:.0f} ms late" + (f"; {stage.fault}" if stage.fault else "")
        )
        self.fault = stage.fault or self.fault
        return stage

    def verdict(self, n_streams: int) -> Verdict:
        """Of so many streams; a narrow failure is tried once more, as other work may have been."""
        stage = self.stage(n_streams)
        narrowly = not stage.is_hopeless and stage.lag_ms(0.99) < _NARROWLY_MS
        if verdict_of(stage) != "holds" and narrowly:
            stage = self.stage(n_streams)
        self.stages[n_streams] = stage
        return verdict_of(stage)

    def _cpu_s(self) -> float:
        return tree_cpu_s(self._server.pid)

    def _settle(self) -> None:
        """Waits until what an earlier stage left is worked off, for some seconds at most."""
        until_s = time.monotonic() + _SETTLE_S
        before = self._cpu_s()
        while time.monotonic() < until_s:
            time.sleep(0.5)
            used, before = self._cpu_s() - before, self._cpu_s()
            if used / 0.5 < _SETTLED_CORES:
                return


def verdict_of(stage: Stage) -> Verdict:
    """Whether every answer came and 99 of 100 in time; if not, whose failure it was."""
    if stage.n_missing == 0 and stage.lag_ms(0.99) <= LAG_LIMIT_MS:
        return "holds"
    return "generator" if stage.generator_late_ms > _GENERATOR_LATE_MS else "fails"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def machine() -> dict[str, object]:
    """What it ran on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    return {
        "cpu": model or platform.machine(),
        "n_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "model": shipped_model().name,
    }


_HEADS = (
    "", "CPU ms a stream-second", "x ours", "lag p50 ms", "p99 ms", "memory MB", "x ours",
    "streams a core", "ours x",
)  # fmt: skip


def rows(results: list[Result]) -> list[list[str]]:
    """The table's cells; ratios are to the first result, this service."""
    ours = results[0]

    def ratio(value: float | None, base: float | None) -> str:
        return f"{value / base:.1f}" if value and base else ""

    def number(value: float | None, digits: int = 0) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    table: list[list[str]] = []
    for result in results:
        if result.not_run is not None:
            table.append([result.name, f"not run: {result.not_run}", *[""] * (len(_HEADS) - 2)])
            continue
        streams = number(result.streams_a_core, 0 if (result.streams_a_core or 0) >= 10 else 1)
        if result.ramp_ended_by is None:
            streams = f"at most {streams}"
        elif result.ramp_ended_by != "resolution":
            streams = f"at least {streams} ({result.ramp_ended_by})"
        table.append(
            [
                result.name,
                number(result.cpu_ms, 1),
                ratio(result.cpu_ms, ours.cpu_ms),
                number(result.lag_p50_ms),
                number(result.lag_p99_ms) or "missing",
                number(result.memory_mb),
                ratio(result.memory_mb, ours.memory_mb),
                streams,
                ratio(ours.streams_a_core, result.streams_a_core),
            ]
        )
    return table


def markdown(results: list[Result]) -> str:
    """The table, for RESULTS.md."""
    lines = [_HEADS, ["---"] * len(_HEADS), *rows(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
