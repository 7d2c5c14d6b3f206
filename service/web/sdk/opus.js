/** How long an Opus packet is, by its first bytes (RFC 6716, Section 3). @module */
/** The rate of the wire's samples, whatever was encoded from. */
export const OPUS_RATE_HZ = 48_000;
/** The longest packet that is allowed: 120 ms. */
const MAX_SAMPLES = 5_760;
/** Samples of a frame (RFC 6716, Table 2) in SILK, in SILK and CELT together, in CELT. */
const SILK = [480, 960, 1_920, 2_880];
const HYBRID = [480, 960];
const CELT = [120, 240, 480, 960];
/**
 * Samples at 48 kHz that a packet holds; 0 where its bytes do not tell, or tell of more than is
 * allowed: to the server such a packet is `bad_packet`, without any time.
 */
export function packetSamples(packet) {
    const [toc, count = 0] = packet;
    if (toc === undefined)
        return 0;
    const configuration = toc >> 3;
    const nFrames = [1, 2, 2, count & 0x3f][toc & 3];
    const nSamples = nFrames * frameSamples(configuration);
    return nSamples <= MAX_SAMPLES ? nSamples : 0;
}
function frameSamples(configuration) {
    if (configuration < 12)
        return SILK[configuration & 3];
    return configuration < 16 ? HYBRID[configuration & 1] : CELT[configuration & 3];
}
