/** Client of the glrf speech emotion service, for browsers and Node.js. @module */

export type { Chunk, Chunks } from "./chunks.ts";
export { FLUSH, update, type Update, type UpdateOptions } from "./commands.ts";
export type { WebSocketFactory } from "./connection.ts";
export {
  BadServerMessage,
  ClientError,
  NoMicrophone,
  Refused,
  StreamClosed,
  StreamError,
  Unreachable,
} from "./errors.ts";
export {
  parseEvent,
  type Alert,
  type AlertFields,
  type Checkpoint,
  type Code,
  type Decision,
  type Draining,
  type ErrorFrame,
  type Event,
  type Model,
  type ModelDetails,
  type Scores,
  type Segment,
  type SegmentFields,
  type SessionClosed,
  type SessionCreated,
  type StreamWarning,
  type Summary,
  type Usage,
  type Utterance,
  type UtteranceFields,
  type WarningFields,
} from "./events.ts";
export {
  analyzeFile,
  fetchToken,
  models,
  type ArcChannel,
  type Call,
  type ChannelResult,
  type FileOptions,
  type FileResult,
  type Interval,
  type Run,
  type Talk,
  type TurningPoint,
} from "./files.ts";
export {
  microphone,
  MICROPHONE_RATE_HZ,
  type Microphone,
  type MicrophoneOptions,
} from "./microphone.ts";
export type { ConnectionState, ScoringOptions, StreamOptions } from "./options.ts";
export type { RetryOptions } from "./retrying.ts";
export { stream } from "./stream.ts";
export type { Token } from "./token.ts";
