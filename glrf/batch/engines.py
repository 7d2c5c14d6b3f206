"""Who does the work: processes of this machine, or actors on Ray. The same rows either way."""

import json
import logging
import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from glrf.batch.archive import Chunk, Item
from glrf.batch.rows import Row, failed_row
from glrf.batch.scoring import Scorer, Work
from glrf.failure import needed

Scored = tuple[Chunk, list[Row]]

_scorer: Scorer | None = None


def on_this_machine(
    work: Work,
    chunks: Sequence[Chunk],
    n_processes: int,
    *,
    score: Callable[[Chunk], list[Row]] | None = None,
) -> Iterator[Scored]:
    """Chunks as they are done, in any order; `score` runs in the processes.

    When a process dies (killed for memory, or by a decoder's fault), the recordings that were in
    hand are scored one by one: the one that kills its process again has a row that says so.
    """
    score = score or scored_here
    waiting = deque(chunks)
    while waiting:
        in_hand: dict[Future[list[Row]], Chunk] = {}
        with _pool(work, n_processes) as pool:
            try:
                while waiting or in_hand:
                    while waiting and len(in_hand) < 2 * n_processes:
                        chunk = waiting.popleft()
                        in_hand[pool.submit(score, chunk)] = chunk
                    for future in wait(in_hand, return_when=FIRST_COMPLETED).done:
                        rows = future.result()
                        yield in_hand.pop(future), rows
            except BrokenProcessPool:
                pass
        for chunk in in_hand.values():
            yield chunk, [row for item in chunk.items for row in _alone(work, score, item)]


def _alone(work: Work, score: Callable[[Chunk], list[Row]], item: Item) -> list[Row]:
    with _pool(work, 1) as pool:
        try:
            return pool.submit(score, Chunk(0, (item,))).result()
        except BrokenProcessPool:
            return [failed_row(item.name, "process_died", "the process that scored it was killed")]


def _pool(work: Work, n_processes: int) -> ProcessPoolExecutor:
    spawning = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n_processes, spawning, _begin, (work,))


def _begin(work: Work) -> None:
    global _scorer
    _scorer = Scorer.loaded(work)


def scored_here(chunk: Chunk) -> list[Row]:
    """The rows of a chunk, in a process of the pool."""
    assert _scorer is not None
    return _scorer.score(chunk)


class _Actor:
    """A `Scorer` as Ray Data calls it."""

    def __init__(self, work: Work) -> None:
        self._scorer = Scorer.loaded(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        chunks = [pickle.loads(chunk) for chunk in batch["chunk"]]
        return {
            "number": [chunk.number for chunk in chunks],
            "rows": [json.dumps(self._scorer.score(chunk)) for chunk in chunks],
        }


def on_ray(
    work: Work, chunks: Sequence[Chunk], n_processes: int | None, address: str
) -> Iterator[Scored]:
    """Chunks as they are done by a cluster; its machines see the recordings under the same paths.

    `address` is Ray's (`auto`, `ray://host:10001`), or `local` for a cluster of this machine's
    own. Without `n_processes` there is one actor a CPU of the cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody outside
    ray = needed("ray", "pip install 'glrf[ray]'")
    data = needed("ray.data", "pip install 'glrf[ray]'")
    ray.init(
        address=address,
        num_cpus=n_processes if address == "local" else None,
        logging_level=logging.WARNING,
    )
    context = data.DataContext.get_current()
    context.enable_progress_bars = False  # there is one already
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        n_actors = n_processes or max(1, int(ray.cluster_resources().get("CPU", 1)))
        by_number = {chunk.number: chunk for chunk in chunks}
        # A block a chunk. Not by repartition: its tasks would wait for a CPU that the actors hold.
        items = data.from_items(
            [{"chunk": pickle.dumps(chunk)} for chunk in chunks], override_num_blocks=len(chunks)
        )
        scored = items.map_batches(
            _Actor,
            fn_constructor_args=(work,),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=n_actors),
        )
        for row in scored.iter_rows():
            yield by_number[row["number"]], json.loads(row["rows"])
    finally:
        ray.shutdown()
