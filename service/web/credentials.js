/** The key of somebody who tries a service that wants one; forgotten with the page. */

import { fetchToken } from "./sdk/index.js";

export const credentials = {
  key: "",

  headers() {
    return this.key ? { Authorization: `Bearer ${this.key}` } : {};
  },

  /** Whether an error says that a key is missing, or is the wrong one. */
  isAskedBy(error) {
    return error?.status === 401;
  },

  /** For `stream`'s option `token`: a WebSocket cannot carry the key itself. */
  token(service) {
    if (!this.key) return undefined;
    return () => fetchToken(service, { headers: this.headers() });
  },
};
