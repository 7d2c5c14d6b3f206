/** When to connect again after a connection ended: the contract's close codes, and back-off. @module */
/** Lost or left, in trouble, restarting, overloaded, a bad gateway; idle, and the longest session. */
const RESUMED = [1001, 1006, 1011, 1012, 1013, 1014, 4408, 4410];
/**
 * What the contract says of a close code and the fatal error before it, if there was one.
 *
 * The error's own word comes first, whatever the code. Without one, what the contract does not
 * name is given up. A checkpoint that is not taken (4404) is of no use in any case.
 */
export function remedyOf(closeCode, error) {
    if (closeCode === 4404)
        return "start anew";
    if (error?.retryable === false)
        return "give up";
    if (closeCode === 4429)
        return "resume later";
    return error || RESUMED.includes(closeCode) ? "resume" : "give up";
}
export const RETRY_DEFAULTS = {
    minDelayMs: 250,
    maxDelayMs: 10_000,
    giveUpMs: 120_000,
    giveUpFirstMs: 10_000,
};
/** A server that says "later" without a time means at least this. */
const LATER_MS = 5_000;
/**
 * Milliseconds to wait before attempt `n` (from 0): exponential, and spread by chance over its
 * upper half, so that the clients of a server that went do not all come back at once.
 *
 * `retryAfterMs`, the server's own word, is never undercut.
 */
export function delayMs(n, options, remedy, retryAfterMs, random = Math.random) {
    const exponential = Math.min(options.maxDelayMs, options.minDelayMs * 2 ** Math.min(n, 30));
    const floor = retryAfterMs ?? (remedy === "resume later" ? LATER_MS : 0);
    const spread = exponential * (0.5 + 0.5 * random());
    // Above a floor that all clients were told, the spread still keeps them apart.
    return floor > 0 ? Math.max(floor + spread / 2, spread) : spread;
}
