"""The small size of the kill test; `python -m tests.chaos` is the full one."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.proxy import Proxy
from tests.chaos.replica import Replica, settings_for
from tests.chaos.trial import Trial
from tests.service.resuming import OpusRecording, Recording, ResumingClient, without_session
from tests.service.running import pcm
from tests.synthetic import opus_packets, voice, write_model

#: Most of it is the starts of processes, which take long on a machine that does much else.
pytestmark = pytest.mark.timeout(300)


async def test_streams_survive_kills_and_broken_lines(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.onnx")
    trial = Trial(
        n_streams=6, n_kills=2, duration_s=8, fault_every_s=0.4, speed=2, model_dir=tmp_path
    )
    await trial.run()
    report = trial.report
    assert report.differences == []
    assert report.n_kills == 2
    assert report.n_streams >= 6
    assert report.n_connections > report.n_streams
    assert len(report.resumptions) > 0


async def test_a_rolling_restart_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM to one replica after the other, under streams behind a plain proxy."""
    write_model(tmp_path / "tiny.onnx")
    settings = settings_for(tmp_path)
    replicas = [Replica(**settings), Replica(**settings)]
    recordings = [
        Recording(pcm(voice(16_000 * 9)), {}, (60_000,)),
        OpusRecording(opus_packets(voice(48_000 * 9, 48_000)), {}, (180_000,)),
    ]

    try:
        await asyncio.gather(*(replica.start() for replica in replicas))
        async with Proxy(lambda: [r.port for r in replicas if r.is_ready]) as proxy:
            unbroken = [ResumingClient(lambda: proxy.url, each) for each in recordings]
            for client in unbroken:
                await client.run()
            clients = [ResumingClient(lambda: proxy.url, each, speed=1) for each in recordings * 2]
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(client.run())
                for replica in replicas:
                    await asyncio.sleep(2)
                    await replica.stop()
                    await replica.start()
    finally:
        for replica in replicas:
            await replica.kill()
    for client, expected in zip(clients, unbroken * 2, strict=True):
        assert without_session(client.events) == without_session(expected.events)
        assert client.close_codes[0] == 1012
        assert client.close_codes[-1] == 1000
        # The last checkpoint came with the end: what it covers is not told again.
        assert client.n_repeated == 0
