"""How the cost of a stream grows with streams, channels, chunks and rates, and that of files.

    python -m benchmarks.growth [--stage-s 8] [--plot docs/growth.png] [--out FILE]

One server on one core, the sender on another; of each axis all else stays as in the middle: 60
streams of 16 kHz mono in chunks of 100 ms, every segment scored. Prints a Markdown table, and for
the number of streams a line by least squares, and which numbers are more than a tenth off it.
"""

import argparse
import contextlib
import io
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile as sf
from rich.console import Console

from benchmarks.fleet import Fleet, audio_frames
from benchmarks.processes import UNREFUSING, pinned, tree_cpu_s
from benchmarks.streams import clip_pcm
from glrf.local_server import LocalServer, local_server
from ser_core.resample import Resampler

N_STREAMS = 60
STREAMS = (1, 10, 30, 60, 100, 140, 180, 220)
CHUNKS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
FILES_MIN = (1, 2, 5, 10, 20, 40)
SETTLE_S = 3.0


@dataclass(frozen=True)
class Point:
    """`cpu_ms` are CPU milliseconds of the server a second of one stream's or file's audio."""

    axis: str
    value: float
    cpu_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description="How the cost of a stream grows.")
    parser.add_argument("--stage-s", type=float, default=8.0)
    parser.add_argument("--server-core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    console = Console()
    cores = os.sched_getaffinity(0)
    points: list[Point] = []

    def add(axis: str, value: float, cpu_ms: float) -> None:
        points.append(Point(axis, value, cpu_ms))
        console.print(f"| {axis} | {value:g} | {cpu_ms:.2f} |", highlight=False)

    with contextlib.ExitStack() as stack:
        with pinned(options.server_core):
            server = stack.enter_context(local_server(UNREFUSING))
        os.sched_setaffinity(0, cores - {options.server_core} or cores)
        clip = np.frombuffer(clip_pcm(), "<i2").astype(np.float32) / 32768
        console.print("| axis | value | CPU ms a second of audio |\n| --- | --- | --- |")
        for n_streams in STREAMS:
            add("streams", n_streams, live(server, clip, options.stage_s, n_streams=n_streams))
        for n_channels in (1, 2):
            add("channels", n_channels, live(server, clip, options.stage_s, n_channels=n_channels))
        for chunk_s in CHUNKS_S:
            add("chunk, ms", 1000 * chunk_s, live(server, clip, options.stage_s, chunk_s=chunk_s))
        for rate_hz in RATES_HZ:
            add("rate, Hz", rate_hz, live(server, clip, options.stage_s, rate_hz=rate_hz))
        for minutes in FILES_MIN:
            add("file, min", minutes, file(server, clip, minutes))
    base_ms, each_ms, off = fit([point for point in points if point.axis == "streams"])
    console.print(
        f"n streams take {base_ms:.1f} + {each_ms:.2f} n CPU ms a second (least squares); "
        f"more than a tenth off: {', '.join(map(str, off)) or 'none'}",
        highlight=False,
    )
    if options.plot is not None:
        plot(points, options.plot)
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(point) for point in points], indent=2) + "\n")


def live(
    server: LocalServer,
    clip: np.ndarray,
    stage_s: float,
    *,
    n_streams: int = N_STREAMS,
    n_channels: int = 1,
    chunk_s: float = 0.1,
    rate_hz: int = 16_000,
) -> float:
    """CPU milliseconds a stream-second of a fleet of such streams."""
    resampler = Resampler(16_000, rate_hz)
    samples = np.concatenate((resampler.accept(clip), resampler.flush()))
    pcm = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2")
    data = np.repeat(pcm, n_channels).tobytes()
    frames = audio_frames(data, round(rate_hz * chunk_s) * 2 * n_channels)
    query = f"sample_rate={rate_hz}&channels={n_channels}&endpointing=manual"
    offsets = [i * len(frames) // 8 for i in range(8)]
    fleet = Fleet(server.url, query, frames, offsets, chunk_s=chunk_s)
    try:
        fleet.open(n_streams)
        fleet.play(SETTLE_S)
        cpu_s, begin_s = tree_cpu_s(server.pid), time.monotonic()
        fleet.play(stage_s)
        wall_s = time.monotonic() - begin_s
        return 1000 * (tree_cpu_s(server.pid) - cpu_s) / wall_s / n_streams
    finally:
        fleet.close()
        time.sleep(SETTLE_S)  # what had queued by then is scored, or the next would be refused


def file(server: LocalServer, clip: np.ndarray, minutes: int) -> float:
    """CPU milliseconds a second of a file of so many minutes, its decoder's included."""
    n_samples = minutes * 60 * 16_000
    samples = np.tile(clip, -(-n_samples // len(clip)))[:n_samples]
    body = io.BytesIO()
    sf.write(body, samples, 16_000, format="WAV", subtype="PCM_16")
    before_s = tree_cpu_s(server.pid)
    answer = httpx.post(
        f"{server.url}/v1/files",
        content=body.getvalue(),
        timeout=600,
        headers={"Accept": "text/csv"},
    )
    answer.raise_for_status()
    return 1000 * (tree_cpu_s(server.pid) - before_s) / (minutes * 60)


def fit(points: list[Point]) -> tuple[float, float, list[int]]:
    """Of the server's CPU a second over streams: base, slope, and which numbers are 10 % off."""
    n = np.array([point.value for point in points])
    total_ms = n * np.array([point.cpu_ms for point in points])
    each_ms, base_ms = np.polyfit(n, total_ms, 1)
    off = np.abs(total_ms - base_ms - each_ms * n) > 0.1 * total_ms
    return float(base_ms), float(each_ms), [int(value) for value in n[off]]


def plot(points: list[Point], path: Path) -> None:
    """One panel an axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    axes_names = list(dict.fromkeys(point.axis for point in points))
    figure, panels = plt.subplots(1, len(axes_names), figsize=(15, 3), layout="constrained")
    for panel, axis in zip(panels, axes_names, strict=True):
        of_axis = [point for point in points if point.axis == axis]
        panel.plot([p.value for p in of_axis], [p.cpu_ms for p in of_axis], "o-")
        panel.set_xlabel(axis)
        panel.set_ylim(bottom=0)
        if axis == "chunk, ms":
            panel.set_xscale("log")
    panels[0].set_ylabel("CPU ms a second of audio")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
