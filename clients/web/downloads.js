// The files to save: the events, and a report that needs neither network nor server.

import { reportPage } from "./report.js";
import { wav } from "./wav.js";

/**
 * Return the session as JSON lines, renumbered over all connections, without the resume token, which is a secret.
 * @param {import("./conversation.js").Conversation} conversation
 * @param {{name: string, durationMs: number|null}} source the source of the audio.
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
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 30_000);
}

export const saveAudio = (name, pcm) => save(name, "audio/wav", wav(pcm));

/** The saved files of a conversation, and whether anything is unsaved. */
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

  /** Save the report. @param {import("./view.js").View} view for the colours and latencies. */
  saveReport(source, { look, latencies }) {
    this.saved = this.conversation.events.length;
    save(`${source.stem}.report.html`, "text/html;charset=utf-8", reportPage(this.conversation, source, (label) => look.style(label), latencies.stages()));
  }
}
