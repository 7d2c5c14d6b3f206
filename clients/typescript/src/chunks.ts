/** What a source gives. @module */

import type { FLUSH, Update } from "./commands.ts";
import { ClientError } from "./errors.ts";

/**
 * Audio in the stream's encoding: raw in any chunking, of `opus` one packet each. `FLUSH` ends an
 * utterance, `update` changes options from its place on.
 */
export type Chunk = ArrayBufferView | ArrayBuffer | typeof FLUSH | Update;
export type Chunks = Iterable<Chunk> | AsyncIterable<Chunk>;

/** Throws `ClientError` for what gives no chunks: also bytes, which give numbers, and text. */
export function iteratorOf(chunks: Chunks): Iterator<Chunk> | AsyncIterator<Chunk> {
  if (typeof chunks === "object" && chunks !== null && !ArrayBuffer.isView(chunks)) {
    if (Symbol.asyncIterator in chunks) return chunks[Symbol.asyncIterator]();
    if (Symbol.iterator in chunks) return chunks[Symbol.iterator]();
  }
  throw new ClientError(`${kindOf(chunks)} is no iterable of chunks; of one chunk write [audio]`);
}

/** A chunk's bytes, not copied. Throws `ClientError` for what has none. */
export function bytesOf(chunk: unknown): Uint8Array {
  if (ArrayBuffer.isView(chunk)) {
    return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
  // By its name: that of another realm (an iframe, a test's sandbox) is another class.
  if (kindOf(chunk) === "ArrayBuffer") return new Uint8Array(chunk as ArrayBuffer);
  throw new ClientError(
    `a chunk is of kind ${kindOf(chunk)}; give a Buffer or typed array, an ArrayBuffer ` +
      "(of a Blob: await blob.arrayBuffer()), FLUSH or update(...)",
  );
}

function kindOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}
