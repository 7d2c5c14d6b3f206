/** The pieces, each by itself; imported as they were compiled. */

import assert from "node:assert/strict";
import { test } from "node:test";

const { delayMs, remedyOf, RETRY_DEFAULTS } = await import("../dist/retrying.js");
const { Pace } = await import("../dist/pace.js");
const { Tape } = await import("../dist/tape.js");
const { streamUrl, httpUrl } = await import("../dist/address.js");
const { SampleQueue } = await import("../dist/microphone.js");
const { History } = await import("../dist/history.js");

test("close codes ask what the contract says", () => {
  const table = {
    "give up": [1000, 1009, 4400, 4401, 4403, 4415, 4999],
    "resume": [1001, 1005, 1006, 1011, 1012, 1013, 4408, 4410],
    "resume later": [4429],
    "start anew": [4404],
  };
  for (const [remedy, codes] of Object.entries(table)) {
    for (const code of codes) assert.equal(remedyOf(code), remedy, String(code));
  }
});

test("waits double up to a limit, spread over their upper half", () => {
  const waits = (n: number, chance: number) =>
    delayMs(n, RETRY_DEFAULTS, "resume", null, () => chance);
  assert.deepEqual([0, 1, 2, 3].map((n) => waits(n, 1)), [250, 500, 1000, 2000]);
  assert.deepEqual([0, 1, 2, 3].map((n) => waits(n, 0)), [125, 250, 500, 1000]);
  assert.equal(waits(100, 1), 10_000);
});

test("the server's word and a refusal for haste are never undercut", () => {
  assert.ok(delayMs(0, RETRY_DEFAULTS, "resume", 7000, () => 0) >= 7000);
  assert.ok(delayMs(0, RETRY_DEFAULTS, "resume later", null, () => 0) >= 5000);
  assert.ok(delayMs(0, RETRY_DEFAULTS, "resume later", 100, () => 0) < 1000);
});

test("audio goes no faster than the session's limits", () => {
  assert.equal(Pace.of({}, 0), null);
  const pace = Pace.of({ max_speed: 10, burst_ms: 2000 }, 0)!;
  let nSent = 0;
  for (let nowMs = 0; nowMs <= 1000; nowMs += 10) while (pace.take(100, nowMs)) nSent += 100;
  assert.ok(nSent <= 2000 + 10 * 1000 && nSent > 0.85 * (2000 + 10 * 1000), String(nSent));
  // A chunk longer than the whole burst must not wait for ever.
  assert.ok(pace.take(5000, 10_000));
});

test("addresses are written as the contract has them", () => {
  assert.equal(streamUrl("http://h:1", { partial: true }), "ws://h:1/v1/stream?partial=true");
  assert.equal(streamUrl("wss://h/api/", {}), "wss://h/api/v1/stream");
  assert.equal(streamUrl("ws://h/v1/stream?a=1", { b: ["x", "y"] }), "ws://h/v1/stream?a=1&b=x%2Cy");
  assert.equal(httpUrl("wss://h/api/v1/stream?a=1", "/v1/models"), "https://h/api/v1/models");
  assert.throws(() => streamUrl("ftp://h", {}), /no server address/);
  assert.throws(() => streamUrl("h:8000", {}), /no server address/);
});

const FORMAT = { encoding: "pcm_s16le", sampleRateHz: 1000, nChannels: 2 };

test("a tape gives the same audio from any time on", () => {
  const tape = new Tape(FORMAT, 500, 1000);
  for (let at = 0; at < 100; at += 10) {
    tape.add(Int16Array.from({ length: 20 }, (_, k) => at + Math.floor(k / 2)));
    if (at === 40) tape.flush();
  }
  assert.equal(tape.endMs, 600);
  const from = (ms: number) => {
    const samples: number[] = [];
    let nFlushes = 0;
    for (let number = tape.find(ms), item; (item = tape.item(number)); number++) {
      if (item.audio === null) nFlushes++;
      const bytes = tape.audioFrom(item, ms);
      const words = new Int16Array(bytes.slice().buffer);
      samples.push(...words.filter((_, k) => k % 2 === 0));
    }
    return { first: samples[0], n: samples.length, nFlushes };
  };
  assert.deepEqual(from(500), { first: 0, n: 100, nFlushes: 1 });
  assert.deepEqual(from(523), { first: 23, n: 77, nFlushes: 1 });
  assert.deepEqual(from(550), { first: 50, n: 50, nFlushes: 1 });
  assert.deepEqual(from(551), { first: 51, n: 49, nFlushes: 0 });
  tape.forget(523);
  assert.equal(tape.beginMs, 520);
  assert.deepEqual(from(523), { first: 23, n: 77, nFlushes: 1 });
  assert.deepEqual(from(600), { first: undefined, n: 0, nFlushes: 0 });
});

test("a tape is full at its size, and has room again when it forgets", async () => {
  const tape = new Tape(FORMAT, 0, 100);
  tape.add(new Int16Array(2 * 90));
  assert.ok(!tape.isFull);
  tape.add(new Int16Array(2 * 20));
  assert.ok(tape.isFull);
  tape.shorten(0);
  assert.ok(tape.isFull, "nothing was sent yet");
  const change = tape.changed();
  tape.shorten(1);
  await change;
  assert.ok(!tape.isFull);
  assert.equal(tape.beginMs, 90);
});

test("a microphone that is not read keeps its times: what is lost becomes silence", async () => {
  const queue = new SampleQueue(300);
  for (let n = 1; n <= 5; n++) queue.add(new Int16Array(100).fill(n));
  queue.finish();
  const samples: number[] = [];
  for await (const chunk of queue.chunks()) samples.push(...chunk);
  assert.equal(samples.length, 500);
  assert.deepEqual([samples[0], samples[199], samples[200], samples[499]], [0, 0, 3, 5]);
  assert.equal(queue.nDropped, 200);
});

test("an utterance so far may grow; what was had is not new", () => {
  const history = new History(2);
  const utterance = (end_ms: number, is_final: boolean) => ({
    type: "utterance" as const, channel: 0, role: null, utterance_id: "0-0", start_ms: 0, end_ms,
    is_final, label: null, scores: {}, n_segments: 1, pure: true,
  });
  assert.ok(history.isNew(utterance(400, false)));
  assert.ok(history.isNew(utterance(800, false)));
  assert.ok(!history.isNew(utterance(800, false)));
  assert.ok(history.isNew(utterance(800, true)));
  assert.ok(!history.isNew(utterance(800, true)));
  assert.equal(history.toldMs, null);
});

test("alerts come once; a server that is late again is news", () => {
  const history = new History(1);
  const alert = (end_ms: number) => ({
    type: "alert" as const, channel: 0, role: null, rule: "angry>=0.7:10s", label: "angry",
    start_ms: 0, end_ms, score: 0.8,
  });
  const warning = (code: string) => ({ type: "warning" as const, channel: 0, code, message: "" });
  assert.deepEqual([1, 1, 2].map((ms) => history.isNew(alert(ms))), [true, false, true]);
  assert.deepEqual(["clipping", "clipping", "late", "late"].map((code) => history.isNew(warning(code))),
    [true, false, true, true]);
});
