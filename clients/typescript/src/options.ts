/** What a stream may be asked for. @module */

import type { Parameters } from "./address.ts";
import type { WebSocketFactory } from "./connection.ts";
import { ClientError } from "./errors.ts";
import type { SessionCreated } from "./events.ts";
import { checkNames } from "./names.ts";
import { RETRY_DEFAULTS, type RetryOptions } from "./retrying.ts";
import type { Token } from "./token.ts";

/** What the connection is doing, for a display. */
export type ConnectionState =
  | { state: "connecting"; attempt: number }
  /** `resumed` says that the session goes on where it was; else it is a new one. */
  | { state: "live"; resumed: boolean; session: SessionCreated }
  | { state: "waiting"; attempt: number; delayMs: number; cause: ClientError }
  | { state: "closed" };

/** How audio is scored, be it a stream or a file: the contract's parameters by its own names. */
export interface ScoringOptions {
  roles?: string | readonly string[];
  model?: string;
  endpointing?: string;
  endpoint_silence_ms?: number;
  smoothing?: string;
  hysteresis?: number;
  min_dwell_ms?: number;
  baseline_ms?: number;
  rules?: string | readonly string[];
  partial?: boolean;
}

/** What a stream has besides, and how this client goes about it. */
export interface StreamOptions extends ScoringOptions {
  encoding?: "pcm_s16le" | "pcm_f32le" | "mulaw" | "alaw" | "opus";
  sample_rate?: number;
  channels?: 1 | 2;
  on_overload?: "close" | "drop_oldest";
  start_offset_ms?: number;
  token?: Token;
  retry?: RetryOptions;
  /**
   * Audio kept for sending again, 10 000 at least; a source is not drawn from while it is full.
   * Default 60 000.
   */
  maxBufferMs?: number;
  /** Time for a connection to open, and for its `token` before that. Default 10 000. */
  openTimeoutMs?: number;
  /**
   * A server that owes results and is silent for this long counts as lost; a connection after one
   * that did is given twice as long, later ones four times. Default 10 000.
   */
  stallMs?: number;
  /** Ends the stream at once; the iterator throws the signal's reason. */
  signal?: AbortSignal;
  onConnection?: (state: ConnectionState) => void;
  webSocket?: WebSocketFactory;
}

/** Who each is for; the server is told its own in the address. */
const OPTIONS: Record<keyof StreamOptions, "server" | "client"> = {
  encoding: "server",
  sample_rate: "server",
  channels: "server",
  roles: "server",
  model: "server",
  endpointing: "server",
  endpoint_silence_ms: "server",
  smoothing: "server",
  hysteresis: "server",
  min_dwell_ms: "server",
  baseline_ms: "server",
  rules: "server",
  on_overload: "server",
  partial: "server",
  start_offset_ms: "server",
  token: "client",
  retry: "client",
  maxBufferMs: "client",
  openTimeoutMs: "client",
  stallMs: "client",
  signal: "client",
  onConnection: "client",
  webSocket: "client",
};

/** A checkpoint lies up to 7 s behind what was sent: a smaller buffer would wait for ever. */
const LEAST_BUFFER_MS = 10_000;

/** Throws `ClientError` for a name that is not known, and a buffer that is too small. */
export function checkOptions(options: StreamOptions): void {
  checkNames("stream", options, OPTIONS);
  checkNames("retry", options.retry ?? {}, RETRY_DEFAULTS);
  const { maxBufferMs = LEAST_BUFFER_MS } = options;
  if (!(maxBufferMs >= LEAST_BUFFER_MS)) {
    throw new ClientError(
      `maxBufferMs=${maxBufferMs} is too little: checkpoints lie up to 7 s behind what was sent; ` +
        `give ${LEAST_BUFFER_MS} or more`,
    );
  }
}

/** What the server is told. */
export function parametersOf(options: StreamOptions): Parameters {
  const told = Object.entries(options).filter(
    ([name]) => OPTIONS[name as keyof StreamOptions] === "server",
  );
  return Object.fromEntries(told);
}
