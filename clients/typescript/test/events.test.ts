/** The golden messages of the contract, shared with the server and the Python client. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import {
  analyzeFile,
  BadServerMessage,
  fetchToken,
  models,
  parseEvent,
  Refused,
  Unreachable,
} from "glrf-client";

const CONTRACT = new URL("../../contract/", import.meta.url);
const golden = (name: string) => readFileSync(new URL(name, CONTRACT), "utf-8");
const messages = readdirSync(CONTRACT).filter((name) => name.startsWith("server."));

for (const name of messages) {
  test(`${name} is understood, and lacks nothing that this client needs`, () => {
    const text = golden(name);
    const event = parseEvent(text);
    assert.deepEqual(event, JSON.parse(text));
    assert.equal(`server.${event!.type}.json`, name);
  });

  test(`${name} without one of its fields is refused by the field's name`, () => {
    const whole = JSON.parse(golden(name));
    const optional = ["type", "seq", "session_id", "role", "channel", "code", "expires_at", "lag_ms"];
    const needed = Object.keys(whole).filter((field) => !optional.includes(field));
    for (const field of needed) {
      if (["retry_after_ms", "request_id"].includes(field)) continue;
      const { [field]: _, ...rest } = whole;
      assert.throws(
        () => parseEvent(JSON.stringify(rest)),
        (error) => error instanceof BadServerMessage && error.message.includes(field),
      );
    }
  });
}

test("unknown fields and types are ignored", () => {
  const later = { ...JSON.parse(golden("server.segment.json")), a_later_field: 1 };
  assert.equal(parseEvent(JSON.stringify(later))!.type, "segment");
  assert.equal(parseEvent('{"type": "a.later.type"}'), null);
  assert.equal(parseEvent('{"type": "constructor"}'), null);
});

test("what is no message of the protocol is refused", () => {
  for (const text of ["", "nonsense", "[]", "null", '{"type": 1}', '{"no": "type"}']) {
    assert.throws(() => parseEvent(text), BadServerMessage);
  }
});

test("files and models over REST, and refusals with the server's problem", async () => {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    let nBytes = 0;
    request.on("data", (data: Buffer) => (nBytes += data.length));
    request.on("end", () => {
      if (request.url === "/v1/models") return response.end(golden("rest.models.json"));
      if (request.url === "/v1/tokens") {
        return response.end(request.headers.authorization ? '{"token": "t1", "expires_in_ms": 60000}' : "{}");
      }
      if (nBytes === 4) return response.end(golden("rest.files.json"));
      if (nBytes === 3) return response.end("<html>");
      const headers = { "Retry-After": "2" };
      response.writeHead(nBytes === 2 ? 502 : 503, headers);
      response.end(nBytes === 2 ? "<h1>Bad gateway</h1>" : golden("rest.problem.json"));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1/stream`;
  try {
    const result = await analyzeFile(url, new Uint8Array(4), { roles: ["a", "b:off"] });
    assert.deepEqual(result, JSON.parse(golden("rest.files.json")));
    assert.equal(asked[0], "POST /v1/files?roles=a%2Cb%3Aoff");
    const offered = await models(url);
    assert.deepEqual(offered, JSON.parse(golden("rest.models.json")).models);
    assert.deepEqual(offered[0]!.providers, ["CPUExecutionProvider"]);
    const headers = { Authorization: "Bearer key" };
    assert.equal(await fetchToken(url, { headers }), "t1");
    assert.equal(asked.at(-1), "POST /v1/tokens");
    await assert.rejects(fetchToken(url), BadServerMessage);
    await assert.rejects(analyzeFile(url, new Uint8Array(1)), (error) => {
      assert.ok(error instanceof Refused);
      assert.equal(error.code, "bad_parameter");
      assert.equal(error.retryAfterMs, 2000);
      assert.match(error.message, /out of range; send 8000 to 48000 Hz/);
      return true;
    });
    await assert.rejects(analyzeFile(url, new Uint8Array(2)), /status 502: <h1>Bad gateway/);
    await assert.rejects(analyzeFile(url, new Uint8Array(3)), BadServerMessage);
  } finally {
    server.close();
  }
  await assert.rejects(models("http://127.0.0.1:9"), Unreachable);
});

test("an answer that breaks off is none", async () => {
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      response.writeHead(200, { "Content-Length": 1000 });
      response.write('{"channels": [', () => response.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await assert.rejects(models(url), Unreachable);
    await assert.rejects(analyzeFile(url, new Uint8Array(4)), Unreachable);
  } finally {
    server.close();
  }
});
