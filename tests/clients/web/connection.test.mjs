import assert from "node:assert/strict";
import test from "node:test";
import { Connection } from "../../../clients/web/connection.js";
import { Protocol } from "../../../clients/web/protocol.js";

const CONFIGURATION = { labels: [], pace: "live" };

/** A connection whose sockets and clock are moved by hand. */
function bench() {
  const sockets = [], timers = new Map(), states = [], events = [];
  let time = 0, ids = 0;
  class WebSocket {
    constructor(url) { Object.assign(this, { url, readyState: 0, sent: [], bufferedAmount: 0 }); sockets.push(this); }
    send(frame) { this.sent.push(typeof frame === "string" ? JSON.parse(frame) : frame); }
    close() { this.readyState = 3; }
    open() { this.readyState = 1; this.onopen(); }
    say(message) { this.onmessage({ data: JSON.stringify(message) }); }
    drop(code) { this.readyState = 3; this.onclose?.({ code }); }
  }
  const edge = {
    WebSocket, now: () => time, random: () => 1,
    setTimeout: (act, ms) => { timers.set(++ids, [time + ms, act]); return ids; },
    clearTimeout: (id) => timers.delete(id),
  };
  const advance = (ms) => {
    time += ms;
    for (const [id, [at, act]] of [...timers]) if (at <= time && timers.delete(id)) act();
  };
  const protocol = new Protocol();
  const connection = new Connection("ws://host/v1/session", protocol, { onEvent: (event) => events.push(event.type), onState: (state) => states.push(state.name) }, edge);
  const begin = () => {
    connection.connect();
    sockets[0].open();
    sockets[0].say({ type: "session.created", session_id: "s", resume_token: "t", configuration: CONFIGURATION });
    connection.start({});
    sockets[0].say({ type: "session.updated", configuration: CONFIGURATION });
  };
  return { connection, protocol, sockets, states, events, advance, begin };
}

test("pauses grow from attempt to attempt, and begin anew after a success", () => {
  const { connection, sockets, states, advance, begin } = bench();
  begin();
  sockets[0].drop(1006);
  advance(0);
  assert.equal(sockets.length, 2);
  for (const pause of [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]) {
    sockets.at(-1).drop(1006);
    const before = sockets.length;
    advance(pause - 1);
    assert.equal(sockets.length, before, `no attempt before ${pause} ms`);
    advance(1);
    assert.equal(sockets.length, before + 1);
  }
  sockets.at(-1).open();
  sockets.at(-1).say({ type: "session.resumed", audio_ms: 0, input_id: 0, event_id: 0, configuration: CONFIGURATION });
  assert.equal(states.at(-1), "connected");
  sockets.at(-1).say({ type: "turn.final", event_id: 1 });
  sockets.at(-1).drop(1006);
  const before = sockets.length;
  advance(0);
  assert.equal(sockets.length, before + 1);
  connection.stop();
});

test("pauses grow where the server resumes and closes at once, until a connection has lasted", () => {
  const { connection, sockets, advance, begin } = bench();
  begin();
  const resumed = { type: "session.resumed", audio_ms: 0, input_id: 0, event_id: 0, configuration: CONFIGURATION };
  for (const pause of [0, 500, 1_000, 2_000]) {
    sockets.at(-1).drop(1011);
    const before = sockets.length;
    if (pause) advance(pause - 1);
    assert.equal(sockets.length, before, `no attempt before ${pause} ms`);
    advance(1);
    assert.equal(sockets.length, before + 1);
    sockets.at(-1).open();
    sockets.at(-1).say(resumed);
  }
  advance(10_000);
  sockets.at(-1).drop(1011);
  const before = sockets.length;
  advance(0);
  assert.equal(sockets.length, before + 1);
  connection.stop();
});

test("'try now' does not wait", () => {
  const { connection, sockets, advance, begin } = bench();
  begin();
  sockets[0].drop(1006);
  advance(0);
  sockets[1].drop(1006);
  connection.now();
  assert.equal(sockets.length, 3);
  advance(60_000);
  assert.equal(sockets.filter((socket) => socket.readyState === 0).length, 1);
});

test("a server that went silent is left, and the session resumed elsewhere", () => {
  const { sockets, advance, begin } = bench();
  begin();
  for (let i = 0; i < 4; i++) {
    advance(10_000);
    sockets[0].say({ type: "heartbeat", audio_ms: 0 });
  }
  assert.equal(sockets.length, 1);
  advance(35_000);
  advance(0);
  assert.equal(sockets.length, 2);
  sockets[1].open();
  assert.equal(sockets[1].sent[0].type, "session.resume");
});

test("a begun session is kept awake by pings, one that has not begun is not", () => {
  const { connection, sockets, advance } = bench();
  connection.connect();
  sockets[0].open();
  sockets[0].say({ type: "session.created", session_id: "s", resume_token: "t", configuration: CONFIGURATION });
  advance(15_000);
  assert.deepEqual(sockets[0].sent, []);
  connection.start({});
  sockets[0].say({ type: "session.updated", configuration: CONFIGURATION });
  advance(15_000);
  assert.deepEqual(sockets[0].sent.map((frame) => frame.type), ["session.update", "ping"]);
  advance(12);
  sockets[0].say({ type: "pong", id: sockets[0].sent[1].id });
  assert.equal(connection.roundTripMs, 12);
});

test("a server that says nothing waits for a token", () => {
  const { connection, sockets, states, advance } = bench();
  connection.connect();
  sockets[0].open();
  advance(2_000);
  assert.equal(states.at(-1), "needs_token");
  connection.authenticate("key");
  assert.deepEqual(sockets[0].sent, [{ type: "session.authenticate", token: "key" }]);
});

test("a gap in the events is mended by resuming from before it", () => {
  const { sockets, events, advance, begin } = bench();
  begin();
  sockets[0].say({ type: "turn.final", event_id: 1 });
  sockets[0].say({ type: "turn.final", event_id: 3 });
  advance(0);
  sockets[1].open();
  assert.deepEqual(sockets[1].sent[0], { type: "session.resume", resume_token: "t", last_event_id: 1 });
  sockets[1].say({ type: "session.resumed", audio_ms: 0, input_id: 0, event_id: 3, configuration: CONFIGURATION });
  for (const id of [2, 3]) sockets[1].say({ type: "turn.final", event_id: id });
  assert.equal(events.filter((type) => type === "turn.final").length, 3);
});

test("a socket that was left behind changes nothing any more", () => {
  const { connection, sockets, states, begin } = bench();
  begin();
  connection.stop();
  const told = states.length;
  sockets[0].drop(1006);
  assert.equal(states.length, told);
});
