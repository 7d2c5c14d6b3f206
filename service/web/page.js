/** The try-it page: the microphone or a file in, the emotions out. */

import { analyzeFile, FLUSH, microphone, MICROPHONE_RATE_HZ, models, stream } from "./sdk/index.js";
import { credentials } from "./credentials.js";
import { Network } from "./network.js";
import { Recording } from "./recording.js";
import { Timeline } from "./timeline.js";
import * as view from "./view.js";

/** The service that served this page, also where a proxy put it below a path. */
const SERVICE = new URL(".", location.href);
const element = (id) => document.getElementById(id);

const player = element("player");
const timeline = new Timeline(element("chart"), (seconds) => {
  if (!player.hidden) player.currentTime = seconds;
});
let recording = new Recording("nothing");
/** The stream that is going on: `{microphone, network, wantsFlush}`. */
let live = null;
/** The browser is asking the user whether the page may have the microphone. */
let isAsking = false;
/** Ends the analysis of a file when something else is begun. */
let analysis = new AbortController();

// --- before anything is heard ---------------------------------------------------------------

async function greet() {
  try {
    const offered = await models(SERVICE, { headers: credentials.headers() });
    const model = offered.find((candidate) => candidate.default) ?? offered[0];
    view.showModel(model);
    view.showConnection("idle");
    view.notice(null);
    if (!recording.segments.length) timeline.begin(model.labels, { live: true });
  } catch (error) {
    fail(error);
  }
}

function begin(source, { isLive }) {
  analysis.abort();
  analysis = new AbortController();
  recording = new Recording(source);
  view.notice(null);
  view.clearLog();
  view.showUtterances([]);
  view.showChannels([]);
  view.showFacts({ elapsedMs: 0, lagMs: null, nSegments: 0, nResumed: 0 });
  for (const id of ["json", "csv"]) element(id).disabled = true;
  if (player.src) URL.revokeObjectURL(player.src);
  player.removeAttribute("src");
  player.hidden = true;
  element("record").querySelector("span").textContent = isLive ? "Stop" : "Use the microphone";
  element("record").classList.toggle("recording", isLive);
  document.querySelector(".live-only").hidden = !isLive;
  element("choose").disabled = isLive;
}

/** A failure in the page's own words; one of credentials asks for a key. */
function fail(error) {
  if (error?.name === "AbortError") return;
  if (credentials.isAskedBy(error)) {
    element("key-form").hidden = false;
    element("key").focus();
  }
  view.showConnection("failed");
  view.notice(error?.message ?? String(error));
}

// --- the microphone -------------------------------------------------------------------------

async function record() {
  if (isAsking) return;
  isAsking = true; // rather than to disable the button, which would lose the keyboard's focus
  let source;
  try {
    source = await microphone({
      onLevel: (peak) => (element("level").style.width = `${Math.round(100 * Math.sqrt(peak))}%`),
    });
  } catch (error) {
    return fail(error);
  } finally {
    isAsking = false;
  }
  begin("microphone", { isLive: true });
  const session = { microphone: source, network: new Network(), wantsFlush: false, heardMs: 0 };
  live = session;
  const ticking = setInterval(() => tick(session), 100);
  try {
    await follow(session);
  } catch (error) {
    fail(error);
  } finally {
    clearInterval(ticking);
    source.stop();
    live = null;
    finish();
  }
}

/** The microphone's chunks, and an utterance's end where it was asked for. */
async function* spoken(session) {
  for await (const chunk of session.microphone) {
    session.heardMs += chunk.length / (MICROPHONE_RATE_HZ / 1000);
    yield chunk;
    if (session.wantsFlush) yield FLUSH;
    session.wantsFlush = false;
  }
}

async function follow(session) {
  const events = stream(SERVICE, spoken(session), {
    sample_rate: MICROPHONE_RATE_HZ,
    webSocket: session.network.webSocket,
    token: credentials.token(SERVICE),
    retry: { maxDelayMs: 2000 }, // somebody is watching
    onConnection: (state) => onConnection(session, state),
  });
  for await (const event of events) {
    if (event.type === "session.created" && recording.segments.length === 0) {
      timeline.begin(event.model.labels, { live: true });
    }
    recording.add(event);
    if (event.type === "segment") {
      timeline.addSegments([event]);
      view.showDecision(event.smoothed, "Utterance so far", view.detailOf(event));
      view.showFacts({ lagMs: event.lag_ms, nSegments: recording.segments.length });
    } else if (event.type === "utterance" && event.is_final) {
      timeline.addUtterances([event]);
      view.addUtterance(event);
      view.log(event.end_ms, `Utterance: ${event.label ?? "no label"}`);
    } else if (event.type === "alert") {
      view.log(event.end_ms, `Alert: ${event.rule}`);
    } else if (event.type === "warning" || event.type === "error") {
      view.log(recording.durationMs, `${event.code}: ${event.message}`);
    } else if (event.type === "session.closed" && event.summary.length) {
      view.showDecision(event.summary[0], "The whole recording");
    } else if (event.type === "session.draining") {
      view.log(recording.durationMs, "The server is stopping; moving to another");
    }
  }
}

function onConnection(session, state) {
  const gap = recording.interruptions.at(-1);
  const isLost = gap !== undefined && gap.resumed === null;
  if (state.state === "live") {
    view.showConnection("live");
    if (!isLost) return;
    gap.end_ms = session.heardMs;
    gap.resumed = state.resumed;
    const how = state.resumed ? "Resumed, nothing lost" : "Connected anew, in a new session";
    view.log(session.heardMs, `${how}, after ${((gap.end_ms - gap.start_ms) / 1000).toFixed(1)} s`);
    const nResumed = recording.interruptions.filter(({ resumed }) => resumed !== null).length;
    view.showFacts({ nResumed });
  } else if (state.state === "waiting") {
    if (!isLost) {
      const start_ms = session.heardMs;
      recording.interruptions.push({ start_ms, end_ms: start_ms, resumed: null });
      view.log(start_ms, `Connection lost (${state.cause.message})`);
    }
    view.showConnection(session.network.isCut ? "cut" : "waiting", "Reconnecting…");
  } else if (state.state === "connecting" && !isLost) {
    view.showConnection("connecting");
  }
}

/** What goes on between two events. */
function tick(session) {
  view.showFacts({ elapsedMs: session.heardMs });
  const gap = recording.interruptions.at(-1);
  if (gap?.resumed === null) {
    gap.end_ms = session.heardMs;
    view.showConnection(
      session.network.isCut ? "cut" : "waiting",
      `Reconnecting… ${((gap.end_ms - gap.start_ms) / 1000).toFixed(1)} s kept`,
    );
  }
  timeline.interruptions = recording.interruptions;
}

function cut() {
  const { network } = live;
  if (network.isCut) network.mend();
  else network.cut();
  element("cut").setAttribute("aria-pressed", String(network.isCut));
  element("cut").textContent = network.isCut ? "Mend the network" : "Cut the network";
}

// --- a file ---------------------------------------------------------------------------------

async function analyse(file) {
  if (live) return;
  begin(file.name, { isLive: false });
  view.showConnection("analysing");
  const { signal } = analysis;
  const beganMs = performance.now();
  try {
    const result = await analyzeFile(SERVICE, file, { headers: credentials.headers(), signal });
    recording.addFile(result);
    player.src = URL.createObjectURL(file);
    player.hidden = false;
    view.showChannels(recording.channels, showChannel);
    showChannel(recording.channels[0]?.channel ?? 0);
    for (const { code, message } of recording.warnings) view.log(0, `${code}: ${message}`);
    const tookS = ((performance.now() - beganMs) / 1000).toFixed(1);
    view.log(recording.durationMs, `${file.name} was analysed in ${tookS} s`);
    view.showFacts({ elapsedMs: recording.durationMs, nSegments: recording.segments.length });
    view.showConnection("done");
    finish();
  } catch (error) {
    fail(error);
  }
}

/** One channel of a file, as a whole. */
function showChannel(channel) {
  const own = (items) => items.filter((item) => item.channel === channel);
  timeline.begin(recording.labels, { live: false });
  timeline.addSegments(own(recording.segments));
  timeline.addUtterances(own(recording.utterances));
  timeline.end(recording.durationMs);
  view.showUtterances(own(recording.utterances));
  const summary = own(recording.summary)[0];
  if (summary) view.showDecision(summary, "The whole recording", recording.source);
}

// --- afterwards -----------------------------------------------------------------------------

function finish() {
  element("record").querySelector("span").textContent = "Use the microphone";
  element("record").classList.remove("recording");
  document.querySelector(".live-only").hidden = true;
  element("choose").disabled = false;
  element("cut").setAttribute("aria-pressed", "false");
  element("cut").textContent = "Cut the network";
  timeline.interruptions = recording.interruptions;
  timeline.end(recording.durationMs);
  const state = element("connection").dataset.state;
  if (state !== "failed") view.showConnection("done");
  for (const id of ["json", "csv"]) element(id).disabled = recording.segments.length === 0;
}

function download(text, type, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = `${recording.source.replace(/\.\w+$/, "")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

element("record").addEventListener("click", () => (live ? live.microphone.stop() : record()));
element("flush").addEventListener("click", () => (live.wantsFlush = true));
element("cut").addEventListener("click", cut);
element("choose").addEventListener("click", () => element("file").click());
element("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be chosen again
  if (file) analyse(file);
});
element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  credentials.key = element("key").value;
  greet();
});
element("json").addEventListener("click", () =>
  download(recording.toJson(), "application/json", "json"),
);
element("csv").addEventListener("click", () => download(recording.toCsv(), "text/csv", "csv"));

let nInside = 0;
addEventListener("dragenter", () => (element("drop").hidden = ++nInside === 0));
addEventListener("dragleave", () => (element("drop").hidden = --nInside === 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  nInside = 0;
  element("drop").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) analyse(file);
});
const showPlayhead = () => (timeline.playheadS = player.hidden ? null : player.currentTime);
player.addEventListener("timeupdate", showPlayhead);
player.addEventListener("seeked", showPlayhead);

greet();
