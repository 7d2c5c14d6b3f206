/** One WebSocket, read as a queue. @module */

import { Unreachable } from "./errors.ts";

/** How a connection ended. */
export interface Closed {
  code: number;
  reason: string;
}

/**
 * Makes the WebSocket of an attempt; another one than the platform's is for tests, proxies, and
 * lines that stall (that of the package `ws` can be torn down).
 */
export type WebSocketFactory = (url: string, protocols: string[]) => WebSocket;

/** Time for the other side to answer a close. */
const GOODBYE_MS = 1_000;

/** An open connection. Messages wait here until they are asked for. */
export class Connection {
  readonly #socket: WebSocket;
  readonly #onChange: () => void;
  #messages: string[] = [];
  #closed: Closed | null = null;
  #lastHeard = performance.now();
  #lastSaid = performance.now();

  private constructor(socket: WebSocket, onChange: () => void) {
    this.#socket = socket;
    this.#onChange = onChange;
    socket.onmessage = ({ data }) => {
      this.#lastHeard = performance.now();
      this.#messages.push(String(data));
      onChange();
    };
    socket.onclose = ({ code, reason }) => this.#end({ code, reason });
  }

  /**
   * Opens a WebSocket; `onChange` is called at each message and at the end.
   *
   * Throws `Unreachable` when it does not open within `timeoutMs`: neither browsers nor Node.js
   * tell the status of a refusal.
   */
  static async open(
    make: WebSocketFactory,
    url: string,
    protocols: string[],
    { timeoutMs, signal, onChange }: { timeoutMs: number; signal: AbortSignal; onChange: () => void },
  ): Promise<Connection> {
    const where = url.split("?")[0];
    const socket = make(url, protocols);
    return new Promise((resolve, reject) => {
      const fail = (why: string) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        release(socket);
        reject(new Unreachable(`no stream at ${where}: ${why}`));
      };
      const onAbort = () => fail("given up");
      const timer = setTimeout(() => fail("no answer in time"), timeoutMs);
      signal.addEventListener("abort", onAbort);
      socket.onerror = () => fail("nobody answers, or the server refuses it");
      socket.onclose = () => fail("nobody answers, or the server refuses it");
      socket.onopen = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        // `onclose` follows and tells more; that of the package `ws` throws what nobody listens to.
        socket.onerror = () => {};
        // Here, not after an `await`: `ws` tells what came with the handshake's answer before that.
        resolve(new Connection(socket, onChange));
      };
    });
  }

  /** How it ended, once all messages are read; `null` before. */
  get closed(): Closed | null {
    return this.#messages.length ? null : this.#closed;
  }

  get isOpen(): boolean {
    return this.#closed === null;
  }

  get nUnread(): number {
    return this.#messages.length;
  }

  /** Bytes that were sent but have not left this machine. */
  get backlogBytes(): number {
    return this.#socket.bufferedAmount;
  }

  /** Milliseconds since the server was last heard. */
  get silentMs(): number {
    return performance.now() - this.#lastHeard;
  }

  /** Milliseconds since anything was sent. */
  get idleMs(): number {
    return performance.now() - this.#lastSaid;
  }

  /** The next message, if there is one. */
  read(): string | undefined {
    return this.#messages.shift();
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (!this.isOpen) return;
    this.#lastSaid = performance.now();
    this.#socket.send(data);
  }

  /** Ends it now, without waiting for the other side; what was not read is lost. */
  drop(closed: Closed = { code: 1006, reason: "dropped" }): void {
    this.#messages = [];
    release(this.#socket);
    this.#end(closed);
  }

  #end(closed: Closed): void {
    this.#closed ??= closed;
    this.#onChange();
  }
}

/**
 * A connection from `open`, which is asked a second time after `patienceMs` without an answer.
 *
 * A line may be dead before it was of any use, and says nothing then; another one, made beside it,
 * often is not (as RFC 8305 does with addresses). The first that opens is taken, the other one is
 * given up. Throws what the last attempt threw when none opens.
 */
export async function openedSoon(
  open: (signal: AbortSignal) => Promise<Connection>,
  patienceMs: number,
): Promise<Connection> {
  const others = [new AbortController(), new AbortController()] as const;
  const first = open(others[0].signal);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), patienceMs);
  });
  try {
    const soon = await Promise.race([first, patience]);
    if (soon !== null) return soon;
  } finally {
    clearTimeout(timer);
  }
  const second = open(others[1].signal);
  try {
    const opened = await Promise.any([first, second]);
    // One that opens all the same is dropped.
    for (const attempt of [first, second]) {
      void attempt.then((connection) => connection === opened || connection.drop(), () => {});
    }
    return opened;
  } catch (error) {
    throw error instanceof AggregateError ? error.errors.at(-1) : error;
  } finally {
    others.forEach((other) => other.abort());
  }
}

/**
 * Closes a socket whose events are of no more interest. One of the package `ws` is torn down when
 * the other side does not answer; the standard has no way to do that.
 */
function release(socket: WebSocket & { terminate?: () => void }): void {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.onerror = () => {}; // Node.js tells an aborted handshake here
  socket.close();
  if (!socket.terminate) return;
  const timer: unknown = setTimeout(() => socket.terminate?.(), GOODBYE_MS);
  (timer as { unref?: () => void }).unref?.(); // Node.js's: what is closed by then holds up nothing
}
