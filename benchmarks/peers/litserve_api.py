"""The model behind LitServe: a `LitAPI` with batching.

    python -m benchmarks.peers.litserve_api --port 8001

`POST /predict`, a JSON object with the window in base64, as LitServe's examples send audio. One
process takes requests, one runs the model: LitServe's default.
"""

import argparse

import litserve  # pyright: ignore[reportMissingImports]  (of the peers' own environment)

from benchmarks.peers.window import BATCH_TIMEOUT_S, MAX_BATCH, Answer, WindowModel, from_base64


class Emotion(litserve.LitAPI):
    """What LitServe calls, in this order."""

    def setup(self, device: str) -> None:  # noqa: ARG002  (LitServe's signature)
        self.model = WindowModel()

    def decode_request(self, request) -> bytes:  # a type would be that of the query
        return from_base64(request["audio"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, x: list[bytes]) -> list[Answer]:
        return self.model.answers(x)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        return output

    def encode_response(self, output: Answer) -> Answer:
        return output


def main() -> None:
    """Serves on loopback until it is stopped."""
    parser = argparse.ArgumentParser(description="The model behind LitServe.")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    api = Emotion(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
