/** Audio for a `Service`, and what is heard of it. */

import { afterEach } from "node:test";
import {
  FLUSH,
  stream,
  type Chunk,
  type ConnectionState,
  type Event,
  type StreamOptions,
} from "glrf-client";
import { Service, type Fault } from "./service.ts";

export const RETRY = { minDelayMs: 5, maxDelayMs: 20, giveUpMs: 60_000, giveUpFirstMs: 60_000 };
/** An end before which all that was said arrives; a reset may overtake it. */
export const CLOSED = { close: 1011 };
const running: Service[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((service) => service.stop()));
});

export async function serve(faults: Fault[] = [], options = {}): Promise<[Service, string]> {
  const service = new Service(faults, options);
  running.push(service);
  return [service, await service.start()];
}

/** `n` chunks of 100 ms, no two alike, with a flush after every third second. */
export function* audio(n: number): Generator<Chunk> {
  for (let i = 0; i < n; i++) {
    const chunk = new Int16Array(1600);
    for (let k = 0; k < chunk.length; k++) chunk[k] = ((i * 1600 + k) * 7919) % 30_000;
    yield chunk;
    if (i % 30 === 29) yield FLUSH;
  }
}

/** The same as a microphone gives it: as time goes by. */
export async function* live(n: number, everyMs = 2): AsyncGenerator<Chunk> {
  for (const chunk of audio(n)) {
    yield chunk;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

export interface Told {
  events: Event[];
  states: ConnectionState[];
}

export async function listen(
  url: string,
  chunks: Iterable<Chunk> | AsyncIterable<Chunk>,
  options: StreamOptions = {},
): Promise<Told> {
  const told: Told = { events: [], states: [] };
  const onConnection = (state: ConnectionState) => told.states.push(state);
  for await (const event of stream(url, chunks, { retry: RETRY, onConnection, ...options })) {
    told.events.push(event);
  }
  return told;
}

/** What a reader goes by: segments and utterances without what belongs to a connection. */
export function timeline({ events }: Told): object[] {
  return events
    .filter((event) => event.type === "segment" || event.type === "utterance")
    .map(({ seq, session_id, ...rest }) => ({ ...rest }));
}

export function typesOf({ events }: Told, type: Event["type"]): number {
  return events.filter((event) => event.type === type).length;
}

export async function unbroken(n: number): Promise<object[]> {
  const [, url] = await serve();
  return timeline(await listen(url, audio(n)));
}
