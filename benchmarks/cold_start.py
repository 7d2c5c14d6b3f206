"""How long a start takes: `glrf serve` until it is ready, `glrf analyze` from its start to its end.

    python -m benchmarks.cold_start

Medians of several runs, each a process of its own with its files in the page cache, the two in
turn. *Ready* is the first 200 of `/readyz`, asked for every few milliseconds. CPU seconds (of all
threads, of the process alone) move less than the clock where others use the machine too.
"""

import argparse
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile as sf

from benchmarks.processes import process_cpu_s
from glrf.demonstration import FOLDER
from glrf.local_server import free_port

GLRF = [sys.executable, "-m", "glrf"]
FILE_S = 60
POLL_S = 0.005
TIMEOUT_S = 120.0


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description="Time from a command to what it is for.")
    parser.add_argument("--runs", type=int, default=5)
    n_runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "minute.flac"
        write_minute(file)
        todo = {
            "glrf serve, to ready (no jobs)": lambda: serve_to_ready(folder, 0),
            "glrf serve, to ready (with a worker of jobs)": lambda: serve_to_ready(folder, 1),
            f"glrf analyze, {FILE_S} s of audio": lambda: analyze(file),
        }
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in todo}
        for run in range(n_runs + 1):
            for name, measure in todo.items():
                figures = measure()
                if run:  # the first one finds nothing in the page cache
                    seen[name].append(figures)
    print("| command | seconds | CPU seconds |\n| --- | --- | --- |")
    for name, figures in seen.items():
        wall_s, cpu_s = (sorted(column) for column in zip(*figures, strict=True))
        print(
            f"| {name} | {median(wall_s):.2f} ({wall_s[0]:.2f} to {wall_s[-1]:.2f}) "
            f"| {median(cpu_s):.2f} ({cpu_s[0]:.2f} to {cpu_s[-1]:.2f}) |"
        )


def write_minute(path: Path) -> None:
    """The demo clip, again and again, for `FILE_S`."""
    clip, rate_hz = sf.read(FOLDER / "clip.flac", dtype="float32", always_2d=True)
    n_samples = FILE_S * rate_hz
    sf.write(path, np.tile(clip, (n_samples // len(clip) + 1, 1))[:n_samples], rate_hz)


def serve_to_ready(folder: str, n_workers: int) -> tuple[float, float]:
    """Seconds on the clock and CPU seconds until `/readyz` says so."""
    port = free_port()
    jobs = {"GLRF_JOBS_WORKERS": str(n_workers), "GLRF_JOBS_DIR": f"{folder}/jobs"}
    began_s = time.perf_counter()
    process = subprocess.Popen(
        [*GLRF, "serve", "--device", "cpu", "--port", str(port)],
        env=os.environ | jobs,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not is_ready(port):
            if process.poll() is not None or time.perf_counter() - began_s > TIMEOUT_S:
                raise SystemExit("glrf serve did not become ready; start it by hand to see why")
            time.sleep(POLL_S)
        return time.perf_counter() - began_s, process_cpu_s(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def is_ready(port: int) -> bool:
    """Whether a server at the port answers `/readyz` with 200."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
    return False


def analyze(file: Path) -> tuple[float, float]:
    """Seconds on the clock and CPU seconds of the whole process."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        [*GLRF, "analyze", str(file), "--device", "cpu", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    took_s = time.perf_counter() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("glrf analyze failed; run it by hand to see why")
    return took_s, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
