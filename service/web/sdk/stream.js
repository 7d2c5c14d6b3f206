/**
 * A stream of audio to the server and its events back, over as many connections as it takes.
 *
 *     for await (const event of stream("ws://127.0.0.1:8000", chunks, { sample_rate: 16000 })) {
 *       if (event.type === "segment") console.log(event.end_ms, event.smoothed.label);
 *     }
 *
 * @module
 */
import { streamUrl } from "./address.js";
import { iteratorOf } from "./chunks.js";
import { FLUSH, isUpdate } from "./commands.js";
import { Connection, openedSoon } from "./connection.js";
import { BadServerMessage, ClientError, StreamClosed, StreamError, Unreachable, } from "./errors.js";
import { parseEvent, } from "./events.js";
import { History } from "./history.js";
import { checkOptions, parametersOf, } from "./options.js";
import { OPUS_RATE_HZ } from "./opus.js";
import { Pace } from "./pace.js";
import { delayMs, remedyOf, RETRY_DEFAULTS } from "./retrying.js";
import { Tape } from "./tape.js";
import { tokenFor } from "./token.js";
/** Bytes that may wait in the socket: 2 s of 16 kHz audio. More would only be lost with it. */
const MAX_BACKLOG_BYTES = 1 << 16;
/** Messages that may wait for a slow reader before no more audio is sent. */
const MAX_UNREAD = 1024;
const POLL_MS = 20;
/** A line that was made anew and does not answer for so long gets another one beside it. */
const PATIENCE_MS = 1_000;
const WATCH_MS = 250;
const KEEPALIVE_MS = 10_000;
/** A connection that lived so long was a good one, whatever ended it. */
const SOUND_MS = 10_000;
/**
 * Audio that a server may hold before it owes a result: where partial ones are not wanted, not quite
 * 2 s of silence and then 2 s of speech, and what finds it.
 */
const OWED_AFTER_MS = 5_000;
/** The most that `stallMs` is multiplied by, where connection after connection stalls. */
const MAX_STALL_FACTOR = 4;
/** After `session.draining`, the last checkpoint is waited for this long at most. */
const MAX_DRAIN_MS = 2_000;
/**
 * Sends all chunks and gives the events as they come, until `session.closed`.
 *
 * A lost connection is resumed from the last checkpoint and what was told before is not told
 * again. Where the server gives no checkpoints or no longer knows one, a new session goes on
 * after the last segment, with the times of one stream (`start_offset_ms`): it begins with a
 * `session.created` of its own, its utterances and indices count anew.
 *
 * @throws {StreamError} at a fatal error that is not worth trying again
 * @throws {StreamClosed} when the server ended the stream for good
 * @throws {Unreachable} when nobody answered for `retry.giveUpMs`, and for what is no address
 * @throws {BadServerMessage} when the server does not speak this protocol
 * @throws {ClientError} for an option that is not known, and for chunks that are no audio
 */
export async function* stream(url, chunks, options = {}) {
    const source = iteratorOf(chunks);
    let run;
    try {
        run = new Run(url, options);
        void run.feed(source);
        yield* run.events();
    }
    finally {
        try {
            // Before anybody's callback can throw: a microphone would stay on. A source may be waiting
            // for audio that never comes: it is told, not waited for.
            void Promise.resolve(source.return?.()).catch(() => { });
        }
        finally {
            run?.end();
        }
    }
}
/** All that one call of `stream` keeps, over its connections. */
class Run {
    #url;
    #options;
    #retry;
    #tape;
    #ending = new AbortController();
    #connection = null;
    #history = null;
    #token = null;
    /** The session's own `start_offset_ms`; a resumed one must be given the same again. */
    #offsetMs;
    /** Where the next connection takes the audio up. */
    #fromMs;
    #error = null;
    #pace = null;
    /** Number of the last update that was sent. */
    #lastUpdate = 0;
    /** The connection had its `session.created`. */
    #isGreeted = false;
    #isDraining = false;
    /** Since when the server has had something to tell; it counts as lost when that lasts. */
    #owedSinceMs = null;
    #isStalled = false;
    /** Connections that stalled since anything new was told. */
    #nStalls = 0;
    #leaving;
    #attempt = 0;
    #outageSinceMs = performance.now();
    constructor(url, options) {
        checkOptions(options);
        streamUrl(url, {}); // what is no address now is none at any attempt
        const { start_offset_ms = 0, maxBufferMs = 60_000, signal } = options;
        const { encoding = "pcm_s16le", channels = 1 } = options;
        const { sample_rate = encoding === "opus" ? OPUS_RATE_HZ : 16_000 } = options;
        this.#url = url;
        this.#options = options;
        this.#retry = { ...RETRY_DEFAULTS, ...options.retry };
        this.#fromMs = start_offset_ms;
        this.#offsetMs = options.start_offset_ms;
        const format = { encoding, sampleRateHz: sample_rate, nChannels: channels };
        this.#tape = new Tape(format, start_offset_ms, maxBufferMs);
        signal?.addEventListener("abort", () => this.#fail(signal.reason), {
            signal: this.#ending.signal,
        });
        if (signal?.aborted)
            this.#fail(signal.reason);
    }
    /** Draws from the source as the tape has room; an error of the source ends the stream. */
    async feed(source) {
        try {
            while (!this.#ending.signal.aborted) {
                while (this.#tape.isFull && !this.#ending.signal.aborted)
                    await this.#tape.changed();
                const { done, value } = await source.next();
                if (done)
                    return this.#tape.finish();
                if (value === FLUSH)
                    this.#tape.addCommand({ type: "flush" });
                else if (isUpdate(value))
                    this.#tape.addCommand(value);
                else
                    this.#tape.add(value);
            }
        }
        catch (error) {
            this.#fail(error);
        }
    }
    async *events() {
        for (;;) {
            const connection = await this.#connect();
            if (connection === null)
                continue;
            const timer = setInterval(() => this.#watch(connection), WATCH_MS);
            const openedMs = performance.now();
            void this.#send(connection).catch((error) => this.#fail(error));
            try {
                for (;;) {
                    const message = connection.read();
                    if (message === undefined) {
                        if (connection.closed)
                            break;
                        await this.#tape.changed();
                        this.#check();
                        continue;
                    }
                    const event = parseEvent(message);
                    if (event === null || !this.#accept(event, connection))
                        continue;
                    yield event;
                    if (event.type === "session.closed")
                        return;
                }
            }
            finally {
                clearInterval(timer);
                clearTimeout(this.#leaving);
                connection.drop();
            }
            // What lived for a while was well; what failed at once is one failure with the last. A line
            // that stalled was well until something was owed.
            const wellUntilMs = this.#isStalled ? this.#owedSinceMs : performance.now();
            if ((wellUntilMs ?? openedMs) - openedMs > SOUND_MS)
                this.#isSound();
            await this.#recover(connection.closed);
        }
    }
    end() {
        this.#ending.abort(new ClientError("the stream was left"));
        this.#connection?.drop();
        this.#tape.wake();
        this.#tell({ state: "closed" });
    }
    // --- connecting ---------------------------------------------------------------------------
    /** A connection, or `null` after a failure that is worth another attempt. */
    async #connect() {
        this.#check();
        this.#error = null;
        this.#pace = null;
        this.#isGreeted = this.#isDraining = this.#isStalled = false;
        this.#owedSinceMs = null;
        this.#tell({ state: "connecting", attempt: this.#attempt });
        const make = this.#options.webSocket ?? ((url, protocols) => new WebSocket(url, protocols));
        const parameters = this.#parameters();
        const open = async (signal) => {
            const { token, openTimeoutMs = 10_000 } = this.#options;
            const limits = {
                timeoutMs: openTimeoutMs,
                signal: AbortSignal.any([signal, this.#ending.signal]),
            };
            const credential = token === undefined ? undefined : await tokenFor(token, limits);
            this.#check();
            return Connection.open(make, streamUrl(this.#url, parameters), credential === undefined ? [] : ["glrf.v1", `glrf.token.${credential}`], { ...limits, onChange: () => this.#tape.wake() });
        };
        try {
            // Somebody waits for a stream that was lost: it does not wait for a dead line.
            this.#connection = await (this.#history === null
                ? open(this.#ending.signal)
                : openedSoon(open, PATIENCE_MS));
            return this.#connection;
        }
        catch (error) {
            this.#check();
            if (!(error instanceof Unreachable))
                throw error;
            await this.#wait(error, "resume", null);
            return null;
        }
    }
    #parameters() {
        if (this.#token === null && this.#history !== null) {
            this.#fromMs = this.#offsetMs = this.#tape.cutMs(this.#fromMs);
        }
        const session = { start_offset_ms: this.#offsetMs, resume: this.#token };
        return { ...parametersOf(this.#options), ...session };
    }
    // --- sending ------------------------------------------------------------------------------
    /** Sends the tape from where the session stands, then `close`. */
    async #send(connection) {
        const fromMs = this.#fromMs;
        let number = this.#tape.find(fromMs);
        // A session that goes on knows what was changed before; a new one is told.
        const updates = this.#token === null ? this.#tape.updatesBefore(number) : [];
        for (const update of updates)
            connection.send(JSON.stringify(update));
        while (connection.isOpen) {
            if (connection.backlogBytes > MAX_BACKLOG_BYTES || connection.nUnread > MAX_UNREAD) {
                await sleep(POLL_MS, this.#ending.signal);
                continue;
            }
            const item = this.#tape.item(number);
            if (item !== undefined) {
                if (this.#pace?.take(this.#tape.lengthMs(item), performance.now()) === false) {
                    await sleep(POLL_MS, this.#ending.signal);
                    continue;
                }
                if (isUpdate(item.content))
                    this.#lastUpdate = Math.max(this.#lastUpdate, number);
                number++;
                connection.send(this.#tape.messageFrom(item, fromMs));
            }
            else if (this.#tape.isFinished) {
                return connection.send(command("close"));
            }
            else {
                await this.#tape.changed();
            }
        }
    }
    // --- receiving ----------------------------------------------------------------------------
    /** Takes note of an event; whether the reader is to have it. */
    #accept(event, connection) {
        if (!this.#isGreeted && event.type !== "session.created" && event.type !== "error") {
            throw new BadServerMessage(`${event.type} before session.created`);
        }
        switch (event.type) {
            case "session.created": {
                this.#isGreeted = true;
                const resumed = this.#token !== null && this.#history !== null;
                this.#pace = Pace.of(event.limits, performance.now());
                if (resumed)
                    this.#history?.rewind();
                else
                    this.#history = new History(nScored(event));
                this.#tell({ state: "live", resumed, session: event });
                return !resumed;
            }
            case "error":
                if (event.fatal) {
                    this.#error = event;
                    return false;
                }
                if (event.code !== "bad_parameter")
                    return true; // what refuses an update
                return this.#history?.isNewRefusal(event.message, this.#lastUpdate) ?? true;
            case "checkpoint":
                this.#keep(event);
                if (this.#isDraining)
                    connection.drop({ code: 1012, reason: "draining" });
                return true;
            case "session.draining":
                this.#isDraining = true;
                this.#leaving = setTimeout(() => connection.drop({ code: 1012, reason: "draining" }), Math.min(event.deadline_ms, MAX_DRAIN_MS));
                return true;
            case "segment":
            case "utterance":
            case "alert":
            case "warning": {
                const isNew = this.#history?.isNew(event) ?? true;
                // What is told again, up to where the last connection failed, is no progress.
                if (isNew && event.type !== "warning")
                    this.#isSound();
                const toldMs = this.#history?.toldMs ?? null;
                if (this.#token === null && toldMs !== null) {
                    this.#fromMs = Math.max(this.#fromMs, toldMs);
                    this.#tape.forget(this.#fromMs);
                }
                return isNew;
            }
            default:
                return true;
        }
    }
    #keep({ token, resume_from_ms }) {
        // Results that came before any checkpoint have let go of their audio: what follows it would be
        // heard in its place. A new session goes on with the right times.
        if (!this.#tape.hasFrom(resume_from_ms))
            return;
        // One from before any audio, or only renewed, tells nothing of what was sent.
        if (resume_from_ms > this.#fromMs)
            this.#isSound();
        this.#token = token;
        this.#fromMs = resume_from_ms;
        this.#tape.forget(resume_from_ms);
        this.#history?.forget(resume_from_ms, this.#tape.find(resume_from_ms));
    }
    /** The session works: the next trouble begins with short waits and full patience. */
    #isSound() {
        this.#attempt = this.#nStalls = 0;
    }
    /**
     * Drops a connection over which nothing comes though something is owed; keeps idle ones.
     *
     * Whether what was sent arrives cannot be seen: the system takes megabytes for a line that is
     * slow, or dead. So the next connection is given twice as long, or a slow one would be dropped
     * again and again before its first answer.
     */
    #watch(connection) {
        if (connection.idleMs > KEEPALIVE_MS)
            connection.send(command("keepalive"));
        const factor = Math.min(2 ** this.#nStalls, MAX_STALL_FACTOR);
        const stallMs = factor * (this.#options.stallMs ?? 10_000);
        const toldMs = Math.max(this.#fromMs, this.#history?.toldMs ?? 0);
        const isUnheard = this.#tape.isFull || this.#tape.endMs - toldMs > OWED_AFTER_MS;
        const isOwed = this.#tape.isFinished || isUnheard;
        const nowMs = performance.now();
        this.#owedSinceMs = isOwed ? (this.#owedSinceMs ?? nowMs) : null;
        const quietMs = Math.min(nowMs - (this.#owedSinceMs ?? nowMs), connection.silentMs);
        if (connection.nUnread > 0 || quietMs <= stallMs)
            return;
        this.#isStalled = true;
        this.#nStalls++;
        connection.drop();
    }
    // --- recovering ---------------------------------------------------------------------------
    /** After a connection ended without `session.closed`: waits for the next one, or throws. */
    async #recover(closed) {
        this.#check();
        if (this.#attempt === 0)
            this.#outageSinceMs = performance.now();
        const { code, reason } = closed ?? { code: 1006, reason: "" };
        const error = this.#error;
        const cause = error
            ? new StreamError(error.code, error.message, {
                retryable: error.retryable,
                retryAfterMs: error.retry_after_ms,
                requestId: error.request_id,
            })
            : new StreamClosed(code, reason);
        const remedy = remedyOf(code, error);
        if (remedy === "give up")
            throw cause;
        if (remedy === "start anew") {
            if (this.#token === null)
                throw cause;
            this.#token = null;
            this.#fromMs = Math.max(this.#fromMs, this.#history?.toldMs ?? this.#fromMs);
        }
        // A server that ends in order has told its clients to go elsewhere at once.
        if (this.#isDraining && this.#attempt === 0)
            return void this.#attempt++;
        await this.#wait(cause, remedy, error?.retry_after_ms ?? null);
    }
    async #wait(cause, remedy, retryAfterMs) {
        const isFirst = this.#history === null;
        const ms = delayMs(this.#attempt, this.#retry, remedy, retryAfterMs);
        const patienceMs = isFirst ? this.#retry.giveUpFirstMs : this.#retry.giveUpMs;
        if (performance.now() - this.#outageSinceMs + ms > patienceMs)
            throw cause;
        this.#tell({ state: "waiting", attempt: this.#attempt, delayMs: Math.round(ms), cause });
        this.#attempt++;
        await sleep(ms, this.#ending.signal);
        this.#check();
    }
    // --- ending -------------------------------------------------------------------------------
    #fail(reason) {
        this.#ending.abort(reason);
        this.#connection?.drop();
        this.#tape.wake();
    }
    /** Throws why the stream was ended, if it was. */
    #check() {
        this.#ending.signal.throwIfAborted();
    }
    #tell(state) {
        this.#options.onConnection?.(state);
    }
}
function command(type) {
    return JSON.stringify({ type });
}
/** How many channels will have segments. */
function nScored({ config }) {
    const roles = config["roles"];
    return Array.isArray(roles) ? roles.filter((role) => role?.scored !== false).length : 1;
}
/** Waits, or less when the signal comes. */
function sleep(ms, signal) {
    return new Promise((resolve) => {
        const done = () => {
            clearTimeout(timer);
            signal.removeEventListener("abort", done);
            resolve();
        };
        const timer = setTimeout(done, ms);
        signal.addEventListener("abort", done);
        if (signal.aborted)
            done();
    });
}
