/** The audio that may have to be sent again, and what has not been sent yet. @module */

import { bytesOf } from "./chunks.ts";
import { isUpdate, withUpdate, type Command, type Update } from "./commands.ts";
import { ClientError } from "./errors.ts";
import { packetSamples } from "./opus.ts";

const BYTES_OF_SAMPLE: Record<string, number> = { pcm_s16le: 2, pcm_f32le: 4, mulaw: 1, alaw: 1 };
/** Chunks are cut to at most this, so that a connection's backlog stays short. */
const MAX_ITEM_BYTES = 1 << 15;

/** A piece of the stream: audio that starts at `atFrame`, or a command there. */
export interface Item {
  atFrame: number;
  endFrame: number;
  content: Uint8Array<ArrayBuffer> | Command;
}

/** The shape of the samples; a frame is one sample of each channel, also within Opus packets. */
export interface Format {
  encoding: string;
  sampleRateHz: number;
  nChannels: number;
}

/**
 * What was recorded and is not yet known to be safe on the server, in the stream's order.
 *
 * Raw audio is cut where it suits; of `encoding: "opus"` each item is one packet, whole.
 *
 * Items are numbered from 0 and keep their number; `forget` lets go of the oldest. It is to hold
 * `maxMs` of audio: `isFull` says that there is no room, `changed` waits for the next change.
 */
export class Tape {
  readonly #isPackets: boolean;
  readonly #bytesOfFrame: number;
  readonly #framesPerMs: number;
  readonly #startMs: number;
  readonly #maxFrames: number;
  #items: Item[] = [];
  /** Those that were let go. */
  #updates: Update[] = [];
  #nForgotten = 0;
  #endFrame = 0;
  /** The beginning of a frame. */
  #rest = new Uint8Array();
  #isFinished = false;
  #waiting: (() => void)[] = [];

  constructor(format: Format, startMs: number, maxMs: number) {
    this.#isPackets = format.encoding === "opus";
    const bytesOfSample = this.#isPackets ? 1 : BYTES_OF_SAMPLE[format.encoding];
    if (bytesOfSample === undefined) {
      const known = [...Object.keys(BYTES_OF_SAMPLE), "opus"].join(", ");
      throw new ClientError(`encoding ${format.encoding} is unknown; use ${known}`);
    }
    this.#bytesOfFrame = bytesOfSample * format.nChannels;
    this.#framesPerMs = format.sampleRateHz / 1000;
    this.#startMs = startMs;
    this.#maxFrames = maxMs * this.#framesPerMs;
  }

  get isFinished(): boolean {
    return this.#isFinished;
  }

  /** The time up to which audio was recorded. */
  get endMs(): number {
    return this.#msOf(this.#endFrame);
  }

  get isFull(): boolean {
    return this.#endFrame - this.#beginFrame >= this.#maxFrames;
  }

  /** Whether all from a time on is still here; of packets, from the first that starts then. */
  hasFrom(ms: number): boolean {
    return this.#beginFrame < this.#frameOf(ms) + (this.#isPackets ? this.#framesPerMs : 1);
  }

  /**
   * Adds raw audio, of which part of a frame waits for the rest, or one packet; it is copied.
   * Throws `ClientError` for what has no bytes.
   */
  add(audio: ArrayBufferView | ArrayBuffer): void {
    const bytes = bytesOf(audio);
    if (this.#isPackets) return this.#record(new Uint8Array(bytes), packetSamples(bytes));
    const all = new Uint8Array(this.#rest.length + bytes.length);
    all.set(this.#rest);
    all.set(bytes, this.#rest.length);
    const nWhole = all.length - (all.length % this.#bytesOfFrame);
    this.#rest = all.slice(nWhole);
    for (let start = 0; start < nWhole; start += MAX_ITEM_BYTES) {
      const part = all.subarray(start, Math.min(start + MAX_ITEM_BYTES, nWhole));
      this.#record(part, part.length / this.#bytesOfFrame);
    }
  }

  /** Adds a command at the place that the audio has reached. */
  addCommand(command: Command): void {
    this.#record(command, 0);
  }

  /** There will be no more. Of half a sample the server tells in its own words. */
  finish(): void {
    if (this.#rest.length) this.#record(this.#rest, 1);
    this.#isFinished = true;
    this.wake();
  }

  /** Item `number`, or `undefined` when it is not recorded yet or was let go. */
  item(number: number): Item | undefined {
    return this.#items[number - this.#nForgotten];
  }

  /** Number of the first item with something at or after a time; one past the last if none. */
  find(ms: number): number {
    const found = this.#items.findIndex((item) => this.#isFrom(item, ms));
    return this.#nForgotten + (found < 0 ? this.#items.length : found);
  }

  /** Where one must begin to have all from a time on: there, or where its packet starts. */
  cutMs(ms: number): number {
    const item = this.#isPackets ? this.item(this.find(ms)) : undefined;
    return item === undefined ? ms : this.#msOf(item.atFrame);
  }

  /** The updates before an item, for a session that begins with it. */
  updatesBefore(number: number): Update[] {
    return this.#items.slice(0, number - this.#nForgotten).reduce(noted, this.#updates);
  }

  lengthMs(item: Item): number {
    return (item.endFrame - item.atFrame) / this.#framesPerMs;
  }

  /** An item as a message: the part of its audio at or after a time, or its command. */
  messageFrom({ atFrame, content }: Item, ms: number): Uint8Array<ArrayBuffer> | string {
    if (!(content instanceof Uint8Array)) return JSON.stringify(content);
    if (this.#isPackets) return content;
    const nEarlier = Math.max(0, this.#frameOf(ms) - atFrame);
    return content.subarray(nEarlier * this.#bytesOfFrame);
  }

  /** Lets go of what lies before a time. */
  forget(beforeMs: number): void {
    const before = this.#nForgotten;
    while (this.#items.length && !this.#isFrom(this.#items[0]!, beforeMs)) {
      this.#updates = noted(this.#updates, this.#items.shift()!);
      this.#nForgotten++;
    }
    if (this.#nForgotten !== before) this.wake();
  }

  /** Resolves at the next change: something was recorded, forgotten, or somebody called `wake`. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #record(content: Item["content"], nFrames: number): void {
    const atFrame = this.#endFrame;
    this.#endFrame += nFrames;
    this.#items.push({ atFrame, endFrame: this.#endFrame, content });
    this.wake();
  }

  /**
   * Whether there is something at or after a time in an item. A command there itself is sent
   * again: whether the checkpoint knows of it cannot be told, and the server takes it twice
   * without harm. A packet that starts within the millisecond is
   * what a checkpoint means by it, and the one before it ends there.
   */
  #isFrom(item: Item, ms: number): boolean {
    if (!(item.content instanceof Uint8Array)) return item.atFrame >= this.#frameOf(ms);
    return item.endFrame > this.#frameOf(ms) + (this.#isPackets ? this.#framesPerMs - 1 : 0);
  }

  get #beginFrame(): number {
    return this.#items[0]?.atFrame ?? this.#endFrame;
  }

  #frameOf(ms: number): number {
    return Math.round((ms - this.#startMs) * this.#framesPerMs);
  }

  #msOf(frame: number): number {
    return Math.round(this.#startMs + frame / this.#framesPerMs);
  }
}

function noted(updates: Update[], { content }: Item): Update[] {
  return isUpdate(content) ? withUpdate(updates, content) : updates;
}
