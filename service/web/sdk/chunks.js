/** What a source gives. @module */
import { ClientError } from "./errors.js";
/** Throws `ClientError` for what gives no chunks: also bytes, which give numbers, and text. */
export function iteratorOf(chunks) {
    if (typeof chunks === "object" && chunks !== null && !ArrayBuffer.isView(chunks)) {
        if (Symbol.asyncIterator in chunks)
            return chunks[Symbol.asyncIterator]();
        if (Symbol.iterator in chunks)
            return chunks[Symbol.iterator]();
    }
    throw new ClientError(`${kindOf(chunks)} is no iterable of chunks; of one chunk write [audio]`);
}
/** A chunk's bytes, not copied. Throws `ClientError` for what has none. */
export function bytesOf(chunk) {
    if (ArrayBuffer.isView(chunk)) {
        return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    }
    // By its name: that of another realm (an iframe, a test's sandbox) is another class.
    if (kindOf(chunk) === "ArrayBuffer")
        return new Uint8Array(chunk);
    throw new ClientError(`a chunk is of kind ${kindOf(chunk)}; give a Buffer or typed array, an ArrayBuffer ` +
        "(of a Blob: await blob.arrayBuffer()), FLUSH or update(...)");
}
function kindOf(value) {
    return Object.prototype.toString.call(value).slice("[object ".length, -1);
}
