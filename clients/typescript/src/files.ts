/** The REST side: whole files, the models, and tokens for browsers. @module */

import { httpUrl, type Parameters } from "./address.ts";
import { BadServerMessage, Refused, Unreachable } from "./errors.ts";
import {
  isObject,
  type AlertFields,
  type Model,
  type ModelDetails,
  type SegmentFields,
  type Summary,
  type UtteranceFields,
  type WarningFields,
} from "./events.ts";

/** One channel of a file, with the objects of a stream; one that is off has none of them. */
export interface ChannelResult {
  channel: number;
  role: string | null;
  scored: boolean;
  segments?: SegmentFields[];
  utterances?: UtteranceFields[];
  alerts?: AlertFields[];
  summary?: Summary;
}

/** The answer to a file. */
export interface FileResult {
  request_id: string;
  model: Model;
  duration_ms: number;
  channels: ChannelResult[];
  warnings: WarningFields[];
}

/** The contract's parameters by its own names, and what the request needs besides. */
export interface FileOptions {
  roles?: string | readonly string[];
  model?: string;
  endpointing?: string;
  endpoint_silence_ms?: number;
  smoothing?: string;
  hysteresis?: number;
  min_dwell_ms?: number;
  rules?: string | readonly string[];
  partial?: boolean;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/**
 * Scores one recording: a `File` of a browser, a `Blob`, or bytes.
 *
 * @throws {Refused} with the server's problem
 * @throws {Unreachable} when there is no server
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

async function request(method: string, url: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(url, { ...init, method });
  } catch (error) {
    init.signal?.throwIfAborted();
    throw new Unreachable(`no answer from ${url}`, { cause: error });
  }
  const text = await response.text();
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
