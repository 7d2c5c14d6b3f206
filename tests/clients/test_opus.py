"""The client's own reading of an Opus packet, held against the server's."""

import random

import pytest

from glrf_client.opus import packet_samples
from ser_core.opus import packet_samples as by_the_server
from tests.synthetic import opus_packets, voice


def test_all_first_bytes_mean_what_they_mean_to_the_server() -> None:
    chance = random.Random(0)
    assert packet_samples(b"") == by_the_server(b"") == 0
    for first in range(256):
        for packet in (
            bytes([first]),
            *(bytes([first, n]) + chance.randbytes(9) for n in range(256)),
        ):
            assert packet_samples(packet) == by_the_server(packet)


@pytest.mark.parametrize("packet_ms", [2.5, 5, 10, 20, 40, 60, 80, 100, 120])
def test_packets_of_an_encoder(packet_ms: float) -> None:
    packets = opus_packets(voice(48_000, 48_000), packet_ms=packet_ms)
    assert {packet_samples(packet) for packet in packets} == {round(packet_ms * 48)}
