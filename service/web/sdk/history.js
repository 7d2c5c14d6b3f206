/** What the reader has had already, so that a resumed stream tells nothing twice. @module */
/** An utterance or alert may be told again up to this long after the checkpoint passed its end. */
const KEPT_MS = 60_000;
/** The events of one session, over all its connections. */
export class History {
    #nChannels;
    #indexOf = new Map();
    #endMsOf = new Map();
    /** Utterances and alerts that were had, with their ends. */
    #told = new Map();
    #warnings = new Set();
    /** What is sent again is refused again: so many are left out as were told. */
    #refused = [];
    #refusedAgain = [];
    /** Of a session in which `nChannels` channels are scored. */
    constructor(nChannels) {
        this.#nChannels = nChannels;
    }
    /** Whether an event is new; it counts as had from now on. */
    isNew(event) {
        switch (event.type) {
            case "segment": {
                if (event.index <= (this.#indexOf.get(event.channel) ?? -1))
                    return false;
                this.#indexOf.set(event.channel, event.index);
                this.#endMsOf.set(event.channel, event.end_ms);
                return true;
            }
            case "utterance": {
                // So far, it may be told several times, each with more audio.
                const moment = event.is_final ? "final" : event.end_ms;
                return this.#add(`${event.channel} ${event.utterance_id} ${moment}`, event.end_ms);
            }
            case "alert":
                return this.#add(`${event.channel} ${event.rule} ${event.end_ms}`, event.end_ms);
            case "warning": {
                if (event.code === "late")
                    return true; // may come again, and is then another one
                const key = `${event.channel} ${event.code}`;
                const isNew = !this.#warnings.has(key);
                this.#warnings.add(key);
                return isNew;
            }
            default:
                return true;
        }
    }
    /** Whether a refusal is new; `number` is that of the last update that was sent. */
    isNewRefusal(message, number) {
        const known = this.#refusedAgain.findIndex((refusal) => refusal.message === message);
        if (known < 0)
            this.#refused.push({ message, number });
        else
            this.#refusedAgain.splice(known, 1);
        return known < 0;
    }
    /** The session goes on over another connection: what no checkpoint covers is sent again. */
    rewind() {
        this.#refusedAgain = [...this.#refused];
    }
    /** The time up to which every channel has been told; `null` before each had a segment. */
    get toldMs() {
        if (this.#endMsOf.size < this.#nChannels)
            return null;
        return Math.min(...this.#endMsOf.values());
    }
    /**
     * Nothing from before a time will be told again, and no item before `number` be sent: lets go of
     * what is long past.
     */
    forget(beforeMs, number) {
        for (const [key, endMs] of this.#told) {
            if (endMs < beforeMs - KEPT_MS)
                this.#told.delete(key);
        }
        const isSentAgain = (refusal) => refusal.number >= number;
        this.#refused = this.#refused.filter(isSentAgain);
        this.#refusedAgain = this.#refusedAgain.filter(isSentAgain);
    }
    #add(key, endMs) {
        if (this.#told.has(key))
            return false;
        this.#told.set(key, endMs);
        return true;
    }
}
