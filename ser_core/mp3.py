"""The first frame of an MP3, and what it counts of the others."""


def is_mpeg_frame(head: bytes) -> bool:
    """Header of an MPEG audio frame, layer III (ISO/IEC 11172-3, Section 2.4.1.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bitrate != 15 and rate != 3


def read_counts(frame: bytes) -> tuple[int, int]:
    """Samples a channel and bytes from this frame on, by its Xing, Info or VBRI header; or 0.

    An MP3 without such a header is a row of frames that announces nothing. The layout is that of
    Xing's VBR header, which LAME writes, and of Fraunhofer's. The samples are without those that
    LAME's part says are to be left out at both ends.
    """
    if not is_mpeg_frame(frame):
        return 0, 0
    is_mpeg_1, is_mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3
    side_bytes = (17 if is_mono else 32) if is_mpeg_1 else (9 if is_mono else 17)
    tag = frame[4 + side_bytes :]
    n_frames = n_bytes = n_left_out = 0
    if tag[:4] in (b"Xing", b"Info"):
        flags, position = int.from_bytes(tag[4:8], "big"), 8
        if flags & 1:
            n_frames = int.from_bytes(tag[position : position + 4], "big")
            position += 4
        if flags & 2:
            n_bytes = int.from_bytes(tag[position : position + 4], "big")
            position += 4
        position += (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
        if any(tag[position : position + 1]):  # the encoder's name; two numbers of 12 bits
            delays = int.from_bytes(tag[position + 21 : position + 24], "big")
            n_left_out = (delays >> 12) + (delays & 0xFFF)
    elif frame[36:40] == b"VBRI":
        n_bytes = int.from_bytes(frame[46:50], "big")
        n_frames = int.from_bytes(frame[50:54], "big")
    n_samples = n_frames * (1_152 if is_mpeg_1 else 576) - n_left_out
    return max(0, n_samples), n_bytes
