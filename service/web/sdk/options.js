/** What a stream may be asked for. @module */
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
/** Throws `ClientError` for a name that is not known. */
export function checkOptions(options) {
    checkNames("stream", options, OPTIONS);
    checkNames("retry", options.retry ?? {}, RETRY_DEFAULTS);
}
/** What the server is told. */
export function parametersOf(options) {
    const told = Object.entries(options).filter(([name]) => OPTIONS[name] === "server");
    return Object.fromEntries(told);
}
