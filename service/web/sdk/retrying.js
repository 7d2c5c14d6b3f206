/** When to connect again after a connection ended: the contract's close codes, and back-off. @module */
const REMEDIES = {
    1000: "give up",
    1009: "give up",
    4404: "start anew",
    4408: "resume",
    4410: "resume",
    4429: "resume later",
};
/**
 * What the contract's table says of a close code.
 *
 * Other codes of 4000 and above are refusals. All else (1001, 1005, 1006, 1011, 1012, 1013 ...)
 * is a connection that was lost or a server that is in trouble.
 */
export function remedyOf(closeCode) {
    return REMEDIES[closeCode] ?? (closeCode >= 4000 ? "give up" : "resume");
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
