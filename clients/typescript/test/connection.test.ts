/** One connection to a server that stalls; imported as it was compiled. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { test } from "node:test";
import { WebSocket as Ws } from "ws";

const { Connection } = await import("../dist/connection.js");

/** RFC 6455, Section 1.3. */
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

test("a dropped line whose other side never answers is torn down where that can be done", async () => {
  const server = createServer();
  const upgraded = new Promise<Duplex>((resolve) => {
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
  try {
    const connection = await Connection.open(
      (url, protocols) => new Ws(url, protocols) as unknown as WebSocket,
      `ws://127.0.0.1:${(server.address() as AddressInfo).port}`,
      [],
      { timeoutMs: 5_000, signal: new AbortController().signal, onChange() {} },
    );
    const line = await upgraded;
    const closed = once(line, "end", { signal: AbortSignal.timeout(5_000) });
    const droppedMs = performance.now();
    connection.drop();
    await closed;
    assert.ok(performance.now() - droppedMs > 500, "there is time to say goodbye");
  } finally {
    server.close();
    server.closeAllConnections();
  }
});
