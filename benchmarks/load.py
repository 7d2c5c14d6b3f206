"""How many real-time streams a core carries.

    python -m benchmarks.load [--start 60] [--endpointing vad] [--profile] [--out FILE]

The server runs in a process of its own on one core, the sender on another. Streams are doubled,
those that are there going on, until the lag breaks the target, an answer is missing or a stream is
refused; then the limit is sought by halves. Every answer is compared with that of an unloaded run
of the same audio. With `--profile` py-spy watches the server at three quarters of what it carried,
and the table tells where its time goes.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.fleet import CHUNK_S, Fleet, Refused, audio_frames
from benchmarks.processes import UNREFUSING, pinned, tree_cpu_s, tree_memory_mb
from benchmarks.ramp import Ramp, Verdict, most_streams
from benchmarks.stage import stage_of
from benchmarks.streams import CHUNK_BYTES, HOP_S, clip_pcm
from glrf.lag import percentile
from glrf.local_server import LocalServer, local_server

QUERY = "sample_rate=16000&endpointing="
N_OFFSETS = 8
SETTLE_S = 3.0
MAX_LATENESS_MS = 20.0
PROFILE_S = 10
PY_SPY = Path(sys.executable).with_name("py-spy")
#: The unloaded run: so much of each stream, so much faster than it is spoken.
REFERENCE_S, REFERENCE_SPEED = 200.0, 10.0
SCORE_TOLERANCE = 2e-6

Answers = dict[tuple[int, int], dict[str, Any]]


@dataclass(frozen=True)
class Stage:
    """One stage. Times of the client are from when a segment's last sample was due to its message.

    `cpu_ms` are CPU milliseconds of the server a second of one stream's audio; `missing` are
    segments that were due for longer than the target at the end.
    """

    n_streams: int
    cpu_ms: float
    server_cores: float
    n_segments: int
    lag_p50_ms: float
    lag_p99_ms: float
    told_lag_p99_ms: float
    missing: int
    wrong: int
    blocked: int
    sender_late_p99_ms: float
    memory_mb: float

    def verdict(self, target_ms: float) -> Verdict:
        """Whether the target was kept, and nothing is missing or wrong; if not, whose failure."""
        if self.wrong:  # no sender can make an answer wrong by being late
            return "fails"
        if self.lag_p99_ms <= target_ms and not self.missing:
            return "holds"
        return "generator" if self.sender_late_p99_ms > MAX_LATENESS_MS else "fails"


@dataclass(frozen=True)
class Limit:
    """The result: the most streams within the target, how the search ended, and all stages.

    What a stream takes of memory is `None` where fewer than two stages held before the first that
    did not.
    """

    target_ms: float
    ramp: Ramp
    memory_kb_a_stream: float | None
    stages: list[Stage]


def main() -> None:
    parser = argparse.ArgumentParser(description="Real-time streams a core.")
    parser.add_argument("--start", type=int, default=60, help="streams of the first stage")
    parser.add_argument("--stage-s", type=float, default=10.0)
    parser.add_argument("--target-ms", type=float, default=200.0)
    parser.add_argument("--resolution", type=float, default=0.05, help="share of the limit")
    parser.add_argument(
        "--endpointing",
        choices=("manual", "vad"),
        default="manual",
        help="manual scores every segment, vad (the service's default) spares the pauses",
    )
    parser.add_argument("--server-core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="GLRF_X=Y")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.profile and not PY_SPY.exists():
        parser.error("--profile needs py-spy: pip install py-spy")
    console = Console(width=160)
    settings = UNREFUSING | dict(one.split("=", 1) for one in options.set)
    cores = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        with pinned(options.server_core):
            server = stack.enter_context(local_server(settings))
        os.sched_setaffinity(0, cores - {options.server_core} or cores)
        frames = audio_frames(clip_pcm(), CHUNK_BYTES)
        offsets = [i * len(frames) // N_OFFSETS for i in range(N_OFFSETS)]
        query = QUERY + options.endpointing
        expected = unloaded(server.url, query, frames, offsets)
        fleet = Fleet(server.url, query, frames, offsets)
        stack.callback(fleet.close)
        meter = Meter(fleet, server, options.target_ms, expected)
        stages: list[Stage] = []

        def tried(n_streams: int) -> Verdict:
            try:
                meter.to(n_streams)
                stage = meter.measure(options.stage_s)
            except Refused as error:
                console.print(f"{n_streams} streams: {error}", highlight=False)
                meter.clear()
                return "fails"
            stages.append(stage)
            console.print(line(stage), highlight=False)
            verdict = stage.verdict(options.target_ms)
            if verdict != "holds":
                meter.clear()
            return verdict

        ramp = most_streams(tried, options.start, resolution=options.resolution)
        limit = Limit(options.target_ms, ramp, kb_a_stream(stages, options.target_ms), stages)
        console.print(
            f"{ramp.held} streams within {options.target_ms:.0f} ms (ended by {ramp.ended_by})"
            + (
                ""
                if limit.memory_kb_a_stream is None
                else f"; {limit.memory_kb_a_stream:.0f} kB each"
            ),
            highlight=False,
        )
        if options.out is not None:
            options.out.write_text(json.dumps(asdict(limit), indent=2, allow_nan=False) + "\n")
        if options.profile and ramp.held:
            meter.to(ramp.held * 3 // 4)  # py-spy takes its share of the core
            print_profile(server, fleet, console)


def kb_a_stream(stages: list[Stage], target_ms: float) -> float | None:
    """What a further stream takes, from the stages before the first that did not hold.

    After an overload the process keeps the memory of what had queued.
    """
    calm = list(itertools.takewhile(lambda stage: stage.verdict(target_ms) == "holds", stages))
    if len(calm) < 2:
        return None
    first, last = calm[0], calm[-1]
    return 1000 * (last.memory_mb - first.memory_mb) / (last.n_streams - first.n_streams)


class Meter:
    """Measures stages of one fleet, and compares its answers with those of the unloaded run."""

    def __init__(self, fleet: Fleet, server: LocalServer, target_ms: float, expected: Answers):
        self._fleet, self._server, self._target_ms = fleet, server, target_ms
        self._expected = expected

    def to(self, n_streams: int) -> None:
        """Opens or drops streams, and lets them settle."""
        extra = n_streams - len(self._fleet.streams)
        if extra < 0:
            self._fleet.drop(-extra)
        while extra > 0:
            self._fleet.open(min(extra, 10))
            extra -= 10
            self._fleet.play(0.1)
        self._fleet.play(SETTLE_S)

    def clear(self) -> None:
        """Drops all streams, so that the next stage finds no backlog."""
        self._fleet.drop(len(self._fleet.streams))
        self._fleet.play(SETTLE_S)

    def measure(self, stage_s: float) -> Stage:
        """Plays for so long. Raises `Refused` when the server ends a stream."""
        fleet, pid = self._fleet, self._server.pid
        del fleet.lateness_s[:]
        fleet.n_blocked = 0
        marks = [len(stream.answers) for stream in fleet.streams]
        cpu_s, begin_s = tree_cpu_s(pid), time.monotonic()
        fleet.play(stage_s)
        cpu_s, end_s = tree_cpu_s(pid) - cpu_s, time.monotonic()
        wrong, missing, lags_ms, told_ms = 0, 0, [], []
        for stream, mark in zip(fleet.streams, marks, strict=True):
            awaited_ms = 0
            for index in range(mark, len(stream.answers)):
                segment = json.loads(stream.answers[index])
                if segment["type"] != "segment":
                    continue
                awaited_ms = segment["end_ms"] + round(1000 * HOP_S)
                told_ms.append(segment["lag_ms"])
                due_s = stream.due_s[chunk_at(segment["end_ms"])]
                lags_ms.append(1000 * (stream.received_s[index] - due_s))
                expected = self._expected.get((stream.offset, segment["index"]))
                wrong += expected is not None and not agrees(of_the_audio(segment), expected)
            if not awaited_ms:
                missing += 1
            elif chunk_at(awaited_ms) < stream.n_sent:
                late_ms = 1000 * (end_s - stream.due_s[chunk_at(awaited_ms)])
                missing += late_ms > self._target_ms
        n = len(fleet.streams)
        return Stage(
            n_streams=n,
            cpu_ms=1000 * cpu_s / (end_s - begin_s) / n,
            server_cores=cpu_s / (end_s - begin_s),
            n_segments=len(lags_ms),
            lag_p50_ms=percentile(lags_ms, 0.5),
            lag_p99_ms=percentile(lags_ms, 0.99),
            told_lag_p99_ms=percentile(told_ms, 0.99),
            missing=missing,
            wrong=wrong,
            blocked=fleet.n_blocked,
            sender_late_p99_ms=1000 * percentile(fleet.lateness_s, 0.99),
            memory_mb=tree_memory_mb(pid),
        )


def unloaded(url: str, query: str, frames: Sequence[bytes], offsets: Sequence[int]) -> Answers:
    """What the server says to one stream from each place, by place and the segment's index."""
    fleet = Fleet(url, query, frames, offsets, speed=REFERENCE_SPEED)
    try:
        fleet.open(len(offsets))
        fleet.play(REFERENCE_S / REFERENCE_SPEED)
        fleet.finish()
        return {
            (stream.offset, segment["index"]): of_the_audio(segment)
            for stream in fleet.streams
            for segment in map(json.loads, stream.answers)
            if segment["type"] == "segment"
        }
    finally:
        fleet.close()


def of_the_audio(segment: dict[str, Any]) -> dict[str, Any]:
    """A segment's message without what differs between two runs."""
    return {k: v for k, v in segment.items() if k not in {"seq", "lag_ms", "session_id"}}


def agrees(told: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether all is the same but for the last digit of scores, which the batch's size decides."""
    scores = [told.pop("scores"), told["smoothed"].pop("scores")]
    wanted = [expected["scores"], expected["smoothed"]["scores"]]
    near = all(
        abs(score - other[label]) <= SCORE_TOLERANCE
        for ours, other in zip(scores, wanted, strict=True)
        for label, score in ours.items()
    )
    rest = {k: v for k, v in expected.items() if k != "scores"}
    rest["smoothed"] = {"label": expected["smoothed"]["label"]}
    return near and told == rest


def chunk_at(end_ms: int) -> int:
    """The chunk that holds the last sample before `end_ms`."""
    return -(-end_ms // round(1000 * CHUNK_S)) - 1


def line(stage: Stage) -> str:
    """One stage, to be read while the next one runs."""
    text = (
        f"{stage.n_streams:5d} streams  {stage.cpu_ms:5.2f} CPU ms a stream-second  "
        f"{stage.server_cores:4.2f} cores  lag p50 {stage.lag_p50_ms:4.0f} p99 "
        f"{stage.lag_p99_ms:5.0f} (told {stage.told_lag_p99_ms:.0f}) ms  "
        f"{stage.memory_mb:.0f} MB  missing {stage.missing}, wrong {stage.wrong}"
    )
    if stage.sender_late_p99_ms > MAX_LATENESS_MS:
        text += f"  (the SENDER was {stage.sender_late_p99_ms:.0f} ms late: its core is too slow)"
    return text


def print_profile(server: LocalServer, fleet: Fleet, console: Console) -> None:
    """Where the server's time goes, by stage of a segment's way, from py-spy's samples."""
    with tempfile.NamedTemporaryFile(suffix=".folded") as folded:
        command = [
            str(PY_SPY),
            "record",
            "--pid",
            str(server.pid),
            "--duration",
            str(PROFILE_S),
        ]
        command += ["--rate", "250", "--format", "raw", "--output", folded.name]
        watcher = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while watcher.poll() is None:
            fleet.play(0.5)
        if watcher.returncode:
            raise SystemExit("py-spy failed; it may need the right to look into other processes")
        lines = Path(folded.name).read_text().splitlines()
    samples = Counter[str]()
    for text in lines:
        stack, _, n_seen = text.rpartition(" ")
        samples[stage_of(stack.split(";"))] += int(n_seen)
    total = sum(samples.values())
    table = Table("stage", "share", box=None)
    table.columns[1].justify = "right"
    for stage, count in samples.most_common():
        table.add_row(stage, f"{count / total:.1%}")
    console.print(table)


if __name__ == "__main__":
    main()
