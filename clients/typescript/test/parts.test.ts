/** The pieces, each by itself; imported as they were compiled. */

import assert from "node:assert/strict";
import { test } from "node:test";

const { delayMs, remedyOf, RETRY_DEFAULTS } = await import("../dist/retrying.js");
const { Pace } = await import("../dist/pace.js");
const { packetSamples } = await import("../dist/opus.js");
const { Tape } = await import("../dist/tape.js");
const { streamUrl, httpUrl } = await import("../dist/address.js");
const { SampleQueue } = await import("../dist/microphone.js");
const { History } = await import("../dist/history.js");

test("without an error, close codes ask what the contract says; all others end the stream", () => {
  const table = {
    "give up": [1000, 1002, 1003, 1005, 1007, 1008, 1009, 1010, 1015, 3000, 4000, 4400, 4401,
      4403, 4415, 4500, 4999],
    "resume": [1001, 1006, 1011, 1012, 1013, 1014, 4408, 4410],
    "resume later": [4429],
    "start anew": [4404],
  };
  for (const [remedy, codes] of Object.entries(table)) {
    for (const code of codes) assert.equal(remedyOf(code, null), remedy, String(code));
  }
});

test("a fatal error's word is followed, whatever the code, but a lost checkpoint stays lost", () => {
  for (const code of [1000, 1002, 1006, 1008, 1011, 3000, 4000, 4401, 4500]) {
    assert.equal(remedyOf(code, { retryable: true }), "resume", String(code));
    assert.equal(remedyOf(code, { retryable: false }), "give up", String(code));
  }
  assert.equal(remedyOf(4429, { retryable: true }), "resume later");
  assert.equal(remedyOf(4429, { retryable: false }), "give up");
  assert.equal(remedyOf(4404, { retryable: true }), "start anew");
  assert.equal(remedyOf(4404, { retryable: false }), "start anew");
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
    if (at === 40) tape.addCommand({ type: "flush" });
  }
  assert.equal(tape.endMs, 600);
  const from = (ms: number) => {
    const samples: number[] = [];
    let nFlushes = 0;
    for (let number = tape.find(ms), item; (item = tape.item(number)); number++) {
      const message = tape.messageFrom(item, ms);
      if (typeof message === "string") {
        nFlushes++;
        continue;
      }
      const words = new Int16Array(message.slice().buffer);
      samples.push(...words.filter((_, k) => k % 2 === 0));
    }
    return { first: samples[0], n: samples.length, nFlushes };
  };
  assert.deepEqual(from(500), { first: 0, n: 100, nFlushes: 1 });
  assert.deepEqual(from(523), { first: 23, n: 77, nFlushes: 1 });
  assert.deepEqual(from(550), { first: 50, n: 50, nFlushes: 1 });
  assert.deepEqual(from(551), { first: 51, n: 49, nFlushes: 0 });
  tape.forget(523);
  assert.deepEqual([519, 520, 600, 700].map((ms) => tape.hasFrom(ms)), [false, true, true, true]);
  assert.deepEqual(from(523), { first: 23, n: 77, nFlushes: 1 });
  assert.deepEqual(from(600), { first: undefined, n: 0, nFlushes: 0 });
});

test("an Opus packet tells its length by its first bytes", () => {
  const table: [number[], number][] = [
    [[], 0],
    [[0x00], 480], // SILK, 10 ms
    [[0x18], 2_880], // 60 ms
    [[0x19], 5_760], // two of them
    [[0x60], 480], // hybrid
    [[0x68], 960],
    [[0x80], 120], // CELT, 2.5 ms
    [[0xf8], 960],
    [[0xfa], 1_920],
    [[0xfb, 0x03], 2_880], // three of 20 ms
    [[0xfb, 0xc6], 5_760], // the count's upper bits are flags
    [[0xfb, 0x07], 0], // 140 ms
    [[0xfb], 0],
    [[0xfb, 0x00], 0],
  ];
  for (const [head, nSamples] of table) {
    assert.equal(packetSamples(Uint8Array.from(head)), nSamples, String(head));
  }
});

test("a tape of packets is cut between packets, wherever these start", () => {
  const tape = new Tape({ encoding: "opus", sampleRateHz: 48_000, nChannels: 1 }, 500, 60_000);
  const heads = [0x80, 0xf8, 0xf8, 0x18]; // 2.5, 20, 20 and 60 ms, so they start at 0, 2.5, 22.5, 42.5
  heads.forEach((head, number) => {
    if (number === 2) tape.addCommand({ type: "flush" });
    tape.add(Uint8Array.of(head, number, 7));
  });
  assert.equal(tape.endMs, 603);
  const from = (ms: number) => {
    const numbers: (number | "flush")[] = [];
    for (let number = tape.find(ms), item; (item = tape.item(number)); number++) {
      const message = tape.messageFrom(item, ms);
      assert.ok(typeof message === "string" || message.byteLength === 3);
      numbers.push(typeof message === "string" ? "flush" : message[1]!);
    }
    return numbers;
  };
  assert.deepEqual(from(500), [0, 1, "flush", 2, 3]);
  // A checkpoint names a packet's start, rounded down to a millisecond.
  assert.deepEqual(from(502), [1, "flush", 2, 3]);
  assert.deepEqual(from(522), ["flush", 2, 3]);
  assert.deepEqual(from(542), [3]);
  assert.deepEqual(from(602), []);
  // Where a new session is to begin, all of the packet is sent, and the session begins with it:
  // there is nothing that a flush before it could end.
  assert.deepEqual([510, 530, 590].map((ms) => tape.cutMs(ms)), [503, 523, 543]);
  assert.deepEqual(from(tape.cutMs(530)), [2, 3]);
  assert.equal(tape.cutMs(tape.cutMs(530)), 523);
  tape.forget(522);
  assert.deepEqual(from(500), ["flush", 2, 3]);
  assert.deepEqual([502, 521, 522, 542].map((ms) => tape.hasFrom(ms)), [false, false, true, true]);
});

test("a tape is full at its size, and has room again when it forgets", async () => {
  const tape = new Tape(FORMAT, 0, 100);
  tape.add(new Int16Array(2 * 90));
  assert.ok(!tape.isFull);
  tape.add(new Int16Array(2 * 20));
  assert.ok(tape.isFull);
  const change = tape.changed();
  tape.forget(90);
  await change;
  assert.ok(!tape.isFull);
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

test("silence among samples keeps its place, and takes no room", async () => {
  const queue = new SampleQueue(300);
  const add = (n: number) => queue.add(new Int16Array(100).fill(n));
  [1, 2].forEach(add);
  queue.addSilence(20_000);
  [3, 4].forEach(add);
  queue.finish();
  const samples: number[] = [];
  for await (const chunk of queue.chunks()) samples.push(...chunk);
  assert.equal(samples.length, 20_400);
  // The oldest was dropped.
  const places = [99, 100, 199, 200, 20_199, 20_200, 20_399];
  assert.deepEqual(places.map((place) => samples[place]), [0, 2, 2, 0, 0, 3, 4]);
  assert.equal(queue.nDropped, 100);
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
