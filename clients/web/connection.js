// A connection that reconnects by itself: the socket, its timers, and the pauses between attempts.

const PAUSES_MS = [0, 500, 1_000, 2_000, 4_000, 8_000, 15_000];      // before each attempt; the last repeats
const PING_MS = 15_000;
const SILENT_MS = 35_000;        // the server sends something every ten seconds: after this long it is lost
const SETTLED_MS = 10_000;       // after a connection of this length, the pauses start over
const GREETING_MS = 2_000;       // a server that sends nothing for this long waits for a token

/** Return the address of the socket of a page's server. */
export function socketUrl(page) {
  const url = new URL("v1/session", page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = url.hash = "";
  return url.href;
}

export class Connection {
  /**
   * @param {string} url ws:// or wss://
   * @param {import("./protocol.js").Protocol} protocol
   * @param {object} hooks
   * @param {(event: object) => void} hooks.onEvent gets the events of `Protocol.receive`.
   * @param {(state: object) => void} hooks.onState `{name, message, delayMs, attempt}`; the names are connecting,
   *   connected, reconnecting, full, needs_token, asleep, lost, taken_over, failed, ended, stopped.
   * @param {object} [edge] replacements for WebSocket, setTimeout, clearTimeout, now and random, for tests.
   */
  constructor(url, protocol, { onEvent, onState }, edge = {}) {
    this.url = url;
    this.protocol = protocol;
    this.onEvent = onEvent;
    this.onState = onState;
    this.edge = {
      WebSocket: globalThis.WebSocket,
      setTimeout: (f, ms) => globalThis.setTimeout(f, ms),
      clearTimeout: (id) => globalThis.clearTimeout(id),
      now: () => performance.now(),
      random: Math.random,
      ...edge,
    };
    this.socket = null;
    this.state = { name: "stopped" };
    this.attempt = 0;
    this.timers = {};
    this.pings = 0;
    this.pinged = new Map();
    this.roundTripMs = null;
  }

  /** Number of bytes queued in the socket. */
  get waitingBytes() { return this.socket?.bufferedAmount ?? 0; }

  connect() {
    if (this.socket) return;
    this.#clear("retry");
    this.#tell({ name: this.attempt && this.protocol.begun ? "reconnecting" : "connecting", attempt: this.attempt });
    const socket = new this.edge.WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      if (socket !== this.socket) return;
      this.protocol.opened();
      this.#flush();
      this.#watch();
      this.#after("greeting", GREETING_MS, () => this.#tell({ name: "needs_token", message: null }));
    };
    socket.onmessage = ({ data }) => { if (socket === this.socket) this.#received(data); };
    socket.onclose = ({ code }) => { if (socket === this.socket) this.#lost(code); };
  }

  /** Close the socket without ending the session, which can still be resumed. */
  stop() {
    const socket = this.socket;
    this.socket = null;
    for (const name of Object.keys(this.timers)) this.#clear(name);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }
    this.#tell({ name: "stopped" });
  }

  /** Connect at once instead of at the next attempt. */
  now() {
    if (!this.socket) this.connect();
  }

  start(fields) { this.protocol.start(fields); this.#flush(); }
  authenticate(token) { this.protocol.authenticate(token); this.socket ? this.#flush() : this.connect(); }
  sendAudio(pcm) { this.protocol.sendAudio(pcm); this.#flush(); }
  close() { this.protocol.close(); this.#flush(); }
  sendInput(message) {
    const id = this.protocol.sendInput(message);
    this.#flush();
    return id;
  }

  #flush() {
    if (this.socket?.readyState !== 1) return;
    for (const frame of this.protocol.take()) {
      this.socket.send(ArrayBuffer.isView(frame) ? frame : JSON.stringify(frame));
    }
  }

  #received(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;      // not a message of this protocol
    }
    this.#watch();
    this.#clear("greeting");
    if (message.type === "pong") this.#onPong(message);
    const before = this.protocol.lastEventId;
    const events = this.protocol.receive(message);
    if (this.protocol.lastEventId > before) this.attempt = 0;      // the session progressed
    this.#flush();
    const through = message.type === "session.resumed" || (message.type === "session.created" && !this.protocol.begun);
    if (through) {
      this.#after("settled", SETTLED_MS, () => { this.attempt = 0; });
      this.#tell({ name: "connected" });
      this.#ping();
    }
    for (const event of events) {
      if (event.type === "local.gap") this.#reconnect();
      else this.onEvent(event);
    }
  }

  #reconnect() {
    // Events are missing: after reconnecting, the server sends them again.
    this.socket.onclose = null;
    this.socket.close(1000);
    this.#lost(1006);
  }

  #lost(code) {
    this.socket = null;
    for (const name of Object.keys(this.timers)) this.#clear(name);
    const { retry, state, message } = this.protocol.lost(code);
    if (!retry) {
      this.attempt = 0;
      this.#tell({ name: state, message });
      return;
    }
    const pause = PAUSES_MS[Math.min(this.attempt, PAUSES_MS.length - 1)] * (0.5 + this.edge.random() / 2);
    const delayMs = state === "full" ? Math.max(2_000, pause) : pause;
    this.attempt += 1;
    this.#tell({ name: state, message, delayMs, attempt: this.attempt });
    this.#after("retry", delayMs, () => this.connect());
  }

  #ping() {
    // No ping before the session has begun: an idle page should time out and not take up a place on the server.
    this.#after("ping", PING_MS, () => this.#ping());
    if (!this.protocol.begun || this.socket?.readyState !== 1) return;
    const id = String(++this.pings);
    this.pinged.clear();
    this.pinged.set(id, this.edge.now());
    this.protocol.ping(id);
    this.#flush();
  }

  #onPong({ id }) {
    if (this.pinged.has(id)) this.roundTripMs = this.edge.now() - this.pinged.get(id);
  }

  #watch() {
    this.#after("silent", SILENT_MS, () => {
      this.socket.onclose = null;
      this.socket.close();
      this.#lost(1006);
    });
  }

  #after(name, ms, act) {
    this.#clear(name);
    this.timers[name] = this.edge.setTimeout(() => { delete this.timers[name]; act(); }, ms);
  }

  #clear(name) {
    if (name in this.timers) this.edge.clearTimeout(this.timers[name]);
    delete this.timers[name];
  }

  #tell(state) {
    this.state = state;
    this.onState(state);
  }
}
