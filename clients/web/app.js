// The application, with one conversation at a time: microphone or file to the server, events to the view.

import { Buffer, SAMPLES_PER_MS } from "./buffer.js";
import { mix } from "./channels.js";
import { Connection, socketUrl } from "./connection.js";
import { ConnectionStatus } from "./connection-status.js";
import { Controls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { askFormat, confirmAnew } from "./dialogs.js";
import { Downloads } from "./downloads.js";
import { Edits } from "./edits.js";
import { $, clock, plural, sentence, write } from "./elements.js";
import { formatName } from "./exporting.js";
import { FilePlayer, fetchSample, read } from "./file.js";
import { Microphone } from "./microphone.js";
import { note, unnote, unnoteAll } from "./notes.js";
import { Protocol } from "./protocol.js";
import { Settings } from "./settings.js";
import { ofFile, ofLive } from "./source.js";
import { enrolledText, goneText, hintText, separateText, titleText } from "./texts.js";
import { forget, keep, recall } from "./storage.js";
import { View } from "./view.js";

const MEMORY = "stream-erc-session";
const TAIL_MS = 500;                     // silence beyond what ends a turn, so that the last turn before a pause ends
const MAX_KEPT_MS = 30 * 60_000;         // audio kept without a connection before the microphone is switched off
const AGAIN_MS = 2_000, RETURN_MS = 60_000;          // between two attempts to open a lost microphone, and for how long
const ENDED = new Set(["lost", "taken_over", "failed"]);

export class App {
  constructor(shelf) {
    this.shelf = shelf;
    this.settings = new Settings();
    this.conversation = new Conversation(null);
    this.view = new View(this.conversation, {
      onRename: (speaker, name) => { if (this.edits.rename(speaker, name, this.mode)) this.remember(); },
      onCorrect: async (turn) => { if (await this.edits.correct(turn)) this.remember(); },
    });
    this.microphone = new Microphone(this.settings, { onAudio: (pcm) => this.hear(pcm), onGone: (which) => this.sourceGone(which) });
    this.controls = new Controls(this.settings, {
      onTalk: () => this.talk(),
      onHold: (holding) => this.hold(holding),
      onMode: () => { this.#setOpen(); this.#hint(); },
      onDevice: () => this.changeDevice(),
      onDevices: () => this.takeUp(),
    });
    this.downloads = new Downloads();
    this.status = new ConnectionStatus({ onAnew: () => this.anew() });
    this.mode = "idle";
    this.created = null;                 // the last session.created: what the server offers
    this.returning = false;              // the microphone was disconnected, and is taken up again when it is back
  }

  // --- a conversation ----------------------------------------------------------------------------

  /** Open an empty conversation, or the one from before a reload. */
  open(memory = null, kept = []) {
    this.connection?.stop();
    const buffer = new Buffer(this.shelf);
    buffer.channels = memory?.configuration.audio.channels ?? 1;
    if (memory) buffer.restore(kept, memory.samples);
    this.shelf?.keepFor(memory?.sessionId ?? null);
    this.protocol = new Protocol({ token: this.status.token, memory, buffer });
    this.conversation = new Conversation(this.protocol.created, this.protocol.configuration);
    this.connection = new Connection(socketUrl(location.href), this.protocol, { onEvent: (event) => this.on(event), onState: (state) => this.onState(state) });
    this.status.follow(this.connection);
    this.source = memory?.source ?? null;
    this.player = null;
    this.edits = new Edits(this.connection, this.conversation, this.view);
    this.caughtUp = memory ? Infinity : 0;     // events up to this one were shown before the reload
    this.downloads.open(this.conversation, { url: this.connection.url, protocol: this.protocol });
    this.view.open(this.conversation);
    this.setMode(memory ? (memory.closing ? "finishing" : "paused") : "idle");
    this.connection.connect();
  }

  setMode(mode) {
    this.mode = mode;
    this.controls.show(mode, this.created !== null);
    this.controls.setChannels(this.started && this.protocol.begun ? this.channels : null);
    this.view.setMode(mode, this.created !== null);
    document.title = titleText(mode);
    this.#hint();
  }

  get started() { return this.mode !== "idle" && this.mode !== "ended"; }

  /** The number of channels that are heard separately; 1 where there is one, or they are mixed. */
  get channels() { return this.protocol.buffer.channels; }

  /** Begin the session of a source, with the user's settings. */
  begin(pace) {
    if (this.protocol.begun) return;
    this.protocol.buffer.channels = this.source.channels?.length ?? 1;
    this.connection.start(this.settings.update(this.created, pace, this.source.channels));
    this.connection.connect();
  }

  async anew() {
    this.returning = false;
    await this.microphone.stop();
    this.player?.pause();
    if (this.protocol.begun && !this.protocol.ended) this.connection.close();
    if (this.protocol.sessionId) this.shelf?.drop(this.protocol.sessionId);
    forget(MEMORY);
    unnoteAll();
    this.open();
  }

  // --- the microphone ----------------------------------------------------------------------------

  async talk() {
    if (ENDED.has(this.connection.state.name) || this.mode === "ended") return this.anew();
    if (this.mode === "listening") return this.pause();
    if (this.mode === "playing") {
      this.player.pause();
      return this.setMode("waiting");
    }
    if (this.mode === "cut" || this.mode === "heard") return this.finish();
    if (this.mode === "waiting") {
      this.player.start(this.protocol.configuration.pace);
      return this.setMode("playing");
    }
    return this.listen();
  }

  /** Listen to the chosen source. @param {boolean} [again] whether it was lost: nothing is said if it is not back. */
  async listen(again = false) {
    if (!again) this.setMode("listening");
    this.#setOpen();
    const others = [["Hear the sample conversation", () => this.openSample()], ["Open a file", () => $("file").click()]];
    const opened = await this.microphone.start(this.protocol.begun ? [] : others, again);
    if (opened === "refused") this.returning = false;
    if (opened === "none" || opened === "refused") this.setMode(this.protocol.begun ? "paused" : "idle");
    if (opened !== "open") return;
    this.returning = false;
    if (again) this.setMode("listening");
    if (again) note("microphone", "The microphone was interrupted, and is heard again.", { mild: true });
    this.source ??= ofLive(this.settings.values.source);
    this.begin("live");
    this.controls.listDevices();
  }

  async pause() {
    this.returning = false;
    this.setMode("paused");
    await this.microphone.stop();
    if (this.mode === "paused") this.#endTurn();
  }

  /** Send silence, so that the last turn ends. */
  #endTurn() {
    const pauseMs = this.protocol.configuration?.min_silence_ms ?? 1_000;
    this.hear(new Int16Array((pauseMs + TAIL_MS) * SAMPLES_PER_MS * this.channels));
  }

  hold(holding) {
    this.#setOpen();
    if (holding && (this.mode === "idle" || this.mode === "paused")) this.listen();
    this.#hint();
  }

  #setOpen() { this.microphone.setOpen(!this.controls.pushToTalk || this.controls.holding); }

  async changeDevice() {
    if (this.mode !== "listening") return;
    await this.microphone.stop();
    await this.listen();
  }

  /** Handle a source that gives no more audio. @param {"microphone"|"tab"} which */
  async sourceGone(which) {
    if (this.mode !== "listening") return;
    await this.pause();
    note("microphone", goneText(which, this.settings.values.source));
    await this.controls.listDevices();
    this.returning = this.settings.values.source === "microphone";      // sharing needs the user's press
    this.returnUntil = performance.now() + RETURN_MS;
    await this.takeUp();
  }

  /** Take the microphone up again, if it is back or another one has taken its place. */
  async takeUp() {
    clearTimeout(this.again);
    if (!this.returning || this.mode !== "paused") return;
    await this.listen(true);
    if (this.returning && performance.now() < this.returnUntil) this.again = setTimeout(() => this.takeUp(), AGAIN_MS);
  }

  // --- a file ------------------------------------------------------------------------------------

  async openFile(file) {
    for (const key of ["file", "microphone", "channels"]) unnote(key);
    write("hint", `Reading ${file.name}`);
    const decoded = await read(file, this.settings.values.channels);
    this.#hint();
    if (decoded === null) return;
    const { pcm, channels } = decoded;
    if (this.started && !(await confirmAnew(`${file.name} starts a new conversation, and the current one leaves the page. Save it first if you want to keep it.`))) return;
    if (this.mode !== "idle") await this.anew();
    const pace = this.settings.values.pace;
    this.player = new FilePlayer(pcm, channels, {
      onAudio: (chunk) => this.hear(chunk),
      onEnd: () => this.heard(),
      waitingBytes: () => (this.protocol.open ? this.connection.waitingBytes : Infinity),
    });
    this.player.setMuted($("mute").getAttribute("aria-pressed") === "true");
    this.source = ofFile(file.name, this.player.durationMs, channels);
    if (channels > 1) note("channels", separateText(channels), { mild: true });
    this.setMode("playing");
    this.begin(pace);
    this.player.start(pace);
  }

  async openSample() {
    const file = await fetchSample();
    if (file) await this.openFile(file);
  }

  /** Handle the end of the file: names and speakers can be corrected until the user finishes. */
  heard() {
    this.#endTurn();
    this.setMode("heard");
  }

  async finish() {
    if (!this.started || this.mode === "finishing") return;
    this.returning = false;
    this.setMode("finishing");
    this.player?.pause();
    await this.microphone.stop();
    if (this.protocol.begun || this.protocol.wanted) this.connection.close();
    else this.open();
    this.remember();
  }

  /** Send audio to the server, and show it on the timeline. @param {Int16Array} pcm the channels in turn. */
  hear(pcm) {
    this.connection.sendAudio(pcm);
    this.view.hear(mix(pcm, this.channels));
    this.controls.time(this.view.audioMs, this.source?.durationMs);
    if (this.view.live) this.controls.level(this.view.wave.peaks.level);
    if (!this.protocol.open && this.protocol.buffer.samples - this.keptFrom > MAX_KEPT_MS * SAMPLES_PER_MS && this.mode === "listening") {
      note("kept", `The server could not be reached for ${clock(MAX_KEPT_MS)}: the microphone is off. Unsent audio is kept and will be sent when the server is back.`);
      this.pause();
    }
  }

  // --- the server's events -----------------------------------------------------------------------

  on(event) {
    const change = this.conversation.apply(event);
    if (!this.conversation.behind) unnote("warning behind");
    this.#hint();
    switch (event.type) {
      case "session.created": return this.#onCreated(event);
      case "session.updated": return this.#onUpdated(event);
      case "local.resumed": return this.#onResumed(event);
      case "session.closed": return this.#onClosed(event);
      case "error": return this.#onError(event);
      case "warning": return note(`warning ${event.code}`, sentence(event.message), { mild: true });
      case "voice.enrolled": return event.event_id > this.caughtUp ? note("voice", enrolledText(event), { mild: true }) : undefined;
      case "speaker.updated": return this.view.showName(event.speaker);
      default: return change ? this.#onTurn(event, change) : this.view.changed();
    }
  }

  #onCreated(created) {
    this.created = created;
    this.conversation.created = created;
    this.conversation.labels = created.labels;
    this.view.look.setLabels(created.labels);
    this.settings.offer(created);
    this.setMode(this.mode);
  }

  #onUpdated({ configuration }) {
    this.conversation.labels = configuration.labels;
    this.conversation.created = { ...this.protocol.created, model: configuration.model };
    this.view.look.setLabels(configuration.labels);
    this.shelf?.keepFor(this.protocol.sessionId);
    this.remember();
  }

  #onResumed({ lostMs, reloaded, audioMs, lastEvent }) {
    this.conversation.dropPartial();
    if (this.caughtUp === Infinity) this.caughtUp = lastEvent;
    if (this.view.wave.peaks.samples !== this.protocol.buffer.samples) {
      this.view.restoreAudio(audioMs, mix(this.protocol.buffer.audio(), this.channels));
      this.controls.time(this.view.audioMs, this.source?.durationMs);
    }
    if (lostMs >= 100) {
      const why = reloaded ? "The page was reloaded before the server had everything" : "The server lost what it had stored";
      note("reload", `${why}: ${(lostMs / 1000).toFixed(1)} s of audio were lost. Everything else is here.`, { mild: true });
    }
    if (this.mode === "paused" && this.source?.durationMs && this.source.durationMs <= this.view.audioMs) this.mode = "heard";
    else if (this.mode === "paused" && this.source?.durationMs && !this.player) {
      note("reload-file", `The page was reloaded and no longer has ${this.source.name}. Finish, or open the file again to hear it from its beginning.`, { mild: true });
      this.mode = "cut";
    }
    this.created ??= this.protocol.created;
    this.setMode(this.mode);
    this.remember();
  }

  #onTurn(event, { turn, isNew }) {
    const live = this.protocol.configuration?.pace === "live" && turn.end !== null;
    const fresh = isNew && live && event.event_id > this.caughtUp;
    this.view.showTurn(turn, isNew, fresh, this.settings.values.announceTurns);
  }

  #onClosed(event) {
    forget(MEMORY);
    this.shelf?.drop(this.protocol.sessionId);
    if (event.failed_turns) note("failed turns", `${plural(event.failed_turns, "turn")} failed; see the transcript.`, { mild: true });
    this.setMode("ended");
  }

  async #onError(error) {
    if (this.edits.refused(error)) return;
    if (error.code === "invalid_configuration" && !this.protocol.begun) {
      await this.anew();
      note("configuration", `The server does not accept these settings: ${error.message}`, { actions: [["Settings", () => this.settings.show(false)]] });
    } else if (!["authentication", "resume_refused", "idle", "taken_over", "going_away"].includes(error.code)) {
      note(`error ${error.code}`, error.message);
    }
  }

  // --- files -------------------------------------------------------------------------------------

  /** Ask as which file to save the conversation, and save it. */
  async save() {
    const exports = (this.created?.exports ?? []).map((format) => [format, formatName(format)[0]]);
    const chosen = await askFormat([["report", "Report (HTML)"], ["events", "Events (JSONL)"], ...exports]);
    if (chosen === "report") this.downloads.saveReport(this.source, this.view);
    else if (chosen === "events") this.downloads.saveEvents(this.source);
    else if (chosen) await this.downloads.saveAs(chosen, this.source);
  }

  // --- unsaved turns ------------------------------------------------------------------------------

  /** Whether leaving the page loses unsaved turns; before the end, a reload resumes the session. */
  get unsaved() { return this.mode === "ended" && this.downloads.unsaved; }

  // --- the connection ----------------------------------------------------------------------------

  onState(state) {
    const { name } = state;
    if (name !== "connected" && this.keptFrom === undefined) this.keptFrom = this.protocol?.buffer.samples ?? 0;
    if (name === "connected") this.keptFrom = undefined;
    if (name === "reconnecting") {
      this.conversation.dropPartial();
      this.view.changed();
    }
    if (name === "connected") {
      unnote("kept");
      if (!this.protocol.begun && this.mode === "idle") this.controls.show(this.mode, this.created !== null);
    } else if (name === "asleep" && (this.protocol.begun || this.protocol.wanted)) this.connection.connect();
    else if (ENDED.has(name)) this.#onLost(state);
    this.status.onState(state, this.mode === "finishing");
  }

  /** End the conversation, whose session cannot be resumed. */
  async #onLost(state) {
    const listening = this.mode === "listening";
    await this.microphone.stop();
    this.player?.pause();
    this.status.lost(state, { listening, stem: this.source?.stem ?? "conversation" });
    forget(MEMORY);
    this.setMode("ended");
  }

  /** Start, with the conversation from before a reload if there is one. */
  async restore() {
    const memory = JSON.parse(recall(MEMORY) ?? "null");
    this.open(memory, memory ? (await this.shelf?.load(memory.sessionId)) ?? [] : []);
  }

  /** Save the state when the page is left or hidden, since it may not come back. */
  leave() {
    this.remember();
    this.shelf?.flush();
  }

  /** Save what a reload needs to resume; a conversation that has ended cannot be resumed. */
  remember() {
    const memory = this.mode === "ended" ? null : this.protocol?.memory();
    if (memory) keep(MEMORY, JSON.stringify({ ...memory, source: this.source }));
  }

  #hint() {
    const { pushToTalk, holding } = this.controls;
    write("hint", hintText(this.mode, { pushToTalk, holding, file: this.source?.name, durationMs: this.source?.durationMs, closed: this.conversation.closed, behind: this.conversation.behind, keptMs: this.protocol?.buffer.unacknowledgedMs }));
  }
}
