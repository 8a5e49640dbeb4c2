// The files to save: the events, and a report that needs neither network nor server.

import { exported, formatName } from "./exporting.js";
import { note, unnote } from "./notes.js";
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

/** @param {Int16Array} pcm the samples of the channels in turn. */
export const saveAudio = (name, pcm, channels) => save(name, "audio/wav", wav(pcm, channels));

/** The saved files of a conversation, and whether anything is unsaved. */
export class Downloads {
  /** @param {{url: string, protocol: import("./protocol.js").Protocol}} session of the conversation. */
  open(conversation, session) {
    Object.assign(this, { conversation, session });
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

  /** Save the conversation in one of the server's formats. */
  async saveAs(format, source) {
    const { url, protocol } = this.session, [name, ending] = formatName(format), known = this.conversation.events.length;
    unnote("export");
    try {
      const content = await exported({ url, token: protocol.token, resumeToken: protocol.resumeToken }, format, source.name);
      this.saved = Math.max(this.saved, known);
      save(`${source.stem}.${ending}`, "application/octet-stream", content);
    } catch (error) {
      note("export", `${name} could not be saved: ${error.message}`);
    }
  }
}
