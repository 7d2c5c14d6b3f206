"""What a very long recording takes: memory of all the service's processes, and time.

    python -m benchmarks.long_file --hours 10

A call of two channels, mu-law at 8 kHz, in which two synthetic voices take turns, with pauses, is
made while it is sent to a real server (`POST /v1/files`, answered in lines), which is watched
meanwhile: the resident memory of the server, its fork server and the decoder, summed, which counts
what they share several times over, and their proportional share (PSS), which counts it once.
"""

import argparse
import contextlib
import io
import json
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import numpy as np
import soundfile as sf

from benchmarks.processes import family, memory_kib, process_cpu_s
from glrf.local_server import local_server
from ser_core.features import Float32

RATE_HZ = 8_000
#: The call repeats itself after so long.
PERIOD_S = 600
SEND_BYTES = 2**16
WATCH_S = 0.25


def main() -> None:
    """Prints the figures as one row of a Markdown table."""
    parser = argparse.ArgumentParser(description="Memory and time of one very long file.")
    parser.add_argument("--hours", type=float, default=10.0)
    hours = parser.parse_args().hours
    n_samples = round(hours * 3600 * RATE_HZ)
    settings = {
        "GLRF_MAX_FILE_BYTES": str(2 * n_samples + 1000),
        "GLRF_MAX_FILE_S": str(hours * 3600 + 1),
        "GLRF_UPLOAD_TIMEOUT_S": "3600",
    }
    with local_server(settings) as server, Watch(server.pid) as watch:
        idle, idle_cpu_s = watch.latest, watch.cpu_s
        sent_s: list[float] = []
        lines, duration_ms, sound = score(server.url, n_samples, sent_s)
        took_s = time.perf_counter() - sent_s[0]
    assert duration_ms == round(hours * 3_600_000), duration_ms
    early, late = watch.half_way()
    cpu_s = watch.cpu_s - idle_cpu_s
    print(
        "| hours | lines | idle RSS / PSS MB | peak RSS / PSS MB | first half's peak PSS | second's"
        " | seconds | real-time factor | CPU seconds |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| {hours:g} | {sum(lines.values())} ({', '.join(f'{n} {k}' for k, n in lines.items())}) "
        f"| {idle[0]:.0f} / {idle[1]:.0f} | {watch.peak[0]:.0f} / {watch.peak[1]:.0f} "
        f"| {early:.0f} | {late:.0f} | {took_s:.0f} | {took_s / (hours * 3600):.4f} "
        f"({hours * 3600 / took_s:.0f} times faster) "
        f"| {cpu_s:.0f} ({hours * 3600 / cpu_s:.0f} times faster) |\n\n{sound}"
    )


def score(url: str, n_samples: int, sent_s: list[float]) -> tuple[Counter[str], int, str]:
    """Lines by type, the length that the summary tells, and what it says of the channels.

    `sent_s` gets the clock at the end of the upload.
    """

    def body() -> Iterator[bytes]:
        yield from call(n_samples)
        sent_s.append(time.perf_counter())

    lines: Counter[str] = Counter()
    headers = {"Accept": "application/x-ndjson"}
    with (
        httpx.Client(trust_env=False, timeout=600) as client,
        client.stream("POST", f"{url}/v1/files", content=body(), headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        last: dict[str, object] = {}
        for line in answer.iter_lines():
            last = json.loads(line)
            lines[str(last["type"])] += 1
    assert last["type"] == "summary", last
    duration_ms = last["duration_ms"]
    assert isinstance(duration_ms, int)
    return lines, duration_ms, f"channels: {json.dumps(last['channels'])}"


def call(n_samples: int) -> Iterator[bytes]:
    """A stereo mu-law WAV of `n_samples` samples a channel."""
    period = turns()
    n_bytes = 2 * n_samples
    fmt = struct.pack("<HHIIHH", 7, 2, RATE_HZ, 2 * RATE_HZ, 2, 8)
    yield b"RIFF" + struct.pack("<I", 36 + n_bytes) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    yield b"data" + struct.pack("<I", n_bytes)
    for start in range(0, n_bytes, len(period)):
        piece = period[: min(len(period), n_bytes - start)]
        for at in range(0, len(piece), SEND_BYTES):
            yield piece[at : at + SEND_BYTES]


def turns() -> bytes:
    """One period of the call, in mu-law, interleaved."""
    draw = np.random.default_rng(5)
    samples = draw.normal(0, 0.0005, (PERIOD_S * RATE_HZ, 2)).astype(np.float32)
    position, speaker = 0, 0
    while position < len(samples):
        n_speech = int(draw.uniform(1.5, 7) * RATE_HZ)
        spoken = voice(n_speech, draw.uniform(100, 130) + 90 * speaker, draw)
        room = samples[position : position + n_speech, speaker]
        room += spoken[: len(room)]
        position += n_speech + int(draw.uniform(0.2, 4) * RATE_HZ)
        speaker = 1 - speaker
    file = io.BytesIO()
    sf.write(file, samples, RATE_HZ, format="RAW", subtype="ULAW")
    return file.getvalue()


def voice(n_samples: int, pitch_hz: float, draw: np.random.Generator) -> Float32:
    """Harmonics of a pitch that moves, four syllables a second."""
    time_s = np.arange(n_samples) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.1 * np.sin(5 * time_s))) / RATE_HZ
    tone = sum(np.sin(n * phase) / n for n in range(1, int(3400 / pitch_hz / 1.1)))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time_s + draw.uniform(0, 6))
    return (0.15 * tone * syllables).astype(np.float32)


class Watch:
    """Resident and proportional memory, in MB, of a process and all that it started."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: list[tuple[float, float]] = []
        self._cpu_s: dict[int, float] = {}

    def __enter__(self) -> "Watch":
        self.seen.append(self._now())
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def latest(self) -> tuple[float, float]:
        """RSS and PSS at the last look."""
        return self.seen[-1]

    @property
    def peak(self) -> tuple[float, float]:
        """The most of each."""
        return max(rss for rss, _ in self.seen), max(pss for _, pss in self.seen)

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far, of processes that have ended too."""
        return sum(self._cpu_s.values())

    def half_way(self) -> tuple[float, float]:
        """The most of PSS before and after half the time."""
        middle = len(self.seen) // 2
        early, late = self.seen[:middle], self.seen[middle:]
        return max(pss for _, pss in early), max(pss for _, pss in late)

    def _watch(self) -> None:
        while not self._stopped.wait(WATCH_S):
            self.seen.append(self._now())

    def _now(self) -> tuple[float, float]:
        rss_kib = pss_kib = 0
        for pid in family(self._pid):
            with contextlib.suppress(OSError):  # it may have ended
                self._cpu_s[pid] = process_cpu_s(pid)
                kib = memory_kib(pid)
                rss_kib, pss_kib = rss_kib + kib["Rss"], pss_kib + kib["Pss"]
        return rss_kib * 1024 / 1e6, pss_kib * 1024 / 1e6


if __name__ == "__main__":
    main()
