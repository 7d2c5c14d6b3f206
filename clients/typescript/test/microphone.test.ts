/** The microphone, in a browser of which this file plays the part. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { microphone, NoMicrophone } from "glrf-client";

/** What the browser does otherwise than well, and what became of its device. */
interface Browser {
  context?: () => void;
  source?: () => void;
  resume?: () => Promise<void>;
  /** Set by the recording: takes what the audio thread posts. */
  post?: (samples: Int16Array) => void;
  /** Set by the recording: its context comes into a state. */
  become?: (state: string) => void;
  nResumed: number;
  nTracksStopped: number;
  nContextsClosed: number;
}

let browser: Browser;
const real = new Map<string, PropertyDescriptor | undefined>();

function put(name: string, value: unknown): void {
  real.set(name, Object.getOwnPropertyDescriptor(globalThis, name));
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

beforeEach(() => {
  browser = { nResumed: 0, nTracksStopped: 0, nContextsClosed: 0 };
  const track = { stop: () => browser.nTracksStopped++, addEventListener() {} };
  const media = { getTracks: () => [track] };
  put("navigator", { mediaDevices: { getUserMedia: async () => media } });
  put("AudioContext", class {
    audioWorklet = { addModule: async () => {} };
    state = "running";
    constructor() {
      browser.context?.();
    }
    addEventListener(_type: "statechange", hear: () => void) {
      browser.become = (state) => {
        this.state = state;
        hear();
      };
    }
    async resume() {
      browser.nResumed++;
      await browser.resume?.();
    }
    async close() {
      browser.nContextsClosed++;
    }
    createMediaStreamSource() {
      browser.source?.();
      return { connect() {} };
    }
  });
  put("AudioWorkletNode", class {
    port = {
      set onmessage(take: (message: { data: Int16Array }) => void) {
        browser.post = (data) => take({ data });
      },
    };
  });
});

afterEach(() => {
  for (const [name, descriptor] of real) {
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else Reflect.deleteProperty(globalThis, name);
  }
});

const unsupported = () => {
  throw new DOMException("different sample-rate", "NotSupportedError");
};

test("a microphone gives what was recorded, and lets go of the device", async () => {
  const source = await microphone();
  browser.post!(Int16Array.of(1, 2));
  source.stop();
  const samples: number[] = [];
  for await (const chunk of source) samples.push(...chunk);
  assert.deepEqual(samples, [1, 2]);
  assert.ok(browser.nTracksStopped >= 1 && browser.nContextsClosed >= 1);
});

test("what the system interrupts is resumed, and the gap is silence", async (t) => {
  t.mock.timers.enable({ apis: ["Date"] });
  const source = await microphone();
  const record = (value: number) => {
    t.mock.timers.tick(100);
    browser.post!(new Int16Array(1600).fill(value));
  };
  record(1);
  browser.resume = () => new Promise(() => {}); // until the system gives it back
  browser.become!("interrupted");
  record(2); // was under way
  t.mock.timers.tick(60_000);
  browser.become!("running");
  [3, 4].forEach(record);
  source.stop();
  const samples: number[] = [];
  for await (const chunk of source) for (const sample of chunk) samples.push(sample);
  assert.equal(browser.nResumed, 2);
  assert.equal(samples.length, 60_400 * 16);
  const valuesAt = [50, 150, 250, 60_150, 60_250, 60_350].map((ms) => samples[ms * 16]);
  assert.deepEqual(valuesAt, [1, 2, 0, 0, 3, 4]);
  assert.equal(source.droppedMs, 0);
});

test("a recording that cannot be resumed ends, and lets go of the device", async () => {
  const source = await microphone();
  browser.post!(Int16Array.of(1, 2));
  browser.resume = async () => {
    throw new DOMException("the audio device is away", "InvalidStateError");
  };
  browser.become!("interrupted");
  const samples: number[] = [];
  for await (const chunk of source) samples.push(...chunk);
  assert.deepEqual(samples, [1, 2]);
  assert.ok(browser.nTracksStopped >= 1 && browser.nContextsClosed >= 1);
});

test("a microphone that gives no samples is let go when its reader leaves", async () => {
  const source = await microphone();
  const reader = source[Symbol.asyncIterator]();
  const next = reader.next();
  const left = reader.return!();
  assert.equal(browser.nTracksStopped, 1);
  assert.deepEqual([(await next).done, (await left).done], [true, true]);
});

test("a browser without 16 kHz is told of by name, and the device is let go", async () => {
  browser.context = unsupported;
  await assert.rejects(microphone(), (error) => {
    assert.ok(error instanceof NoMicrophone);
    assert.match(error.message, /16 kHz/);
    assert.equal((error.cause as DOMException).name, "NotSupportedError");
    return true;
  });
  assert.equal(browser.nTracksStopped, 1);
});

test("a device that the context does not take is let go, and the context closed", async () => {
  browser.source = unsupported;
  await assert.rejects(microphone(), NoMicrophone);
  assert.deepEqual([browser.nTracksStopped, browser.nContextsClosed], [1, 1]);
});

test("a context that never starts is given up after 5 s", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  browser.resume = () => new Promise(() => {});
  const refused = assert.rejects(microphone(), (error) => {
    assert.ok(error instanceof NoMicrophone);
    assert.match(error.message, /holds it back.*click/);
    return true;
  });
  // It is waited for once the permission and the worklet are there.
  for (let k = 0; k < 10; k++) await Promise.resolve();
  t.mock.timers.tick(4_999);
  assert.equal(browser.nTracksStopped, 0);
  t.mock.timers.tick(1);
  await refused;
  assert.deepEqual([browser.nTracksStopped, browser.nContextsClosed], [1, 1]);
});
