"""What a segment costs in each precision, by batch and threads, and how far each moves from fp32.

    python benchmarks/precision.py MODEL.onnx [OTHER.onnx ...] --manifest manifest.csv --data DATA

The first file is fp32. From it int8 is made here, of the convolutions and of convolutions and
matrix products, with scales of the manifest's first recordings drawn; the other files are taken as
they are. All run on the CPU on the same real segments, one after the other in each round, so that
what else the machine does hits all of them; a figure is the median of the rounds, a ratio the
median of the rounds' ratios. UA is of recordings that the scales do not come from.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from model_export.corpora import Recording, read_manifest
from model_export.export import features_of
from model_export.onnx_model import Network, OnnxModel
from model_export.precision import N_CALIBRATION, compare, quantise
from ser_core.features import Float32
from ser_core.model_file import ModelSpec

BATCHES = (1, 2, 4, 8, 16, 32)
THREADS = (1, 2)
N_ROUNDS = 25
#: Segments that a network scores before the next has its turn.
N_SEGMENTS = 32


def main() -> None:
    """Prints both tables as Markdown."""
    parser = argparse.ArgumentParser(description="Precisions of a model on the CPU.")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--compared", type=int, default=400, help="recordings")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    given = parser.parse_args()
    plain, *others = given.models
    spec = OnnxModel(plain).spec
    recordings = read_manifest(given.manifest, given.data, spec.labels)
    order = np.random.default_rng(0).permutation(len(recordings))
    drawn = [recordings[i] for i in order]
    segments, n_used = calibration(drawn, spec)
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "fp32": plain,
            "int8": Path(folder) / "c",
            "int8, products too": Path(folder) / "m",
        }
        quantise(plain, files["int8"], segments)
        quantise(plain, files["int8, products too"], segments, ("Conv", "MatMul"))
        files |= {OnnxModel(path).spec.precision + f" ({path.name})": path for path in others}
        moves(files, drawn[n_used : n_used + given.compared], spec)
        costs(files, segments, given.rounds)


def calibration(drawn: list[Recording], spec: ModelSpec) -> tuple[Float32, int]:
    """Segments `(n, n_frames, n_mfcc)`, and how many recordings they are of."""
    parts: list[Float32] = []
    while sum(map(len, parts)) < N_CALIBRATION and len(parts) < len(drawn) // 2:
        parts.append(features_of(drawn[len(parts)], spec))
    return np.concatenate(parts)[:N_CALIBRATION], len(parts)


def moves(files: dict[str, Path], recordings: list[Recording], spec: ModelSpec) -> None:
    """How far each is from the first."""
    print("| precision | file | largest move of a logit | largest move of UA in a corpus |")
    print("| --- | --- | --- | --- |")
    plain, *others = files
    before = Network(files[plain])
    for name in others:
        found = compare(before.run, Network(files[name]).run, recordings, spec)
        size_mb = files[name].stat().st_size / 1e6
        print(
            f"| {name} | {size_mb:.2f} MB | {found.logits_moved:.2f} | {100 * found.ua_moved:.2f} |"
        )
    print()


def costs(files: dict[str, Path], segments: Float32, n_rounds: int) -> None:
    """Time of a segment on the wall and CPU, and both as a share of the first's in one thread."""
    print(
        "| precision | threads | batch | ms a segment | CPU ms a segment | time, fp32 on one = 1 |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    networks = {(name, n): Network(path, n) for name, path in files.items() for n in THREADS}
    for batch in BATCHES:
        feeds = [segments[start : start + batch] for start in range(0, N_SEGMENTS, batch)]
        wall_ms: dict[tuple[str, int], list[float]] = {key: [] for key in networks}
        cpu_ms: dict[tuple[str, int], list[float]] = {key: [] for key in networks}
        for _ in range(n_rounds + 1):
            for key, network in networks.items():
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                for features in feeds:
                    network.run(features)
                wall_ms[key].append((time.perf_counter() - began_s) * 1e3 / N_SEGMENTS)
                cpu_ms[key].append((time.process_time() - began_cpu_s) * 1e3 / N_SEGMENTS)
        plain = np.array(wall_ms["fp32", 1][1:])  # the first round plans memory
        for name, n_threads in networks:
            wall, cpu = (np.array(ms[name, n_threads][1:]) for ms in (wall_ms, cpu_ms))
            print(
                f"| {name} | {n_threads} | {batch} | {np.median(wall):.3f} | {np.median(cpu):.3f} "
                f"| {np.median(wall / plain):.2f} |"
            )


if __name__ == "__main__":
    main()
