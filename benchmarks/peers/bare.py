"""CPU time of work that no server stands around: one window after the other, as JSON.

What a stream would cost at least if this were all that was done for it.
"""

import json
import resource
import time
from collections.abc import Callable

from benchmarks.peers.window import samples_of
from benchmarks.streams import clip_pcm
from ser_core.features import Float32
from ser_core.segments import SegmentSpec

_N_WARM = 2


def clip_windows() -> list[Float32]:
    """The demo clip's windows, every 0.4 s, float32 `(n_samples,)` each."""
    samples = samples_of(clip_pcm())
    size, hop = SegmentSpec.segment_samples, SegmentSpec.hop_samples
    return [samples[at : at + size] for at in range(0, len(samples) - size, hop)]


def measure(work: Callable[[Float32], object], at_least_s: float = 4.0) -> None:
    """Prints `cpu_ms` a window, all threads, `took_ms` of each, and the process's `memory_mb`."""
    windows = clip_windows()
    for window in windows[:_N_WARM]:
        work(window)
    took_ms: list[float] = []
    began_cpu_s, began_s = time.process_time(), time.monotonic()
    while time.monotonic() - began_s < at_least_s or len(took_ms) < 3:
        one_s = time.monotonic()
        work(windows[len(took_ms) % len(windows)])
        took_ms.append(1000 * (time.monotonic() - one_s))
    cpu_ms = 1000 * (time.process_time() - began_cpu_s) / len(took_ms)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"cpu_ms": cpu_ms, "memory_mb": memory_mb, "took_ms": took_ms}))
