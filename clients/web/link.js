// What the page shows of the connection, and what it asks and offers where there is none.

import { SAMPLES_PER_MS, SAMPLE_RATE } from "./buffer.js";
import { askToken, closeToken } from "./dialogs.js";
import { saveAudio } from "./downloads.js";
import { $, clock, write } from "./elements.js";
import { note, unnote } from "./notes.js";
import { goneText, linkSpoken, linkText } from "./status.js";
import { forget, keep, recall } from "./storage.js";

const TOKEN = "stream-erc-token";

export class Link {
  /** @param {object} hooks @param {() => void} hooks.onAnew begin a new conversation. */
  constructor({ onAnew }) {
    this.onAnew = onAnew;
    this.connection = null;
    this.retryAt = null;                 // when the next attempt comes, on the page's clock
  }

  /** The server's bearer token, as far as this tab knows it. */
  get token() { return recall(TOKEN); }

  follow(connection) { this.connection = connection; }

  /** The connection is in another state. @param {boolean} finishing whether only the end is missing. */
  told(state, finishing) {
    const { protocol } = this.connection;
    this.retryAt = state.delayMs === undefined ? null : performance.now() + state.delayMs;
    if (state.name === "connected") {
      unnote("link");
      closeToken();
      if (protocol.token) keep(TOKEN, protocol.token);
    } else if (state.name === "needs_token") this.#askToken(state.message);
    else if (state.name === "reconnecting" && finishing && state.attempt === 3) {
      note("link", "The server is away. What was said is kept, and goes out when it is back.", { actions: [["Begin a new conversation", this.onAnew]] });
    }
    this.show();
  }

  async #askToken(message) {
    forget(TOKEN);
    const token = await askToken(message);
    if (token !== null) this.connection.authenticate(token);
    else if (this.connection.state.name === "needs_token") {
      note("link", "This server asks for a token.", { mild: true, actions: [["Enter it", () => { unnote("link"); this.#askToken(null); }]] });
    }
  }

  /** There is no way back to the session. @param {string} stem of the file that keeps what was not heard. */
  lost(state, { listening, stem }) {
    const text = goneText(state), unheard = this.connection.protocol.buffer.audio();
    const actions = [["New conversation", this.onAnew]];
    if (state.name !== "taken_over" && unheard.length > SAMPLE_RATE) {
      actions.unshift([`Save the last ${clock(unheard.length / SAMPLES_PER_MS)}`, () => saveAudio(`${stem}.not-heard.wav`, unheard)]);
    }
    note("lost", listening ? `${text} The microphone was let go.` : text, { mild: state.name === "taken_over", actions });
  }

  show() {
    if (!this.connection) return;
    const { state, roundTripMs: trip, protocol } = this.connection;
    const waitS = this.retryAt === null ? 0 : Math.max(0, Math.ceil((this.retryAt - performance.now()) / 1000));
    const more = { begun: protocol.begun, keptMs: protocol.buffer.unacknowledgedMs, waitS };
    $("connection").dataset.state = state.name;
    write("connection-text", linkText(state, more));
    write("announce-link", linkSpoken(state, more));
    write("trip", state.name === "connected" && trip !== null ? `${trip < 10 ? trip.toFixed(1) : Math.round(trip)} ms away` : "");
    $("retry").hidden = waitS < 2;
  }
}
