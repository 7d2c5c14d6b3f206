/** One connection to a server that stalls or says nonsense; imported as it was compiled. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { test } from "node:test";
import { WebSocket as Ws } from "ws";

const { Connection } = await import("../dist/connection.js");

/** RFC 6455, Section 1.3. */
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** A server that answers the handshake and nothing more; `line` is its end of the next connection. */
async function upgrading(): Promise<{ server: Server; url: string; line: Promise<Duplex> }> {
  const server = createServer();
  const line = new Promise<Duplex>((resolve) => {
    server.on("upgrade", (request, socket) => {
      const key = request.headers["sec-websocket-key"] + GUID;
      const accept = createHash("sha1").update(key).digest("base64");
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
          `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
      socket.on("error", () => {}).resume(); // hears all, the closing too, and says nothing
      resolve(socket);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`, line };
}

function open(url: string, onChange = () => {}) {
  const make = (url: string, protocols: string[]) => new Ws(url, protocols) as unknown as WebSocket;
  const { signal } = new AbortController();
  return Connection.open(make, url, [], { timeoutMs: 5_000, signal, onChange });
}

test("a dropped line whose other side never answers is torn down where that can be done", async () => {
  const { server, url, line } = await upgrading();
  try {
    const connection = await open(url);
    const closed = once(await line, "end", { signal: AbortSignal.timeout(5_000) });
    const droppedMs = performance.now();
    connection.drop();
    await closed;
    assert.ok(performance.now() - droppedMs > 500, "there is time to say goodbye");
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("a frame that is none ends the connection, not the process", async () => {
  const { server, url, line } = await upgrading();
  try {
    let change = () => {};
    const ended = new Promise<void>((resolve) => (change = resolve));
    const connection = await open(url, () => change());
    (await line).end(Uint8Array.of(0xff, 0xff)); // reserved bits, and an opcode that there is not
    await ended;
    assert.equal(connection.closed?.code, 1006);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});
