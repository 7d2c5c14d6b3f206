/** What a stream may be asked for. @module */
import { ClientError } from "./errors.js";
import { checkNames } from "./names.js";
import { RETRY_DEFAULTS } from "./retrying.js";
/** Who each is for; the server is told its own in the address. */
const OPTIONS = {
    encoding: "server",
    sample_rate: "server",
    channels: "server",
    roles: "server",
    model: "server",
    endpointing: "server",
    endpoint_silence_ms: "server",
    smoothing: "server",
    hysteresis: "server",
    min_dwell_ms: "server",
    baseline_ms: "server",
    rules: "server",
    on_overload: "server",
    partial: "server",
    start_offset_ms: "server",
    token: "client",
    retry: "client",
    maxBufferMs: "client",
    openTimeoutMs: "client",
    stallMs: "client",
    signal: "client",
    onConnection: "client",
    webSocket: "client",
};
/** A checkpoint lies up to 7 s behind what was sent: a smaller buffer would wait for ever. */
const LEAST_BUFFER_MS = 10_000;
/** Throws `ClientError` for a name that is not known, and a buffer that is too small. */
export function checkOptions(options) {
    checkNames("stream", options, OPTIONS);
    checkNames("retry", options.retry ?? {}, RETRY_DEFAULTS);
    const { maxBufferMs = LEAST_BUFFER_MS } = options;
    if (!(maxBufferMs >= LEAST_BUFFER_MS)) {
        throw new ClientError(`maxBufferMs=${maxBufferMs} is too little: checkpoints lie up to 7 s behind what was sent; ` +
            `give ${LEAST_BUFFER_MS} or more`);
    }
}
/** What the server is told. */
export function parametersOf(options) {
    const told = Object.entries(options).filter(([name]) => OPTIONS[name] === "server");
    return Object.fromEntries(told);
}
