"""A guard against slow code: how many instructions the steps of a stream take, counted by valgrind.

    python benchmarks/instructions.py               # compare with benchmarks/instructions.json
    python benchmarks/instructions.py --record      # after a change that is meant

Times say little on a busy machine; counts of instructions are the same within one percent mostly,
within three and a half always so far (memory lies elsewhere each time). Each step runs N times,
then 2N times, in one process under callgrind, on fixed input: the difference is that of N
repetitions alone. Valgrind shows programs one kind of processor (AVX2, no AVX-512), so the counts
are the same on different machines of that kind; they are those of one Python, one model and of
the pinned libraries, and are compared with no others.
"""

import argparse
import ctypes
import gc
import json
import mmap
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from glrf.demonstration import FOLDER
from glrf.training import shipped_model
from ser_core.containers import open_audio
from ser_core.events import Segment
from ser_core.features import mfcc
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from service import wire
from service.inference.onnx import OnnxBackend

RECORD = Path(__file__).with_suffix(".json")
#: How many more than recorded are a failure; as many fewer, a reason to record anew.
ALLOWED = 0.05
RATE_HZ = 16_000
CHUNK_BYTES = 2 * RATE_HZ // 10
STREAM_S = 4
BATCH = 8
PINNED = ("numpy", "onnxruntime", "pydantic", "soxr")

#: Callgrind's client requests (callgrind.h): what the counted process asks of it.
_DUMP_AT, _START, _STOP, _ZERO = (0x43540000 + number for number in (3, 4, 5, 1))
#: `VALGRIND_DO_CLIENT_REQUEST` of valgrind.h as a function of x86-64: rotations of rdi that come
#: to nothing, and an exchange that valgrind takes for a call. Elsewhere it does nothing.
_REQUEST = bytes.fromhex("4889f831d248c1c70348c1c70d48c1c73d48c1c7334887db4889d0c3")


def main() -> int:
    """The exit status: 1 where a step takes too many instructions."""
    parser = argparse.ArgumentParser(description="Instructions of a stream's steps.")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        run_steps(Callgrind())
        return 0
    missing = what_is_missing()
    if missing is not None:
        print(f"The guard did NOT run: {missing}.", file=sys.stderr)
        return int(given.record)
    if given.record:
        counts = counted()
        RECORD.write_text(json.dumps({"made_with": made_with(), "steps": counts}, indent=2) + "\n")
        print(*(f"{step}: {n:,} instructions" for step, n in counts.items()), sep="\n")
        return 0
    recorded = json.loads(RECORD.read_text())
    differing = differences(recorded["made_with"], made_with())
    if differing:
        print(f"The guard did NOT run: {differing}.", file=sys.stderr)
        return 0
    counts = counted()
    lines, is_good = compared(recorded["steps"], counts)
    print(*lines, sep="\n")
    return int(not is_good)


def what_is_missing() -> str | None:
    """Why nothing can be counted here."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return "the counts are those of x86-64 under Linux"
    if shutil.which("valgrind") is None:
        return "there is no valgrind; apt-get install valgrind"
    return None


def made_with() -> dict[str, str]:
    """What the counts depend on besides our own code."""
    return {
        "python": "{}.{}".format(*sys.version_info[:2]),
        "model": shipped_model().name,
        **{name: version(name) for name in PINNED},
    }


def differences(recorded: dict[str, str], here: dict[str, str]) -> str:
    """What is another here than where the counts were recorded; empty where nothing is."""
    return ", ".join(
        f"the counts are those of {name} {recorded.get(name)}, and this is {value}"
        for name, value in here.items()
        if recorded.get(name) != value
    )


def compared(recorded: dict[str, int], counts: dict[str, int]) -> tuple[list[str], bool]:
    """A line a step, and whether none takes more than `ALLOWED` more than recorded."""
    lines, is_good = [], recorded.keys() == counts.keys()
    for step, n in counts.items():
        change = n / recorded.get(step, n) - 1
        verdict = "ok"
        if change > ALLOWED:
            verdict, is_good = "TOO MANY; if that is meant, record anew", False
        elif change < -ALLOWED:
            verdict = "fewer: record anew, so that it stays so"
        lines.append(f"{step}: {n:,} instructions, {change:+.2%} ({verdict})")
    if recorded.keys() != counts.keys():
        lines.append("the steps are not those recorded: record anew")
    return lines, is_good


def counted() -> dict[str, int]:
    """Instructions of one repetition of each step, from a process of its own under callgrind."""
    kept = ("PATH", "PYTHONPATH", "HOME", "LANG")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    fixed = {
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENBLAS_CORETYPE": "Haswell",
        # Copies by the one instruction that repeats itself count each repetition.
        "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1000000000:"
        "glibc.cpu.x86_rep_stosb_threshold=1000000000",
    }
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "-q"]
        out = f"--callgrind-out-file={folder}/counts"
        subprocess.run(
            [*command, out, sys.executable, __file__, "--inside"],
            env=environment | fixed,
            check=True,
        )
        dumps = [path.read_text() for path in Path(folder).iterdir()]
    totals: dict[str, dict[int, int]] = {}
    for dump in dumps:
        mark = re.search(r"^desc: Trigger: Client Request: (\w+) (\d+)$", dump, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)$", dump, re.MULTILINE)
        if mark and total:
            totals.setdefault(mark[1], {})[int(mark[2])] = int(total[1])
    counts: dict[str, int] = {}
    for step in STEPS:
        (n, once), (_, twice) = sorted(totals[step].items())
        counts[step] = round((twice - once) / n)
    return counts


class Callgrind:
    """Requests to the callgrind that this process runs under."""

    def __init__(self) -> None:
        self._page = mmap.mmap(
            -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        self._page.write(_REQUEST)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._function = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)(address)

    def _ask(self, request: int, text: bytes = b"") -> None:
        buffer = ctypes.create_string_buffer(text)
        words = (ctypes.c_size_t * 6)(request, ctypes.addressof(buffer))
        self._function(ctypes.addressof(words))

    def count(self, step: str, work: Callable[[], object], n: int) -> None:
        """Counts `n` repetitions, as `step n`."""
        self._ask(_START)
        self._ask(_ZERO)
        for _ in range(n):
            work()
        self._ask(_DUMP_AT, f"{step} {n}".encode())
        self._ask(_STOP)


def run_steps(callgrind: Callgrind) -> None:
    """All steps, each N times and 2N times."""
    backend = OnnxBackend.load(shipped_model(), "cpu", max_batch=BATCH)
    gc.collect()
    gc.disable()
    for step, (make, n) in STEPS.items():
        work = make(backend)
        for _ in range(3):
            work()  # what the first times need besides is no part of the step
        callgrind.count(step, work, n)
        callgrind.count(step, work, 2 * n)


def features_step(backend: OnnxBackend) -> Callable[[], object]:
    """MFCC of one hop."""
    spec = backend.spec
    overlap = spec.features.frame_samples - spec.features.hop_samples
    n_samples = spec.segments.hop_samples + overlap
    samples = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    return lambda: mfcc(samples, spec.features)


def session_step(backend: OnnxBackend) -> Callable[[], object]:
    """A stream of `STREAM_S` in chunks of 100 ms, but for its network."""
    pcm = _pcm()
    chunks = [pcm[start : start + CHUNK_BYTES] for start in range(0, len(pcm), CHUNK_BYTES)]
    logits = np.random.default_rng(0).normal(0, 2, len(backend.spec.labels)).astype(np.float32)

    def work() -> list[object]:
        session = StreamSession(backend.spec, StreamConfig(), checkpoints=True)
        told: list[object] = []
        for chunk in chunks:
            session.receive_audio(chunk)
            for request in session.segments_to_score():
                session.receive_logits(request.id, logits)
            told += session.events()
        return told

    return work


def batch_step(backend: OnnxBackend) -> Callable[[], object]:
    """The network on a batch of `BATCH` segments."""
    rows = [backend.spec.self_test_features()[0]] * BATCH
    return lambda: backend.score(np.stack(rows))


def message_step(backend: OnnxBackend) -> Callable[[], object]:
    """A segment as the bytes that travel."""
    told = session_step(backend)()
    assert isinstance(told, list)
    segment = next(event for event in told if isinstance(event, Segment))
    narrator = wire.Narrator(backend.spec, (wire.Role("mono"),))

    def work() -> bytes:
        fields = {"seq": 1, "session_id": "0" * 32, "lag_ms": 4, **narrator.segment(segment)}
        return wire.SegmentMessage.model_validate(fields).model_dump_json().encode()

    return work


#: How each step is made, and N: some ten million instructions each, which take seconds.
STEPS: dict[str, tuple[Callable[[OnnxBackend], Callable[[], object]], int]] = {
    "features": (features_step, 15),
    "session": (session_step, 2),
    "batch": (batch_step, 3),
    "message": (message_step, 150),
}


def _pcm() -> bytes:
    """The first seconds of the demo clip, pcm_s16le."""
    with open_audio(FOLDER / "clip.flac") as source:
        clip = next(iter(source.blocks(STREAM_S * RATE_HZ)))[:, 0]
    return (clip * 32767).astype("<i2").tobytes()


if __name__ == "__main__":
    sys.exit(main())
