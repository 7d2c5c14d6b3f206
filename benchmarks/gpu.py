"""What a GPU scores: segments a second by batch, streams at a lag, and the raw session beside it.

    python benchmarks/gpu.py [MODEL.onnx ...] [--graphs]

Exit status 3, and a line that says so, where CUDA cannot be used: nothing was measured then.

*raw* is the session alone, on inputs that already lie in the GPU's memory; *service* is what the
service does with them: copies to the GPU, buffers by batch size, logits back. *streams* is how many
real-time streams (2.5 segments a second each) the network alone could serve at that batch, where
two batches, the one that runs and one's own, fit into the lag; the CPU's share, receiving and
features, is not in it: `glrf bench` has that. `--device cpu` runs the script on the CPU, to try it.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from glrf.training import shipped_model
from ser_core.errors import DeviceUnavailable
from ser_core.features import Float32
from ser_core.model_file import INPUT_NAME, OUTPUT_NAME
from service.inference.onnx import CPU, CUDA, OnnxBackend

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SEGMENTS_A_SECOND = 2.5
#: A stream's lag at the 99th percentile that is aimed at.
LAG_S = 0.2
N_RUNS = 200
NOT_RUN = 3


def main() -> int:
    """Prints a table a model as Markdown; the exit status."""
    parser = argparse.ArgumentParser(description="Segments a second on a GPU.")
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--graphs", action="store_true", help="replay CUDA graphs")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--runs", type=int, default=N_RUNS, help="of each batch")
    given = parser.parse_args()
    for path in given.models or [shipped_model()]:
        try:
            backend = OnnxBackend.load(
                path, given.device, max_batch=BATCHES[-1], cuda_graphs=given.graphs
            )
        except DeviceUnavailable as error:
            print(f"Did not run, nothing was measured: {error}", file=sys.stderr)
            return NOT_RUN
        print(f"{path.name}, {backend.spec.precision}, {backend.device}\n")
        print("| batch | segments a second | p99 ms a batch | share of raw | streams |")
        print("| --- | --- | --- | --- | --- |")
        for batch in BATCHES:
            print(row(backend, path, batch, given.runs))
        print()
    return 0


def row(backend: OnnxBackend, path: Path, batch: int, n_runs: int) -> str:
    """One line of the table; the two are timed in turns, so that a GPU's clock hits both."""
    spec = backend.spec
    shape = (batch, spec.n_frames, spec.features.n_mfcc)
    features = np.random.default_rng(0).normal(0, 20, shape).astype(np.float32)
    raw = on_device(path, features, backend.device, len(spec.labels))
    ours_s, raw_s = [], []
    for _ in range(n_runs):
        ours_s.append(timed(lambda: backend.score(features)))
        raw_s.append(timed(raw))
    run_s, p99_s = float(np.median(ours_s)), float(np.quantile(ours_s, 0.99))
    streams = f"{batch / run_s / SEGMENTS_A_SECOND:.0f}" if 2 * p99_s <= LAG_S else "too late"
    share = float(np.median(raw_s)) / run_s
    return f"| {batch} | {batch / run_s:.0f} | {1e3 * p99_s:.2f} | {share:.0%} | {streams} |"


def on_device(path: Path, features: Float32, device: str, n_labels: int) -> Callable[[], None]:
    """The bare session on features that lie on the device, logits left there."""
    providers = [CUDA, CPU] if device == "cuda" else [CPU]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    value = onnxruntime.OrtValue
    binding = session.io_binding()
    binding.bind_ortvalue_input(INPUT_NAME, value.ortvalue_from_numpy(features, device, 0))
    logits = value.ortvalue_from_shape_and_type([len(features), n_labels], np.float32, device, 0)
    binding.bind_ortvalue_output(OUTPUT_NAME, logits)
    session.run_with_iobinding(binding)
    return lambda: session.run_with_iobinding(binding)


def timed(work: Callable[[], object]) -> float:
    """Seconds on the wall."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


if __name__ == "__main__":
    sys.exit(main())
