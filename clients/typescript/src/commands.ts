/** What may stand between chunks of audio, and acts from there on. @module */

import { checkNames } from "./names.ts";

/** Between chunks: end the utterance here. */
export const FLUSH: unique symbol = Symbol("flush");

/** What can be changed mid-stream; what is left out stays as it is. */
export interface UpdateOptions {
  smoothing?: string;
  /** 0..1, the lead in smoothed score that another label needs. */
  hysteresis?: number;
  min_dwell_ms?: number;
  /** Taken only where it changes nothing. */
  endpointing?: string;
  /** 0..1 by label; the other labels keep theirs. */
  thresholds?: Readonly<Record<string, number>>;
}

/** What `update` makes. */
export type Update = Readonly<UpdateOptions> & { readonly type: "update" };
export type Command = { readonly type: "flush" } | Update;

const UPDATED: Record<keyof UpdateOptions, true> = {
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
export function update(changes: UpdateOptions): Update {
  checkNames("update", changes, UPDATED);
  return JSON.parse(JSON.stringify({ type: "update", ...changes })); // as it is now
}

export function isUpdate(item: unknown): item is Update {
  return typeof item === "object" && item !== null && "type" in item && item.type === "update";
}

/** Earlier updates and one more; those of which this one leaves nothing are left out. */
export function withUpdate(earlier: readonly Update[], next: Update): Update[] {
  const fields = new Set(fieldsOf(next));
  return [...earlier.filter((one) => !fieldsOf(one).every((field) => fields.has(field))), next];
}

/** What an update changes, each threshold by itself. */
function fieldsOf({ type, thresholds = {}, ...others }: Update): string[] {
  return [...Object.keys(others), ...Object.keys(thresholds).map((label) => `thresholds.${label}`)];
}
