/** The REST side: whole files, the models, and tokens for browsers. @module */
import { httpUrl } from "./address.js";
import { BadServerMessage, Refused, Unreachable } from "./errors.js";
import { isObject, } from "./events.js";
/**
 * Scores one recording: a `File` of a browser, a `Blob`, or bytes.
 *
 * @throws {Refused} with the server's problem
 * @throws {Unreachable} when there is no server, or its answer breaks off
 */
export async function analyzeFile(url, audio, { headers, signal, ...parameters } = {}) {
    const answer = await request("POST", httpUrl(url, "/v1/files", parameters), {
        body: audio,
        headers: { "Content-Type": "application/octet-stream", ...headers },
        ...(signal && { signal }),
    });
    if (!isObject(answer) || !Array.isArray(answer["channels"])) {
        throw new BadServerMessage("/v1/files: no list of channels");
    }
    return answer;
}
/** The models that the server offers. Throws as `analyzeFile` does. */
export async function models(url, options = {}) {
    const answer = await request("GET", httpUrl(url, "/v1/models"), options);
    if (!isObject(answer) || !Array.isArray(answer["models"])) {
        throw new BadServerMessage("/v1/models: no list of models");
    }
    return answer["models"];
}
/**
 * A token for one connection of a stream, with the API key in `headers`; for the option `token`.
 *
 * Not for a page of yours: its key would be everybody's. Throws as `analyzeFile` does.
 */
export async function fetchToken(url, options = {}) {
    const answer = await request("POST", httpUrl(url, "/v1/tokens"), options);
    if (!isObject(answer) || typeof answer["token"] !== "string") {
        throw new BadServerMessage("/v1/tokens: no token");
    }
    return answer["token"];
}
async function request(method, url, init) {
    let response;
    let text;
    try {
        response = await fetch(url, { ...init, method });
        text = await response.text();
    }
    catch (error) {
        init.signal?.throwIfAborted();
        throw new Unreachable(`no answer from ${url}, or not all of it`, { cause: error });
    }
    if (!response.ok)
        throw refusal(response, text);
    try {
        return JSON.parse(text);
    }
    catch (error) {
        throw new BadServerMessage(`${url}: not JSON: ${text.slice(0, 80)}`, { cause: error });
    }
}
/** A body that is no JSON object (a proxy's page) becomes the problem's title. */
function refusal(response, text) {
    let problem;
    try {
        problem = JSON.parse(text);
    }
    catch {
        // told below
    }
    const retryAfterS = Number(response.headers.get("Retry-After") ?? NaN);
    return new Refused(response.status, isObject(problem) ? problem : { title: text.slice(0, 200).trim() }, Number.isFinite(retryAfterS) ? retryAfterS * 1000 : null);
}
