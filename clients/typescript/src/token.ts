/** The token of one connection, where a browser has no other credentials. @module */

import { ClientError, Refused, Unreachable } from "./errors.ts";
import { within } from "./limit.ts";

/** What the name of a subprotocol is made of (RFC 9110, Section 5.6.2). */
const SENDABLE = /^[-!#$%&'*+.^_`|~0-9A-Za-z]+$/;

/**
 * What fetches a token of `POST /v1/tokens`, called before each connection; or a token.
 *
 * The server takes such a token once: as a plain string it opens the first connection only, and
 * a stream whose connection is lost does not go on.
 */
export type Token = string | (() => string | Promise<string>);

/**
 * The token for one connection. Throws `Unreachable`, with its `cause`, when it cannot be had
 * within `timeoutMs` or before the signal: who hands out tokens is mostly behind the line that
 * was lost. A `Refused` that would come again is thrown as it is, as for a key that was revoked.
 * Throws `ClientError` for a string that is no token.
 */
export async function tokenFor(
  token: Token,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<string> {
  if (typeof token === "string") return sendable(token);
  try {
    const fetched = (async () => sendable(await token()))(); // also where it throws at once
    return await within(timeoutMs, `none came within ${timeoutMs} ms`, fetched, signal);
  } catch (error) {
    if (error instanceof Refused && !isPassing(error)) throw error;
    throw new Unreachable(`no token for the stream: ${error}`, { cause: error });
  }
}

/** Whether the same request may be answered later: too slow, too many, or the server's trouble. */
function isPassing({ status }: Refused): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** A token; throws `ClientError`, never with what it is: that may be a secret. */
function sendable(token: unknown): string {
  if (typeof token === "string" && SENDABLE.test(token)) return token;
  throw new ClientError(
    "the token cannot be sent; give the `token` that POST /v1/tokens answers with, without " +
      "spaces and line breaks",
  );
}
