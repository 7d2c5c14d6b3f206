import math

import torch

from benchmarks.peers.wav2vec2 import CONVOLUTIONS, Wav2Vec2Base


def test_the_network_has_the_size_of_wav2vec2_base() -> None:
    with torch.device("meta"):  # no memory, no values
        network = Wav2Vec2Base()
    # 94,371,712 as published, of which 768 embed masks in training and 128 norm weights.
    assert sum(p.numel() for p in network.parameters()) == 94_371_712 - 768 - 128
    assert math.prod(stride for _, stride in CONVOLUTIONS) == 320  # 20 ms a frame
