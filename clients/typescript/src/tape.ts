/** The audio that may have to be sent again, and what has not been sent yet. @module */

import { ClientError } from "./errors.ts";

/** Between chunks: end the utterance here. */
export const FLUSH: unique symbol = Symbol("flush");

const BYTES_OF_SAMPLE: Record<string, number> = { pcm_s16le: 2, pcm_f32le: 4, mulaw: 1, alaw: 1 };
/** Chunks are cut to at most this, so that a connection's backlog stays short. */
const MAX_ITEM_BYTES = 1 << 15;

/** A piece of the stream: audio that starts at `atFrame`, or an utterance's end there. */
export type Item = { atFrame: number; endFrame: number; audio: Uint8Array<ArrayBuffer> | null };

/** The shape of the samples; a frame is one sample of each channel. */
export interface Format {
  encoding: string;
  sampleRateHz: number;
  nChannels: number;
}

/**
 * What was recorded and is not yet known to be safe on the server, in the stream's order.
 *
 * Items are numbered from 0 and keep their number; `forget` lets go of the oldest. It holds
 * `maxMs` of audio: `room` waits for the space.
 */
export class Tape {
  readonly #bytesOfFrame: number;
  readonly #framesPerMs: number;
  readonly #startMs: number;
  readonly #maxFrames: number;
  #items: Item[] = [];
  #nForgotten = 0;
  #endFrame = 0;
  #isFinished = false;
  #waiting: (() => void)[] = [];

  constructor(format: Format, startMs: number, maxMs: number) {
    const bytesOfSample = BYTES_OF_SAMPLE[format.encoding];
    if (bytesOfSample === undefined) {
      throw new ClientError(
        `encoding ${format.encoding} is unknown; use ${Object.keys(BYTES_OF_SAMPLE).join(", ")}`,
      );
    }
    this.#bytesOfFrame = bytesOfSample * format.nChannels;
    this.#framesPerMs = format.sampleRateHz / 1000;
    this.#startMs = startMs;
    this.#maxFrames = maxMs * this.#framesPerMs;
  }

  get isFinished(): boolean {
    return this.#isFinished;
  }

  /** The oldest time that can still be sent. */
  get beginMs(): number {
    return this.#msOf(this.#items[0]?.atFrame ?? this.#endFrame);
  }

  /** The time up to which audio was recorded. */
  get endMs(): number {
    return this.#msOf(this.#endFrame);
  }

  get isFull(): boolean {
    const begin = this.#items[0]?.atFrame ?? this.#endFrame;
    return this.#endFrame - begin >= this.#maxFrames;
  }

  /** Adds whole frames; they are copied. Throws `ClientError` for part of a frame. */
  add(audio: ArrayBufferView | ArrayBuffer): void {
    const bytes = ArrayBuffer.isView(audio)
      ? new Uint8Array(audio.buffer, audio.byteOffset, audio.byteLength)
      : new Uint8Array(audio);
    if (bytes.byteLength % this.#bytesOfFrame) {
      throw new ClientError(
        `a chunk of ${bytes.byteLength} bytes is not whole frames of ${this.#bytesOfFrame} bytes`,
      );
    }
    for (let start = 0; start < bytes.byteLength; start += MAX_ITEM_BYTES) {
      const part = new Uint8Array(bytes.subarray(start, start + MAX_ITEM_BYTES));
      const atFrame = this.#endFrame;
      this.#endFrame += part.byteLength / this.#bytesOfFrame;
      this.#items.push({ atFrame, endFrame: this.#endFrame, audio: part });
    }
    this.wake();
  }

  /** Ends the utterance here. */
  flush(): void {
    this.#items.push({ atFrame: this.#endFrame, endFrame: this.#endFrame, audio: null });
    this.wake();
  }

  /** There will be no more. */
  finish(): void {
    this.#isFinished = true;
    this.wake();
  }

  /** Item `number`, or `undefined` when it is not recorded yet or was let go. */
  item(number: number): Item | undefined {
    return this.#items[number - this.#nForgotten];
  }

  /** Number of the first item with something at or after a time; one past the last if none. */
  find(ms: number): number {
    const frame = this.#frameOf(ms);
    const found = this.#items.findIndex((item) => isFrom(item, frame));
    return this.#nForgotten + (found < 0 ? this.#items.length : found);
  }

  lengthMs(item: Item): number {
    return (item.endFrame - item.atFrame) / this.#framesPerMs;
  }

  /** The part of an item's audio at or after a time. */
  audioFrom(item: Item, ms: number): Uint8Array<ArrayBuffer> {
    const nEarlier = Math.max(0, this.#frameOf(ms) - item.atFrame);
    return (item.audio ?? new Uint8Array()).subarray(nEarlier * this.#bytesOfFrame);
  }

  /** Lets go of what lies before a time. */
  forget(beforeMs: number): void {
    const frame = this.#frameOf(beforeMs);
    this.#drop(() => !isFrom(this.#items[0]!, frame));
  }

  /** Lets go of the oldest, as long as the tape is full, of the items before `number`. */
  shorten(number: number): void {
    this.#drop(() => this.isFull && this.#nForgotten < number);
  }

  /** Resolves at the next change: something was recorded, forgotten, or somebody called `wake`. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #drop(isDroppable: () => boolean): void {
    const before = this.#nForgotten;
    while (this.#items.length && isDroppable()) {
      this.#items.shift();
      this.#nForgotten++;
    }
    if (this.#nForgotten !== before) this.wake();
  }

  #frameOf(ms: number): number {
    return Math.round((ms - this.#startMs) * this.#framesPerMs);
  }

  #msOf(frame: number): number {
    return Math.round(this.#startMs + frame / this.#framesPerMs);
  }
}

/** A flush at `frame` itself is sent again: flushing an empty utterance changes nothing. */
function isFrom(item: Item, frame: number): boolean {
  return item.audio === null ? item.atFrame >= frame : item.endFrame > frame;
}
