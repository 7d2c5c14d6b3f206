"""Random frames and messages against the application, without a socket.

    python -m tests.service.protocol_fuzz [N_FRAMES] [SEED]

Each stream gets up to 40 frames: audio of any length, text that is nearly right, and nonsense.
Every stream must be answered in the contract's words: a known close code, no internal error, and
a good stream right afterwards must be served as ever. The tests run a smaller count.
"""

import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from service import wire
from service.settings import Settings
from tests.service.asgi_stream import Application, AsgiStream
from tests.synthetic import write_model

#: What may end a stream that was admitted, and statuses of those that were not.
CLOSE_CODES = frozenset({1000, 1009, 4400, 4415})
STATUSES = frozenset({400})
_FRAMES_PER_STREAM = 40
_WORDS = (
    "type", "flush", "update", "keepalive", "close", "smoothing", "mean", "endpointing", "manual",
    "off", "thresholds", "angry", "resume", "", "\0", "\ud83d\ude00", "x" * 500,
)  # fmt: skip
_QUERIES = (
    "", "encoding=pcm_f32le&channels=2", "encoding=mulaw&sample_rate=8000", "endpointing=off",
    "roles=a,b:off&channels=2", "sample_rate=44100&partial=false", "start_offset_ms=5",
)  # fmt: skip


@dataclass
class Outcome:
    """What became of the frames."""

    n_frames: int = 0
    n_streams: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0


def fuzz(application: Application, n_frames: int, seed: int) -> Outcome:
    """Goes on until that many frames were taken.

    Raises `AssertionError` at the first answer that is not the contract's.
    """
    chance, outcome = random.Random(seed), Outcome()
    began_s = time.monotonic()
    while outcome.n_frames < n_frames:
        query = _query(chance)
        frames = [_frame(chance) for _ in range(chance.randint(1, _FRAMES_PER_STREAM))]
        stream = application.run(_play(application, query, frames, chance.random() < 0.5))
        outcome.n_streams += 1
        # Frames behind the one that ended the stream were never looked at.
        outcome.n_frames += max(0, len(frames) - stream.n_untaken)
        told = [message for message in stream.messages if message["type"] == "error"]
        context = (seed, outcome.n_streams, query, stream.close_code, told[-1:])
        if stream.refused_status is not None:
            assert stream.refused_status in STATUSES, context
            outcome.ends[f"HTTP {stream.refused_status}"] += 1
            continue
        assert stream.close_code is None or stream.close_code in CLOSE_CODES, context
        assert all(error["code"] != "internal_error" for error in told), context
        is_fatal = stream.close_code not in (None, 1000)
        assert any(error["fatal"] for error in told) == is_fatal, context
        outcome.ends[str(stream.close_code or "client left")] += 1
    outcome.wall_s = time.monotonic() - began_s
    check_alive(application)
    return outcome


def check_alive(application: Application) -> None:
    """A good stream is served, and nothing failed inside."""
    frames: list[bytes | str] = [bytes([n % 200, 3] * 1600) for n in range(40)]
    stream = application.run(_play(application, "endpointing=manual", frames, close=True))
    assert stream.close_code == 1000
    assert sum(message["type"] == "segment" for message in stream.messages) == 3 + 6
    assert application.metric("glrf_refusals_total", code="internal_error") == 0
    assert application.metric("glrf_refusals_total", code="inference_failed") == 0


async def _play(
    application: Application, query: str, frames: list[bytes | str], close: bool
) -> AsgiStream:
    stream = AsgiStream(application.app, query)
    for frame in frames:
        stream.send(frame)
    if close:
        stream.send('{"type": "close"}')
    stream.leave()
    await stream.ended()
    return stream


def _query(chance: random.Random) -> str:
    if chance.random() < 0.9:
        return chance.choice(_QUERIES)
    name = chance.choice(("encoding", "sample_rate", "channels", "roles", "model", "x", "partial"))
    return f"{name}={chance.choice(('', '-1', '9e9', 'true', 'a,b,c', '%00', '%F0%9F', 'opus'))}"


def _frame(chance: random.Random) -> bytes | str:
    kind = chance.random()
    if kind < 0.45:  # audio, often of whole sample frames
        return chance.randbytes(8 * chance.randint(1, 800))
    if kind < 0.6:
        return chance.randbytes(chance.choice((0, 1, 2, 3, 7, 1601)))
    if kind < 0.9:
        return json.dumps({"type": chance.choice(("flush", "keepalive"))})
    if kind < 0.93:
        return _nonsense(chance)
    if kind < 0.96:
        return json.dumps(
            {"type": "update", chance.choice(_WORDS): _value(chance, 2)}, ensure_ascii=False
        )
    if kind < 0.98:
        return json.dumps(_value(chance, 3), ensure_ascii=False)
    if kind < 0.995:
        return b"RIFF" + chance.randbytes(60)
    return bytes(wire.MAX_FRAME_BYTES + chance.randint(0, 1) * 8)


def _nonsense(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.randbytes(chance.randint(0, 60)).decode("latin-1")
    text = '{"type": "update", "smoothing": "mean"}'
    at = chance.randrange(len(text))
    return text[:at] + chance.choice(_WORDS) + text[at + chance.randint(0, 3) :]


def _value(chance: random.Random, depth: int) -> object:
    kind = chance.randrange(7 if depth else 5)
    match kind:
        case 0:
            return chance.choice(_WORDS)
        case 1:
            return chance.choice((0, -1, 2**70, 1e308, float("nan")))
        case 2:
            return None
        case 3:
            return chance.random() < 0.5
        case 4:
            return "mean"
        case 5:
            return [_value(chance, depth - 1) for _ in range(chance.randint(0, 3))]
        case _:
            return {chance.choice(_WORDS): _value(chance, depth - 1) for _ in range(3)}


def main(n_frames: int = 20_000, seed: int = 1) -> None:
    """Runs with a tiny model and prints the outcome."""
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "tiny.onnx")
        settings = Settings(model_dir=Path(folder), device="cpu")
        with Application(settings) as application:
            outcome = fuzz(application, n_frames, seed)
    ends = ", ".join(f"{count} {end}" for end, count in outcome.ends.most_common())
    print(
        f"seed {seed}: {outcome.n_frames} frames in {outcome.n_streams} streams, "
        f"{outcome.wall_s:.0f} s; {ends}; no internal error"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
