// What a person can keep: the events as a file, and a report that needs neither network nor server.

import { reportPage } from "./report.js";
import { wav } from "./wav.js";

/**
 * The session as JSON lines, numbered anew over all connections. The resume token is a secret and left out.
 * @param {import("./conversation.js").Conversation} conversation
 * @param {{name: string, durationMs: number|null}} source what was heard.
 */
export function eventLines(conversation, source) {
  const { created, events } = conversation;
  const first = {
    type: "session.created", session_id: created.session_id, seq: 0,
    model: created.model, asr: created.asr, labels: conversation.labels,
    source: { name: source.name, duration_ms: source.durationMs },
  };
  const rest = events.map(({ created_at: _, ...event }, i) => ({ ...event, seq: i + 1 }));
  return [first, ...rest].map((message) => `${JSON.stringify(message)}\n`).join("");
}

/** Offer a file for download. */
function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 30_000);
}

export const saveAudio = (name, pcm) => save(name, "audio/wav", wav(pcm));

/** What a person keeps of a conversation, and whether anything of it is kept nowhere yet. */
export class Downloads {
  open(conversation) {
    this.conversation = conversation;
    this.saved = 0;                      // events that are in a file
  }

  get unsaved() { return this.conversation.turns.length > 0 && this.saved < this.conversation.events.length; }

  saveEvents(source) {
    this.saved = this.conversation.events.length;
    save(`${source.stem}.events.jsonl`, "application/jsonl;charset=utf-8", eventLines(this.conversation, source));
  }

  /** @param {import("./view.js").View} view for the colours and latencies. */
  saveReport(source, { look, latencies }) {
    this.saved = this.conversation.events.length;
    save(`${source.stem}.report.html`, "text/html;charset=utf-8", reportPage(this.conversation, source, (label) => look.style(label), latencies.stages()));
  }
}
