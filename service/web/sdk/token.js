/** The token of one connection, where a browser has no other credentials. @module */
import { Unreachable } from "./errors.js";
/**
 * The token for one connection. Throws `Unreachable`, with its `cause`, when it cannot be had
 * within `timeoutMs` or before the signal: who hands out tokens is mostly behind the line that
 * was lost.
 */
export async function tokenFor(token, { timeoutMs, signal }) {
    if (typeof token === "string")
        return token;
    let timer;
    const end = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`none came within ${timeoutMs} ms`)), timeoutMs);
        signal.addEventListener("abort", () => reject(signal.reason));
    });
    try {
        return await Promise.race([end, (async () => token())()]); // also where it throws at once
    }
    catch (error) {
        throw new Unreachable(`no token for the stream: ${error}`, { cause: error });
    }
    finally {
        clearTimeout(timer);
    }
}
