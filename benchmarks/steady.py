"""Whether a server's memory stays flat under streams that go on and streams that come and go.

    python -m benchmarks.steady [--streams 40] [--minutes 30] [--out FILE]

Real-time streams of 16 kHz PCM for so long; each minute a quarter of them ends and as many begin.
Prints the anonymous memory of the server's processes once a minute (its proportional share, PSS, so
that what they share counts once), and the slope of a line through the second half, in kB an hour.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.fleet import Fleet, audio_frames
from benchmarks.processes import UNREFUSING, tree_cpu_s, tree_memory_mb
from benchmarks.streams import CHUNK_BYTES, clip_pcm
from glrf.local_server import local_server

N_OFFSETS = 8
MINUTE_S = 60.0


@dataclass(frozen=True)
class Minute:
    """At the end of minute `minute`; CPU milliseconds are of a second of one stream's audio."""

    minute: int
    memory_mb: float
    cpu_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory over time.")
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    frames = audio_frames(clip_pcm(), CHUNK_BYTES)
    offsets = [i * len(frames) // N_OFFSETS for i in range(N_OFFSETS)]
    seen: list[Minute] = []
    with local_server(UNREFUSING) as server:
        fleet = Fleet(server.url, "sample_rate=16000", frames, offsets)
        try:
            print("| minute | MB | CPU ms a stream-second |\n| --- | --- | --- |")
            for minute in range(1, options.minutes + 1):
                fleet.open(options.streams - len(fleet.streams))
                cpu_s, begin_s = tree_cpu_s(server.pid), time.monotonic()
                fleet.play(MINUTE_S)
                cpu_s, took_s = tree_cpu_s(server.pid) - cpu_s, time.monotonic() - begin_s
                cpu_ms = 1000 * cpu_s / took_s / options.streams
                seen.append(Minute(minute, tree_memory_mb(server.pid, "Pss_Anon"), cpu_ms))
                print(f"| {minute} | {seen[-1].memory_mb:.1f} | {cpu_ms:.2f} |", flush=True)
                fleet.drop(options.streams // 4)
        finally:
            fleet.close()
    print(f"second half: {slope_kb_h(seen[len(seen) // 2 :]):+.0f} kB an hour")
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(minute) for minute in seen], indent=2) + "\n")


def slope_kb_h(minutes: list[Minute]) -> float:
    """Of a line by least squares; 0 for a single minute."""
    if len(minutes) < 2:
        return 0.0
    at = np.array([minute.minute for minute in minutes]) / 60
    kb = 1000 * np.array([minute.memory_mb for minute in minutes])
    return float(np.polyfit(at, kb, 1)[0])


if __name__ == "__main__":
    main()
