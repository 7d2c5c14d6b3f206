/** The token of one connection, where a browser has no other credentials. @module */
import { Unreachable } from "./errors.js";
/**
 * The token for one connection. Throws `Unreachable`, with its `cause`, when it cannot be had: who
 * hands out tokens is mostly behind the line that was lost.
 */
export async function tokenFor(token) {
    try {
        return typeof token === "function" ? await token() : token;
    }
    catch (error) {
        throw new Unreachable(`no token for the stream: ${error}`, { cause: error });
    }
}
