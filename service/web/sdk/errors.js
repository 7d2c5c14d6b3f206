/**
 * What can go wrong between a client and a server.
 *
 *     ClientError
 *     ├── Unreachable        no server answered, or it would not open the stream
 *     ├── Refused            HTTP status and the server's problem document (RFC 9457)
 *     ├── StreamError        the server's fatal `error` frame
 *     ├── StreamClosed       the stream ended otherwise than by `session.closed` and code 1000
 *     ├── BadServerMessage   the server does not speak this protocol
 *     └── NoMicrophone       there is none, or it may not be used
 *
 * @module
 */
/** Base of all errors that this package raises on purpose. */
export class ClientError extends Error {
    constructor(message, options) {
        super(message, options);
        this.name = new.target.name;
    }
}
/** No server answered. A browser does not tell why a WebSocket could not be opened. */
export class Unreachable extends ClientError {
}
/** The server answered with an error status; `problem` is its `application/problem+json`. */
export class Refused extends ClientError {
    status;
    problem;
    /** Set when the server said when to try again. */
    retryAfterMs;
    constructor(status, problem, retryAfterMs = null) {
        const detail = problem["detail"] || problem["title"] || "no reason given";
        const remedy = problem["remedy"] ? `; ${problem["remedy"]}` : "";
        super(`refused with status ${status}: ${detail}${remedy}`);
        this.status = status;
        this.problem = problem;
        this.retryAfterMs = retryAfterMs;
    }
    /** The server's stable word for the cause, for programs. */
    get code() {
        const code = this.problem["code"];
        return typeof code === "string" ? code : null;
    }
}
/** The server ended the stream with a fatal error; `retryable` says if trying again can help. */
export class StreamError extends ClientError {
    code;
    retryable;
    retryAfterMs;
    requestId;
    constructor(code, message, { retryable = false, retryAfterMs = null, requestId = null, } = {}) {
        super(`${code}: ${message}`);
        this.code = code;
        this.retryable = retryable;
        this.retryAfterMs = retryAfterMs;
        this.requestId = requestId;
    }
}
/** The connection ended; `code` is the WebSocket close code, 1006 when there was none. */
export class StreamClosed extends ClientError {
    code;
    reason;
    constructor(code, reason) {
        super(`the stream ended with code ${code}${reason ? `: ${reason}` : ""}`);
        this.code = code;
        this.reason = reason;
    }
}
/** A message that breaks the contract: not JSON, or without a field that it must have. */
export class BadServerMessage extends ClientError {
}
/** There is no microphone, or the page may not use it. */
export class NoMicrophone extends ClientError {
}
