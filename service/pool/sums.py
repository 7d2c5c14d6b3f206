"""`/metrics` of all workers together, whichever of them is asked.

Each worker gives its own figures to the others over a Unix socket in the folder that they share,
and writes down what it gave. Who follows in its place goes on from there, and meanwhile the file
speaks for it: so no counter ever goes back, whoever dies.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from service.metrics import ANSWERING, MISSING, JobCounts, Metrics

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_END = b"\n"

#: What is no sum: a load is a share.
_WITHOUT_SUM: dict[str, Callable[[list[float]], float]] = {
    "glrf_ready": min,
    "glrf_oldest_wait_seconds": max,
    "glrf_model_info": max,
    "glrf_load": lambda values: sum(values) / len(values),
    "process_start_time_seconds": min,
}
#: What the store of jobs tells a worker when that is scraped: of it the one asked speaks alone.
_OF_THE_STORE = frozenset(family.name for family in JobCounts().collect())
_LASTING = ("counter", "histogram")


class Sums:
    """The figures of worker `index` and of all `n_workers` that share `folder`."""

    def __init__(self, metrics: Metrics, folder: Path, index: int, n_workers: int) -> None:
        self._metrics = metrics
        self._folder = folder
        self._index = index
        self._n_workers = n_workers
        self._is_failing = False
        self._file = folder / f"{index}.figures"
        self._before: list[Metric] = []
        self._keeping = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Goes on where the worker before it in this place ended, and answers the others."""
        self._before = _lasting(self._file)
        address = self._folder / f"{self._index}.metrics"
        address.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, address)
        await self._own()

    async def stop(self) -> None:
        """Answers no more; the file says what was last."""
        if self._server is not None:
            self._server.close()
            await self._own()

    async def exposition(self) -> bytes:
        """The sum over all workers, as text."""
        files = [path for path in sorted(self._folder.glob("*.figures")) if path != self._file]
        own, *others = await asyncio.gather(self._own(), *(self._of(path) for path in files))
        return await asyncio.to_thread(
            lambda: _text(
                self._with_missing(
                    _summed([_unpacked(own), *map(_workers_own, map(_unpacked, others))])
                )
            )
        )

    def _with_missing(self, families: Iterable[Metric]) -> Iterator[Metric]:
        """Those of the workers that should be there and do not answer are counted."""
        for family in families:
            if family.name == "glrf_workers":
                n_answering = next(
                    sample.value for sample in family.samples if sample.labels["state"] == ANSWERING
                )
                family.samples = [
                    Sample(family.name, {"state": ANSWERING}, n_answering),
                    Sample(family.name, {"state": MISSING}, max(0, self._n_workers - n_answering)),
                ]
            yield family

    async def _own(self) -> bytes:
        """The figures of this worker and of those before it; on disk before they are told."""
        async with self._keeping:  # or an older file could take the place of a newer one
            return await asyncio.to_thread(self._kept, list(self._metrics.registry.collect()))

    def _kept(self, families: list[Metric]) -> bytes:
        figures = _packed(_summed([families, self._before]))
        scratch = self._file.with_suffix(".new")
        try:
            scratch.write_bytes(figures)
            scratch.replace(self._file)
        except OSError as error:  # a full disk: what is told now is right all the same
            if not self._is_failing:
                log.error("figures cannot be kept for who follows in this place: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False
        return figures

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(await self._own())
            await writer.drain()
        writer.close()

    async def _of(self, path: Path) -> bytes:
        """Another worker's figures; of one that does not answer, what lasts of its last ones."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(path.with_suffix(".metrics"))
                with contextlib.closing(writer):
                    figures = await reader.read()
            if figures.endswith(_END):  # else it died meanwhile
                return figures
        except (OSError, TimeoutError):
            pass
        return await asyncio.to_thread(lambda: _packed(_lasting(path)))


def _packed(families: Iterable[Metric]) -> bytes:
    """Families as they travel: JSON, which is read ten times as fast as Prometheus' text."""
    document = [
        (family.name, family.documentation, family.type, [sample[:3] for sample in family.samples])
        for family in families
    ]
    return json.dumps(document).encode() + _END


def _unpacked(data: bytes) -> list[Metric]:
    families: list[Metric] = []
    for name, text, kind, samples in json.loads(data):
        family = Metric(name, text, kind)
        family.samples = [Sample(*sample) for sample in samples]
        families.append(family)
    return families


def _lasting(path: Path) -> list[Metric]:
    """What outlives a process of the figures in a file; nothing where there is none."""
    if not path.exists():
        return []
    families = _workers_own(_unpacked(path.read_bytes()))
    return [family for family in families if family.type in _LASTING]


def _workers_own(families: Iterable[Metric]) -> list[Metric]:
    """What a worker counted, without what the store told it."""
    return [family for family in families if family.name not in _OF_THE_STORE]


def _summed(expositions: Iterable[Iterable[Metric]]) -> Iterator[Metric]:
    """One family for those of the same name, in the order of the first."""
    families: dict[str, list[Metric]] = {}
    for exposition in expositions:
        for family in exposition:
            families.setdefault(family.name, []).append(family)
    for name, found in families.items():
        put_together = _WITHOUT_SUM.get(name, sum)
        values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
        for family in found:
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                values.setdefault(key, []).append(sample.value)
        total = Metric(name, found[0].documentation, found[0].type)
        total.samples = [
            Sample(sample_name, dict(labels), put_together(parts))
            for (sample_name, labels), parts in values.items()
        ]
        yield total


def _text(families: Iterable[Metric]) -> bytes:
    return generate_latest(_Families(families))  # type: ignore[arg-type]


class _Families:
    """What `generate_latest` needs of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
