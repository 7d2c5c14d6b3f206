/** The token of one connection, where a browser has no other credentials. @module */

import { Unreachable } from "./errors.ts";

/** A token of `POST /v1/tokens`, or what fetches one: called before each connection. */
export type Token = string | (() => string | Promise<string>);

/**
 * The token for one connection. Throws `Unreachable`, with its `cause`, when it cannot be had: who
 * hands out tokens is mostly behind the line that was lost.
 */
export async function tokenFor(token: Token): Promise<string> {
  try {
    return typeof token === "function" ? await token() : token;
  } catch (error) {
    throw new Unreachable(`no token for the stream: ${error}`, { cause: error });
  }
}
