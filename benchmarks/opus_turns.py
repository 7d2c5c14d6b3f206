"""How soon a new Opus decoder agrees with one that heard the stream from its beginning.

    python benchmarks/opus_turns.py [--audio SPEECH.wav ...]

An Opus stream goes on elsewhere with a new decoder, which hears a warm-up first (ADR 13). Here each
recording (the demo clip, unless others are named) is encoded as in-car clients might, at 16, 24 and
32 kbit/s, each with and without DTX and FEC, and decoded in one go. Then a new decoder is begun at
every `STEP`th packet, and what it makes of the 0.4 s after each warm-up is held against that:
median, 99th percentile and largest of the RMS of the difference, in dB below the speech's RMS.
-120 is equal in all 16 bits. Last, the whole stream by decoders that take turns, as the service has
it, goes through the service's pipeline and model, and is held against the stream decoded in one go:
the largest difference of a segment's score, and how many smoothed labels differ.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import av
import numpy as np
import soundfile as sf
import soxr

from ser_core import opus
from ser_core.events import Segment
from ser_core.features import Float32
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from service.inference.onnx import OnnxBackend
from service.settings import SHIPPED_MODELS

RATE_HZ = opus.RATE_HZ
CLIP = Path(__file__).parents[1] / "glrf" / "demo" / "clip.flac"
WARM_UPS_MS = (0, 80, 160, 320, 500, 1000)
#: A new decoder is begun at every so many packets.
STEP = 7
HEARD_S = 0.4
BIT_RATES = ("16000", "24000", "32000")
EXTRAS: tuple[dict[str, str], ...] = ({}, {"dtx": "1", "fec": "1", "packet_loss": "10"})


@dataclass
class Figures:
    """Of one way of encoding, over all recordings."""

    differences_db: dict[int, list[float]] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    n_other_labels: int = 0

    def row(self) -> str:
        """Cells of a Markdown table."""
        cells = []
        for warm_up_ms in WARM_UPS_MS:
            values = np.array(self.differences_db[warm_up_ms])
            cells.append(" / ".join(f"{v:.0f}" for v in np.percentile(values, (50, 99, 100))))
        cells.append(f"{np.max(self.scores):.4f}")
        cells.append(f"{self.n_other_labels} of {len(self.scores)}")
        return " | ".join(cells)


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description="How soon a new Opus decoder agrees.")
    parser.add_argument("--audio", type=Path, nargs="*", default=[CLIP])
    recordings = [speech(path) for path in parser.parse_args().audio]
    backend = OnnxBackend.load(next(iter(SHIPPED_MODELS.glob("*.onnx"))), "cpu")
    heads = ["encoding", *(f"{ms} ms" for ms in WARM_UPS_MS), "largest score's", "other labels"]
    print("|", " | ".join(heads), "|")
    print("|", " | ".join("---" for _ in heads), "|")
    for n_channels, application, packet_ms in product((1, 2), ("voip", "audio"), ("20", "60")):
        figures = Figures({ms: [] for ms in WARM_UPS_MS})
        for samples, bit_rate, extra in product(recordings, BIT_RATES, EXTRAS):
            options = {"b": bit_rate, "application": application, "frame_duration": packet_ms}
            packets = encoded(samples, n_channels, {**options, **extra})
            measure(figures, packets, n_channels)
            compare(figures, backend, packets, n_channels)
        name = f"{('mono', 'stereo')[n_channels - 1]}, {application}, {packet_ms} ms"
        print(f"| {name} | {figures.row()} |", flush=True)


def speech(path: Path) -> Float32:
    """A recording at 48 kHz, float32 `(n,)`."""
    with sf.SoundFile(path) as file:
        samples = np.asarray(file.read(dtype="float32", always_2d=True)[:, 0], np.float32)
        return soxr.resample(samples, file.samplerate, RATE_HZ)


def encoded(samples: Float32, n_channels: int, options: dict[str, str]) -> list[bytes]:
    """Packets of libopus; of two channels the second says the same later and lower."""
    layout = "mono" if n_channels == 1 else "stereo"
    if n_channels == 2:
        samples = np.stack((samples, np.roll(samples, RATE_HZ) / np.float32(2)), axis=1)
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = RATE_HZ, layout, "flt"  # type: ignore[attr-defined]
    codec.options = options
    n_packet = int(options["frame_duration"]) * RATE_HZ // 1000
    packets: list[bytes] = []
    for start in range(0, len(samples) - n_packet + 1, n_packet):
        block = np.ascontiguousarray(samples[start : start + n_packet].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, "flt", layout)
        frame.sample_rate, frame.pts = RATE_HZ, start
        packets += [bytes(packet) for packet in codec.encode(frame)]  # type: ignore[attr-defined]
    return packets


def decoded(packets: Sequence[bytes], n_channels: int) -> Float32:
    """By one decoder, float32 `(n, n_channels)`."""
    decoder = opus.PacketDecoder(n_channels)
    return np.concatenate([decoder.accept(packet) for packet in packets])


def measure(figures: Figures, packets: list[bytes], n_channels: int) -> None:
    """Adds the differences of decoders that begin inside the stream."""
    whole = decoded(packets, n_channels)
    loud = whole[np.abs(whole).max(axis=1) > 1e-3]
    level = np.sqrt(np.mean(loud**2))
    n_packet = opus.packet_samples(packets[0])
    n_heard = int(HEARD_S * RATE_HZ)
    n_needed = (max(WARM_UPS_MS) * RATE_HZ // 1000 + n_heard) // n_packet + 1
    for first in range(STEP, len(packets) - n_needed, STEP):
        ours = decoded(packets[first : first + n_needed], n_channels)
        theirs = whole[first * n_packet :][: len(ours)]
        for warm_up_ms in WARM_UPS_MS:
            start = warm_up_ms * RATE_HZ // 1000
            heard = slice(start, start + n_heard)
            error = np.sqrt(np.mean((ours[heard] - theirs[heard]) ** 2))
            figures.differences_db[warm_up_ms].append(20 * np.log10(error / level + 1e-6))


def compare(figures: Figures, backend: OnnxBackend, packets: list[bytes], n_channels: int) -> None:
    """Adds the differences of scores between the service's decoder and one in one go."""
    decoder = opus.OpusDecoder(n_channels)
    in_turns = np.concatenate([decoder.accept(packet) for packet in packets])
    ours, theirs = (
        list(segments(backend, samples)) for samples in (in_turns, decoded(packets, n_channels))
    )
    for one, other in zip(ours, theirs, strict=True):
        figures.scores.append(
            max(abs(one.scores[name] - other.scores[name]) for name in one.scores)
        )
        figures.n_other_labels += one.smoothed.label != other.smoothed.label


def segments(backend: OnnxBackend, samples: Float32) -> Iterator[Segment]:
    """What the service tells of decoded samples."""
    config = StreamConfig(
        encoding="opus", sample_rate_hz=RATE_HZ, n_channels=samples.shape[1], endpointing="vad"
    )
    session = StreamSession(backend.spec, config)
    session.receive_samples(samples)
    session.close()
    for request in session.segments_to_score():
        session.receive_logits(request.id, backend.score(request.features[None])[0])
    return (event for event in session.events() if isinstance(event, Segment))


if __name__ == "__main__":
    main()
