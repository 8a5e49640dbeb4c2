import assert from "node:assert/strict";
import test from "node:test";
import { Protocol } from "../../../clients/web/protocol.js";

const CONFIGURATION = { model: "m", labels: ["neutral", "joy"], pace: "live" };
const CREATED = { type: "session.created", session_id: "s1", seq: 0, resume_token: "secret", configuration: CONFIGURATION };
const UPDATED = { type: "session.updated", session_id: "s1", configuration: CONFIGURATION };
const resumed = (fields) => ({ type: "session.resumed", audio_ms: 0, input_id: 0, event_id: 0, configuration: CONFIGURATION, ...fields });
const final = (event_id) => ({ type: "turn.final", event_id, turn: event_id - 1 });
const pcm = (ms) => new Int16Array(16 * ms);
const types = (frames) => frames.map((frame) => frame.type ?? frame.length / 16);

/** A session that has begun and has nothing left to send. */
function begun(options) {
  const protocol = new Protocol(options);
  protocol.opened();
  protocol.receive(CREATED);
  protocol.start({ partials: true });
  protocol.receive(UPDATED);
  protocol.take();
  return protocol;
}

test("audio waits until the server has agreed to the configuration", () => {
  const protocol = new Protocol();
  protocol.opened();
  assert.deepEqual(protocol.take(), []);
  protocol.receive(CREATED);
  protocol.start({ partials: false });
  protocol.sendAudio(pcm(40));
  assert.deepEqual(protocol.take(), [{ type: "session.update", protocol: 1, partials: false }]);
  protocol.sendAudio(pcm(20));
  assert.deepEqual(protocol.take(), []);
  protocol.receive(UPDATED);
  protocol.sendAudio(pcm(10));
  assert.deepEqual(types(protocol.take()), [40, 20, 10]);
});

test("a session asked for before the server answered begins with its greeting", () => {
  const protocol = new Protocol();
  protocol.start({});
  protocol.opened();
  assert.deepEqual(protocol.take(), []);
  protocol.receive(CREATED);
  assert.deepEqual(types(protocol.take()), ["session.update"]);
});

test("a connection lost before the session began begins it anew, with all audio", () => {
  const protocol = new Protocol();
  protocol.opened();
  protocol.receive(CREATED);
  protocol.start({});
  protocol.sendAudio(pcm(40));
  protocol.take();
  assert.deepEqual(protocol.lost(1006), { retry: true, state: "reconnecting", message: null });
  protocol.opened();
  assert.deepEqual(protocol.take(), []);
  protocol.receive({ ...CREATED, session_id: "s2", resume_token: "other" });
  assert.deepEqual(types(protocol.take()), ["session.update"]);
  protocol.receive(UPDATED);
  assert.deepEqual(types(protocol.take()), [40]);
  assert.equal(protocol.resumeToken, "other");
});

test("a lost session is resumed first of all, and sends again what is not acknowledged", () => {
  const protocol = begun();
  protocol.sendAudio(pcm(40));
  protocol.sendAudio(pcm(40));
  protocol.sendInput({ type: "speaker.rename", speaker: "a", name: "b" });
  protocol.receive(final(1));
  protocol.receive({ type: "input.acknowledged", audio_ms: 40, input_id: 0 });
  protocol.lost(1006);
  protocol.sendAudio(pcm(20));
  protocol.opened();
  assert.deepEqual(protocol.take(), [{ type: "session.resume", resume_token: "secret", last_event_id: 1 }]);
  assert.deepEqual(protocol.receive({ ...CREATED, session_id: "s9", resume_token: "of another session" }), []);
  assert.equal(protocol.resumeToken, "secret");
  protocol.sendAudio(pcm(10));
  assert.deepEqual(protocol.take(), []);
  const [message, local] = protocol.receive(resumed({ audio_ms: 60, event_id: 1 }));
  assert.equal(message.type, "session.resumed");
  assert.deepEqual([local.type, local.lostMs], ["local.resumed", 0]);
  assert.deepEqual(types(protocol.take()), [20, "speaker.rename", 20, 10]);
});

test("an event that came before is dropped, one that skips is a gap", () => {
  const protocol = begun();
  assert.equal(protocol.receive(final(1)).length, 1);
  assert.deepEqual(protocol.receive(final(1)), []);
  assert.deepEqual(protocol.receive(final(3)), [{ type: "local.gap", expected: 2, got: 3 }]);
  assert.equal(protocol.receive(final(2)).length, 1);
  assert.equal(protocol.lastEventId, 2);
});

test("what a store that went back makes again is told once, unless it differs", () => {
  const protocol = begun();
  for (let i = 0; i < 3; i++) protocol.sendAudio(pcm(40));
  for (let id = 1; id <= 3; id++) protocol.receive(final(id));
  protocol.receive({ type: "input.acknowledged", audio_ms: 120, input_id: 0 });
  protocol.lost(1006);
  protocol.opened();
  assert.equal(protocol.take()[0].last_event_id, 3);
  const [, local] = protocol.receive(resumed({ audio_ms: 40, event_id: 1 }));
  assert.deepEqual([local.lostMs, types(protocol.take())], [0, [40, 40]]);
  assert.deepEqual(protocol.receive({ ...final(2), created_at: "later", seq: 9 }), []);
  assert.equal(protocol.receive({ ...final(3), text: "other" }).length, 1);
  assert.equal(protocol.receive(final(4)).length, 1);
});

test("a store that went back to before the configuration is told it again", () => {
  const protocol = begun();
  protocol.sendAudio(pcm(40));
  protocol.receive(final(1));
  protocol.receive({ type: "input.acknowledged", audio_ms: 40, input_id: 0 });
  protocol.lost(1006);
  protocol.opened();
  protocol.receive(resumed({ configuration: { ...CONFIGURATION, pace: "replay" } }));
  assert.deepEqual(types(protocol.take()), ["session.resume", "session.update"]);
  protocol.receive(UPDATED);
  assert.deepEqual(types(protocol.take()), [40]);
  assert.deepEqual(protocol.receive(final(1)), []);
});

test("closing survives a lost connection", () => {
  const protocol = begun();
  protocol.sendAudio(pcm(40));
  protocol.close();
  protocol.close();
  assert.deepEqual(types(protocol.take()), [40, "session.close"]);
  protocol.lost(1012);
  protocol.opened();
  protocol.receive(resumed({ audio_ms: 40 }));
  assert.deepEqual(types(protocol.take()), ["session.resume", "session.close"]);
  protocol.receive({ type: "session.closed", event_id: 1 });
  assert.deepEqual(protocol.lost(1000), { retry: false, state: "ended", message: null });
  assert.equal(protocol.memory(), null);
});

test("a token goes first, and is forgotten where it is refused", () => {
  const protocol = begun({ token: "key" });
  protocol.lost(1006);
  protocol.opened();
  assert.deepEqual(types(protocol.take()), ["session.authenticate", "session.resume"]);
  protocol.receive({ type: "error", code: "authentication", message: "token: expected another", retryable: false });
  assert.deepEqual(protocol.lost(1008), { retry: false, state: "needs_token", message: "token: expected another" });
  assert.equal(protocol.token, null);
});

test("a token given while the server waits goes out at once", () => {
  const protocol = new Protocol();
  protocol.opened();
  protocol.authenticate("key");
  assert.deepEqual(protocol.take(), [{ type: "session.authenticate", token: "key" }]);
});

for (const [code, error, retry, state] of [
  [1006, null, true, "reconnecting"], [1011, null, true, "reconnecting"], [1012, null, true, "reconnecting"],
  [4429, { retryable: true }, true, "reconnecting"], [1008, { code: "audio_too_fast", retryable: true }, true, "reconnecting"],
  [1013, { code: "server_full", retryable: true }, true, "full"], [4404, { retryable: false }, false, "lost"],
  [4408, { retryable: true }, false, "asleep"], [4409, { retryable: false }, false, "taken_over"],
  [1008, { code: "too_many_errors", retryable: false }, false, "failed"], [1009, null, false, "failed"],
]) {
  test(`close code ${code} ${error?.code ?? ""} gives ${state}`, () => {
    const protocol = begun();
    if (error) protocol.receive({ type: "error", message: "expected, got", ...error });
    const after = protocol.lost(code);
    assert.deepEqual([after.retry, after.state], [retry, state]);
  });
}

test("an error of an earlier connection does not decide about a later one", () => {
  const protocol = begun();
  protocol.receive({ type: "error", code: "invalid_turn", message: "x", retryable: false });
  protocol.lost(1006);
  protocol.opened();
  assert.equal(protocol.lost(1008).state, "reconnecting");
});

test("what a page keeps is enough to go on after a reload, from the first event on", () => {
  const before = begun();
  before.sendAudio(pcm(100));
  before.receive(final(1));
  const memory = JSON.parse(JSON.stringify(before.memory()));
  const after = new Protocol({ memory });
  after.opened();
  assert.deepEqual(after.take(), [{ type: "session.resume", resume_token: "secret", last_event_id: 0 }]);
  const [, local] = after.receive(resumed({ audio_ms: 60, event_id: 1 }));
  assert.equal(local.lostMs, 40);
  assert.equal(after.receive(final(1)).length, 1);
  after.sendAudio(pcm(40));
  assert.deepEqual(types(after.take()), [40]);
  assert.equal(after.buffer.samples, 1600);
});

test("refused settings leave the session as it was", () => {
  const protocol = new Protocol();
  protocol.opened();
  protocol.receive(CREATED);
  protocol.start({ model: "none" });
  protocol.take();
  protocol.receive({ type: "error", code: "invalid_configuration", message: "x", retryable: false });
  assert.equal(protocol.begun, false);
  protocol.start({});
  assert.deepEqual(types(protocol.take()), ["session.update"]);
});
