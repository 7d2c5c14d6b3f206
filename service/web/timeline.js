/** The chart: scores over time, and below them what each segment and utterance was. */

import { clock, colourOf, styleValue } from "./labels.js";

/** What is shown of a stream while it goes on. */
const LIVE_WINDOW_S = 30;
/** Below zero, in units of the scores' axis: where the strips lie. */
const SEGMENTS_AT = [-0.13, -0.06];
const UTTERANCES_AT = [-0.32, -0.18];
const FLOOR = -0.36;
const HOP_S = 0.4;

export class Timeline {
  #element;
  #plot = null;
  #data = [[]];
  #labels = [];
  #segments = [];
  #utterances = [];
  /** Those that have not ended, as far as their segments tell: `{label, start_ms, end_ms}` by id. */
  #open = new Map();
  /** Such as a new session cut off. */
  #cutOff = [];
  /** The utterances in words. */
  #told = "";
  #interruptions = [];
  #isLive = false;
  #endS = 0;
  #playheadS = null;

  /** `onSeek` is called with the time that was clicked, in seconds. */
  constructor(element, onSeek = () => {}) {
    this.#element = element;
    this.onSeek = onSeek;
    new ResizeObserver(() => this.#resize()).observe(element);
    // Colours on a canvas do not follow the style sheet by themselves.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#build());
  }

  /** Begins anew with the labels of a model. */
  begin(labels, { live }) {
    this.#labels = labels;
    this.#data = [[], ...labels.flatMap(() => [[], []])];
    this.#segments = [];
    this.#utterances = [];
    this.#open.clear();
    this.#cutOff = [];
    this.#told = "";
    this.#interruptions = [];
    this.#isLive = live;
    this.#endS = 0;
    this.#playheadS = null;
    this.#build();
  }

  addSegments(segments) {
    for (const segment of segments) {
      const last = this.#segments.at(-1);
      const isAnew = last !== undefined && segment.index <= last.index;
      const isNew = isAnew || last?.utterance_id !== segment.utterance_id;
      // An empty row between two utterances, so that their lines do not join.
      if (last && isNew) this.#row(last.end_ms / 1000 + 1e-3, () => null);
      const isScored = segment.abstain !== "no_speech";
      this.#row(segment.end_ms / 1000, (label, isSmoothed) =>
        isSmoothed ? segment.smoothed.scores[label] : isScored ? segment.scores[label] : null,
      );
      this.#segments.push(segment);
      if (isAnew) {
        this.#cutOff.push(...this.#open.values());
        this.#open.clear(); // a new session gives the same ids again
      }
      const { utterance_id, start_ms, end_ms, smoothed } = segment;
      if (utterance_id !== null) {
        const begun = this.#open.get(utterance_id) ?? { start_ms };
        this.#open.set(utterance_id, { ...begun, end_ms, label: smoothed.label });
      }
      this.#endS = Math.max(this.#endS, end_ms / 1000);
    }
    this.#draw();
  }

  addUtterances(utterances) {
    for (const utterance of utterances) {
      const { utterance_id, label, start_ms, end_ms } = utterance;
      this.#utterances.push(utterance);
      this.#open.delete(utterance_id);
      this.#told += this.#told && "; ";
      this.#told += `${label ?? "no label"} from ${clock(start_ms)} to ${clock(end_ms)}`;
      this.#endS = Math.max(this.#endS, end_ms / 1000);
    }
    this.#draw();
  }

  /** `{start_ms, end_ms}`; `end_ms` grows while it lasts. */
  set interruptions(interruptions) {
    this.#interruptions = interruptions;
    this.#plot?.redraw(false);
  }

  set playheadS(seconds) {
    this.#playheadS = seconds;
    this.#plot?.redraw(false);
  }

  /** Shows all of it; `endMs` is where the audio ends. */
  end(endMs) {
    this.#isLive = false;
    this.#endS = Math.max(this.#endS, endMs / 1000);
    this.#draw();
  }

  /** What the chart shows, in words. */
  get description() {
    const n = this.#segments.length;
    return n ? `${n} segments. ${this.#told || "No utterance has ended yet"}.` : "No audio yet";
  }

  #row(seconds, score) {
    this.#data[0].push(seconds);
    this.#labels.forEach((label, k) => {
      this.#data[1 + 2 * k].push(score(label, false));
      this.#data[2 + 2 * k].push(score(label, true));
    });
  }

  #draw() {
    this.#plot?.setData(this.#data, false);
    this.#plot?.setScale("x", this.#range());
    this.#element.setAttribute("aria-label", this.description);
  }

  #range() {
    if (!this.#isLive) return { min: 0, max: Math.max(this.#endS, 2) };
    const max = Math.max(this.#endS + 0.5, LIVE_WINDOW_S);
    return { min: max - LIVE_WINDOW_S, max };
  }

  #resize() {
    const { clientWidth: width } = this.#element;
    if (this.#plot && width) this.#plot.setSize({ width, height: this.#height() });
  }

  #height() {
    return innerWidth < 600 ? 256 : 320;
  }

  #build() {
    this.#plot?.destroy();
    const [ink, soft, line] = ["--ink", "--soft", "--line"].map(styleValue);
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    this.#plot = new globalThis.uPlot(
      {
        width: this.#element.clientWidth || 600,
        height: this.#height(),
        padding: [8, 18, 0, 0],
        scales: {
          x: { time: false, auto: false, ...this.#range() },
          y: { auto: false, range: [FLOOR, 1] },
        },
        axes: [
          { ...axis, font, size: 28, values: (_, splits) => splits.map((s) => clock(s * 1000).replace(/\.0$/, "")) },
          {
            ...axis,
            font,
            size: 38,
            splits: () => [0, 0.25, 0.5, 0.75, 1],
            values: (_, splits) => splits.map((score) => (score % 0.5 ? "" : score.toFixed(1))),
          },
        ],
        series: [
          {},
          ...this.#labels.flatMap((label) => [
            { stroke: colourOf(label) + "88", width: 1, dash: [2, 3], points: { show: false }, spanGaps: false },
            { stroke: colourOf(label), width: 2.5, points: { show: false }, spanGaps: false },
          ]),
        ],
        legend: { show: false },
        cursor: { y: false, points: { show: false }, bind: { click: this.#click } },
        hooks: { draw: [(plot) => this.#strips(plot, { ink, soft, font })] },
      },
      this.#data,
      this.#element,
    );
    this.#plot.setScale("x", this.#range());
  }

  #click = (plot) => () => {
    this.onSeek(plot.posToVal(plot.cursor.left, "x"));
    return null;
  };

  /** Draws what uPlot has no series for: interruptions, segments, utterances, the playhead. */
  #strips(plot, { ink, soft, font }) {
    const { ctx, bbox } = plot;
    const ratio = globalThis.devicePixelRatio || 1;
    const x = (seconds) => plot.valToPos(seconds, "x", true);
    const y = (score) => plot.valToPos(score, "y", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = font.replace("12px", `${12 * ratio}px`);
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    ctx.lineWidth = ratio;
    for (const { start_ms, end_ms } of this.#interruptions) {
      const [left, right] = [x(start_ms / 1000), Math.max(x(end_ms / 1000), x(start_ms / 1000) + 2 * ratio)];
      ctx.fillStyle = styleValue("--bad") + "26";
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
    }
    const { min, max } = plot.scales.x;
    const segments = this.#segments;
    for (let k = firstAfter(segments, min); k < segments.length; k++) {
      const segment = segments[k];
      if (segment.start_ms / 1000 > max) break;
      const end = segment.end_ms / 1000;
      // A segment's box is what it adds to the one before it.
      const { utterance_id } = segment;
      const isFirst = utterance_id !== null && utterance_id !== segments[k - 1]?.utterance_id;
      const begin = isFirst ? segment.start_ms / 1000 : Math.max(segment.start_ms / 1000, end - HOP_S);
      const box = { left: x(begin) + ratio, right: x(end) };
      this.#segmentBox(ctx, segment, box, y, soft, ratio);
    }
    for (const { label, start_ms, end_ms, isOpen } of this.#shownUtterances(min, max)) {
      const [left, right] = [x(start_ms / 1000) + ratio, x(end_ms / 1000) - ratio];
      const [bottom, top] = UTTERANCES_AT.map(y);
      const colour = label === null ? soft : colourOf(label);
      ctx.fillStyle = colour + "33";
      ctx.strokeStyle = colour;
      ctx.beginPath();
      ctx.roundRect(left, top, Math.max(right - left, ratio), bottom - top, 5 * ratio);
      ctx.fill();
      ctx.setLineDash(isOpen ? [3 * ratio, 2 * ratio] : []);
      ctx.stroke();
      ctx.setLineDash([]);
      const name = label ?? "—";
      const from = Math.max(left, bbox.left) + 7 * ratio;
      if (right - from > ctx.measureText(name).width + 4 * ratio) {
        ctx.fillStyle = ink;
        ctx.fillText(name, from, (top + bottom) / 2 + ratio);
      }
    }
    if (this.#playheadS !== null) {
      ctx.fillStyle = ink;
      ctx.fillRect(x(this.#playheadS) - ratio / 2, bbox.top, 1.5 * ratio, bbox.height);
    }
    ctx.restore();
  }

  /** Full colour is a label, hatching a partial one, an empty dashed box abstains. */
  #segmentBox(ctx, segment, { left, right }, y, soft, ratio) {
    const [bottom, top] = SEGMENTS_AT.map(y);
    const width = Math.max(right - left, ratio);
    if (segment.abstain !== null) {
      ctx.strokeStyle = soft;
      ctx.setLineDash([3 * ratio, 2 * ratio]);
      ctx.strokeRect(left + ratio / 2, top + ratio / 2, width - ratio, bottom - top - ratio);
      ctx.setLineDash([]);
      return;
    }
    ctx.fillStyle = colourOf(segment.label);
    if (!segment.partial) return ctx.fillRect(left, top, width, bottom - top);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, bottom - top);
    ctx.clip();
    ctx.strokeStyle = ctx.fillStyle;
    ctx.lineWidth = 2 * ratio;
    const step = 5 * ratio;
    for (let at = left - (bottom - top); at < right; at += step) {
      ctx.beginPath();
      ctx.moveTo(at, bottom);
      ctx.lineTo(at + bottom - top, top);
      ctx.stroke();
    }
    ctx.restore();
  }

  /**
   * Those between two times in seconds: what has ended; and as open what has not yet, or what a
   * new session cut off.
   */
  #shownUtterances(min, max) {
    const shown = [];
    for (let k = firstAfter(this.#utterances, min); k < this.#utterances.length; k++) {
      if (this.#utterances[k].start_ms / 1000 > max) break;
      shown.push(this.#utterances[k]);
    }
    const open = [...this.#cutOff, ...this.#open.values()];
    return [...shown, ...open.map((heard) => ({ ...heard, isOpen: true }))];
  }
}

/** Index of the first that ends after a time, of `items` in the order of their ends. */
function firstAfter(items, seconds) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].end_ms / 1000 > seconds) high = middle;
    else low = middle + 1;
  }
  return low;
}
