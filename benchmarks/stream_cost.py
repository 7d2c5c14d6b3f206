"""What a stream costs the server, beside the bare model and the bare features.

    glrf bench

In one run: the server in a process of its own serves real-time streams of 100 ms chunks (the demo
clip, each stream at another offset, the streams spread evenly over one 0.4 s hop); its CPU time is
read from /proc around the audio, handshakes left out. Then, in this process and with the server's
own thread settings, the model and the features alone on as much work. All figures are CPU time,
so other load on the machine moves them less than it moves the lag.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.processes import process_cpu_s
from benchmarks.streams import CHUNK_BYTES, HOP_S, RATE_HZ, clip_pcm
from glrf.lag import LagMeter, percentile
from glrf.local_server import LocalServer, local_server
from glrf.progress import bar
from glrf.training import shipped_model
from glrf_client import Segment, SessionCreated, stream
from glrf_client.format import CHUNK_MS
from ser_core.errors import SerError
from ser_core.features import mfcc
from ser_core.model_file import ModelSpec
from service.inference.onnx import OnnxBackend

#: Repetitions of the bare work: two seconds or more of it on a common machine.
N_REPEATS = 400


@dataclass(frozen=True)
class Load:
    """What the clients saw, and what the server's process used meanwhile."""

    cpu_s: float
    wall_s: float
    peak_memory_mb: float
    n_segments: int
    mean_batch: float
    stall_p99_ms: float
    lags_ms: list[float]


@dataclass(frozen=True)
class Cost:
    """The result. `_cpu_ms` are CPU milliseconds a second of one stream's audio."""

    model: str
    n_cpus: int
    n_streams: int
    stream_s: float
    n_segments: int
    mean_batch: float
    service_cpu_ms: float
    model_batch_1_cpu_ms: float
    model_same_batch_cpu_ms: float
    features_cpu_ms: float
    ratio_to_batch_1: float
    ratio_to_same_batch: float
    server_cores: float
    server_peak_memory_mb: float
    lag_p50_ms: float
    lag_p99_ms: float
    stall_p99_ms: float


def main(n_streams: int = 50, stream_s: float = 20.0, out: Path | None = None) -> None:
    """Measures, prints a table, and writes JSON to `out` if it is given."""
    if not Path("/proc/self/stat").exists():
        raise SerError("CPU time is read from /proc, which this system lacks", remedy="use Linux")
    cost = measure(n_streams, stream_s)
    show(cost, Console())
    if out is not None:
        out.write_text(json.dumps(asdict(cost), indent=2) + "\n")


def measure(n_streams: int, stream_s: float) -> Cost:
    """Runs both halves. Raises `SerError` when a stream got fewer segments than its audio has."""
    path = shipped_model()
    settings = {
        "GLRF_DEVICE": "cpu",
        "GLRF_MAX_SESSIONS": str(n_streams + 1),
        "GLRF_MAX_LOAD": "0",  # what is measured must not be refused
    }
    with local_server(settings) as server:
        load = asyncio.run(run_streams(server, n_streams, stream_s))
    backend = OnnxBackend.load(path, "cpu")
    per_s = 1 / HOP_S  # segments a second of a stream
    single_ms = per_s * model_cpu_ms(backend, 1)
    batched_ms = per_s * model_cpu_ms(backend, max(1, round(load.mean_batch)))
    features_ms = per_s * features_cpu_ms(backend.spec)
    service_ms = 1000 * load.cpu_s / (n_streams * stream_s)
    return Cost(
        model=f"{backend.spec.name}@{backend.spec.version} {backend.sha256[:12]}",
        n_cpus=os.cpu_count() or 1,
        n_streams=n_streams,
        stream_s=stream_s,
        n_segments=load.n_segments,
        mean_batch=load.mean_batch,
        service_cpu_ms=service_ms,
        model_batch_1_cpu_ms=single_ms,
        model_same_batch_cpu_ms=batched_ms,
        features_cpu_ms=features_ms,
        ratio_to_batch_1=service_ms / (single_ms + features_ms),
        ratio_to_same_batch=service_ms / (batched_ms + features_ms),
        server_cores=load.cpu_s / load.wall_s,
        server_peak_memory_mb=load.peak_memory_mb,
        lag_p50_ms=percentile(load.lags_ms, 0.5),
        lag_p99_ms=percentile(load.lags_ms, 0.99),
        stall_p99_ms=load.stall_p99_ms,
    )


async def run_streams(server: LocalServer, n_streams: int, stream_s: float) -> Load:
    """All streams at once, in real time, to their last result."""
    pcm = clip_pcm()
    n_chunks = round(stream_s * 1000 / CHUNK_MS)
    meters = [LagMeter() for _ in range(n_streams)]
    gate = Gate(n_streams)
    with bar(f"{n_streams} streams, chunks") as report:
        n_sent = 0

        async def chunks(index: int) -> AsyncIterator[bytes]:
            nonlocal n_sent
            # An own place in the clip, and an own place in the hop.
            offset = index * len(pcm) // n_streams // CHUNK_BYTES
            begin_s = await gate.opened() + HOP_S * index / n_streams
            for chunk in range(n_chunks):
                await asyncio.sleep(begin_s + (chunk + 1) * CHUNK_MS / 1000 - time.monotonic())
                start = (offset + chunk) * CHUNK_BYTES % (len(pcm) - CHUNK_BYTES)
                start -= start % 2
                meters[index].sent((chunk + 1) * CHUNK_MS)
                yield pcm[start : start + CHUNK_BYTES]
                n_sent += 1
                if n_sent % n_streams == 0:
                    report(n_sent, n_chunks * n_streams)

        async def play_one(index: int) -> int:
            return await play(server.url, chunks(index), meters[index], gate)

        streams = asyncio.gather(*(play_one(index) for index in range(n_streams)))
        there = asyncio.ensure_future(gate.all_there())
        await asyncio.wait((there, streams), return_when=asyncio.FIRST_COMPLETED)
        if not there.done():  # a stream was refused
            there.cancel()
            await streams
        before = await scraped(server.url)
        cpu_s, wall_s = process_cpu_s(server.pid), time.monotonic()
        gate.open()
        counts = await streams
    n_whole = 1 + int((stream_s * 1000 - 2000) // 400)
    if min(counts) < n_whole:
        raise SerError(
            f"a stream got {min(counts)} segments of at least {n_whole}",
            remedy="the machine is too slow for this many streams: ask for fewer",
        )
    cpu_s, wall_s = process_cpu_s(server.pid) - cpu_s, time.monotonic() - wall_s
    during = {
        name: value - before.get(name, 0) for name, value in (await scraped(server.url)).items()
    }
    return Load(
        cpu_s=cpu_s,
        wall_s=wall_s,
        peak_memory_mb=peak_memory_mb(server.pid),
        n_segments=sum(counts),
        mean_batch=during["glrf_batch_segments_sum"] / max(1, during["glrf_batch_segments_count"]),
        stall_p99_ms=1000 * bucket_bound(during, "glrf_event_loop_stall_seconds", 0.99),
        lags_ms=[lag for meter in meters for lag in meter.lags_ms],
    )


class Gate:
    """Lets all streams begin together, once each is connected."""

    def __init__(self, n_streams: int) -> None:
        self._n_missing = n_streams
        self._is_open, self._are_there = asyncio.Event(), asyncio.Event()
        self._opened_at_s = 0.0

    def arrive(self) -> None:
        self._n_missing -= 1
        if self._n_missing == 0:
            self._are_there.set()

    async def all_there(self) -> None:
        await self._are_there.wait()

    def open(self) -> None:
        self._opened_at_s = time.monotonic()
        self._is_open.set()

    async def opened(self) -> float:
        await self._is_open.wait()
        return self._opened_at_s


async def play(url: str, chunks: AsyncIterator[bytes], meter: LagMeter, gate: Gate) -> int:
    """One stream; returns how many segments came."""
    n_segments = 0
    # Endpointing by hand: each segment is scored.
    async for event in stream(url, chunks, sample_rate=RATE_HZ, endpointing="manual"):
        if isinstance(event, SessionCreated):
            gate.arrive()
        elif isinstance(event, Segment):
            n_segments += 1
            meter.received(event.end_ms, has_label=event.label is not None)
    return n_segments


async def scraped(url: str) -> dict[str, float]:
    """The server's metrics by name; those of a histogram's buckets by `name_bucket BOUND`."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{url}/metrics")).text
    return {
        " ".join(
            [sample.name, *([sample.labels["le"]] if "le" in sample.labels else [])]
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def bucket_bound(metrics: dict[str, float], name: str, share: float) -> float:
    """Upper bound of the bucket that a percentile of a histogram lies in."""
    prefix = f"{name}_bucket "
    bounds = {
        float(key.removeprefix(prefix)): n for key, n in metrics.items() if key.startswith(prefix)
    }
    return min(bound for bound, n in bounds.items() if n >= share * metrics[f"{name}_count"])


def peak_memory_mb(pid: int) -> float:
    """Largest resident size of a process, proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def model_cpu_ms(backend: OnnxBackend, batch: int) -> float:
    """CPU milliseconds a segment, all threads, in batches of this size."""
    features = np.repeat(backend.spec.self_test_features(), batch, axis=0)
    for _ in range(10):
        backend.score(features)
    n_runs = max(20, N_REPEATS // batch)
    start_s = time.process_time()
    for _ in range(n_runs):
        backend.score(features)
    return 1000 * (time.process_time() - start_s) / (n_runs * batch)


def features_cpu_ms(spec: ModelSpec) -> float:
    """CPU milliseconds a segment: the frames of one hop, as each is computed once."""
    overlap = spec.features.frame_samples - spec.features.hop_samples
    samples = np.random.default_rng(0).normal(0, 0.1, spec.segments.hop_samples + overlap)
    samples = samples.astype(np.float32)
    for _ in range(10):
        mfcc(samples, spec.features)
    start_s = time.process_time()
    for _ in range(N_REPEATS):
        mfcc(samples, spec.features)
    return 1000 * (time.process_time() - start_s) / N_REPEATS


def show(cost: Cost, console: Console) -> None:
    """The numbers, absolute and as ratios."""
    table = Table(
        "CPU ms a stream-second", "", title=f"{cost.model}, {cost.n_cpus} CPUs", box=None,
        title_justify="left", padding=(0, 2, 0, 0),
    )  # fmt: skip
    table.columns[1].justify = "right"
    table.add_row("service, whole process", f"{cost.service_cpu_ms:.2f}")
    table.add_row("model alone, batch 1", f"{cost.model_batch_1_cpu_ms:.2f}")
    batch = (
        f"model alone, batch {max(1, round(cost.mean_batch))} (server's mean {cost.mean_batch:.1f})"
    )
    table.add_row(batch, f"{cost.model_same_batch_cpu_ms:.2f}")
    table.add_row("features alone", f"{cost.features_cpu_ms:.2f}")
    table.add_row("service / (model batch 1 + features)", f"{cost.ratio_to_batch_1:.2f}x")
    table.add_row("service / (model same batch + features)", f"{cost.ratio_to_same_batch:.2f}x")
    console.print(table)
    console.print(
        f"{cost.n_streams} streams of {cost.stream_s:.0f} s, {cost.n_segments} segments; "
        f"the server used {cost.server_cores:.2f} cores and at most "
        f"{cost.server_peak_memory_mb:.0f} MB",
        highlight=False,
    )
    console.print(
        f"lag p50 {cost.lag_p50_ms:.0f} ms, p99 {cost.lag_p99_ms:.0f} ms (last sample sent to "
        f"result received); stall of the event loop p99 at most {cost.stall_p99_ms:.0f} ms",
        highlight=False,
    )
