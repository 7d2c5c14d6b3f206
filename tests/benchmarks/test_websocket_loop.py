import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.peers.websocket_loop import create_app, load, mfcc, shipped_experiment
from benchmarks.peers.window import samples_of
from model_export.experiment import Experiment, FeatureConfig
from model_export.onnx_model import OnnxModel
from ser_core import features as core
from ser_core.errors import BadParameter
from service.settings import SHIPPED_MODELS
from tests.synthetic import N_MFCC, logits, voice, weights

TINY = Experiment(name="tiny", features=FeatureConfig(n_mels=20, n_mfcc=N_MFCC))


class TinyNetwork(nn.Module):
    """That of `tests.synthetic`."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=1) @ torch.from_numpy(weights())


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> OnnxModel:
    monkeypatch.setenv("GLRF_MODEL_DIR", str(SHIPPED_MODELS))
    return OnnxModel(next(SHIPPED_MODELS.glob("*.onnx")))


async def converse(chunks: list[bytes]) -> list[dict[str, Any]]:
    """What the loop tells of a stream, through the ASGI application itself."""
    incoming = [{"type": "websocket.connect"}]
    incoming += [{"type": "websocket.receive", "bytes": chunk} for chunk in chunks]
    incoming += [{"type": "websocket.disconnect", "code": 1000}]
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            told.append(json.loads(message["text"]))

    scope = {"type": "websocket", "path": "/v1/stream", "query_string": b"", "headers": []}
    await create_app(TinyNetwork(), TINY)(scope, receive, send)
    return told


async def test_the_loop_answers_each_hop_with_what_the_network_says_of_the_last_2_s() -> None:
    pcm = (voice(16_000 * 3) * 32767).astype("<i2").tobytes()
    answers = await converse([pcm[at : at + 3200] for at in range(0, len(pcm), 3200)])
    assert [answer["end_ms"] for answer in answers] == [2000, 2400, 2800]
    for index, answer in enumerate(answers):
        window = samples_of(pcm[index * 12_800 :][:64_000])
        expected = logits(core.mfcc(window, TINY.features.spec())[None])[0]
        scores = np.array([answer["scores"][label] for label in TINY.labels])
        assert scores == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-3)
        assert answer["label"] == TINY.labels[int(expected.argmax())]


def test_its_features_are_the_models_where_nothing_is_80_db_down(shipped: OnnxModel) -> None:
    samples = voice(32_000)
    ours = core.mfcc(samples, shipped.spec.features)
    theirs = mfcc(samples, shipped_experiment().features)
    assert theirs.shape == ours.shape
    assert theirs == pytest.approx(ours, abs=0.05)
    faint = samples.copy()
    faint[16_000:] *= 1e-6
    assert np.abs(mfcc(faint, shipped_experiment().features)[:95] - ours[:95]).max() < 0.05
    assert np.abs(mfcc(faint, shipped_experiment().features)[150:]).max() < (
        np.abs(core.mfcc(faint, shipped.spec.features)[150:]).max()
    )


def test_its_network_is_the_shipped_models(shipped: OnnxModel) -> None:
    experiment = shipped_experiment()
    assert experiment.labels == shipped.spec.labels
    network = load(experiment, None)
    features = torch.from_numpy(shipped.spec.self_test_features())
    with torch.no_grad():
        assert network(features).shape == shipped.run(features.numpy()).shape


def test_a_model_of_an_unknown_config_is_refused() -> None:
    with pytest.raises(BadParameter, match="no config"):
        shipped_experiment()
