"""The networks an experiment can name, GLRF and its peers, and what each costs."""

from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import torch
from pydantic import Discriminator, Tag
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_export.baselines import MachineConfig
from model_export.frontend import LogMel, Normalisation
from model_export.glrf import Glrf, GlrfConfig
from model_export.losses import LossKind, OneVsRest
from model_export.peers.aa_cnn import AaCnn, AaCnnConfig
from model_export.peers.deep_cnn import DeepCnn, DeepCnnConfig
from model_export.peers.drn_mhsa import DrnMhsa, DrnMhsaConfig
from model_export.peers.glam import Glam, GlamConfig
from model_export.peers.light_sernet import LightSernet, LightSernetConfig
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec, Float32
from ser_core.segments import SegmentSpec


def _kind(value: Any) -> Any:
    """A config without `kind` is of GLRF, as all were before there were peers."""
    return value.get("kind", "glrf") if isinstance(value, dict) else getattr(value, "kind", None)


NetworkConfig = Annotated[
    Annotated[GlrfConfig, Tag("glrf")]
    | Annotated[DeepCnnConfig, Tag("deep-cnn")]
    | Annotated[LightSernetConfig, Tag("light-sernet")]
    | Annotated[GlamConfig, Tag("glam")]
    | Annotated[DrnMhsaConfig, Tag("drn-mhsa")]
    | Annotated[AaCnnConfig, Tag("aa-cnn")]
    | Annotated[MachineConfig, Tag("svm")],
    Discriminator(_kind),
]


def build(config: NetworkConfig, features: FeatureSpec, n_labels: int) -> nn.Module:
    """The config's network: segments of MFCC `(B, n_frames, n_mfcc)` to logits `(B, n_labels)`.

    Raises `BadParameter` when it needs more MFCC than the features have, and for a support vector
    machine, which `model_export.baselines` trains.
    """
    match config:
        case GlrfConfig():
            return Glrf(config, features, n_labels)
        case DeepCnnConfig():
            return DeepCnn(config, features, n_labels)
        case LightSernetConfig():
            return LightSernet(config, features, n_labels)
        case GlamConfig():
            return Glam(config, features, n_labels)
        case DrnMhsaConfig():
            return DrnMhsa(config, features, n_labels)
        case AaCnnConfig():
            return AaCnn(config, features, n_labels)
        case MachineConfig():
            raise BadParameter(
                "a support vector machine is no network, and there is no model file of it",
                remedy="assess it by cross-validation",
            )


def served(network: nn.Module, loss: LossKind) -> nn.Module:
    """The network as it is exported and assessed: with one-vs-rest logits, whatever trained it."""
    return (OneVsRest(network) if loss == "cross-entropy" else network).eval()


def scorer(network: nn.Module) -> Callable[[Float32], Float32]:
    """The network as a function of NumPy segments, on the device of its weights."""
    device = next(network.parameters()).device

    @torch.inference_mode()
    def score(features: Float32) -> Float32:
        return network(torch.from_numpy(features).to(device)).cpu().numpy()

    return score


class Description(TypedDict):
    """`macs` are multiplications with weights or between activations, of one segment."""

    parameters: int
    macs: int
    input: str


def describe(network: nn.Module) -> Description:
    """What a network of `build` is made of, what a segment costs and what it takes of the input.

    MACs are counted in convolutions and matrix products, the
    return to log-mel among them; normalisation, activations and pooling are left out.
    """
    log_mel = next(module for module in network.modules() if isinstance(module, LogMel))
    segment = torch.zeros(1, _N_FRAMES, log_mel.dct.shape[1], device=log_mel.dct.device)
    counter = FlopCounterMode(display=False)
    was_training = network.training
    network.eval()
    # The fused attention of CPUs is not counted; its plain form is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        network(segment)
    network.train(was_training)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "macs": counter.get_total_flops() // 2,
        "input": _input(network),
    }


_N_FRAMES = 1 + (SegmentSpec.segment_samples - FeatureSpec.frame_samples) // FeatureSpec.hop_samples


def _input(network: nn.Module) -> str:
    """Peers say it themselves."""
    for module in network.modules():
        heard = getattr(module, "input", None)
        if isinstance(heard, str):
            return heard
        if isinstance(module, Normalisation):
            n_mels, n_mfcc = module.log_mel.dct.shape
            rows = f"{n_mels} log-mel bands" if module.bands else f"{n_mfcc} MFCC"
            pool = module.frame_pool
            step_ms = 1000 * pool * FeatureSpec.hop_samples // FeatureSpec.sample_rate_hz
            return f"{rows}, {_N_FRAMES // pool} frames of {step_ms} ms"
    return ""
