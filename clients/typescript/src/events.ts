/**
 * The server's messages. Times are integer milliseconds from the stream's start.
 *
 * Events are the wire's own objects, field names included. A field or a message type that this
 * client does not know is ignored, so that a newer server can speak to it.
 *
 * @module
 */

import { BadServerMessage } from "./errors.ts";

/** A score in 0..1 for each label, one-vs-rest: they need not sum to 1. */
export type Scores = Record<string, number>;

/** The model that answers; `labels` in the order of its outputs. */
export interface Model {
  name: string;
  version: string;
  sha256: string;
  labels: string[];
}

/** The server's version; `commit` is `null` where its installation does not tell. */
export interface Code {
  version: string;
  commit: string | null;
}

/** What else a server tells of a model that it offers. */
export interface ModelDetails extends Model {
  default: boolean;
  license: string;
  provenance: Record<string, unknown>;
  segment_ms: number;
  hop_ms: number;
  sample_rate: number;
  device: string;
  /** ONNX Runtime's, in the order in which they are asked. */
  providers: string[];
}

/** A label (`null`: nothing to decide on) and the scores that it rests on. */
export interface Decision {
  label: string | null;
  scores: Scores;
}

/** One channel as a whole: mean scores and the share of segments by label. */
export interface Summary extends Decision {
  time_share: Scores;
  /** What came after it was scored relative to the speaker's neutral voice. */
  baseline_end_ms?: number | null;
  channel?: number;
  role?: string | null;
}

/** Totals of a session over its scored channels. */
export interface Usage {
  audio_ms: number;
  speech_ms: number;
  segments: number;
  dropped_ms: number;
}

/** What a message of a stream has besides; a file's objects have neither. */
export interface Frame {
  seq?: number;
  session_id?: string;
}

/** The first message of a stream. */
export interface SessionCreated extends Frame {
  type: "session.created";
  config: Record<string, unknown>;
  model: Model;
  /** A server of an earlier version does not tell it. */
  code?: Code;
  limits: Record<string, unknown>;
  expires_at: string | null;
}

/** A segment as a file's result has it; see {@link Segment}. */
export interface SegmentFields {
  channel: number;
  role: string | null;
  index: number;
  start_ms: number;
  end_ms: number;
  partial: boolean;
  scores: Scores;
  /** `null` when the segment abstains; `abstain` then says why. */
  label: string | null;
  abstain: string | null;
  /** The running decision on the utterance. */
  smoothed: Decision;
  /** `null` between utterances, where nothing is scored. */
  utterance_id: string | null;
}

/** 2 s of one channel, or less while an utterance starts (`partial`); a new one every 0.4 s. */
export interface Segment extends SegmentFields, Frame {
  type: "segment";
  /** From the receipt of the segment's last sample to the sending of this message. */
  lag_ms: number;
}

/** An utterance as a file's result has it; see {@link Utterance}. */
export interface UtteranceFields {
  channel: number;
  role: string | null;
  utterance_id: string;
  start_ms: number;
  end_ms: number;
  is_final: boolean;
  label: string | null;
  scores: Scores;
  n_segments: number;
  /** Each of its segments was decided for its label or for neutral. */
  pure: boolean;
}

/** The result of one utterance: final, or so far. */
export interface Utterance extends UtteranceFields, Frame {
  type: "utterance";
}

/** An alert as a file's result has it; see {@link Alert}. */
export interface AlertFields {
  channel: number;
  role: string | null;
  rule: string;
  label: string;
  start_ms: number;
  end_ms: number;
  score: number;
}

/** An emotion stayed at or above the threshold of one of the stream's `rules` for its time. */
export interface Alert extends AlertFields, Frame {
  type: "alert";
}

/** Another connection can go on from here; `stream` keeps it and needs no help. */
export interface Checkpoint extends Frame {
  type: "checkpoint";
  token: string;
  resume_from_ms: number;
}

/** A warning as a file's result has it; see {@link StreamWarning}. */
export interface WarningFields {
  channel: number;
  code: string;
  message: string;
}

/** Something about the audio that makes results less trustworthy. */
export interface StreamWarning extends WarningFields, Frame {
  type: "warning";
}

/** Something that was refused. A stream goes on after it unless it is `fatal`. */
export interface ErrorFrame extends Frame {
  type: "error";
  code: string;
  message: string;
  fatal: boolean;
  retryable: boolean;
  retry_after_ms: number | null;
  request_id: string | null;
}

/** The server ends this connection `deadline_ms` from now at the latest; `stream` moves on. */
export interface Draining extends Frame {
  type: "session.draining";
  deadline_ms: number;
}

/** The last message of a stream; `summary` has one entry a scored channel. */
export interface SessionClosed extends Frame {
  type: "session.closed";
  reason: string;
  summary: Summary[];
  usage: Usage;
}

export type Event =
  | SessionCreated
  | Segment
  | Utterance
  | Alert
  | Checkpoint
  | StreamWarning
  | ErrorFrame
  | Draining
  | SessionClosed;

type Kind = "string" | "number" | "boolean" | "object" | "list" | "string or null";

/** The fields that a message must have for this client to work with it. */
const REQUIRED: Record<Event["type"], Record<string, Kind>> = {
  "session.created": { config: "object", model: "object", limits: "object" },
  segment: {
    channel: "number",
    index: "number",
    start_ms: "number",
    end_ms: "number",
    partial: "boolean",
    scores: "object",
    label: "string or null",
    abstain: "string or null",
    smoothed: "object",
    utterance_id: "string or null",
  },
  utterance: {
    channel: "number",
    utterance_id: "string",
    start_ms: "number",
    end_ms: "number",
    is_final: "boolean",
    label: "string or null",
    scores: "object",
    n_segments: "number",
    pure: "boolean",
  },
  alert: {
    channel: "number",
    rule: "string",
    label: "string",
    start_ms: "number",
    end_ms: "number",
    score: "number",
  },
  checkpoint: { token: "string", resume_from_ms: "number" },
  warning: { code: "string", message: "string" },
  error: { code: "string", message: "string", fatal: "boolean", retryable: "boolean" },
  "session.draining": { deadline_ms: "number" },
  "session.closed": { reason: "string", summary: "list", usage: "object" },
};

/**
 * One server message; `null` for a type that this client does not know.
 *
 * @throws {BadServerMessage} for what is not a message of this protocol
 */
export function parseEvent(text: string): Event | null {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new BadServerMessage(`not JSON: ${text.slice(0, 80)}`, { cause: error });
  }
  if (!isObject(data) || typeof data["type"] !== "string") {
    throw new BadServerMessage(`not an object with a type: ${text.slice(0, 80)}`);
  }
  const type = data["type"];
  if (!Object.hasOwn(REQUIRED, type)) return null;
  for (const [name, kind] of Object.entries(REQUIRED[type as Event["type"]])) {
    if (!isOfKind(data[name], kind)) {
      throw new BadServerMessage(`${type}: ${name} is not a ${kind}`);
    }
  }
  return data as unknown as Event;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isOfKind(value: unknown, kind: Kind): boolean {
  switch (kind) {
    case "object":
      return isObject(value);
    case "list":
      return Array.isArray(value);
    case "string or null":
      return value === null || typeof value === "string";
    default:
      return typeof value === kind;
  }
}
