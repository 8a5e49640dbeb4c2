// The state of the connection on the page, with the token dialog and what is offered when the connection is lost.

import { SAMPLES_PER_MS, SAMPLE_RATE } from "./buffer.js";
import { askToken, closeToken } from "./dialogs.js";
import { saveAudio } from "./downloads.js";
import { $, clock, write } from "./elements.js";
import { note, unnote } from "./notes.js";
import { connectionAnnouncement, connectionText, lostText } from "./texts.js";
import { forget, keep, recall } from "./storage.js";

const TOKEN = "stream-erc-token";

export class ConnectionStatus {
  /** @param {object} hooks @param {() => void} hooks.onAnew begin a new conversation. */
  constructor({ onAnew }) {
    this.onAnew = onAnew;
    this.connection = null;
    this.retryAt = null;                 // time of the next attempt, on the page's clock
  }

  /** The server's bearer token, if this tab knows it. */
  get token() { return recall(TOKEN); }

  follow(connection) { this.connection = connection; }

  /** Handle a new state of the connection. @param {boolean} finishing whether the page waits for the conversation's end. */
  onState(state, finishing) {
    const { protocol } = this.connection;
    this.retryAt = state.delayMs === undefined ? null : performance.now() + state.delayMs;
    if (state.name === "connected") {
      unnote("connection");
      closeToken();
      if (protocol.token) keep(TOKEN, protocol.token);
    } else if (state.name === "needs_token") this.#askToken(state.message);
    else if (state.name === "reconnecting" && finishing && state.attempt === 3) {
      note("connection", "The server cannot be reached. Unsent audio is kept and will be sent when it is back.", { actions: [["New conversation", this.onAnew]] });
    }
    this.show();
  }

  async #askToken(message) {
    forget(TOKEN);
    const token = await askToken(message);
    if (token !== null) this.connection.authenticate(token);
    else if (this.connection.state.name === "needs_token") {
      note("connection", "This server asks for a token.", { mild: true, actions: [["Enter it", () => { unnote("connection"); this.#askToken(null); }]] });
    }
  }

  /** Say that the session cannot be resumed, and offer its unacknowledged audio. @param {string} stem of the audio file's name. */
  lost(state, { listening, stem }) {
    const { buffer } = this.connection.protocol, { channels } = buffer;
    const text = lostText(state), unheard = buffer.audio();
    const actions = [["New conversation", this.onAnew]];
    if (state.name !== "taken_over" && unheard.length / channels > SAMPLE_RATE) {
      actions.unshift([`Save the last ${clock(unheard.length / channels / SAMPLES_PER_MS)}`, () => saveAudio(`${stem}.not-heard.wav`, unheard, channels)]);
    }
    note("lost", listening ? `${text} The microphone is off.` : text, { mild: state.name === "taken_over", actions });
  }

  show() {
    if (!this.connection) return;
    const { state, roundTripMs: trip, protocol } = this.connection;
    const waitS = this.retryAt === null ? 0 : Math.max(0, Math.ceil((this.retryAt - performance.now()) / 1000));
    const more = { begun: protocol.begun, keptMs: protocol.buffer.unacknowledgedMs, waitS };
    $("connection").dataset.state = state.name;
    write("connection-text", connectionText(state, more));
    write("announce-connection", connectionAnnouncement(state, more));
    write("trip", state.name === "connected" && trip !== null ? `${trip < 10 ? trip.toFixed(1) : Math.round(trip)} ms away` : "");
    $("retry").hidden = waitS < 2;
  }
}
