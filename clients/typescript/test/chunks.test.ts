/** Chunks as sources give them, and what is no chunk. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ClientError, FLUSH, type Chunk, type Chunks } from "glrf-client";
import { audio, listen, live, serve, timeline, unbroken } from "./listening.ts";

/** The bytes of `live(n)` in chunks of 1 to 1999, and its flushes. */
async function* recut(n: number): AsyncGenerator<Chunk> {
  let size = 0;
  for await (const chunk of live(n)) {
    if (chunk === FLUSH) yield chunk;
    if (!ArrayBuffer.isView(chunk)) continue;
    const bytes = new Uint8Array(chunk.buffer);
    for (let at = 0; at < bytes.length; at += size) {
      size = ((size + 701) % 1999) + 1;
      yield bytes.subarray(at, at + size);
    }
  }
}

test("samples that are cut in two by chunks arrive whole, also when they are sent again", async () => {
  const [, url] = await serve([{ after: 5, then: "reset" }, { after: 4, then: "reset" }]);
  assert.deepEqual(timeline(await listen(url, recut(100))), await unbroken(100));
});

test("only whole frames are sent, and the server hears of part of one at the end", async () => {
  const [service, url] = await serve();
  const bytes = (n: number) => new Uint8Array(n).fill(7);
  const options = { encoding: "pcm_f32le", channels: 2 } as const;
  await listen(url, [bytes(3), bytes(4), bytes(1), bytes(0), bytes(21)], options);
  assert.deepEqual(service.nBytes, [29]);
  assert.deepEqual([...service.sizes], [8, 16, 5]);
});

const notBytes: [string, unknown, RegExp][] = [
  ["a string", "AAAA", /String.*Buffer/],
  ["a Blob", new Blob(["AAAA"]), /Blob.*arrayBuffer\(\)/],
  ["a number", 7, /Number/],
  ["an array of samples", [1, 2], /Array/],
  ["nothing", null, /Null/],
];
for (const [name, chunk, expected] of notBytes) {
  test(`${name} is refused as a chunk by its kind`, async () => {
    const [, url] = await serve();
    await assert.rejects(
      listen(url, [...audio(3), chunk as Chunk]),
      (error) => error instanceof ClientError && expected.test(error.message),
    );
  });
}

const notChunks: [string, unknown][] = [
  ["Uint8Array", new Uint8Array(3200)],
  ["Uint8Array", Buffer.alloc(3200)],
  ["ArrayBuffer", new ArrayBuffer(3200)],
  ["String", "call.raw"],
  ["Blob", new Blob(["AAAA"])],
];
for (const [kind, chunks] of notChunks) {
  test(`a bare ${kind} is refused, with how it is meant`, async () => {
    const [service, url] = await serve();
    await assert.rejects(
      listen(url, chunks as Chunks),
      (error) => error instanceof ClientError && error.message.includes(kind) &&
        error.message.includes("[audio]"),
    );
    assert.equal(service.queries.length, 0);
  });
}

test("an encoding that is unknown is refused with those that are known", async () => {
  const [, url] = await serve();
  await assert.rejects(
    listen(url, [], { encoding: "gsm" as "mulaw" }),
    (error) => error instanceof ClientError && error.message.includes("pcm_s16le"),
  );
});
