/** How fast a server lets audio come; faster ends the stream with 4429. @module */
/** Only so much of the server's allowance is used: its clock is not this one. */
const SHARE = 0.9;
/** A bucket of `burstMs` of audio that fills at `speed` times real time. */
export class Pace {
    #speed;
    #burstMs;
    #leftMs;
    #sinceMs;
    constructor(speed, burstMs, nowMs) {
        this.#speed = SHARE * speed;
        this.#burstMs = SHARE * burstMs;
        this.#leftMs = this.#burstMs;
        this.#sinceMs = nowMs;
    }
    /** Of `limits` in `session.created`; one without these limits has no pace. */
    static of(limits, nowMs) {
        const { max_speed: speed, burst_ms: burstMs } = limits;
        const isLimited = typeof speed === "number" && typeof burstMs === "number";
        return isLimited ? new Pace(speed, burstMs, nowMs) : null;
    }
    /** Whether `ms` of audio may go now; it then counts as sent. */
    take(ms, nowMs) {
        const filledMs = this.#leftMs + (nowMs - this.#sinceMs) * this.#speed;
        this.#leftMs = Math.min(this.#burstMs, filledMs);
        this.#sinceMs = nowMs;
        if (this.#leftMs < Math.min(ms, this.#burstMs))
            return false;
        this.#leftMs -= ms;
        return true;
    }
}
