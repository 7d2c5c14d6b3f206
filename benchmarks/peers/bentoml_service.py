"""The model behind BentoML: a service with adaptive batching.

    bentoml serve benchmarks.peers.bentoml_service:Emotion --port 8001

`POST /score`, a JSON object with a list of windows in base64: what can be batched is a list. The
goal that a batch's delay is held against is the one that we are measured by.
"""

import bentoml  # pyright: ignore[reportMissingImports]  (of the peers' own environment)

from benchmarks.peers.window import MAX_BATCH, Answer, WindowModel, from_base64


@bentoml.service(workers=1)
class Emotion:
    """One process, as `bentoml serve` starts it."""

    def __init__(self) -> None:
        self.model = WindowModel()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=200)
    def score(self, windows: list[str]) -> list[Answer]:
        return self.model.answers([from_base64(window) for window in windows])
