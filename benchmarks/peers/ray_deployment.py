"""The model behind Ray Serve: a deployment with `@serve.batch`, on a Ray of its own.

    python -m benchmarks.peers.ray_deployment --port 8001

`POST /`, the window's raw bytes. One replica; Ray's own processes run beside it, as they do on
every node, but for the dashboard.
"""

import argparse
import contextlib
import signal

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.window import BATCH_TIMEOUT_S, MAX_BATCH, Answer, WindowModel

#: Requests that a replica may hold; the default, 5, would not fill a batch.
_MAX_ONGOING = 1000


@serve.deployment(
    num_replicas=1,
    max_ongoing_requests=_MAX_ONGOING,
    logging_config={"enable_access_log": False},  # as this service and the others
)
class Emotion:
    """One replica."""

    def __init__(self) -> None:
        self.model = WindowModel()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_TIMEOUT_S)
    async def score(self, windows: list[bytes]) -> list[Answer]:
        return self.model.answers(windows)

    async def __call__(self, request: Request) -> Answer:
        # `serve.batch` takes single windows, whatever its function's signature says.
        return await self.score(await request.body())  # type: ignore[arg-type]


def main() -> None:
    """Serves on loopback until it is stopped."""
    parser = argparse.ArgumentParser(description="The model behind Ray Serve.")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    ray.init(
        address="local",
        num_cpus=4,  # a count that it plans with; its own actors take some
        include_dashboard=False,
        object_store_memory=100 * 2**20,
    )
    # On a busy core its proxy takes longer than the minute that is waited here; it comes up still.
    with contextlib.suppress(TimeoutError):
        serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Emotion.bind())  # type: ignore[attr-defined]
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
