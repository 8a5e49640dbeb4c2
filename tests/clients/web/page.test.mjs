// The parts of the page that need no page: the conversation, the axis, sound, latency and what can be kept.

import assert from "node:assert/strict";
import test from "node:test";
import { Axis } from "../../../clients/web/axis.js";
import { Conversation } from "../../../clients/web/conversation.js";
import { eventLines } from "../../../clients/web/downloads.js";
import { Departures, Latencies, brief } from "../../../clients/web/latency.js";
import { quantile } from "../../../clients/web/quantile.js";
import { emotionStyles, tint } from "../../../clients/web/palette.js";
import { Playback } from "../../../clients/web/playback.js";
import { reportPage } from "../../../clients/web/report.js";
import { Resampler, toInt16 } from "../../../clients/web/resampler.js";
import { changesText, connectionAnnouncement, connectionText, consentText, enrolledText, expressed, hintText, overlapText, recognizerText, speakerText, spokenText } from "../../../clients/web/texts.js";
import { wav } from "../../../clients/web/wav.js";
import { Peaks } from "../../../clients/web/waveform.js";

const CREATED = { type: "session.created", session_id: "s", seq: 0, model: "m", asr: "a", labels: ["neutral", "joy"], resume_token: "secret" };

let ids = 0;
const final = (turn, fields = {}) => ({
  type: "turn.final", session_id: "s", seq: 9, created_at: "2026-01-01T00:00:00Z", event_id: ++ids, turn, speaker: turn % 2 ? "B" : "A",
  audio_start_ms: turn * 1000, audio_end_ms: turn * 1000 + 800, text: `words ${turn}`,
  emotion: { label: "joy", confidence: 0.8, probabilities: { neutral: 0.2, joy: 0.8 } },
  latency_ms: { endpointing: 300, asr: 100, features: 10, emotion: 5, total: 415 }, revision: 0, ...fields,
});

function talk(...events) {
  const conversation = new Conversation(CREATED);
  for (const event of events) conversation.apply(event);
  return conversation;
}

// --- the conversation ---------------------------------------------------------------------------

test("a revised turn takes the place of the earlier one", () => {
  const conversation = talk(final(0), final(1), final(1, { type: "turn.revised", speaker: "A", revision: 1 }));
  assert.deepEqual(conversation.turns.map((turn) => turn.speaker), ["A", "A"]);
  assert.deepEqual(conversation.speakers().map(({ name, turns }) => [name, turns]), [["A", 2]]);
});

test("a correction does not move the other speakers, and a speaker without turns is gone", () => {
  const revised = (turn, speaker) => final(turn, { type: "turn.revised", speaker, revision: 1 });
  const conversation = talk(final(0), final(1), final(2, { speaker: "C" }), revised(0, "C"));
  const names = () => conversation.speakers().map((one) => one.name);
  assert.deepEqual(names(), ["B", "C"]);
  conversation.apply(final(3, { speaker: "A" }));
  assert.deepEqual(names(), ["A", "B", "C"]);      // where it was before
});

test("who else spoke in a turn is told in words, by the latest names", () => {
  const conversation = talk(final(0), final(1, { overlap: 0.3, others: ["A", "C", "D"], speaker_unsure: true }), final(2, { overlap: 0.07 }), final(3, { others: ["A"] }));
  conversation.apply({ type: "speaker.updated", event_id: ++ids, speaker: "A", name: "Anna" });
  assert.deepEqual(conversation.turns.map(overlapText), ["", "overlaps Anna, C and D, 30%", "overlap 7%", "overlaps Anna"]);
  assert.deepEqual(conversation.turns.map(speakerText), ["Anna", "probably B", "Anna", "B"]);
  const page = reportPage(conversation, { title: "T", name: "n" }, (label) => ({ label, code: "J", css: "e0", light: "#e3a81f", dark: "#f0c050" }), []);
  assert.match(page, /aria-label="probably B" title="probably B">B<span class="soft">\?<\/span><\/td>/);
  assert.match(page, />overlaps Anna, C and D, 30%<\/span>/);
});

const SUMMARY = {
  speaker: "A", turns: 3, speaking_ms: 61_000, share: 0.754,
  emotions: { neutral: { turns: 1, speaking_ms: 1_000, probability: 0.4 }, joy: { turns: 2, speaking_ms: 60_000, probability: 0.6 }, fear: { turns: 0, speaking_ms: 0, probability: 0 } },
  shifts: [{ before: "joy", after: "neutral", count: 2 }, { before: "neutral", after: "joy", count: 1 }], interruptions: 1,
};

test("the whole of a conversation is told by speaker, under names that are given after the end", () => {
  const end = { type: "session.closed", event_id: ++ids, audio_ms: 70_000, turns: 1, failed_turns: 0, speakers: ["A"] };
  assert.deepEqual(talk(final(0), end).summary, []);       // of an older server
  const conversation = talk(final(0), { ...end, summary: [SUMMARY] });
  conversation.rename("A", "<Anna>");
  const [one] = conversation.summary;
  assert.equal(one.speaker, "<Anna>");
  assert.equal(SUMMARY.speaker, "A");
  assert.equal(spokenText(one), "3 turns, 01:01 of speech, 75% of all");
  assert.equal(changesText(one), "3 shifts of emotion, most often joy to neutral (2 times); 1 interruption");
  assert.deepEqual(expressed(one).map(([label]) => label), ["joy", "neutral"]);
  const text = { ...one, turns: 1, share: null, shifts: [] };
  assert.equal(`${spokenText(text)}; ${changesText(text)}`, "1 turn; 0 shifts of emotion");
  const page = reportPage(conversation, { title: "T", name: "n" }, (label) => ({ label, code: "J", css: "e0", light: "#e3a81f", dark: "#f0c050" }), []);
  assert.match(page, /The whole of the conversation/);
  assert.match(page, /&#60;Anna&#62;<\/b> <span class="soft">3 turns, 01:01 of speech/);
  assert.match(page, /joy <span class="soft">2 turns, 01:00, mean probability 60%/);
});

test("a turn that ends within another's speech leaves that speech, and both are found", () => {
  const conversation = talk({ type: "speech.started", audio_start_ms: 0 }, { type: "speech.started", audio_start_ms: 700 }, final(0));
  assert.deepEqual(conversation.speeches.map((speech) => speech.start), [700]);
  const within = talk(final(0, { audio_start_ms: 2000, audio_end_ms: 2500 }), final(1, { audio_start_ms: 1000, audio_end_ms: 9000 }));
  assert.deepEqual(within.between(0, 1500).map((turn) => turn.index), [1]);
  assert.deepEqual(within.between(0, 9000).map((turn) => turn.index), [1, 0]);      // the longer one is painted first
});

test("a new name holds for earlier turns and for the one being spoken", () => {
  const conversation = talk(final(0), final(1), { type: "turn.partial", turn: 2, speaker: "A", audio_start_ms: 2000, audio_end_ms: 2100, text: "so", emotion: null },
    { type: "speaker.updated", event_id: ++ids, speaker: "A", name: "Anna" });
  assert.deepEqual(conversation.speakers().map((one) => one.name), ["Anna", "B"]);
  assert.equal(conversation.partial.speaker, "Anna");
});

test("a final turn ends what was provisional of it, and not the speech that began after it", () => {
  const partial = { type: "turn.partial", turn: 0, speaker: null, audio_start_ms: 0, audio_end_ms: 500, text: "wor", emotion: null };
  const conversation = talk({ type: "speech.started", audio_start_ms: 0 }, partial);
  conversation.apply({ type: "speech.started", audio_start_ms: 1000 });
  conversation.apply(final(0));
  assert.equal(conversation.partial, null);
  assert.deepEqual(conversation.speeches.map((speech) => speech.start), [1000]);
  conversation.apply(final(1));
  assert.deepEqual(conversation.speeches, []);
});

test("speech that waits to be understood is kept with its words, and counted once it stopped", () => {
  const partial = { type: "turn.partial", turn: 0, speaker: null, audio_start_ms: 0, audio_end_ms: 700, text: "wor", emotion: null };
  const conversation = talk({ type: "speech.started", audio_start_ms: 0 }, partial);
  assert.equal(conversation.behind, 0);
  conversation.apply({ type: "speech.stopped", audio_end_ms: 900 });
  conversation.apply({ type: "speech.started", audio_start_ms: 1000 });
  assert.deepEqual(conversation.speeches, [{ channel: null, start: 0, end: 900, over: true, partial }, { channel: null, start: 1000, end: null, over: false, partial: null }]);
  assert.equal(conversation.behind, 1);
  conversation.apply(final(0));
  assert.deepEqual(conversation.speeches.map((speech) => speech.start), [1000]);
  assert.equal(conversation.behind, 0);
  conversation.dropPartial();
  assert.deepEqual(conversation.speeches, []);
});

test("a turn that begins before the speech that announced it ends that speech, and no later one", () => {
  const conversation = talk({ type: "speech.started", audio_start_ms: 30 }, { type: "speech.started", audio_start_ms: 700 });
  conversation.apply(final(0));
  assert.deepEqual(conversation.speeches.map((speech) => speech.start), [700]);
});

test("a failed turn has no speaker and stays in its place", () => {
  const conversation = talk(final(0), { type: "turn.failed", event_id: ++ids, turn: 1, audio_start_ms: 1000, audio_end_ms: 1500, message: "expected words" });
  assert.equal(conversation.turns[1].failed, "expected words");
  assert.equal(conversation.speakers().length, 1);
  assert.equal(conversation.latest().index, 0);
});

test("the turns of a stretch are found among thousands", () => {
  const conversation = talk(...Array.from({ length: 5_000 }, (_, i) => final(i)));
  assert.deepEqual(conversation.between(2_500_500, 2_502_100).map((turn) => turn.index), [2500, 2501, 2502]);
  assert.deepEqual(conversation.between(9e9, 9e9 + 1), []);
});

// --- the axis -----------------------------------------------------------------------------------

test("the axis follows until somebody looks back, and again from the end on", () => {
  const axis = new Axis(10_000);
  axis.advance(60_000);
  assert.ok(axis.following && axis.toMs > 60_000);
  axis.lookAt(20_000);
  axis.advance(61_000);
  assert.deepEqual([axis.following, axis.fromMs], [false, 20_000]);
  axis.lookAt(1e9);
  assert.equal(axis.following, true);
  axis.reveal(5_000);
  assert.ok(axis.fromMs <= 5_000 && axis.toMs > 5_000 && !axis.following);
});

test("the whole is shown at the end, unless somebody looks back, and steps lead out of it", () => {
  const axis = new Axis(20_000);
  axis.advance(66_000);
  axis.whole();
  assert.deepEqual([axis.fromMs, axis.toMs, axis.atEnd], [0, 66_000, true]);
  axis.zoom(-1);
  assert.equal(axis.spanMs, 40_000);
  axis.whole();
  assert.equal(axis.spanMs, 40_000);
  axis.reset();
  assert.deepEqual([axis.spanMs, axis.fromMs, axis.following], [20_000, 0, true]);
  axis.advance(9_000_000);
  axis.whole();
  axis.zoom(-1);
  assert.equal(axis.spanMs, 3_600_000);
});

test("zooming keeps what is under the pointer in its place", () => {
  const axis = new Axis(20_000);
  axis.advance(600_000);
  axis.lookAt(100_000);
  const before = axis.x(105_000, 1000);
  axis.zoom(-1, 105_000);
  assert.equal(axis.spanMs, 10_000);
  assert.equal(Math.round(axis.x(105_000, 1000)), Math.round(before));
});

test("where motion is unwelcome the axis turns pages", () => {
  const axis = new Axis(10_000);
  axis.paged = true;
  axis.advance(9_000);
  assert.equal(axis.fromMs, 0);
  axis.advance(9_300);
  assert.equal(axis.fromMs, 9_200);
});

// --- sound --------------------------------------------------------------------------------------

const sine = (rate, hz, seconds) => Float32Array.from({ length: rate * seconds }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hz * i) / rate));
const level = (samples) => Math.sqrt(samples.reduce((sum, v) => sum + v * v, 0) / samples.length);

for (const rate of [48_000, 44_100, 32_000, 8_000]) {
  test(`${rate} Hz becomes 16 kHz, the same in any pieces`, () => {
    const input = sine(rate, 440, 1);
    const whole = new Resampler(rate, 16_000).push(input);
    assert.ok(Math.abs(whole.length - 16_000) < 60, `got ${whole.length} samples`);
    const pieces = new Resampler(rate, 16_000);
    const out = [];
    for (let at = 0; at < input.length; at += 128) out.push(...pieces.push(input.subarray(at, at + 128)));
    assert.deepEqual(Float32Array.from(out), whole);
    const expected = sine(16_000, 440, 1);
    const error = whole.slice(200, 15_000).map((v, i) => v - expected[i + 200]);
    assert.ok(level(error) < 0.002, `off by ${level(error)}`);
  });
}

test("what 16 kHz cannot hold is taken out, not folded down", () => {
  const out = new Resampler(48_000, 16_000).push(sine(48_000, 11_000, 1));
  assert.ok(level(out.slice(200)) < 0.001 * 0.35, `left ${level(out.slice(200))}`);
});

test("floats become integers, loud ones are clipped", () => {
  assert.deepEqual([...toInt16(Float32Array.from([0, 1, -1, 2, 0.5]))], [0, 32767, -32768, 32767, 16384]);
  const integers = Int16Array.from({ length: 65_536 }, (_, i) => i - 32_768);
  assert.deepEqual(toInt16(Float32Array.from(integers, (v) => v / 32_768)), integers);
});

test("the outline keeps the lowest and highest sample of each block, whatever the pieces", () => {
  const pcm = Int16Array.from({ length: 3200 }, (_, i) => (i === 700 ? 32_767 : i === 1500 ? -20_000 : 10));
  const whole = new Peaks(), pieces = new Peaks();
  whole.push(pcm);
  for (let at = 0; at < pcm.length; at += 97) pieces.push(pcm.subarray(at, at + 97));
  assert.deepEqual(whole.values, pieces.values);
  assert.deepEqual(whole.range(2, 3), [0, 127]);
  assert.deepEqual(whole.range(4, 5), [-78, 0]);
  assert.equal(whole.range(10, 12), null);
});

test("an hour of outline is found where it belongs after a reload", () => {
  const peaks = new Peaks();
  peaks.skipTo(3600 * 16_000);
  peaks.push(new Int16Array(320).fill(16_000));
  assert.deepEqual(peaks.range(180_000, 180_001), [0, 62]);
  assert.equal(peaks.ms, 3_600_020);
});

test("a WAV file says what it holds", () => {
  const bytes = new DataView(wav(Int16Array.from([1, -2, 3])));
  assert.equal(bytes.byteLength, 50);
  assert.deepEqual([bytes.getUint32(24, true), bytes.getUint16(22, true), bytes.getUint32(40, true), bytes.getInt16(46, true)], [16_000, 1, 6, -2]);
});

// --- latency ------------------------------------------------------------------------------------

test("median and 95th percentile are those of all turns", () => {
  const latencies = new Latencies();
  for (let i = 1; i <= 101; i++) latencies.push({ endpointing: 320, asr: i, total: 320 + i }, i === 101 ? 500 : null);
  const stages = Object.fromEntries(latencies.stages().map((s) => [s.stage, s]));
  assert.deepEqual([stages.asr.last, stages.asr.p50, stages.asr.p95], [101, 51, 96]);
  assert.deepEqual([stages.seen.last, stages.features], [500, undefined]);
  assert.equal(quantile([1], 0.95), 1);
  assert.deepEqual([4.25, 320, 9_876, 13_580].map(brief), ["4.3", "320", "9,876", "13.6 s"]);
});

test("what is seen here is counted from when the end of the turn left", () => {
  const departures = new Departures();
  for (let i = 1; i <= 100; i++) departures.note(40 * i, 1_000 + 40 * i);
  assert.equal(departures.since(1_990, 4_000), 4_000 - 3_000);
  assert.equal(departures.since(9_000, 9_999), null);
});

// --- what can be kept ---------------------------------------------------------------------------

test("the file of events is numbered anew and tells no secret", () => {
  const conversation = talk(final(0), final(1), { type: "turn.partial", turn: 2, text: "x", emotion: null, audio_start_ms: 0, audio_end_ms: 1 });
  const text = eventLines(conversation, { name: "microphone", durationMs: null });
  const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map((line) => [line.type, line.seq]), [["session.created", 0], ["turn.final", 1], ["turn.final", 2]]);
  assert.ok(!text.includes("secret"));
  assert.deepEqual(lines[0].source, { name: "microphone", duration_ms: null });
});

test("a report holds the turns, runs no script, and takes hostile words as words", () => {
  const hostile = '</title><script>alert(1)</script><img src=x onerror="alert(2)">';
  const conversation = talk(final(0, { text: hostile, speaker: hostile }), final(1), { type: "turn.failed", event_id: ++ids, turn: 2, audio_start_ms: 1, audio_end_ms: 2, message: hostile });
  const styles = emotionStyles(["neutral", "joy"]);
  [...styles.values()].forEach((style, i) => { style.css = `e${i}`; });
  const page = reportPage(conversation, { title: hostile, name: hostile }, (label) => styles.get(label), []);
  assert.ok(page.includes("words 1") && page.includes("joy"));
  assert.ok(!/<script|<img|onerror="|https?:\/\//.test(page));
  assert.match(page, /default-src 'none'/);
});

test("the report shows a turn in its language and in English", () => {
  const german = { text: "Das <Tuch> liegt hier.", language: "de", translation: "The <cloth> lies here." };
  const conversation = talk(final(0, german), final(1, { language: "en" }));
  assert.equal(conversation.turns[0].translation, german.translation);
  const styles = emotionStyles(CREATED.labels);
  const page = reportPage(conversation, { title: "t", name: "t" }, (label) => styles.get(label), []);
  assert.ok(page.includes('<span lang="de" dir="auto">Das &#60;Tuch&#62; liegt hier.</span>'));
  assert.ok(page.includes('<span class="from">from German</span> The &#60;cloth&#62; lies here.'));
  assert.equal(page.split('class="translation"').length, 2);
});

// --- hearing again, and words -------------------------------------------------------------------

test("the last half hour can be heard again, sample for sample, and no more is kept", () => {
  const playback = new Playback(() => {});
  const second = (n) => new Int16Array(16_000).fill(n % 1000);
  for (let n = 0; n < 2_000; n++) playback.push(second(n));
  assert.ok(playback.blocks.size <= 1_801);
  assert.ok(!playback.has(100_000, 101_000) && playback.has(1_990_000, 2_000_000) && !playback.has(1_999_000, 2_000_001));
  const samples = playback.samples(1_997_500, 1_998_500);
  assert.deepEqual([samples.length, samples[0] * 32_768, samples.at(-1) * 32_768], [16_000, 997, 998]);
  const odd = new Playback(() => {});
  odd.clear(1_234);
  for (let at = 0; at < 40_000; at += 97) odd.push(Int16Array.from({ length: 97 }, (_, i) => (at + i) % 30_000));
  const from = Math.ceil((1_234 + 100) / 16);
  assert.equal(odd.samples(from, from + 1)[0] * 32_768, 16 * from - 1_234);
  assert.ok(!odd.has(0, 10));
});

test("every state of the connection has words", () => {
  const more = { begun: true, keptMs: 12_400, waitS: 4 };
  assert.equal(connectionText({ name: "reconnecting", attempt: 2 }, more), "Connection lost, next attempt in 4 s, 12 s of audio kept");
  assert.equal(connectionAnnouncement({ name: "reconnecting", attempt: 2 }, more), "Connection lost, reconnecting");
  for (const name of ["connecting", "connected", "full", "needs_token", "asleep", "lost", "taken_over", "failed", "ended"]) {
    assert.ok(connectionText({ name, attempt: 1 }, more), name);
  }
  assert.equal(hintText("listening", { pushToTalk: true, holding: false }), "Hold Space to talk");
  assert.match(recognizerText("pocketsphinx"), /^Words are written by pocketsphinx and are rough;/);
  assert.match(recognizerText("none"), /Nothing is transcribed/);
});

test("words on an emotion's colour can be read, however faint it is", () => {
  const luminance = (rgb) => rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const labels = ["neutral", "joy", "sadness", "anger", "fear", "surprise", "disgust", "a", "b", "c", "d", "e"];
  for (const style of emotionStyles(labels).values()) {
    for (const [theme, surface] of [["light", "#ffffff"], ["dark", "#191c20"]]) {
      for (let confidence = 0; confidence <= 1; confidence += 0.05) {
        const { fill, ink } = tint(style[theme], surface, confidence);
        const [a, b] = [luminance(fill.match(/\d+/g).map(Number)), ink === "#ffffff" ? 1 : 0].sort((x, y) => y - x);
        assert.ok((a + 0.05) / (b + 0.05) >= 4.5, `${style.label} ${theme} ${confidence}: ${(a + 0.05) / (b + 0.05)}`);
      }
    }
  }
});

test("what naming a voice means is told, and the event is kept", () => {
  assert.match(consentText(false), /consent.*no audio.*until this conversation is over/s);
  assert.match(consentText(true), /consent.*no audio.*stream-erc voices remove/s);
  assert.equal(enrolledText({ name: "Anna", kept: false }), "The voice of Anna is known from now on.");
  const conversation = talk(final(0), { type: "voice.enrolled", event_id: ++ids, name: "Anna", turn: 0, kept: true });
  assert.deepEqual(conversation.events.map((event) => event.type), ["turn.final", "voice.enrolled"]);
});
