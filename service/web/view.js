/** The page beside the chart: the present label and scores, facts, utterances, the log. */

import { clock, toneOf } from "./labels.js";

const element = (id) => document.getElementById(id);

/** Why a segment says nothing, in words. */
const ABSTAINS = {
  no_speech: "silence",
  too_short: "too short to tell",
  clipped: "too loud: the input clips",
  uncertain: "no emotion is clear",
};

const CONNECTIONS = {
  idle: "Idle",
  connecting: "Connecting…",
  live: "Live",
  analysing: "Analysing…",
  done: "Done",
  failed: "Failed",
};

export function showModel({ name, version, labels, license }) {
  element("model").textContent = `${name} ${version}`;
  element("model").hidden = false;
  if (license) element("license").textContent = `The model's licence: ${license}.`;
  element("scores").replaceChildren(
    ...labels.map((label) => {
      const row = document.createElement("div");
      row.dataset.label = label;
      row.style.setProperty("--tone", toneOf(label));
      row.innerHTML = "<dt></dt><dd><span class='bar'><i></i></span><output>–</output></dd>";
      row.querySelector("dt").textContent = label;
      return row;
    }),
  );
}

/** The utterance so far, or what was decided on the whole. */
export function showDecision({ label, scores }, caption, detail = "") {
  const shown = label ?? "—";
  // Written only when it changes: a screen reader says it each time.
  if (element("label").textContent !== shown) element("label").textContent = shown;
  element("label").style.setProperty("--tone", label === null ? "var(--soft)" : toneOf(label));
  element("verdict-caption").textContent = caption;
  element("detail").textContent = detail;
  for (const row of element("scores").children) {
    const score = scores[row.dataset.label] ?? 0;
    row.classList.toggle("top", row.dataset.label === label);
    row.querySelector("i").style.width = `${100 * score}%`;
    row.querySelector("output").textContent = score.toFixed(2);
  }
}

export function detailOf({ abstain, partial }) {
  if (abstain !== null) return `Last segment abstains: ${ABSTAINS[abstain] ?? abstain}.`;
  return partial ? "Last segment is partial: it has heard less than 2 s." : "";
}

export function showFacts({ elapsedMs, lagMs, nSegments, nResumed }) {
  if (elapsedMs !== undefined) element("elapsed").textContent = clock(elapsedMs);
  if (lagMs !== undefined) element("lag").textContent = lagMs === null ? "—" : `${lagMs} ms`;
  if (nSegments !== undefined) element("n-segments").textContent = nSegments;
  if (nResumed !== undefined) element("n-resumed").textContent = nResumed;
}

export function showConnection(state, text = CONNECTIONS[state]) {
  element("connection").dataset.state = state;
  element("connection").querySelector("span").textContent = text;
}

export function showUtterances(utterances) {
  const rows = utterances.map(rowOf);
  if (rows.length) element("utterances").replaceChildren(...rows);
  else element("utterances").innerHTML = "<tr class='empty'><td colspan='6'>None yet.</td></tr>";
}

/** One more, below those that are shown. */
export function addUtterance(utterance) {
  const table = element("utterances");
  table.querySelector(".empty")?.remove();
  table.append(rowOf(utterance));
}

function rowOf({ start_ms, end_ms, label, scores, n_segments, pure }) {
  const row = document.createElement("tr");
  row.style.setProperty("--tone", label === null ? "var(--line)" : toneOf(label));
  const score = label === null ? "" : scores[label].toFixed(2);
  const cells = [clock(start_ms), clock(end_ms), label ?? "none", score, n_segments, pure ? "yes" : "no"];
  for (const [k, value] of cells.entries()) {
    const cell = row.insertCell();
    if (k === 2) cell.innerHTML = "<i class='dot' aria-hidden='true'></i>";
    if (k === 3 || k === 4) cell.className = "number";
    cell.append(String(value));
  }
  return row;
}

/** A line of what happened, at a time of the audio. */
export function log(ms, text) {
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = clock(ms);
  line.append(time, text);
  const list = element("log");
  list.querySelector(".empty")?.remove();
  list.prepend(line);
}

export function clearLog() {
  element("log").replaceChildren();
}

/** A failure, with what to do; nothing hides the last one. */
export function notice(text) {
  element("notice").textContent = text ?? "";
  element("notice").hidden = !text;
}

/** One choice a channel, when there is more than one. */
export function showChannels(channels, onChoice) {
  const group = element("channels");
  group.hidden = channels.length < 2;
  group.replaceChildren(
    ...channels.map(({ channel, role }, k) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "channel", checked: k === 0 });
      input.addEventListener("change", () => onChoice(channel));
      label.append(input, ` ${role ?? `channel ${channel + 1}`}`);
      return label;
    }),
  );
}
