/** A stream against a server that fails in all the ways of the contract. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BadServerMessage,
  ClientError,
  FLUSH,
  Refused,
  stream,
  StreamClosed,
  StreamError,
  Unreachable,
  type Chunk,
  type ConnectionState,
  type StreamOptions,
} from "glrf-client";
import { WebSocket as Ws } from "ws";
import { audio, CLOSED, listen, live, RETRY, serve, timeline, typesOf, unbroken } from "./listening.ts";
import type { Fault } from "./service.ts";

test("all audio arrives and all events come, in one connection", async () => {
  const [service, url] = await serve();
  const told = await listen(url, audio(61), { sample_rate: 16_000, roles: ["a"] });
  assert.deepEqual(service.nBytes, [61 * 3200]);
  assert.equal(service.queries[0]!.toString(), "sample_rate=16000&roles=a");
  assert.equal(told.events[0]!.type, "session.created");
  assert.equal(told.events.at(-1)!.type, "session.closed");
  assert.equal(typesOf(told, "segment"), 17);
  assert.equal(typesOf(told, "utterance"), 3);
  assert.deepEqual(
    told.states.map(({ state }) => state),
    ["connecting", "live", "closed"],
  );
});

test("what arrives together with the answer to the handshake is heard", async () => {
  const sockets = { "the platform's": WebSocket, "of the package ws": Ws as never as typeof WebSocket };
  for (const [whose, Socket] of Object.entries(sockets)) {
    const [, url] = await serve([{ joined: true, after: 4, then: "reset" }, { joined: true }]);
    const webSocket = (address: string, protocols: string[]) => new Socket(address, protocols);
    const told = await listen(url, live(60), { webSocket });
    const lives = told.states.flatMap((state) => (state.state === "live" ? [state.resumed] : []));
    assert.deepEqual(lives, [false, true], whose);
    assert.equal(told.events[0]!.type, "session.created", whose);
    assert.deepEqual(timeline(told), await unbroken(60), whose);
  }
});

test("a server that begins without a greeting does not speak this protocol", async () => {
  const [service, url] = await serve([{ ungreeted: true }]);
  await assert.rejects(
    listen(url, live(10)),
    (error) => error instanceof BadServerMessage && /checkpoint before/.test(error.message),
  );
  assert.equal(service.queries.length, 1);
});

const faults: Record<string, Fault["then"]> = {
  "a reset": "reset",
  "code 1011": { close: 1011, error: { code: "internal_error", retryable: true } },
  "code 1012": { close: 1012, error: { code: "restarting", retryable: true } },
  "code 1013": { close: 1013, error: { code: "overloaded", retryable: true } },
  "code 4500 and a retryable error": { close: 4500, error: { code: "later", retryable: true } },
  "code 4408": { close: 4408 },
  "code 4410": { close: 4410 },
  "draining": "drain",
};
for (const [name, then] of Object.entries(faults)) {
  test(`after ${name}, the resumed timeline is that of an unbroken run`, async () => {
    const broken = [1, 5, 6, 2].map((after) => ({ after, then }) as Fault);
    const [service, url] = await serve(broken);
    const told = await listen(url, live(100));
    assert.deepEqual(timeline(told), await unbroken(100));
    assert.equal(service.queries.length, 5);
    assert.ok(service.queries.slice(1).every((query) => query.has("resume")));
    assert.equal(typesOf(told, "session.created"), 1);
    assert.equal(typesOf(told, "session.closed"), 1);
    const resumed = told.states.filter((state) => state.state === "live" && state.resumed);
    assert.equal(resumed.length, 4);
  });
}

test("a new line that does not answer gets another one beside it", async () => {
  const [service, url] = await serve([{ after: 3, then: "reset" }, { unanswered: true }]);
  const told = await listen(url, live(60));
  assert.deepEqual(timeline(told), await unbroken(60));
  assert.equal(service.queries.length, 3);
  const [, dead, second] = service.openedAtMs;
  assert.ok(second! - dead! < 5_000, "before the dead one was given up");
});

test("two lines that do not answer are given up together", async () => {
  const dead = { unanswered: true };
  const [service, url] = await serve([{ after: 3, then: "reset" }, dead, dead]);
  const told = await listen(url, live(60), { openTimeoutMs: 1_500 });
  assert.deepEqual(timeline(told), await unbroken(60));
  assert.equal(service.queries.length, 4);
});

test("a source faster than the network resumes alike", async () => {
  const [, url] = await serve([{ after: 4, then: "reset" }, { after: 30, then: "reset" }]);
  assert.deepEqual(timeline(await listen(url, audio(200))), await unbroken(200));
});

test("a connection that is lost after all was sent is resumed", async () => {
  const [service, url] = await serve([{ after: 15, then: "reset" }]);
  assert.deepEqual(timeline(await listen(url, audio(61))), await unbroken(61));
  assert.equal(service.queries.length, 2);
});

test("a server that owes results and is silent counts as lost", async () => {
  const [service, url] = await serve([{ after: 4, then: "silence" }]);
  const told = await listen(url, live(61), { stallMs: 100 });
  assert.deepEqual(timeline(told), await unbroken(61));
  assert.equal(service.queries.length, 2);
});

const mutes: [string, Fault[]][] = [
  ["the first", [{ after: 3, then: "silence" }]],
  ["a resumed", [{ after: 3, then: "reset" }, { after: 0, then: "silence" }]],
];
for (const [which, faults] of mutes) {
  test(`an outage begins when it is noticed, not when ${which} connection was muted`, async (t) => {
    const [service, url] = await serve(faults);
    let aheadMs = 0;
    const now = performance.now.bind(performance);
    t.mock.method(performance, "now", () => now() + aheadMs);
    async function* muted(): AsyncGenerator<Chunk> {
      const chunks = [...audio(61)];
      yield* chunks.splice(0, 12);
      await new Promise((resolve) => setTimeout(resolve, 300));
      aheadMs += 2 * RETRY.giveUpMs;
      yield* chunks;
    }
    const told = await listen(url, muted(), { stallMs: 100 });
    assert.equal(service.queries.length, faults.length + 1);
    assert.deepEqual(timeline(told), await unbroken(61));
  });
}

/** A line on which what the server says takes its time. */
class FarWebSocket extends WebSocket {
  delayMs = 400;
  override set onmessage(hear: ((message: MessageEvent) => void) | null) {
    super.onmessage = hear && ((message) => void setTimeout(() => hear(message), this.delayMs));
  }
  override set onclose(hear: ((closed: CloseEvent) => void) | null) {
    super.onclose = hear && ((closed) => void setTimeout(() => hear(closed), this.delayMs));
  }
}

test("what comes at once after a pause is not owed since the pause began", async () => {
  const [service, url] = await serve();
  async function* paused(): AsyncGenerator<Chunk> {
    const chunks = [...audio(120)];
    yield chunks.shift()!;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    yield* chunks;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const webSocket = (address: string, protocols: string[]) => new FarWebSocket(address, protocols);
  await listen(url, paused(), { stallMs: 700, webSocket });
  assert.equal(service.queries.length, 1);
});

test("a line that is slower to answer than stallMs is given more time, and goes on", async () => {
  const [service, url] = await serve();
  const webSocket = (address: string, protocols: string[]) =>
    Object.assign(new FarWebSocket(address, protocols), { delayMs: 1_200 });
  const retry = { ...RETRY, giveUpFirstMs: 10_000 };
  const told = await listen(url, audio(61), { stallMs: 400, retry, webSocket });
  assert.deepEqual(timeline(told), await unbroken(61));
  assert.ok(service.queries.length > 1);
});

test("audio that was sent before the greeting is kept for the checkpoint that comes then", async () => {
  const [service, url] = await serve([{ after: 2, then: "silence" }]);
  const webSocket = (address: string, protocols: string[]) => new FarWebSocket(address, protocols);
  const told = await listen(url, audio(250), { stallMs: 900, maxBufferMs: 10_000, webSocket });
  assert.ok(service.queries[1]!.has("resume"));
  assert.deepEqual(timeline(told), await unbroken(250));
});

const useless = { "without checkpoints": false, "with those of audio that was let go": "behind" } as const;
for (const [which, checkpoints] of Object.entries(useless)) {
  test(`${which} a new session goes on after the last segment`, async () => {
    const [service, url] = await serve([{ after: 4, then: CLOSED }], { checkpoints });
    const told = await listen(url, live(50));
    assert.deepEqual(
      service.queries.map((query) => query.get("start_offset_ms")),
      [null, "1600"],
    );
    assert.equal(typesOf(told, "session.created"), 2);
    const segments = told.events.filter((event) => event.type === "segment");
    const whole = (await unbroken(50)).filter((event) => "index" in event);
    // Same times and same audio; only the count begins anew.
    const [got, expected] = [segments, whole as typeof segments].map((list) =>
      list.map(({ start_ms, end_ms, scores }) => ({ start_ms, end_ms, scores })),
    );
    assert.deepEqual(got, expected);
    assert.equal(segments[4]!.index, 0);
  });
}

test("a checkpoint that nobody knows any more leads to a new session", async () => {
  const [service, url] = await serve([{ after: 5, then: CLOSED }]);
  service.knowsTokens = false;
  const told = await listen(url, live(50));
  assert.equal(service.queries.length, 3);
  assert.equal(service.queries[1]!.has("resume"), true);
  assert.equal(service.queries[2]!.has("resume"), false);
  assert.equal(service.queries[2]!.get("start_offset_ms"), "2000");
  const ends = told.events.flatMap((event) => (event.type === "segment" ? [event.end_ms] : []));
  assert.deepEqual(ends.slice(0, 8), [400, 800, 1200, 1600, 2000, 2400, 2800, 3000]);
});

for (const code of [1002, 1008, 1009, 3000, 4400, 4401, 4403, 4415]) {
  test(`code ${code} ends the stream`, async () => {
    const [service, url] = await serve([{ after: 2, then: { close: code } }]);
    await assert.rejects(
      listen(url, live(50)),
      (error) => error instanceof StreamClosed && error.code === code,
    );
    assert.equal(service.queries.length, 1);
  });
}

test("a fatal error that is not retryable ends the stream, whatever the code", async () => {
  const then = { close: 1011, error: { code: "model_failed", retryable: false } };
  const [service, url] = await serve([{ after: 2, then }]);
  await assert.rejects(
    listen(url, live(50)),
    (error) => error instanceof StreamError && error.code === "model_failed",
  );
  assert.equal(service.queries.length, 1);
});

test("the server's own time to wait is kept", async () => {
  const error = { code: "overloaded", retryable: true, retry_after_ms: 300 };
  const [service, url] = await serve([{ after: 3, then: { close: 1013, error } }]);
  await listen(url, live(40));
  const [first, second] = service.openedAtMs;
  assert.ok(second! - first! >= 300);
});

test("the first connection is tried again, then given up", async () => {
  const [service, url] = await serve([{ refuse: 503 }, { refuse: 503 }]);
  const told = await listen(url, audio(10));
  assert.equal(service.queries.length, 3);
  assert.equal(typesOf(told, "session.closed"), 1);
  const retry = { ...RETRY, giveUpFirstMs: 200 };
  await assert.rejects(listen("ws://127.0.0.1:9", audio(10), { retry }), Unreachable);
});

test("a server that greets and fails, again and again, is given up", async () => {
  const always = Array.from({ length: 500 }, () => ({ after: 0, then: "reset" }) as Fault);
  const [service, url] = await serve(always);
  await assert.rejects(listen(url, audio(10), { retry: { ...RETRY, giveUpMs: 1000 } }), StreamClosed);
  assert.ok(service.queries.length > 2);
});

test("a server that fails at one place of the audio, again and again, is given up", async () => {
  const always = Array.from({ length: 500 }, () => ({ after: 4, then: "reset" }) as Fault);
  const [service, url] = await serve(always, { checkpoints: "first" });
  await assert.rejects(listen(url, audio(61), { retry: { ...RETRY, giveUpMs: 1000 } }), StreamClosed);
  assert.ok(service.queries.length > 2 && service.queries.length < 500);
});

test("a server that forgets its checkpoints and fails, again and again, is given up", async () => {
  const always = Array.from({ length: 500 }, () => ({ after: 0, then: "reset" }) as Fault);
  const [service, url] = await serve(always, { checkpoints: "first" });
  service.knowsTokens = false;
  // The loss, or that the checkpoint is unknown, whichever is last.
  await assert.rejects(
    listen(url, audio(61), { retry: { ...RETRY, giveUpMs: 1000 } }),
    (error) => error instanceof StreamClosed || error instanceof StreamError,
  );
  assert.ok(service.queries.length > 2 && service.queries.length < 500);
});

test("a fresh token goes with each connection, as a subprotocol", async () => {
  const [service, url] = await serve([{ after: 3, then: "reset" }]);
  let n = 0;
  await listen(url, live(30), { token: async () => `t${++n}` });
  assert.deepEqual(service.protocols, ["glrf.v1, glrf.token.t1", "glrf.v1, glrf.token.t2"]);
});

test("a token that cannot be had is an outage: it is asked for again", async () => {
  const [service, url] = await serve([{ after: 3, then: "reset" }]);
  const outage = new TypeError("fetch failed");
  let n = 0;
  const token = async () => {
    if (++n === 1 || n === 3) throw outage;
    return `t${n}`;
  };
  const told = await listen(url, live(30), { token });
  assert.deepEqual(service.protocols, ["glrf.v1, glrf.token.t2", "glrf.v1, glrf.token.t4"]);
  assert.deepEqual(timeline(told), await unbroken(30));
  const causes = told.states.flatMap((state) => (state.state === "waiting" ? [state.cause] : []));
  assert.deepEqual(causes.map(({ name }) => name), ["Unreachable", "StreamClosed", "Unreachable"]);
  assert.equal(causes[0]!.cause, outage);
  assert.match(causes[0]!.message, /no token.*fetch failed/);
});

test("a token that is never had is given up as a server is", async () => {
  const [, url] = await serve();
  const token = () => {
    throw new RangeError("nobody is signed in");
  };
  const retry = { ...RETRY, giveUpFirstMs: 100 };
  await assert.rejects(
    listen(url, audio(10), { retry, token }),
    (error) => error instanceof Unreachable && error.cause instanceof RangeError,
  );
});

test("a token that is refused for good ends the stream at once", async () => {
  const [service, url] = await serve([{ after: 3, then: "reset" }]);
  let n = 0;
  const token = async () => {
    if (++n === 2) throw new Refused(503, { detail: "later" });
    if (n > 2) throw new Refused(401, { detail: "the key was revoked" });
    return `t${n}`;
  };
  await assert.rejects(
    listen(url, live(30), { token }),
    (error) => error instanceof Refused && error.status === 401,
  );
  assert.equal(n, 3);
  assert.deepEqual(service.protocols, ["glrf.v1, glrf.token.t1"]);
});

test("a token that cannot be sent is refused, and not shown", async () => {
  const [service, url] = await serve();
  const retry = { ...RETRY, giveUpFirstMs: 100 };
  for (const token of ["secret\n", "sec ret", "secret,", "sécret", ""]) {
    for (const given of [token, async () => token]) {
      await assert.rejects(
        listen(url, audio(1), { retry, token: given }),
        (error) =>
          error instanceof ClientError && /POST \/v1\/tokens/.test(error.message) &&
          !/s.c.?ret/.test(error.message),
      );
    }
  }
  const none = async () => undefined as unknown as string;
  await assert.rejects(listen(url, audio(1), { retry, token: none }), Unreachable);
  assert.equal(service.queries.length, 0);
});

test("a token that never comes is given up in time, and asked for again", async () => {
  const [service, url] = await serve();
  let n = 0;
  const token = () => (++n === 1 ? new Promise<string>(() => {}) : "t2");
  const told = await listen(url, audio(10), { token, openTimeoutMs: 1_000 });
  assert.deepEqual(service.protocols, ["glrf.v1, glrf.token.t2"]);
  const causes = told.states.flatMap((state) => (state.state === "waiting" ? [state.cause] : []));
  assert.match(causes.map(({ message }) => message).join(), /no token.*within 1000 ms/);
});

test("a signal ends a stream that waits for its token", async () => {
  const [, url] = await serve();
  const signal = AbortSignal.timeout(50);
  const token = () => new Promise<string>(() => {});
  await assert.rejects(listen(url, audio(10), { token, signal }), { name: "TimeoutError" });
});

test("while nothing is confirmed, the source is drawn from up to the buffer's size", async () => {
  const [, url] = await serve([{ after: 4, then: "silence" }]);
  let nDrawn = 0;
  function* counted(): Generator<Chunk> {
    for (const chunk of audio(1000)) {
      nDrawn++;
      yield chunk;
    }
  }
  const options = { stallMs: 200, maxBufferMs: 10_000 };
  const states: ConnectionState[] = [];
  let nAtLoss = 0;
  const onConnection = (state: ConnectionState) => {
    states.push(state);
    if (state.state === "waiting") nAtLoss ||= nDrawn;
  };
  for await (const event of stream(url, counted(), { retry: RETRY, onConnection, ...options })) {
    void event;
  }
  assert.ok(nAtLoss <= 120, `${nAtLoss} chunks were drawn while the server said nothing`);
  assert.ok(nDrawn >= 1000);
});

test("a server without checkpoints never stops a long source", async () => {
  const [service, url] = await serve([], { checkpoints: false });
  await listen(url, audio(300), { maxBufferMs: 10_000 });
  assert.deepEqual(service.nBytes, [300 * 3200]);
});

test("leaving the loop ends source and connection", async () => {
  const [service, url] = await serve();
  let isClosed = false;
  async function* source(): AsyncGenerator<Chunk> {
    try {
      yield* live(10_000);
    } finally {
      isClosed = true;
    }
  }
  for await (const event of stream(url, source(), { retry: RETRY })) {
    if (event.type === "segment") break;
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(isClosed);
  assert.ok(service.nBytes[0]! < 10_000 * 3200);
});

const troubles: [string, string | null, object][] = [
  ["an option that is unknown", null, { hystersis: 0.1 }],
  ["an address that is none", "localhost:9200", {}],
  ["an encoding that is unknown", null, { encoding: "flac" }],
  ...["connecting", "live", "closed"].map((when): [string, null, StreamOptions] => {
    const onConnection = ({ state }: ConnectionState) => {
      if (state === when) throw new RangeError(`a display's own error at ${state}`);
    };
    return [`a callback that throws at "${when}"`, null, { onConnection }];
  }),
];
for (const [what, address, options] of troubles) {
  test(`${what} leaves no source, as a microphone, open`, async () => {
    const [, url] = await serve();
    let isReturned = false;
    const chunks = live(10);
    const source = {
      [Symbol.asyncIterator]: () => ({
        next: () => chunks.next(),
        return: async () => ((isReturned = true), { done: true as const, value: undefined }),
      }),
    };
    await assert.rejects(listen(address ?? url, source, options as StreamOptions));
    assert.ok(isReturned);
  });
}

test("a signal ends it at once, also while it waits to connect again", async () => {
  const [, url] = await serve(Array.from({ length: 99 }, () => ({ refuse: 503 })));
  const retry = { minDelayMs: 10_000, maxDelayMs: 60_000, giveUpFirstMs: 1e6 };
  const signal = AbortSignal.timeout(50);
  await assert.rejects(listen(url, audio(10), { retry, signal }), { name: "TimeoutError" });
});

test("what the source throws is thrown", async () => {
  const [, url] = await serve();
  async function* source(): AsyncGenerator<Chunk> {
    yield* live(10);
    throw new RangeError("no more");
  }
  await assert.rejects(listen(url, source()), RangeError);
});

/** Packets of 20 ms as long in bytes as the service takes 20 ms to be, no two alike. */
async function* packets(n: number): AsyncGenerator<Chunk> {
  for (let i = 0; i < n; i++) {
    const packet = new Uint8Array(640).map((_, k) => (i * 640 + k) * 7919);
    packet[0] = 0xf8;
    yield packet;
    if (i % 70 === 69) yield FLUSH;
    if (i % 5 === 4) await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

test("Opus packets are sent whole, and resume as all audio does", async () => {
  const faults = [1, 5, 6, 2].map((after) => ({ after, then: "reset" }) as Fault);
  const [service, url] = await serve(faults);
  const options: StreamOptions = { encoding: "opus", channels: 2, start_offset_ms: 700 };
  const told = await listen(url, packets(500), options);
  const [, unbrokenUrl] = await serve();
  assert.deepEqual(timeline(told), timeline(await listen(unbrokenUrl, packets(500), options)));
  assert.equal(service.queries.length, 5);
  assert.equal(service.queries[0]!.toString(), "encoding=opus&channels=2&start_offset_ms=700");
  assert.deepEqual([...service.sizes], [640]);
});

test("without checkpoints a new session begins with a packet", async () => {
  const [service, url] = await serve([{ after: 3, then: CLOSED }], { checkpoints: false });
  const told = await listen(url, packets(200), { encoding: "opus" });
  assert.deepEqual(service.queries.map((query) => query.get("start_offset_ms")), [null, "1200"]);
  const [, unbrokenUrl] = await serve();
  const whole = await listen(unbrokenUrl, packets(200), { encoding: "opus" });
  const [got, expected] = [told, whole].map(({ events }) =>
    events.flatMap((event) => event.type === "segment" ? [[event.end_ms, event.scores]] : []),
  );
  assert.deepEqual(got, expected);
});
