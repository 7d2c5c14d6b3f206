/** Options are known by their names. @module */

import { ClientError } from "./errors.ts";

/** Throws `ClientError` for a name in `given` that `known` lacks; `taker` takes them. */
export function checkNames(taker: string, given: object, known: object): void {
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(known, name)) continue;
    const names = Object.keys(known).join(", ");
    throw new ClientError(`${name} is nothing that ${taker} takes; it takes ${names}`);
  }
}
