// The view of a conversation: timeline, transcript, last emotion and latency.

import { Axis } from "./axis.js";
import { SAMPLES_PER_MS } from "./buffer.js";
import { $, clock, el, onceAFrame, percent, write } from "./elements.js";
import { showEmotion } from "./emotion.js";
import { Lanes } from "./lanes.js";
import { Departures, Latencies, showLatency } from "./latency.js";
import { Look } from "./look.js";
import { Playback } from "./playback.js";
import { countText, emptyText, recognizerText, speakerText } from "./texts.js";
import { Transcript } from "./transcript.js";
import { Peaks, Waveform } from "./waveform.js";
import { showWhole } from "./whole.js";

export class View {
  /**
   * @param {import("./conversation.js").Conversation} conversation
   * @param {object} hooks
   * @param {(speaker: string, name: string) => void} hooks.onRename
   * @param {(turn: object) => void} hooks.onCorrect
   */
  constructor(conversation, { onRename, onCorrect }) {
    this.conversation = conversation;
    this.mode = "idle";
    this.ready = false;                  // whether a server is connected
    this.look = new Look();
    this.axis = new Axis(innerWidth < 760 ? 10_000 : 20_000);
    this.wave = new Waveform($("wave"), this.axis, this.look);
    this.lanes = new Lanes(this.axis, this.look, { onRename, onSelect: (turn) => this.select(turn, true), onMove: () => this.paint() });
    this.transcript = new Transcript(this.look, { onCorrect, onSelect: (turn) => this.select(turn, false) });
    this.playback = new Playback((turn) => {
      this.transcript.showPlaying(turn);
      $("hush").hidden = turn === null;
      this.paint();
    });
    this.latencies = new Latencies();
    this.departures = new Departures();
    this.render = onceAFrame(() => this.#render());
    this.paint = onceAFrame(() => this.#paint());
    this.#listen();
  }

  get live() { return this.mode === "listening" || this.mode === "playing"; }
  get audioMs() { return this.wave.peaks.ms; }

  /** Show another conversation, from its start. */
  open(conversation) {
    this.conversation = conversation;
    if (conversation.labels.length) this.look.setLabels(conversation.labels);
    this.latencies = new Latencies();
    this.departures = new Departures();
    this.wave.peaks = new Peaks();
    this.playback.clear();
    this.axis.reset();
    this.lanes.clear();
    this.transcript.clear();
    $("emotion").replaceChildren(el("p", { class: "soft" }, "The last turn's emotion appears here."));
    write("announce", "");
    this.changed();
  }

  setMode(mode, ready) {
    this.mode = mode;
    this.ready = ready;
    if (this.live) this.playback.stop();
    if (mode === "heard" || mode === "ended") this.axis.whole();
    this.transcript.setOpen(mode !== "finishing" && mode !== "ended");
    this.changed();
  }

  changed() {
    this.render();
    this.paint();
  }

  /** Show audio that was sent. */
  hear(pcm) {
    this.wave.peaks.push(pcm);
    this.playback.push(pcm);
    this.departures.note(this.audioMs, performance.now());
    this.axis.advance(this.audioMs);
    this.paint();
  }

  /** Continue after a reload, with only the audio from `audioMs` on. */
  restoreAudio(audioMs, pcm) {
    this.wave.peaks = new Peaks();
    this.wave.peaks.skipTo(audioMs * SAMPLES_PER_MS);
    this.playback.clear(audioMs * SAMPLES_PER_MS);
    this.departures = new Departures();
    this.wave.peaks.push(pcm);
    this.playback.push(pcm);
    this.axis.advance(this.audioMs);
    this.paint();
  }

  /**
   * Show a new or changed turn.
   * @param {boolean} fresh whether it is new, live, and not sent again after a reload.
   * @param {boolean} aloud whether to announce fresh turns to screen readers.
   */
  showTurn(turn, isNew, fresh, aloud) {
    this.transcript.touch(turn.index);
    if (isNew && turn.failed === null) {
      this.latencies.push(turn.latency, fresh ? this.departures.since(turn.end, performance.now()) : null);
    }
    if (fresh && aloud && turn.failed === null) write("announce", `${speakerText(turn)}, ${turn.emotion.label} ${percent(turn.emotion.confidence)}: ${turn.text}${turn.translation ? ` In English: ${turn.translation}` : ""}`);
    this.changed();
  }

  /** Show a speaker's name after it was changed, or the change was refused. */
  showName(speaker) {
    this.lanes.settle(speaker);
    this.transcript.touchAll();
    this.changed();
  }

  /** Select a turn in all parts, and play it unless a source is being heard. */
  select(turn, scroll) {
    this.lanes.current = turn.index;
    this.transcript.select(turn.index, scroll);
    if (turn.start !== null) this.axis.reveal(turn.start, turn.end);
    if (!this.live && turn.start !== null && this.playback.has(turn.start, turn.end)) this.playback.play(turn);
    this.paint();
  }

  // --- drawing -----------------------------------------------------------------------------------

  #render() {
    const { conversation } = this, { partial, turns } = conversation;
    this.transcript.render(conversation);
    this.lanes.list(conversation);
    showEmotion(partial?.emotion ? partial : conversation.latest(), Boolean(partial?.emotion), this.look);
    showWhole(conversation.summary, this.look);
    showLatency(this.latencies);
    write("count", countText(turns.length, conversation.behind));
    $("empty").hidden = turns.length > 0 || conversation.speeches.length > 0;
    $("sample").hidden = this.mode !== "idle" || !this.ready;
    const [title, text] = emptyText(this.mode, this.ready);
    const asr = conversation.created?.asr, recognizer = recognizerText(asr);
    for (const id of ["recognizer", "recognizer-first"]) write(id, recognizer);
    $("recognizer").hidden = !$("empty").hidden;
    write("recognizer-name", asr && $("empty").hidden ? (asr === "none" ? "no speech recognition" : `speech recognition ${asr}`) : "");
    $("recognizer-name").title = recognizer;
    write("empty-title", title);
    write("empty-text", text);
    $("save").hidden = $("save").disabled = conversation.events.length === 0;
  }

  #paint() {
    const { axis } = this;
    this.wave.paint(this.conversation, this.live ? this.audioMs : this.playback.atMs);
    if (this.playback.atMs !== null) this.paint();
    this.lanes.paint(this.conversation, this.live);
    $("follow").hidden = axis.atEnd;
    $("zoom-in").disabled = !axis.canZoomIn;
    $("zoom-out").disabled = !axis.canZoomOut;
    write("length", axis.nowMs ? clock(axis.nowMs) : "");
  }

  #listen() {
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    this.axis.paged = still.matches;
    still.addEventListener("change", () => { this.axis.paged = still.matches; });
    this.look.onChange(() => {
      this.transcript.touchAll();
      this.changed();
    });
    new ResizeObserver(() => this.paint()).observe($("wave").parentElement);
    const on = (id, act) => $(id).addEventListener("click", () => {
      act();
      this.paint();
    });
    on("hush", () => this.playback.stop());
    addEventListener("keydown", (event) => { if (event.key === "Escape") this.playback.stop(); });
    on("theme", () => this.look.toggle());
    on("zoom-in", () => this.axis.zoom(-1));
    on("zoom-out", () => this.axis.zoom(1));
    on("follow", () => {
      this.axis.follow();
      $("overview").focus({ preventScroll: true });
    });
  }
}
