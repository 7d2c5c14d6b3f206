/** What may stand between chunks of audio, and acts from there on. @module */
import { checkNames } from "./names.js";
/** Between chunks: end the utterance here. */
export const FLUSH = Symbol("flush");
const UPDATED = {
    smoothing: true,
    hysteresis: true,
    min_dwell_ms: true,
    endpointing: true,
    thresholds: true,
};
/**
 * Between chunks: change options from here on. What the server does not take comes as an `error`
 * event that is not fatal, and changes nothing.
 *
 * @throws {ClientError} for a name that is none of `UpdateOptions`
 */
export function update(changes) {
    checkNames("update", changes, UPDATED);
    return JSON.parse(JSON.stringify({ type: "update", ...changes })); // as it is now
}
export function isUpdate(item) {
    return typeof item === "object" && item !== null && "type" in item && item.type === "update";
}
/** Earlier updates and one more; those of which this one leaves nothing are left out. */
export function withUpdate(earlier, next) {
    const fields = new Set(fieldsOf(next));
    return [...earlier.filter((one) => !fieldsOf(one).every((field) => fields.has(field))), next];
}
/** What an update changes, each threshold by itself. */
function fieldsOf({ type, thresholds = {}, ...others }) {
    return [...Object.keys(others), ...Object.keys(thresholds).map((label) => `thresholds.${label}`)];
}
