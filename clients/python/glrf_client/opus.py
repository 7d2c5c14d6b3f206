"""How long an Opus packet is, by its first bytes (RFC 6716, Section 3): nothing is decoded here."""

from typing import Final

#: The rate of the wire's samples, whatever was encoded from.
RATE_HZ: Final = 48_000
#: The longest packet that is allowed: 120 ms.
_MAX_SAMPLES: Final = 5_760


def packet_samples(packet: bytes | bytearray) -> int:
    """Samples at 48 kHz that a packet holds.

    0 where its bytes do not tell, or tell of more than the 120 ms that are allowed: to the server
    such a packet is `bad_packet`, without any time.
    """
    if not packet:
        return 0
    configuration, code = packet[0] >> 3, packet[0] & 3
    n_frames = (1, 2, 2, 0)[code]
    if code == 3 and len(packet) > 1:  # the second byte counts them
        n_frames = packet[1] & 0x3F
    n_samples = n_frames * _frame_samples(configuration)
    return n_samples if n_samples <= _MAX_SAMPLES else 0


def _frame_samples(configuration: int) -> int:
    """RFC 6716, Table 2."""
    if configuration < 12:  # SILK: 10, 20, 40, 60 ms
        return (480, 960, 1_920, 2_880)[configuration & 3]
    if configuration < 16:  # both: 10, 20 ms
        return (480, 960)[configuration & 1]
    return (120, 240, 480, 960)[configuration & 3]  # CELT: 2.5, 5, 10, 20 ms
