/** The REST side: whole files, the models, and tokens for browsers. @module */

import { httpUrl, type Parameters } from "./address.ts";
import { BadServerMessage, Refused, Unreachable } from "./errors.ts";
import {
  isObject,
  type AlertFields,
  type Code,
  type Model,
  type ModelDetails,
  type Scores,
  type SegmentFields,
  type Summary,
  type UtteranceFields,
  type WarningFields,
} from "./events.ts";
import type { ScoringOptions } from "./options.ts";

/** A stretch of the call. */
export interface Interval {
  start_ms: number;
  end_ms: number;
}

/** A channel's emotion changed, and stayed changed. */
export interface TurningPoint {
  start_ms: number;
  from_label: string;
  to_label: string;
  /** To the next one, or to the channel's last speech. */
  lasted_ms: number;
  /** How much of that was speech that said `to_label`. */
  heard_ms: number;
}

/** How much one scored channel spoke; `talk_share` is of what all channels spoke. */
export interface Talk {
  channel: number;
  role: string | null;
  talk_ms: number | null;
  talk_share: number | null;
  n_utterances: number;
}

/** One scored channel in one part of the call: mean scores, and the largest's label. */
export interface ArcChannel {
  channel: number;
  role: string | null;
  talk_ms: number | null;
  n_segments: number;
  label: string | null;
  scores: Scores;
  /** Unpleasant -1 to pleasant 1; `null` where nothing was scored. */
  valence: number | null;
  /** Calm -1 to excited 1; `null` where nothing was scored. */
  arousal: number | null;
}

/**
 * The call as a whole. `null` stands where something cannot be known: who speaks is known with
 * `endpointing=vad` only, and where a channel is off nothing is said that would tell of it.
 */
export interface Call {
  talk: Talk[];
  overlap: { total_ms: number; share: number; intervals: Interval[] } | null;
  silence: { total_ms: number; share: number; longest: Interval | null } | null;
  arc: (Interval & { channels: ArcChannel[] })[];
}

/** All that the numbers depend on besides the audio. */
export interface Run {
  schema_version: number;
  model: Model;
  code: Code;
  /** The options as understood, defaults included. */
  config: Record<string, unknown>;
  engine: { device: string; providers: string[]; libraries: Record<string, string> };
}

/** One channel of a file, with the objects of a stream; one that is off has none of them. */
export interface ChannelResult {
  channel: number;
  role: string | null;
  scored: boolean;
  segments?: SegmentFields[];
  utterances?: UtteranceFields[];
  alerts?: AlertFields[];
  turning_points?: TurningPoint[];
  summary?: Summary;
}

/** The answer to a file. */
export interface FileResult {
  request_id: string;
  model: Model;
  duration_ms: number;
  channels: ChannelResult[];
  /** A server of an earlier version tells neither this nor `run`. */
  call?: Call;
  warnings: WarningFields[];
  run?: Run;
}

/** What the request needs besides. */
export interface FileOptions extends ScoringOptions {
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/**
 * Scores one recording: a `File` of a browser, a `Blob`, or bytes.
 *
 * @throws {Refused} with the server's problem
 * @throws {Unreachable} when there is no server, or its answer breaks off
 */
export async function analyzeFile(
  url: string | URL,
  audio: Blob | ArrayBuffer | Uint8Array<ArrayBuffer>,
  { headers, signal, ...parameters }: FileOptions = {},
): Promise<FileResult> {
  const answer = await request("POST", httpUrl(url, "/v1/files", parameters as Parameters), {
    body: audio,
    headers: { "Content-Type": "application/octet-stream", ...headers },
    ...(signal && { signal }),
  });
  if (!isObject(answer) || !Array.isArray(answer["channels"])) {
    throw new BadServerMessage("/v1/files: no list of channels");
  }
  return answer as unknown as FileResult;
}

/** The models that the server offers. Throws as `analyzeFile` does. */
export async function models(
  url: string | URL,
  options: { headers?: Record<string, string>; signal?: AbortSignal } = {},
): Promise<ModelDetails[]> {
  const answer = await request("GET", httpUrl(url, "/v1/models"), options);
  if (!isObject(answer) || !Array.isArray(answer["models"])) {
    throw new BadServerMessage("/v1/models: no list of models");
  }
  return answer["models"] as ModelDetails[];
}

/**
 * A token for one connection of a stream, with the API key in `headers`; for the option `token`.
 *
 * Not for a page of yours: its key would be everybody's. Throws as `analyzeFile` does.
 */
export async function fetchToken(
  url: string | URL,
  options: { headers?: Record<string, string>; signal?: AbortSignal } = {},
): Promise<string> {
  const answer = await request("POST", httpUrl(url, "/v1/tokens"), options);
  if (!isObject(answer) || typeof answer["token"] !== "string") {
    throw new BadServerMessage("/v1/tokens: no token");
  }
  return answer["token"];
}

async function request(method: string, url: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, { ...init, method });
    text = await response.text();
  } catch (error) {
    init.signal?.throwIfAborted();
    throw new Unreachable(`no answer from ${url}, or not all of it`, { cause: error });
  }
  if (!response.ok) throw refusal(response, text);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BadServerMessage(`${url}: not JSON: ${text.slice(0, 80)}`, { cause: error });
  }
}

/** A body that is no JSON object (a proxy's page) becomes the problem's title. */
function refusal(response: Response, text: string): Refused {
  let problem: unknown;
  try {
    problem = JSON.parse(text);
  } catch {
    // told below
  }
  const retryAfterS = Number(response.headers.get("Retry-After") ?? NaN);
  return new Refused(
    response.status,
    isObject(problem) ? problem : { title: text.slice(0, 200).trim() },
    Number.isFinite(retryAfterS) ? retryAfterS * 1000 : null,
  );
}
