/** What was told of one recording, live or from a file, and how it is taken away. */

export class Recording {
  /** `source` is a file's name or `microphone`. */
  constructor(source) {
    this.source = source;
    this.model = null;
    this.segments = [];
    this.utterances = [];
    this.alerts = [];
    this.warnings = [];
    this.summary = [];
    /** Stretches of audio without a network: `{start_ms, end_ms, resumed}`. */
    this.interruptions = [];
    this.durationMs = 0;
  }

  /** An event of a stream, as it comes. */
  add(event) {
    switch (event.type) {
      case "session.created":
        this.model = event.model;
        break;
      case "segment":
        this.segments.push(bare(event));
        this.durationMs = Math.max(this.durationMs, event.end_ms);
        break;
      case "utterance":
        if (event.is_final) this.utterances.push(bare(event));
        break;
      case "alert":
        this.alerts.push(bare(event));
        break;
      case "warning":
        this.warnings.push(bare(event));
        break;
      case "session.closed":
        this.summary = event.summary;
        break;
    }
  }

  /** The answer to a file: the same objects, all at once. */
  addFile(result) {
    this.model = result.model;
    this.warnings = result.warnings;
    this.durationMs = result.duration_ms;
    for (const { channel, role, segments, utterances, alerts, summary } of result.channels) {
      this.segments.push(...(segments ?? []));
      this.utterances.push(...(utterances ?? []));
      this.alerts.push(...(alerts ?? []));
      if (summary) this.summary.push({ channel, role, ...summary });
    }
  }

  get labels() {
    return this.model?.labels ?? [];
  }

  /** `{channel, role}` of all that have segments, in order. */
  get channels() {
    const roles = new Map(this.segments.map(({ channel, role }) => [channel, role]));
    return [...roles].sort(([a], [b]) => a - b).map(([channel, role]) => ({ channel, role }));
  }

  toJson() {
    const { source, model, segments, utterances, alerts, warnings, summary, interruptions } = this;
    const duration_ms = this.durationMs;
    const told = { segments, utterances, alerts, warnings, summary };
    const whole = { source, model, duration_ms, ...told, interruptions };
    return JSON.stringify(whole, null, 2) + "\n";
  }

  /** The service's own table of segments (`Accept: text/csv`), column for column. */
  toCsv() {
    const fields = ["channel", "role", "index", "start_ms", "end_ms", "partial", "label", "abstain"];
    const head = [...fields, ...this.labels.map((label) => `score_${label}`), "smoothed_label", "utterance_id"];
    const rows = this.segments.map((segment) => [
      ...fields.map((field) => segment[field]),
      ...this.labels.map((label) => segment.scores[label]),
      segment.smoothed.label,
      segment.utterance_id,
    ]);
    return [head, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
  }
}

/** An event without what belongs to a connection. */
function bare({ type, seq, session_id, lag_ms, ...fields }) {
  return fields;
}

/** Spreadsheets take a cell that begins like a formula for one: text gets an apostrophe in front. */
function cell(value) {
  const isFormula = typeof value === "string" && /^[=+\-@\t\r]/.test(value);
  const text = `${isFormula ? "'" : ""}${value ?? ""}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
