/** How labels look: each has its colour, by name. */

const KNOWN = ["angry", "happy", "neutral", "sad", "fear"];

/** The style sheet's variable of a label's colour. */
export function toneOf(label) {
  return `var(--${KNOWN.includes(label) ? label : "other"})`;
}

/** The colour itself, for a canvas, as the present colour scheme has it. */
export function colourOf(label) {
  return styleValue(KNOWN.includes(label) ? `--${label}` : "--other");
}

export function styleValue(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Milliseconds as minutes and seconds, to the tenth. */
export function clock(ms) {
  const tenths = Math.round(ms / 100);
  const seconds = (tenths % 600) / 10;
  return `${Math.floor(tenths / 600)}:${seconds.toFixed(1).padStart(4, "0")}`;
}
