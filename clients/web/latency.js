// The latency from the end of speech to the result, by stage: of the last turn, and over all turns.

import { $, el, percent } from "./elements.js";
import { quantile } from "./quantile.js";

/** The stages, in the order in which they are shown, and their names. */
export const STAGES = {
  endpointing: "Waiting for silence",
  asr: "Speech recognition",
  features: "Voice",
  emotion: "Emotion",
  total: "Total",
  seen: "Seen in the page",
};
const KEPT = 1_000;      // turns

/** Latencies by stage: of the last turn, with median and 95th percentile of up to the last thousand turns. */
export class Latencies {
  constructor() {
    this.last = null;
    this.shown = false;
    this.values = Object.fromEntries(Object.keys(STAGES).map((stage) => [stage, []]));
  }

  /** Add a turn. @param {object} parts its `latency_ms`. @param {number|null} seenMs latency measured in the page. */
  push(parts, seenMs) {
    this.last = seenMs === null ? { ...parts } : { ...parts, seen: seenMs };
    this.shown = false;
    for (const [stage, values] of Object.entries(this.values)) {
      if (typeof this.last[stage] !== "number") continue;
      values.push(this.last[stage]);
      if (values.length > KEPT) values.shift();
    }
  }

  stages() {
    return Object.keys(STAGES).filter((stage) => this.values[stage].length).map((stage) => {
      const sorted = [...this.values[stage]].sort((a, b) => a - b);
      return { stage, last: this.last[stage] ?? null, p50: quantile(sorted, 0.5), p95: quantile(sorted, 0.95) };
    });
  }
}

/** The times at which audio was sent, to measure how long after the end of its speech a turn is seen. */
export class Departures {
  constructor() { this.sent = []; }

  /** Record that all audio before `audioMs` was sent by `now` (ms of the page's clock). */
  note(audioMs, now) {
    this.sent.push([audioMs, now]);
    if (this.sent.length > 4_000) this.sent.splice(0, 1_000);
  }

  /** Return how long before `now` the audio at `audioMs` was sent; null if that is no longer known. */
  since(audioMs, now) {
    if (!this.sent.length || this.sent[0][0] > audioMs) return null;
    const at = this.sent.find(([ms]) => ms >= audioMs);
    return at ? now - at[1] : null;
  }
}

/** Format milliseconds; long times in seconds, with their unit. */
export function brief(ms) {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en");
}

export function showLatency(latencies) {
  if (latencies.shown) return;
  latencies.shown = true;
  const stages = latencies.stages();
  $("latency").hidden = !stages.length;
  if (!stages.length) return;
  const most = Math.max(...stages.map((s) => Math.max(s.p95, s.last ?? 0)), 1);
  const rows = stages.flatMap(({ stage, last, p50, p95 }) => {
    const bars = el("div", { class: "span" });
    for (const [kind, value] of [["p95", p95], ["p50", p50]]) {
      const reach = el("i", { class: kind });
      reach.style.width = percent(value / most);
      bars.append(reach);
    }
    if (last !== null) {
      const tick = el("i", { class: "last" });
      tick.style.left = percent(last / most);
      bars.append(tick);
    }
    const number = (value) => el("td", { class: "num" }, value === null ? "–" : brief(value));
    return [
      el("tr", { class: stage === "total" ? "total" : "" }, el("th", { scope: "row" }, STAGES[stage]), number(last), number(p50), number(p95)),
      el("tr", { class: "bars", "aria-hidden": "true" }, el("td", { colSpan: 4 }, bars)),
    ];
  });
  $("stages").replaceChildren(...rows);
}

