/** The key of somebody who tries a service that wants one; forgotten with the page. */

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
  async tokens(service) {
    if (!this.key) return undefined;
    return async () => {
      const answer = await fetch(new URL("v1/tokens", service), {
        method: "POST",
        headers: this.headers(),
      });
      if (!answer.ok) throw new Error("the key was not accepted; enter another");
      return (await answer.json()).token;
    };
  },
};
