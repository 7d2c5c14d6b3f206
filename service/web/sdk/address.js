/** Where the server is: addresses and query parameters as the contract writes them. @module */
import { Unreachable } from "./errors.js";
const STREAM_PATH = "/v1/stream";
const SCHEMES = {
    "ws:": { ws: "ws:", http: "http:" },
    "wss:": { ws: "wss:", http: "https:" },
    "http:": { ws: "ws:", http: "http:" },
    "https:": { ws: "wss:", http: "https:" },
};
/** The WebSocket address: `/v1/stream` is added to a bare host, absent parameters left out. */
export function streamUrl(url, parameters) {
    const address = parsed(url);
    address.protocol = SCHEMES[address.protocol].ws;
    const path = address.pathname.replace(/\/+$/, "");
    address.pathname = path.endsWith(STREAM_PATH) ? path : path + STREAM_PATH;
    setQuery(address, parameters);
    return address.href;
}
/** The HTTP address of `path` on the same server; `/v1/stream` in `url` is left out. */
export function httpUrl(url, path, parameters = {}) {
    const address = parsed(url);
    address.protocol = SCHEMES[address.protocol].http;
    const base = address.pathname.replace(/\/+$/, "");
    address.pathname =
        (base.endsWith(STREAM_PATH) ? base.slice(0, -STREAM_PATH.length) : base) + path;
    address.search = "";
    setQuery(address, parameters);
    return address.href;
}
function parsed(url) {
    let address = null;
    try {
        address = new URL(url);
    }
    catch {
        // told below
    }
    if (address === null || !Object.hasOwn(SCHEMES, address.protocol)) {
        throw new Unreachable(`${url} is no server address; write it like ws://127.0.0.1:8000`);
    }
    return address;
}
function setQuery(address, parameters) {
    for (const [name, value] of Object.entries(parameters)) {
        if (value === undefined || value === null)
            continue;
        address.searchParams.set(name, Array.isArray(value) ? value.join(",") : String(value));
    }
}
