import assert from "node:assert/strict";
import test from "node:test";
import { Buffer, KEPT_BYTES } from "../../../clients/web/buffer.js";

const pcm = (ms, value = 1) => new Int16Array(16 * ms).fill(value);
const shape = (items) => items.map((item) => (item.pcm ? [item.start / 16, item.pcm.length / 16] : item.message.input_id));

test("audio is known by its position, inputs are numbered from one", () => {
  const buffer = new Buffer();
  buffer.pushAudio(pcm(40));
  assert.equal(buffer.pushInput({ type: "speaker.rename" }).message.input_id, 1);
  buffer.pushAudio(pcm(20));
  buffer.pushInput({ type: "turn.correct" });
  assert.deepEqual(shape(buffer.items), [[0, 40], 1, [40, 20], 2]);
  assert.equal(buffer.samples, 960);
  assert.equal(buffer.unacknowledgedMs, 60);
});

test("of what is acknowledged the last part is kept, for a server that goes back in time", () => {
  const buffer = new Buffer();
  buffer.pushInput({ type: "turn.correct" });
  const pieces = Math.ceil(KEPT_BYTES / 32_000) + 10;      // a second each
  for (let i = 0; i < pieces; i++) buffer.pushAudio(pcm(1_000, i));
  buffer.acknowledge(pieces * 1_000 - 500, 0);
  assert.equal(buffer.kept.length, pieces + 1);      // what follows an input that is not stored is kept with it
  buffer.acknowledge(pieces * 1_000 - 500, 1);
  assert.equal(buffer.unacknowledgedMs, 1_000);
  assert.ok(buffer.bytes <= KEPT_BYTES && buffer.bytes > KEPT_BYTES - 32_000);
  const back = buffer.resume(20_500, 1);
  assert.deepEqual([back.items[0].start / 16, back.items[0].pcm.length / 16, back.lostMs, back.skip], [20_500, 500, 0, null]);
  assert.equal(back.items.length, pieces - 20);
  const far = buffer.resume(2_000, 0);
  assert.deepEqual([far.lostMs, far.skip], [9_000, { audio_ms: 11_000, input_id: 1 }]);
  assert.deepEqual(shape(far.items).slice(0, 2), [[11_000, 1_000], [12_000, 1_000]]);
  assert.equal(buffer.samples, pieces * 16_000);
});

test("what is acknowledged is forgotten, a piece that straddles the mark is kept whole", () => {
  const buffer = new Buffer();
  for (let i = 0; i < 3; i++) buffer.pushAudio(pcm(40));
  buffer.pushInput({ type: "speaker.rename" });
  buffer.pushInput({ type: "speaker.rename" });
  buffer.acknowledge(60, 1);
  assert.deepEqual(shape(buffer.items), [[40, 40], [80, 40], 2]);
  buffer.acknowledge(120, 2);
  assert.deepEqual(buffer.items, []);
  assert.equal(buffer.samples, 1920);
});

test("an input in front does not hold back the audio behind it", () => {
  const buffer = new Buffer();
  buffer.pushInput({ type: "speaker.rename" });
  buffer.pushAudio(pcm(40));
  buffer.acknowledge(40, 0);
  assert.deepEqual(shape(buffer.items), [1]);
});

test("resuming sends the rest from the very sample, in the order in which it was given", () => {
  const buffer = new Buffer();
  buffer.pushAudio(Int16Array.from({ length: 640 }, (_, i) => i));
  buffer.pushInput({ type: "turn.correct", turn: 3 });
  buffer.pushAudio(pcm(40, 7));
  const { items, lostMs } = buffer.resume(25, 0);
  assert.deepEqual(shape(items), [[25, 15], 1, [40, 40]]);
  assert.equal(items[0].pcm[0], 400);
  assert.equal(lostMs, 0);
  assert.equal(buffer.samples, 1280);
});

test("resuming twice gives the same", () => {
  const buffer = new Buffer();
  for (let i = 0; i < 5; i++) buffer.pushAudio(pcm(40, i));
  const first = buffer.resume(60, 0).items.map((item) => [...item.pcm]);
  assert.deepEqual(buffer.resume(60, 0).items.map((item) => [...item.pcm]), first);
});

test("audio that did not outlive a reload is told, and what is left moves up", () => {
  const buffer = new Buffer();
  buffer.restore([{ start: 16 * 200, pcm: pcm(40) }, { message: { type: "turn.correct", input_id: 5 } }], 16 * 240);
  const { items, lostMs } = buffer.resume(100, 3, 16 * 240);
  assert.equal(lostMs, 100);
  assert.deepEqual(shape(items), [[100, 40], 4]);
  assert.equal(buffer.pushInput({ type: "turn.correct" }).message.input_id, 5);
});

test("a server that is ahead of an empty page is believed", () => {
  const buffer = new Buffer();
  buffer.restore([], 16 * 4_000);
  const { items, lostMs } = buffer.resume(5_000, 2, 16 * 4_000);
  assert.deepEqual([items, lostMs, buffer.samples], [[], 0, 80_000]);
});

test("what was said between a reload and the server's answer is sent, wherever the server stands", () => {
  const buffer = new Buffer();
  buffer.restore([{ start: 16 * 3_960, pcm: pcm(40) }], 16 * 4_000);
  buffer.pushAudio(pcm(100, 5));
  buffer.pushInput({ type: "turn.correct" });
  const { items, lostMs } = buffer.resume(5_000, 2, 16 * 4_000);
  assert.deepEqual([shape(items), lostMs, items[0].pcm[0]], [[[5_000, 100], 3], 0, 5]);
  buffer.pushAudio(pcm(20));
  assert.deepEqual(shape(buffer.resume(5_050, 3).items), [[5_050, 50], [5_100, 20]]);
});

test("a shelf is told of everything kept, forgotten and replaced", () => {
  const told = [];
  const shelf = {
    put: (item) => told.push(["put", item.start ?? item.message.input_id]),
    forget: (samples, id) => told.push(["forget", samples, id]),
    replace: (items) => told.push(["replace", items.length]),
  };
  const buffer = new Buffer(shelf);
  buffer.pushAudio(pcm(40));
  buffer.pushInput({ type: "turn.correct" });
  buffer.acknowledge(40, 0);
  buffer.resume(40, 0);
  assert.deepEqual(told, [["put", 0], ["put", 1], ["forget", 640, 0], ["replace", 1]]);
});

test("the audio that is left comes as one piece", () => {
  const buffer = new Buffer();
  buffer.pushAudio(pcm(1, 1));
  buffer.pushInput({ type: "turn.correct" });
  buffer.pushAudio(pcm(1, 2));
  assert.deepEqual([...buffer.audio()], [...Array(16).fill(1), ...Array(16).fill(2)]);
});
