/** The microphone as a source of chunks for `stream`, in a browser. @module */
import { NoMicrophone } from "./errors.js";
import { within } from "./limit.js";
import { checkNames } from "./names.js";
export const MICROPHONE_RATE_HZ = 16_000;
const SAMPLES_OF_MS = MICROPHONE_RATE_HZ / 1000;
/** A recording that does not start for so long waits for something that nobody knows of. */
const START_MS = 5_000;
const HELD_BACK = "the browser holds it back; call microphone() when somebody clicks";
const OPTIONS = {
    deviceId: true,
    maxWaitingMs: true,
    onLevel: true,
};
/**
 * Asks for the microphone and starts to record. Needs a page over https or from localhost.
 *
 * The browser's echo cancellation, noise suppression and gain control are off: they change how
 * a voice sounds.
 *
 * @throws {NoMicrophone} when there is none, the user said no, or it does not start within 5 s
 */
export async function microphone(options = {}) {
    checkNames("microphone", options, OPTIONS);
    const { deviceId, maxWaitingMs = 120_000, onLevel } = options;
    if (!globalThis.navigator?.mediaDevices) {
        throw new NoMicrophone("a page gets the microphone only over https or from localhost");
    }
    let media;
    try {
        media = await navigator.mediaDevices.getUserMedia({
            audio: {
                channelCount: 1,
                echoCancellation: false,
                noiseSuppression: false,
                autoGainControl: false,
                ...(deviceId !== undefined && { deviceId: { exact: deviceId } }),
            },
        });
    }
    catch (error) {
        throw noMicrophone("the microphone cannot be used", error);
    }
    let context;
    const queue = new SampleQueue(maxWaitingMs * SAMPLES_OF_MS);
    const stop = () => {
        for (const track of media.getTracks())
            track.stop();
        void context?.close().catch(() => { }); // it may be closed already
        queue.finish();
    };
    try {
        // The context's rate makes the browser resample, whatever the device gives.
        const recording = (context = new AudioContext({ sampleRate: MICROPHONE_RATE_HZ }));
        await context.audioWorklet.addModule(new URL("./capture_worklet.js", import.meta.url));
        await within(START_MS, HELD_BACK, context.resume());
        const capture = new AudioWorkletNode(context, "glrf-capture", { numberOfOutputs: 0 });
        let isInterrupted = false;
        let heardMs = Date.now(); // performance.now() may stand still while a device sleeps
        capture.port.onmessage = ({ data }) => {
            const nowMs = Date.now();
            // What was under way when the interruption was told belongs before it.
            if (isInterrupted && recording.state === "running") {
                isInterrupted = false;
                queue.addSilence((nowMs - heardMs) * SAMPLES_OF_MS - data.length);
            }
            heardMs = nowMs;
            queue.add(data);
            onLevel?.(data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0) / 32767);
        };
        recording.addEventListener("statechange", () => {
            if (recording.state === "running" || recording.state === "closed")
                return;
            isInterrupted = true;
            recording.resume().catch(stop);
        });
        context.createMediaStreamSource(media).connect(capture);
    }
    catch (error) {
        stop();
        throw noMicrophone("the recording could not be started", error);
    }
    // Unplugged, or taken back by the user.
    for (const track of media.getTracks())
        track.addEventListener("ended", stop);
    return {
        stop,
        get droppedMs() {
            return queue.nDropped / SAMPLES_OF_MS;
        },
        [Symbol.asyncIterator]() {
            const chunks = queue.chunks();
            return {
                next: () => chunks.next(),
                return: () => {
                    stop(); // first: what is returned waits behind a `next` that waits for samples
                    return chunks.return();
                },
            };
        },
    };
}
const REASONS = {
    NotAllowedError: "the page may not use the microphone; allow it in the browser's address bar",
    NotFoundError: "no microphone was found; connect one and try again",
    NotReadableError: "the microphone is used by another program; close that and try again",
    OverconstrainedError: "the chosen microphone is not there any more; choose another",
    NotSupportedError: "this browser does not record the microphone at 16 kHz; use another one",
};
function noMicrophone(what, error) {
    const why = error instanceof DOMException ? REASONS[error.name] : undefined;
    return new NoMicrophone(why ?? `${what}: ${error}`, { cause: error });
}
/** A bounded queue of samples that never shifts time: what it must drop, or lacks, is silence. */
export class SampleQueue {
    #maxSamples;
    /** Samples, or how many of silence. */
    #chunks = [];
    #nWaiting = 0;
    #nSilent = 0;
    #isFinished = false;
    #wake = () => { };
    /** Samples that were given as silence. */
    nDropped = 0;
    constructor(maxSamples) {
        this.#maxSamples = maxSamples;
    }
    add(chunk) {
        if (this.#isFinished)
            return;
        this.#chunks.push(chunk);
        this.#nWaiting += chunk.length;
        while (this.#nWaiting > this.#maxSamples) {
            const oldest = this.#chunks.shift();
            const nOldest = typeof oldest === "number" ? oldest : oldest.length;
            this.#nSilent += nOldest;
            if (typeof oldest === "number")
                continue;
            this.#nWaiting -= nOldest;
            this.nDropped += nOldest;
        }
        this.#wake();
    }
    /** Silence in place of samples that never came; none for less than one. */
    addSilence(nSamples) {
        if (this.#isFinished || nSamples < 1)
            return;
        this.#chunks.push(Math.round(nSamples));
        this.#wake();
    }
    finish() {
        this.#isFinished = true;
        this.#wake();
    }
    /** All chunks in order, until it is finished and empty. */
    async *chunks() {
        for (;;) {
            if (this.#nSilent) {
                const silence = new Int16Array(Math.min(this.#nSilent, MICROPHONE_RATE_HZ));
                this.#nSilent -= silence.length;
                yield silence;
                continue;
            }
            const chunk = this.#chunks.shift();
            if (typeof chunk === "number") {
                this.#nSilent = chunk;
            }
            else if (chunk) {
                this.#nWaiting -= chunk.length;
                yield chunk;
            }
            else if (this.#isFinished) {
                return;
            }
            else {
                await new Promise((resolve) => (this.#wake = resolve));
            }
        }
    }
}
