/**
 * The server's messages. Times are integer milliseconds from the stream's start.
 *
 * Events are the wire's own objects, field names included. A field or a message type that this
 * client does not know is ignored, so that a newer server can speak to it.
 *
 * @module
 */
import { BadServerMessage } from "./errors.js";
/** The fields that a message must have for this client to work with it. */
const REQUIRED = {
    "session.created": { config: "object", model: "object", limits: "object" },
    segment: {
        channel: "number",
        index: "number",
        start_ms: "number",
        end_ms: "number",
        partial: "boolean",
        scores: "object",
        label: "string or null",
        abstain: "string or null",
        smoothed: "object",
        utterance_id: "string or null",
    },
    utterance: {
        channel: "number",
        utterance_id: "string",
        start_ms: "number",
        end_ms: "number",
        is_final: "boolean",
        label: "string or null",
        scores: "object",
        n_segments: "number",
        pure: "boolean",
    },
    alert: {
        channel: "number",
        rule: "string",
        label: "string",
        start_ms: "number",
        end_ms: "number",
        score: "number",
    },
    checkpoint: { token: "string", resume_from_ms: "number" },
    warning: { code: "string", message: "string" },
    error: { code: "string", message: "string", fatal: "boolean", retryable: "boolean" },
    "session.draining": { deadline_ms: "number" },
    "session.closed": { reason: "string", summary: "list", usage: "object" },
};
/**
 * One server message; `null` for a type that this client does not know.
 *
 * @throws {BadServerMessage} for what is not a message of this protocol
 */
export function parseEvent(text) {
    let data;
    try {
        data = JSON.parse(text);
    }
    catch (error) {
        throw new BadServerMessage(`not JSON: ${text.slice(0, 80)}`, { cause: error });
    }
    if (!isObject(data) || typeof data["type"] !== "string") {
        throw new BadServerMessage(`not an object with a type: ${text.slice(0, 80)}`);
    }
    const type = data["type"];
    if (!Object.hasOwn(REQUIRED, type))
        return null;
    for (const [name, kind] of Object.entries(REQUIRED[type])) {
        if (!isOfKind(data[name], kind)) {
            throw new BadServerMessage(`${type}: ${name} is not a ${kind}`);
        }
    }
    return data;
}
export function isObject(value) {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}
function isOfKind(value, kind) {
    switch (kind) {
        case "object":
            return isObject(value);
        case "list":
            return Array.isArray(value);
        case "string or null":
            return value === null || typeof value === "string";
        default:
            return typeof value === kind;
    }
}
