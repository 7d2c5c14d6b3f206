/** The page's network, which can be cut to see a stream resume. */

export class Network {
  isCut = false;
  #sockets = new Set();

  /** For `stream`'s option `webSocket`. */
  webSocket = (url, protocols) => {
    if (this.isCut) return nowhere();
    const socket = new WebSocket(url, protocols);
    this.#sockets.add(socket);
    socket.addEventListener("close", () => this.#sockets.delete(socket));
    return socket;
  };

  cut() {
    this.isCut = true;
    for (const socket of this.#sockets) {
      const { onclose } = socket;
      socket.onmessage = socket.onclose = null; // what is under way does not arrive
      socket.close();
      onclose?.call(socket, { code: 1006, reason: "the network was cut" });
    }
    this.#sockets.clear();
  }

  mend() {
    this.isCut = false;
  }
}

/** What a WebSocket is when nobody can be reached. */
function nowhere() {
  const socket = { bufferedAmount: 0, send() {}, close() {}, onclose: null, onerror: null };
  setTimeout(() => socket.onclose?.({ code: 1006, reason: "no network" }));
  return socket;
}
