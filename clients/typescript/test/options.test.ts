/** What is asked for wrongly is told at once, and by name. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ClientError,
  microphone,
  Unreachable,
  type ConnectionState,
  type MicrophoneOptions,
  type StreamOptions,
} from "glrf-client";
import { audio, listen, serve } from "./listening.ts";

for (const url of ["127.0.0.1:9200", "localhost:9200", "ws://127.0.0.1:99200", "ftp://h", ""]) {
  test(`${url || "nothing"} is no address, and is not tried`, async () => {
    const states: ConnectionState[] = [];
    const onConnection = (state: ConnectionState) => states.push(state);
    await assert.rejects(
      listen(url, audio(1), { onConnection }),
      (error) => error instanceof Unreachable && /ws:\/\/127.0.0.1:8000/.test(error.message),
    );
    assert.deepEqual(states, []);
  });
}

const misspelt: [string, object, RegExp][] = [
  ["an option", { hystersis: 0.1 }, /hystersis.*stream.*smoothing, hysteresis, min_dwell_ms/],
  ["an option of retry", { retry: { giveUpMS: 1 } }, /giveUpMS.*retry.*giveUpMs/],
];
for (const [name, options, expected] of misspelt) {
  test(`${name} that is unknown is refused with those that are known`, async () => {
    const [service, url] = await serve();
    await assert.rejects(
      listen(url, audio(1), options as StreamOptions),
      (error) => error instanceof ClientError && expected.test(error.message),
    );
    assert.equal(service.queries.length, 0);
  });
}

for (const maxBufferMs of [9_999, 0, NaN]) {
  test(`a buffer of ${maxBufferMs} ms is too small for checkpoints, and refused`, async () => {
    const [service, url] = await serve();
    await assert.rejects(
      listen(url, audio(1), { maxBufferMs }),
      (error) => error instanceof ClientError && /maxBufferMs.*10000 or more/.test(error.message),
    );
    assert.equal(service.queries.length, 0);
  });
}

test("an option that the microphone does not know is refused", async () => {
  await assert.rejects(
    microphone({ deviceID: "1" } as MicrophoneOptions),
    (error) => error instanceof ClientError && /deviceID.*deviceId/.test(error.message),
  );
});
