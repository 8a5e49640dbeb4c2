import assert from "node:assert/strict";
import test from "node:test";
import { Buffer } from "../../../clients/web/buffer.js";
import { carryDifferentSpeech, interleave, mix } from "../../../clients/web/channels.js";
import { Conversation } from "../../../clients/web/conversation.js";
import { exported, formatName } from "../../../clients/web/exporting.js";
import { wav } from "../../../clients/web/wav.js";

test("channels stand in turn, and are mixed to their mean", () => {
  const both = interleave([Int16Array.of(1, 2, 3), Int16Array.of(-1, 4, 32_767)]);
  assert.deepEqual([...both], [1, -1, 2, 4, 3, 32_767]);
  assert.deepEqual([...mix(both, 2)], [0, 3, 16_385]);
  assert.equal(mix(both, 1), both);
});

test("two ends of a call differ, a stereo recording of a room does not", () => {
  const rate = 1_000, seconds = 20;
  const voice = (spoken) => Float32Array.from({ length: rate * seconds }, (_, i) => (spoken(i / rate) ? 0.3 : 0.001) * Math.sin(i));
  const [a, b] = [voice((s) => s % 4 < 2), voice((s) => s % 4 >= 2)];
  assert.equal(carryDifferentSpeech([a, b], rate), true);
  assert.equal(carryDifferentSpeech([a, a], rate), false);
  assert.equal(carryDifferentSpeech([a, a.map((v) => v / 2)], rate), false);
  assert.equal(carryDifferentSpeech([a, new Float32Array(a.length)], rate), false);      // one side says nothing
  assert.equal(carryDifferentSpeech([new Float32Array(10), new Float32Array(10)], rate), false);
});

test("the buffer counts moments, whatever the number of channels", () => {
  const buffer = new Buffer();
  buffer.channels = 2;
  const pcm = Int16Array.from({ length: 2 * 640 }, (_, i) => i);
  buffer.pushAudio(pcm);
  buffer.pushAudio(pcm);
  assert.equal(buffer.samples, 1_280);
  assert.equal(buffer.unacknowledgedMs, 80);
  buffer.acknowledge(40, 0);
  assert.equal(buffer.items.length, 1);
  const { items, lostMs } = buffer.resume(60, 0);
  assert.equal(lostMs, 0);
  assert.equal(items[0].pcm.length, 2 * 320);
  assert.equal(items[0].pcm[0], 640);      // of the first channel
  const restored = new Buffer();
  restored.channels = 2;
  restored.restore(buffer.items, buffer.samples);
  assert.deepEqual([...restored.audio()], [...buffer.audio()]);
  const file = new DataView(wav(pcm, 2));
  assert.deepEqual([file.getUint16(22, true), file.getUint32(28, true), file.getUint16(32, true)], [2, 64_000, 4]);
});

test("speech of two channels at once is kept apart", () => {
  const conversation = new Conversation({ labels: ["joy"] });
  for (const channel of [0, 1]) conversation.apply({ type: "speech.started", audio_start_ms: 500, channel });
  conversation.apply({ type: "speech.stopped", audio_end_ms: 900, channel: 0 });
  assert.deepEqual(conversation.speeches.map(({ channel, over }) => [channel, over]), [[0, true], [1, false]]);
  conversation.apply({
    type: "turn.final", event_id: 1, turn: 0, channel: 0, speaker: "You", audio_start_ms: 480, audio_end_ms: 900, text: "a",
    emotion: { label: "joy", confidence: 1, probabilities: { joy: 1 } }, latency_ms: {}, revision: 0,
  });
  assert.deepEqual(conversation.speeches.map(({ channel }) => channel), [1]);
});

function stand_in(answer) {
  return class {
    constructor(url) { Object.assign(this, { url, sent: [] }); queueMicrotask(() => { this.onopen(); answer(this); }); }
    send(text) { this.sent.push(JSON.parse(text)); }
    close() { this.closed = true; }
  };
}

test("a file is asked for with the token, and comes as its bytes", async () => {
  let socket;
  const Socket = stand_in((one) => {
    socket = one;
    one.onmessage({ data: JSON.stringify({ type: "session.created" }) });
    one.onmessage({ data: JSON.stringify({ type: "session.exported", content: btoa("\u00ff1") }) });
  });
  const bytes = await exported({ url: "ws://h/v1/session", token: "t", resumeToken: "r" }, "srt", "x".repeat(200), Socket);
  assert.deepEqual([...bytes], [255, 49]);
  assert.deepEqual(socket.sent.map(({ type }) => type), ["session.authenticate", "session.export"]);
  assert.equal(socket.sent[1].name.length, 100);
  assert.equal(socket.closed, true);
});

test("the server's reason is told, and a lost connection", async () => {
  const session = { url: "ws://h", token: null, resumeToken: "r" };
  const Refusing = stand_in((one) => one.onmessage({ data: JSON.stringify({ type: "error", message: "expected srt" }) }));
  await assert.rejects(exported(session, "x", "n", Refusing), /expected srt/);
  await assert.rejects(exported(session, "x", "n", stand_in((one) => one.onclose())), /cannot be reached/);
});

test("a format that is not known has its own name", () => {
  assert.deepEqual(formatName("textgrid"), ["Praat (TextGrid)", "TextGrid"]);
  assert.deepEqual(formatName("docx"), ["DOCX", "docx"]);
});
