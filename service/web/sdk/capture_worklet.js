/** Runs on the audio thread: gathers the microphone's samples and posts them as 16-bit PCM. @module */
/** 100 ms at 16 kHz: short beside the 400 ms between two results, long beside a message's cost. */
const CHUNK_SAMPLES = 1600;
class Capture extends AudioWorkletProcessor {
    #samples = new Int16Array(CHUNK_SAMPLES);
    #n = 0;
    /** Takes 128 samples of each channel in [-1, 1]; the first channel is kept. */
    process([input]) {
        for (const sample of input?.[0] ?? []) {
            const clipped = Math.max(-1, Math.min(1, sample));
            this.#samples[this.#n++] = Math.round(clipped * 32767);
            if (this.#n === CHUNK_SAMPLES) {
                this.port.postMessage(this.#samples, [this.#samples.buffer]);
                this.#samples = new Int16Array(CHUNK_SAMPLES);
                this.#n = 0;
            }
        }
        return true;
    }
}
registerProcessor("glrf-capture", Capture);
export {};
