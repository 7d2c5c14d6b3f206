"""A channel that is off never reaches the model: nothing of it is submitted, whatever it holds."""

import asyncio
import io
from collections.abc import Hashable, Sequence

import numpy as np
import pytest

from ser_core.features import Float32
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from service import wire
from service.analysis import FileAnalysis
from service.formats import KINDS, render
from service.inference.batcher import Batcher, Scored
from service.pump import Pump
from service.requests import FileQuery
from tests.service.running import GatedBackend, wav
from tests.synthetic import voice

S = 16_000


class RecordingBatcher(Batcher):
    """Writes down all that is submitted: nothing reaches a model by another way."""

    submitted: list[bytes]

    def __init__(self) -> None:
        backend = GatedBackend()
        backend.gate.set()
        # Batches of other sizes may round otherwise, and equal is to mean equal.
        super().__init__(backend, max_batch=1)
        self.submitted: list[bytes] = []

    def submit_all(
        self, segments: Sequence[Float32], flow: Hashable = None
    ) -> "list[asyncio.Future[Scored]]":
        self.submitted += [features.tobytes() for features in segments]
        return super().submit_all(segments, flow)


def _agents() -> dict[str, Float32]:
    rng = np.random.default_rng(0)
    n = 5 * S
    return {
        "silence": np.zeros(n, np.float32),
        "speech": voice(n, pitch_hz=240, seed=7),
        "noise": rng.uniform(-1, 1, n).astype(np.float32),
        "full scale": np.ones(n, np.float32),
        "not finite": np.full(n, np.nan, np.float32),
    }


def _customer() -> Float32:
    return np.concatenate((np.zeros(S, np.float32), voice(2 * S), np.zeros(2 * S, np.float32)))


async def _file(stereo: Float32, endpointing: str) -> tuple[list[bytes], str]:
    query = FileQuery(roles="customer,agent:off", endpointing=endpointing)
    async with RecordingBatcher() as batcher:
        audio = io.BytesIO(wav(stereo, subtype="FLOAT"))
        analysis = FileAnalysis(audio, batcher, query, request_id="the same", draws=True)
        lines = [line async for line in analysis.lines()]
        result = analysis.result(lines)
        told = [render(kind, result, waveform=analysis.waveform) for kind in KINDS]
        assert told[KINDS.index("html")].count('class="wave"') == 1  # the customer's
        return batcher.submitted, "\n".join([*told, analysis.summary().model_dump_json()])


async def _stream(stereo: Float32, endpointing: str) -> tuple[list[bytes], str]:
    config = StreamConfig(
        encoding="pcm_f32le",
        n_channels=2,
        scored=(True, False),
        endpointing=endpointing,  # type: ignore[arg-type]
    )
    told: list[str] = []
    async with RecordingBatcher() as batcher:
        session = StreamSession(batcher.backend.spec, config)
        pump = Pump(session, batcher, 16)
        for part in np.array_split(stereo, 31):
            pump.advance(lambda part=part: session.receive_audio(part.astype("<f4").tobytes()), 0.0)
        pump.advance(session.close, 0.0)
        async for event, _ in pump.events():
            told.append(repr(event))
        told += map(repr, (session.summaries(), session.usage))
        return batcher.submitted, "\n".join(told)


@pytest.mark.parametrize("run", [_file, _stream])
@pytest.mark.parametrize("endpointing", ["vad", "manual", "off"])
async def test_nothing_of_a_channel_that_is_off_is_submitted(run, endpointing: str) -> None:
    customer = _customer()
    heard = {
        name: await run(np.stack((customer, agent), axis=1), endpointing)
        for name, agent in _agents().items()
    }
    submitted, told = heard["silence"]
    assert len(submitted) >= 3
    for name, other in heard.items():
        assert other == (submitted, told), name
    # And what was submitted is the customer's, who was alone in this one.
    alone = await _alone(customer, endpointing)
    assert submitted == alone


async def _alone(customer: Float32, endpointing: str) -> list[bytes]:
    async with RecordingBatcher() as batcher:
        query = FileQuery(endpointing=endpointing)
        audio = io.BytesIO(wav(customer, subtype="FLOAT"))
        lines = [line async for line in FileAnalysis(audio, batcher, query).lines()]
        assert any(isinstance(line, wire.UtteranceLine) for line in lines)
        return batcher.submitted


async def test_a_file_whose_channel_is_off_is_on_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "service.analysis"):
        async with RecordingBatcher() as batcher:
            stereo = np.stack((_customer(), _customer()), axis=1)
            query = FileQuery(roles="customer,agent:off")
            audio = io.BytesIO(wav(stereo))
            analysis = FileAnalysis(audio, batcher, query, request_id="f00")
            assert [line async for line in analysis.lines()]
    assert "file f00: channel 1 (agent) is off" in caplog.text
