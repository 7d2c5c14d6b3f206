/** What stands between the chunks, against a server that fails. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ClientError, FLUSH, update, type Chunk, type UpdateOptions } from "glrf-client";
import { CLOSED, listen, live, serve, timeline, unbroken } from "./listening.ts";
import type { Service } from "./service.ts";

/** `n` chunks, and a change of options before some of them. */
async function* updated(n: number, changes: Record<number, UpdateOptions>): AsyncGenerator<Chunk> {
  let i = 0;
  for await (const chunk of live(n)) {
    if (chunk !== FLUSH && changes[i++]) yield update(changes[i - 1]!);
    yield chunk;
  }
}

/** The updates that a service got, without those that a replay repeats. */
function updatesOf({ commands }: Service): [ms: number, command: object][] {
  const updates = commands.filter(([, { type }]) => type === "update");
  const texts = updates.map((update) => JSON.stringify(update));
  return updates.filter((_, k) => texts.indexOf(texts[k]!) === k);
}

test("an update is sent at its place, also when it is sent again", async () => {
  const [service, url] = await serve([{ after: 5, then: "reset" }]);
  const golden = readFileSync(new URL("../../contract/client.update.json", import.meta.url), "utf-8");
  const { type, ...changes } = JSON.parse(golden);
  const told = await listen(url, updated(50, { 7: { hysteresis: 0.2 }, 18: changes }));
  assert.deepEqual(timeline(told), await unbroken(50));
  assert.deepEqual(updatesOf(service), [
    [700, { type: "update", hysteresis: 0.2 }],
    [1800, { type, ...changes }],
  ]);
  const nLater = service.commands.filter(([, { smoothing }]) => smoothing === "ema").length;
  assert.equal(nLater, 2, "once before the loss, once after it");
});

test("a new session begins with the updates of the one that was lost", async () => {
  const [service, url] = await serve([{ after: 7, then: CLOSED }], { checkpoints: false });
  const first = { smoothing: "ema", hysteresis: 0.1 };
  const second = { thresholds: { angry: 0.6 } };
  const third = { smoothing: "mean", hysteresis: 0 };
  const changes = { 3: first, 5: second, 9: third, 40: { min_dwell_ms: 0 } };
  await listen(url, updated(60, changes));
  assert.equal(service.queries[1]!.get("start_offset_ms"), "2800");
  const sent = service.commands.filter(([, { type }]) => type === "update");
  assert.deepEqual(sent, [
    [300, { type: "update", ...first }],
    [500, { type: "update", ...second }],
    [900, { type: "update", ...third }],
    // What a later one says as well is left out.
    [2800, { type: "update", ...second }],
    [2800, { type: "update", ...third }],
    [4000, { type: "update", min_dwell_ms: 0 }],
  ]);
});

test("an update that is refused is told of once, also when it is sent again", async () => {
  const [service, url] = await serve([{ after: 5, then: CLOSED }, { after: 4, then: CLOSED }]);
  const [two, three] = [{ hysteresis: 2 }, { hysteresis: 3 }];
  const told = await listen(url, updated(60, { 2: two, 17: three, 18: two, 19: two, 50: two }));
  const refusals = told.events.flatMap((event) => (event.type === "error" ? [event.message] : []));
  assert.deepEqual(refusals.map((message) => Number(/[\d]+/.exec(message))), [2, 3, 2, 2, 2]);
  assert.ok(service.commands.filter(([, { hysteresis }]) => hysteresis).length > refusals.length);
});

test("an update of what cannot be changed is refused by name", () => {
  assert.throws(
    () => update({ hystersis: 0.1 } as UpdateOptions),
    (error) =>
      error instanceof ClientError && /hystersis.*hysteresis, min_dwell_ms/.test(error.message),
  );
});
