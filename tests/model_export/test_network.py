import copy
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import model_export
from model_export.export import check_parity, write
from model_export.glrf import GlrfConfig
from model_export.mel import feature_spec
from model_export.network import NetworkConfig, build, describe
from model_export.onnx_model import OnnxModel
from ser_core.errors import BadParameter
from ser_core.events import Segment
from ser_core.labels import LABELS
from ser_core.model_file import ModelSpec, Thresholds
from ser_core.posteriors import Calibration
from ser_core.segments import SegmentSpec
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from service.inference.onnx import OnnxBackend
from tests.synthetic import RATE_HZ, voice

PEERS = ("deep-cnn", "light-sernet", "glam", "drn-mhsa", "aa-cnn")
KINDS = ("glrf", *PEERS)
FEATURES = feature_spec(64, 64, 50, 7600)
CONFIGS = Path(model_export.__file__).parent / "configs"


def config_of(kind, **settings):
    return TypeAdapter(NetworkConfig).validate_python({"kind": kind, **settings})


def network_of(kind, n_labels=5):
    torch.manual_seed(0)
    return build(config_of(kind), FEATURES, n_labels).eval()


def write_model(kind, path):
    network = network_of(kind)

    def spec(expected):
        return ModelSpec(
            name=kind,
            version="1",
            labels=LABELS,
            features=FEATURES,
            segments=SegmentSpec(),
            calibration=Calibration((1.0,) * 5, (0.0,) * 5),
            thresholds=Thresholds(min_samples=12_800),
            provenance={"training_data": "none, random weights"},
            license="CC0-1.0",
            self_test_logits=expected,
        )

    @torch.inference_mode()
    def score(features):
        return network(torch.from_numpy(features)).numpy()

    whole = spec(tuple(score(spec((0.0,) * 5).self_test_features())[0].tolist()))
    write(network, whole, path)
    return score


@pytest.mark.parametrize("kind", KINDS)
def test_kind_names_the_network(kind):
    assert config_of(kind).kind == kind
    assert type(network_of(kind)).__name__.lower() == kind.replace("-", "")


def test_a_config_without_kind_is_of_glrf():
    """As are those in checkpoints from before there were peers."""
    assert TypeAdapter(NetworkConfig).validate_python({"channels": 8}) == GlrfConfig(channels=8)
    assert TypeAdapter(NetworkConfig).validate_python(GlrfConfig()) == GlrfConfig()


@pytest.mark.parametrize(
    "wrong", [{"kind": "vgg"}, {"kind": "glam", "chanels": 3}, {"kind": "glam", "n_heads": 2}, 3]
)
def test_a_network_that_is_not_known_is_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(NetworkConfig).validate_python(wrong)


@pytest.mark.parametrize("kind", PEERS)
def test_the_committed_config_states_the_defaults(kind):
    settings = tomllib.loads((CONFIGS / f"{kind}.toml").read_text())["network"]
    config = config_of(kind)
    assert TypeAdapter(NetworkConfig).validate_python(settings) == config
    assert settings.keys() == set(TypeAdapter(NetworkConfig).dump_python(config))


def test_parameters_and_macs_by_hand():
    """One GLRF block of 8 channels on 24 mel bands, 13 MFCC, 198 frames and 3 labels."""
    config = GlrfConfig(channels=8, n_blocks=1, n_heads=2, kernel_size=5, squeeze=4)
    description = describe(build(config, feature_spec(24, 13, 50, 7600), 3))
    frame = 2 * 13 * 24  # to log-mel and back
    frame += 13 * 8 * 3  # stem
    frame += 8 * 24 + 8 * 8 + 2 * 8 * 198  # attention
    frame += 8 * 8 * 5 + 8 * 8  # convolution
    assert description["macs"] == 198 * frame + 8 * 2 + 2 * 16 + 8 * 3
    parameters = 13 * 8 * 3 + 16  # stem
    parameters += 16 + 8 * 24 + 24 + 72  # attention
    parameters += 8 * 8 * 5 + 16 + 72  # convolution
    parameters += 8 * 2 + 2 + 2 * 16 + 16 + 8 * 3 + 3  # gates, score
    assert description["parameters"] == parameters
    assert description["input"] == "13 MFCC, 198 frames of 10 ms"


def test_a_description_leaves_the_network_as_it_was():
    network = network_of("deep-cnn").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    describe(network)
    assert network.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("deep-cnn", "means over 2 s of 40 MFCC and of the power of 64 bands"),
        ("light-sernet", "first 40 MFCC, 49 frames of 40 ms"),
        ("glam", "first 26 MFCC, 49 frames of 40 ms"),
        ("drn-mhsa", "64 log-mel bands, deltas and their deltas, 198 frames of 10 ms"),
        ("aa-cnn", "64 log-mel bands, 49 frames of 40 ms"),
    ],
)
def test_a_network_says_what_it_takes(kind, said):
    description = describe(torch.nn.Sequential(network_of(kind)))  # wrapped or not
    assert description["input"] == said
    assert description == describe(network_of(kind))


@pytest.mark.parametrize("kind", ["deep-cnn", "light-sernet", "glam"])
def test_too_few_mfcc_are_refused(kind):
    with pytest.raises(BadParameter, match="the features have 13"):
        build(config_of(kind), feature_spec(64, 13, 50, 7600), 5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("network")
    return {
        kind: (root / f"{kind}.onnx", write_model(kind, root / f"{kind}.onnx")) for kind in PEERS
    }


@pytest.mark.parametrize("kind", PEERS)
def test_onnx_runtime_agrees_with_torch(kind, exported):
    """To 1e-4, on random and on real segments, in batches and alone."""
    path, score = exported[kind]
    model = OnnxModel(path)  # its self-test has passed
    random = np.random.default_rng(0).normal(0, 30, (5, 198, 64)).astype(np.float32)
    assert check_parity(score, model, [random, model.spec.self_test_features()]) <= 1e-4


@pytest.mark.parametrize("kind", PEERS)
def test_a_peer_can_be_served(kind, exported):
    """The service's own loader takes the file, and a stream gets its scores from it."""
    backend = OnnxBackend.load(exported[kind][0])
    session = StreamSession(backend.spec, StreamConfig(sample_rate_hz=RATE_HZ, partial=False))
    session.receive_samples(voice(3 * RATE_HZ)[:, None])
    session.close()
    requests = session.segments_to_score()
    logits = backend.score(np.stack([request.features for request in requests]))
    for request, answer in zip(requests, logits, strict=True):
        session.receive_logits(request.id, answer)
    segments = [event for event in session.events() if isinstance(event, Segment)]
    assert len(segments) == len(requests) == 3
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for segment, scores in zip(segments, expected, strict=True):
        assert [segment.scores[label] for label in LABELS] == pytest.approx(scores, abs=1e-5)


def test_a_network_is_described_where_it_is():
    network = network_of("glam")
    assert describe(copy.deepcopy(network).to("meta")) == describe(network)
