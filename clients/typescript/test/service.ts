/**
 * A server that speaks the contract, small enough to see through: a segment is 400 ms of audio
 * and its score is their checksum, so that lost, doubled or shifted audio shows.
 *
 * What goes wrong on which connection is the test's to say.
 */

import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";

export const SEGMENT_MS = 400;
const BYTES_OF_MS = 32;

/** What one connection does otherwise than well. */
export interface Fault {
  /** Refuses the upgrade with this status. */
  refuse?: number;
  /** Never answers the upgrade. */
  unanswered?: boolean;
  /** Its first messages arrive in one piece with the answer to the upgrade. */
  joined?: boolean;
  /** Begins without `session.created`. */
  ungreeted?: boolean;
  /** After so many segments of this connection ... */
  after?: number;
  /** ... ends it: by a reset, a close code, an error frame with one, or by falling silent. */
  then?:
    | "reset"
    | "silence"
    | "drain"
    | { close: number; error?: { code: string; retryable: boolean; retry_after_ms?: number } };
}

interface State {
  fromMs: number;
  index: number;
  utterance: number;
  utteranceMs: number;
}

export class Service {
  readonly faults: Fault[];
  /**
   * None; the first alone, which comes before any audio; those after segments too; or, against the
   * contract, no first one, and each lies before the segment that was told last.
   */
  readonly checkpoints: boolean | "first" | "behind";
  /** The query of each connection, in turn. */
  readonly queries: URLSearchParams[] = [];
  readonly protocols: string[] = [];
  readonly openedAtMs: number[] = [];
  /** Bytes of audio that each connection took. */
  readonly nBytes: number[] = [];
  /** How many bytes the binary messages had. */
  readonly sizes = new Set<number>();
  /** Commands but `close`, with the time of the stream at which each came. */
  readonly commands: [ms: number, command: { type: string; [field: string]: unknown }][] = [];
  knowsTokens = true;
  readonly #http: Server = createServer((_, response) => response.writeHead(404).end());
  readonly #sockets = new Set<Duplex>();

  constructor(
    faults: Fault[] = [],
    { checkpoints = true }: { checkpoints?: Service["checkpoints"] } = {},
  ) {
    this.faults = faults;
    this.checkpoints = checkpoints;
    const websockets = new WebSocketServer({
      noServer: true,
      handleProtocols: (offered) => [...offered][0] ?? false,
    });
    this.#http.on("upgrade", (request, socket, head) => {
      const number = this.queries.length;
      const fault = this.faults[number] ?? {};
      this.queries.push(new URL(request.url!, "http://x").searchParams);
      this.protocols.push(request.headers["sec-websocket-protocol"] ?? "");
      this.openedAtMs.push(performance.now());
      this.#sockets.add(socket);
      if (fault.unanswered) return;
      if (fault.refuse) return void socket.end(`HTTP/1.1 ${fault.refuse} No\r\n\r\n`);
      if (fault.joined) socket.cork();
      websockets.handleUpgrade(request, socket, head, (websocket) =>
        this.#serve(websocket, number, fault),
      );
      if (fault.joined) socket.uncork();
    });
  }

  async start(): Promise<string> {
    this.#http.listen(0, "127.0.0.1");
    await once(this.#http, "listening");
    return `ws://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#http.close();
    await once(this.#http, "close");
  }

  #serve(websocket: WebSocket, number: number, fault: Fault): void {
    const query = this.queries[number]!;
    const resume = query.get("resume");
    if (resume !== null && !this.knowsTokens) {
      websocket.send(JSON.stringify(errorFrame("checkpoint_unknown", false)));
      return websocket.close(4404);
    }
    const startMs = Number(query.get("start_offset_ms") ?? 0);
    const state: State = resume
      ? JSON.parse(Buffer.from(resume, "base64url").toString())
      : { fromMs: startMs, index: 0, utterance: 0, utteranceMs: startMs };
    const session_id = `session-${number}`;
    let seq = 0;
    let held = Buffer.alloc(0);
    let nSegments = 0;
    let isSilent = false;
    const say = (message: object) => {
      if (!isSilent) websocket.send(JSON.stringify({ seq: seq++, session_id, ...message }));
    };
    const checkpoint = (at = state) => {
      const token = Buffer.from(JSON.stringify(at)).toString("base64url");
      say({ type: "checkpoint", token, resume_from_ms: at.fromMs });
    };
    const segment = (nBytes: number) => {
      const scores = { sum: checksum(held.subarray(0, nBytes)) };
      held = held.subarray(nBytes);
      const start_ms = state.fromMs;
      state.fromMs += nBytes / BYTES_OF_MS;
      say({
        type: "segment",
        channel: 0,
        role: null,
        index: state.index++,
        start_ms,
        end_ms: state.fromMs,
        partial: false,
        scores,
        label: "sum",
        abstain: null,
        smoothed: { label: "sum", scores },
        utterance_id: `0-${state.utterance}`,
        lag_ms: 1,
      });
      nSegments++;
    };
    const flush = () => {
      if (held.length) segment(held.length);
      if (state.fromMs === state.utteranceMs) return;
      say({
        type: "utterance",
        channel: 0,
        role: null,
        utterance_id: `0-${state.utterance++}`,
        start_ms: state.utteranceMs,
        end_ms: state.fromMs,
        is_final: true,
        label: "sum",
        scores: {},
        n_segments: 1,
        pure: true,
      });
      state.utteranceMs = state.fromMs;
    };
    const strike = () => {
      if (nSegments !== fault.after) return;
      if (fault.then === "reset") websocket.terminate();
      else if (fault.then === "silence") isSilent = true;
      else if (fault.then === "drain") {
        say({ type: "session.draining", deadline_ms: 5000 });
        checkpoint();
      } else if (fault.then) {
        const { error, close } = fault.then;
        if (error) say(errorFrame(error.code, error.retryable, error.retry_after_ms ?? null));
        websocket.close(close);
        isSilent = true;
      }
    };
    this.nBytes[number] = 0;
    if (!fault.ungreeted) say(created(query));
    if (this.checkpoints && this.checkpoints !== "behind") checkpoint();
    strike();
    websocket.on("message", (data: Buffer, isBinary) => {
      if (!isBinary) {
        const command = JSON.parse(String(data));
        const heardMs = state.fromMs + held.length / BYTES_OF_MS;
        if (command.type !== "close") this.commands.push([heardMs, command]);
        if (command.hysteresis > 1) say(refusal(`hysteresis: ${command.hysteresis} is above 1`));
        if (command.type === "flush") flush();
        if (command.type === "close") {
          flush();
          say({ type: "session.closed", reason: "client_closed", summary: [], usage: {} });
          if (!isSilent) websocket.close(1000);
        }
        return;
      }
      this.nBytes[number]! += data.length;
      this.sizes.add(data.length);
      held = Buffer.concat([held, data]);
      while (held.length >= SEGMENT_MS * BYTES_OF_MS && websocket.readyState === 1 && !isSilent) {
        const before = { ...state };
        segment(SEGMENT_MS * BYTES_OF_MS);
        // A checkpoint is older than the last results, as the contract allows.
        if (this.checkpoints === true && nSegments % 3 === 1) checkpoint();
        if (this.checkpoints === "behind") checkpoint(before);
        strike();
      }
    });
  }
}

function checksum(audio: Buffer): number {
  let sum = 7;
  for (let k = 0; k < audio.length; k++) sum = (sum * 31 + audio[k]!) % 1_000_003;
  return sum;
}

function errorFrame(code: string, retryable: boolean, retry_after_ms: number | null = null) {
  const message = "as the test wants it";
  return { type: "error", code, message, fatal: true, retryable, retry_after_ms, request_id: "r" };
}

/** Of an update; the stream goes on. */
function refusal(message: string) {
  return { ...errorFrame("bad_parameter", false), message, fatal: false };
}

function created(query: URLSearchParams) {
  const model = { name: "tiny", version: "1.0.0", sha256: "0", labels: ["sum"] };
  const config = { roles: [{ channel: 0, role: null, scored: true }], resume: query.has("resume") };
  return { type: "session.created", config, model, limits: {}, expires_at: null };
}
