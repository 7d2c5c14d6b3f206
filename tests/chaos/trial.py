"""Streams under kills and broken lines, held against their unbroken runs, window for window."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from glrf.lag import percentile
from ser_core.containers import open_audio
from tests.chaos.proxy import FAULTS, Proxy
from tests.chaos.replica import Replica, settings_for
from tests.chaos.sdk_stream import SdkStream
from tests.service.resuming import OpusRecording, Recording
from tests.service.running import pcm
from tests.synthetic import opus_packets, voice

CLIP = Path(__file__).parents[2] / "glrf" / "demo" / "clip.flac"


@dataclass
class Report:
    """What happened, and what it did to the streams."""

    n_kills: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    n_streams: int = 0
    n_connections: int = 0
    n_segments: int = 0
    audio_s: float = 0.0
    differences: list[str] = field(default_factory=list)
    resumptions: list[tuple[float, int]] = field(default_factory=list)

    @property
    def p99_s(self) -> float:
        """Of the time from a connection's loss, as its client saw it, to the next new result.

        Where it was lost once: what is lost again before it told anything is two resumptions.
        """
        return percentile([took_s for took_s, n_lost in self.resumptions if n_lost == 1], 0.99)

    def lines(self) -> list[str]:
        """The report as text."""
        resumed = [took_s for took_s, _ in self.resumptions]
        of_one_loss = [took_s for took_s, n_lost in self.resumptions if n_lost == 1]
        return [
            f"{self.n_kills} kills; faults: {dict(sorted(self.faults.items()))}",
            f"{self.n_streams} streams, {self.audio_s:.0f} s of audio, {self.n_connections} "
            f"connections, {self.n_segments} segments compared",
            f"{len(self.differences)} differences",
            f"results went on after (s): p50 {percentile(resumed, 0.5):.2f}, "
            f"p99 {percentile(resumed, 0.99):.2f}, longest {max(resumed, default=0):.2f} "
            f"({len(resumed)} resumptions)",
            f"of those with one loss: p50 {percentile(of_one_loss, 0.5):.2f}, "
            f"p99 {self.p99_s:.2f}, longest {max(of_one_loss, default=0):.2f} "
            f"({len(of_one_loss)} resumptions)",
        ]


def recordings(duration_s: float) -> list[Recording]:
    """The demo clip, and long synthesised audio of several kinds."""
    with open_audio(CLIP) as clip:
        samples = np.concatenate(list(clip.blocks(16_000)))[:, 0]
        rate_hz = clip.rate_hz
    long, short = int(duration_s), int(duration_s / 2)
    stereo = np.stack([voice(8_000 * long, 8_000), voice(8_000 * long, 8_000, seed=2)], axis=1)
    return [
        Recording(pcm(samples), {"sample_rate": rate_hz}),
        Recording(pcm(voice(16_000 * long)), {}, tuple(range(100_000, 16_000 * long, 150_000))),
        Recording(
            pcm(stereo),
            {"sample_rate": 8_000, "channels": 2, "roles": "customer,agent"},
            (60_000, 60_001),
        ),
        Recording(pcm(voice(44_100 * short, 44_100)), {"sample_rate": 44_100}, (44_100 * 3,)),
        Recording(
            pcm(voice(11_025 * short, 11_025)), {"sample_rate": 11_025, "endpointing": "off"}
        ),
        OpusRecording(
            opus_packets(voice(48_000 * long, 48_000), application="voip", b="24000", dtx="1"),
            {},
            tuple(range(300_000, 48_000 * long, 450_000)),
        ),
    ]


class Trial:
    """So many streams at a time, until so many kills have been survived."""

    def __init__(
        self,
        *,
        n_streams: int,
        n_kills: int,
        duration_s: float,
        fault_every_s: float,
        pause_s: float = 1.25,
        seed: int = 0,
        speed: float = 1.0,
        model_dir: Path | None = None,
    ) -> None:
        self._n_streams = n_streams
        self._n_kills = n_kills
        self._fault_every_s = fault_every_s
        self._pause_s = pause_s
        self._speed = speed
        self._random = random.Random(seed)
        self._recordings = recordings(duration_s)
        self._unbroken: list[SdkStream] = []
        settings = settings_for(model_dir)
        self._replicas = [Replica(**settings), Replica(**settings)]
        self._has_ended = asyncio.Event()
        self.report = Report()

    async def run(self) -> Report:
        try:
            await asyncio.gather(*(replica.start() for replica in self._replicas))
            async with Proxy(self._ready_ports) as proxy:
                await self._record_unbroken(proxy)
                async with asyncio.TaskGroup() as group:
                    for number in range(self._n_streams):
                        group.create_task(self._stream_on(proxy, number))
                    group.create_task(self._break_lines(proxy))
                    await self._kill()
                    self._has_ended.set()
        finally:
            for replica in self._replicas:
                await replica.kill()
        return self.report

    def _ready_ports(self) -> list[int]:
        ports = [replica.port for replica in self._replicas if replica.is_ready]
        self._random.shuffle(ports)
        return ports

    async def _record_unbroken(self, proxy: Proxy) -> None:
        for recording in self._recordings:
            client = SdkStream(lambda: proxy.url, recording)
            await client.run()
            assert client.n_connections == 1
            self._unbroken.append(client)

    async def _stream_on(self, proxy: Proxy, number: int) -> None:
        """One stream after the other, until the kills are over."""
        await asyncio.sleep(number * 0.4 / self._n_streams)
        while not self._has_ended.is_set():
            kind = number % len(self._recordings)
            number += 1
            recording = self._recordings[kind]
            client = SdkStream(lambda: proxy.url, recording, speed=self._speed)
            await client.run()
            self._compare(client, self._unbroken[kind], f"recording {kind}")
            self.report.audio_s += recording.duration_s

    def _compare(self, client: SdkStream, unbroken: SdkStream, name: str) -> None:
        report = self.report
        report.n_streams += 1
        report.n_connections += client.n_connections
        report.resumptions += client.resumptions
        report.n_segments += sum("partial" in event for event in client.events)
        if client.events != unbroken.events:
            report.differences.append(
                f"{name}: {_first_difference(client.events, unbroken.events)}"
            )

    async def _break_lines(self, proxy: Proxy) -> None:
        while not self._has_ended.is_set():
            await asyncio.sleep(self._random.expovariate(1 / self._fault_every_s))
            if proxy.lines:
                fault = self._random.choice(FAULTS)
                self._random.choice(sorted(proxy.lines, key=id)).suffer(fault)
                self.report.faults[fault] += 1

    async def _kill(self) -> None:
        """One replica after the other; the next when the last is ready again."""
        for number in range(self._n_kills):
            await asyncio.sleep(self._pause_s * self._random.uniform(0.4, 1.6))
            replica = self._replicas[number % 2]
            await replica.kill()
            self.report.n_kills += 1
            await replica.start()


def _first_difference(ours: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    for one, other in zip(ours, expected, strict=False):
        if one != other:
            return f"{one} in the place of {other}"
    return f"{len(ours)} events in the place of {len(expected)}"
