// The browser's side of docs/protocol.md without a socket: messages in, frames to send and events out.
// connection.js owns the socket and the timers.

import { Buffer } from "./buffer.js";

export const PROTOCOL_VERSION = 1;

/** Close codes (docs/protocol.md, "Errors"): whether to connect again, and the state to show. */
const AFTER_CLOSE = {
  4404: { retry: false, state: "lost" },
  4408: { retry: false, state: "asleep" },
  4409: { retry: false, state: "taken_over" },
  1013: { retry: true, state: "full" },
  1009: { retry: false, state: "failed" },
};

export class Protocol {
  /**
   * @param {object} [options]
   * @param {string|null} [options.token] the server's bearer token, if it asks for one.
   * @param {object|null} [options.memory] the result of `memory()` before a reload, to resume that session.
   * @param {Buffer} [options.buffer]
   */
  constructor({ token = null, memory = null, buffer = new Buffer() } = {}) {
    this.token = token;
    this.buffer = buffer;
    this.created = memory?.created ?? null;
    this.configuration = memory?.configuration ?? null;
    this.sessionId = memory?.sessionId ?? null;
    this.resumeToken = memory?.resumeToken ?? null;
    this.closing = memory?.closing ?? false;
    this.given = memory?.samples ?? null;      // length of the audio before the reload
    this.lastEventId = 0;                      // after a reload, all events are requested again
    this.told = new Map();                     // event_id -> the event, but for what differs when it comes again
    this.begun = this.resumeToken !== null;    // the session has a configuration and can be resumed
    this.wanted = null;                        // the session.update that waits to be sent
    this.asked = null;                         // the last one
    this.offered = null;                       // session.created of a session that has not begun
    this.ended = false;
    this.open = false;                         // audio and inputs may be sent
    this.lastError = null;
    this.outgoing = [];
  }

  /** Return what a page must store to resume after a reload, small enough for sessionStorage; null if nothing. */
  memory() {
    if (!this.begun || this.ended) return null;
    const { created, configuration, sessionId, resumeToken, closing } = this;
    return { created, configuration, sessionId, resumeToken, closing, samples: this.buffer.samples };
  }

  /** Take the frames to send, in order: objects as text, typed arrays as audio. */
  take() {
    return this.outgoing.splice(0);
  }

  // --- requests of the page --------------------------------------------------------------------

  /** Begin the session with these fields of `session.update`. */
  start(fields) {
    this.wanted = this.asked = { type: "session.update", protocol: PROTOCOL_VERSION, ...fields };
    if (this.offered) this.outgoing.push(this.wanted);
  }

  authenticate(token) {
    this.token = token;
    if (!this.offered) this.#greet();
  }

  sendAudio(pcm) {
    const item = this.buffer.pushAudio(pcm);
    if (this.open) this.outgoing.push(item.pcm);
  }

  /** Send `turn.correct`, `speaker.rename` or `voice.enrol`. @returns {number} its input_id. */
  sendInput(message) {
    const item = this.buffer.pushInput(message);
    if (this.open) this.outgoing.push(item.message);
    return item.message.input_id;
  }

  close() {
    if (this.closing || this.ended) return;
    this.closing = true;
    if (this.open) this.outgoing.push({ type: "session.close", keep: true });
  }

  ping(id) {
    if (this.offered || this.open) this.outgoing.push({ type: "ping", id });
  }

  // --- events of the socket --------------------------------------------------------------------

  /** Handle the opening of a socket. */
  opened() {
    this.outgoing = [];
    this.open = false;
    this.offered = null;
    this.lastError = null;
    this.#greet();
  }

  #greet() {
    if (this.token) this.outgoing.push({ type: "session.authenticate", token: this.token });
    if (this.begun) {
      this.outgoing.push({ type: "session.resume", resume_token: this.resumeToken, last_event_id: this.lastEventId });
    }
  }

  /**
   * Handle a message.
   * @returns {object[]} events for the page: the message itself, unless it is a duplicate or irrelevant, and the
   *   page's own `local.resumed` (with lostMs, and whether the page was reloaded) and `local.gap`.
   */
  receive(message) {
    if (message.event_id !== undefined && message.type !== "session.resumed") {
      if (message.event_id <= this.lastEventId) return [];
      if (message.event_id !== this.lastEventId + 1) {
        return [{ type: "local.gap", expected: this.lastEventId + 1, got: message.event_id }];
      }
      this.lastEventId = message.event_id;
      if (!this.#isNew(message)) return [];
    }
    switch (message.type) {
      case "session.created": return this.#onCreated(message);
      case "session.updated": return this.#onUpdated(message);
      case "session.resumed": return this.#onResumed(message);
      case "input.acknowledged":
        this.buffer.acknowledge(message.audio_ms, message.input_id);
        return [message];
      case "session.closed":
        this.ended = true;
        this.open = false;
        return [message];
      case "error":
        this.lastError = message;
        if (message.code === "invalid_configuration" && !this.begun) this.wanted = null;
        return [message];
      default: return [message];
    }
  }

  /** Return whether an event does not come again as it was, after the server's store went back in time. */
  #isNew({ session_id, seq, created_at, latency_ms, ...fields }) {
    const before = this.told.get(fields.event_id);
    this.told.set(fields.event_id, JSON.stringify(fields));
    return this.told.get(fields.event_id) !== before;
  }

  #onCreated(message) {
    this.offered = message;
    if (this.begun) return [];                 // of another session: ours is being resumed
    this.created = message;
    this.sessionId = message.session_id;
    this.resumeToken = message.resume_token;
    if (this.wanted) this.outgoing.push(this.wanted);
    return [message];
  }

  #onUpdated(message) {
    this.begun = true;
    this.wanted = null;
    this.configuration = message.configuration;
    this.#flow(this.buffer.items);
    return [message];
  }

  #onResumed(message) {
    const stands = message.audio_ms + message.input_id + message.event_id;
    if (!stands && this.asked && JSON.stringify(message.configuration) !== JSON.stringify(this.configuration)) {
      this.lastEventId = 0;                    // its store went back to before session.update
      this.buffer.resume(0, 0);
      this.outgoing.push(this.asked);
      return [message];
    }
    this.configuration = message.configuration;
    this.lastEventId = Math.min(this.lastEventId, message.event_id);      // lower where its store went back in time
    const { items, lostMs, skip } = this.buffer.resume(message.audio_ms, message.input_id, this.given ?? undefined);
    const reloaded = this.given !== null;
    this.given = null;
    if (skip) this.outgoing.push({ type: "input.skip", ...skip });
    this.#flow(items);
    return [message, { type: "local.resumed", lostMs, reloaded, audioMs: message.audio_ms, lastEvent: message.event_id }];
  }

  #flow(items) {
    this.open = true;
    for (const item of items) this.outgoing.push(item.pcm ?? item.message);
    if (this.closing) this.outgoing.push({ type: "session.close", keep: true });
  }

  /**
   * Handle a socket that closed, or never opened.
   * @returns {{retry: boolean, state: string, message: string|null}}
   */
  lost(code) {
    const error = this.lastError;
    this.open = false;
    this.offered = null;
    this.outgoing = [];
    if (!this.begun) {
      this.created = this.resumeToken = this.sessionId = null;
    }
    const message = error?.message ?? null;
    if (this.ended) return { retry: false, state: "ended", message: null };
    if (error?.code === "authentication") {
      this.token = null;
      return { retry: false, state: "needs_token", message };
    }
    if (code === 1008 && error && !error.retryable) return { retry: false, state: "failed", message };
    const { retry, state } = AFTER_CLOSE[code] ?? { retry: true, state: "reconnecting" };
    return { retry, state, message };
  }
}
