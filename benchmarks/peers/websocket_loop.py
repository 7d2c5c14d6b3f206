"""What is written first: FastAPI, a WebSocket, librosa and PyTorch in one loop.

    python -m benchmarks.peers.websocket_loop --port 8001 [--checkpoint final.pt]

PCM is buffered; every 0.4 s the MFCC of the whole last 2 s are computed by `librosa.feature.mfcc`
and the network runs in PyTorch, eager. All parameters of the features are the model's (frames that
are not padded, its mel band), but librosa also raises what is more than 80 dB below the loudest
of the window, which the model never saw. The network is built from the config that the model file
names; with a checkpoint it gets its weights, without one it has random ones of the same shape,
which cost as much.
"""

import argparse
import hashlib
import tomllib
from pathlib import Path

import librosa
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from benchmarks.peers.window import samples_of
from glrf.training import shipped_model
from model_export.experiment import Experiment, FeatureConfig, read_experiment
from model_export.network import build, served
from model_export.onnx_model import OnnxModel
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec, Float32
from ser_core.segments import SegmentSpec

CONFIGS = Path(__file__).parents[2] / "model_export" / "configs"
RATE_HZ = FeatureSpec.sample_rate_hz
WINDOW_BYTES = 2 * SegmentSpec.segment_samples
HOP_BYTES = 2 * SegmentSpec.hop_samples


def main() -> None:
    """Serves on loopback until it is stopped."""
    parser = argparse.ArgumentParser(description="A naive WebSocket loop.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--checkpoint", type=Path)
    arguments = parser.parse_args()
    experiment = shipped_experiment()
    app = create_app(load(experiment, arguments.checkpoint), experiment)
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning")


def create_app(network: torch.nn.Module, experiment: Experiment) -> FastAPI:
    """`WS /v1/stream`, as this service has it: binary PCM in, a JSON object every 0.4 s out."""
    app = FastAPI()

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        buffer, end_ms = b"", 1000 * SegmentSpec.segment_samples // RATE_HZ
        try:
            while True:
                buffer += await websocket.receive_bytes()
                while len(buffer) >= WINDOW_BYTES:
                    samples = samples_of(buffer[:WINDOW_BYTES])
                    with torch.no_grad():
                        features = torch.from_numpy(mfcc(samples, experiment.features))
                        scores = torch.sigmoid(network(features[None]))[0].tolist()
                    named = dict(zip(experiment.labels, scores, strict=True))
                    label = max(named, key=named.__getitem__)
                    await websocket.send_json(
                        {"type": "segment", "end_ms": end_ms, "label": label, "scores": named}
                    )
                    buffer = buffer[HOP_BYTES:]
                    end_ms += 1000 * SegmentSpec.hop_samples // RATE_HZ
        except WebSocketDisconnect:
            pass

    return app


def mfcc(samples: Float32, config: FeatureConfig) -> Float32:
    """librosa's, `(n,)` to `(n_frames, n_mfcc)`."""
    coefficients = librosa.feature.mfcc(
        y=samples,
        sr=RATE_HZ,
        n_mfcc=config.n_mfcc,
        n_mels=config.n_mels,
        fmin=config.fmin_hz,
        fmax=config.fmax_hz,
        n_fft=FeatureSpec.frame_samples,
        hop_length=FeatureSpec.hop_samples,
        center=False,
    )
    return np.ascontiguousarray(coefficients.T, np.float32)


def shipped_experiment() -> Experiment:
    """The experiment whose config the shipped model's provenance names.

    Raises `BadParameter` where no config here is that one.
    """
    sha256 = OnnxModel(shipped_model()).spec.provenance.get("config_sha256")
    for path in sorted(CONFIGS.glob("*.toml")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return read_experiment(path)[0]
    raise BadParameter(
        f"no config in {CONFIGS} is the one that the model was trained with",
        remedy="keep the configs of shipped models as they are",
    )


def load(experiment: Experiment, checkpoint: Path | None) -> torch.nn.Module:
    """The experiment's network, ready to score. Raises `BadParameter` for another's checkpoint."""
    network = build(experiment.network, experiment.features.spec(), len(experiment.labels))
    if checkpoint is not None:
        state = torch.load(checkpoint, weights_only=True)
        if tomllib.loads(state["config"])["name"] != experiment.name:
            raise BadParameter(
                f"{checkpoint} is not of {experiment.name}", remedy="give its final.pt"
            )
        network.load_state_dict(state["network"])
    return served(network, experiment.loss.kind)


if __name__ == "__main__":
    main()
