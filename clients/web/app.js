// The page: one conversation at a time, from the microphone or a file to turns on the screen.

import { Axis } from "./axis.js";
import { Buffer, SAMPLES_PER_MS, SAMPLE_RATE } from "./buffer.js";
import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { askSpeaker, askToken, closeToken, confirmAnew } from "./dialogs.js";
import { saveAudio, saveEvents, saveReport } from "./downloads.js";
import { $, clock, onceAFrame, percent, plural } from "./elements.js";
import { showFeeling } from "./feeling.js";
import { FilePlayer, decode } from "./file.js";
import { Lanes } from "./lanes.js";
import { Departures, Latencies, showLatency } from "./latency.js";
import { Look } from "./look.js";
import { note, unnote } from "./notes.js";
import { Protocol } from "./protocol.js";
import { Recorder, microphoneTrouble } from "./recorder.js";
import { Settings } from "./settings.js";
import { Shelf } from "./shelf.js";
import { forget, keep, recall } from "./storage.js";
import { Transcript } from "./transcript.js";
import { Peaks, Waveform } from "./waveform.js";

const MEMORY = "stream-erc-session", TOKEN = "stream-erc-token";
const TAIL_MS = 1_500;                   // silence after a pause, so that the turn before it comes to its end
const MAX_KEPT_MS = 30 * 60_000;         // audio that waits for a connection before the microphone is let go
const ENDED = new Set(["lost", "taken_over", "failed"]);

class App {
  constructor(shelf) {
    this.shelf = shelf;
    this.look = new Look();
    this.settings = new Settings();
    this.axis = new Axis(innerWidth < 760 ? 10_000 : 20_000);
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    this.axis.paged = still.matches;
    still.addEventListener("change", () => { this.axis.paged = still.matches; });
    this.wave = new Waveform($("wave"), this.axis, this.look);
    this.lanes = new Lanes(this.axis, this.look, {
      onRename: (speaker, name) => this.rename(speaker, name),
      onSelect: (turn) => this.select(turn, true),
      onMove: () => this.paint(),
    });
    this.transcript = new Transcript(this.look, {
      onCorrect: (turn) => this.correct(turn),
      onSelect: (turn) => this.select(turn, false),
    });
    this.recorder = new Recorder({ onAudio: (pcm) => this.hear(pcm), onGone: () => this.microphoneGone() });
    this.controls = new Controls(this.settings, {
      onTalk: () => this.talk(),
      onHold: (holding) => this.hold(holding),
      onMode: () => { this.#setOpen(); this.#hint(); },
      onDevice: () => this.changeDevice(),
    });
    this.conversation = new Conversation(null);
    this.mode = "idle";
    this.created = null;                 // the last session.created: what the server offers
    this.paint = onceAFrame(() => this.#paint());
    this.render = onceAFrame(() => this.#render());
    this.look.onChange(() => { this.transcript.touchAll(); this.render(); this.paint(); });
    new ResizeObserver(() => this.paint()).observe($("wave").parentElement);
  }

  get url() {
    const url = new URL("v1/session", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.search = url.hash = "";
    return url.href;
  }

  // --- a conversation ----------------------------------------------------------------------------

  /** Begin with nothing, or with what was there before a reload. */
  open(memory = null, kept = []) {
    this.connection?.stop();
    const buffer = new Buffer(this.shelf);
    buffer.restore(kept);
    this.shelf?.keepFor(memory?.sessionId ?? null);
    this.protocol = new Protocol({ token: recall(TOKEN), memory, buffer });
    this.conversation = new Conversation(this.protocol.created, this.protocol.configuration);
    this.connection = new Connection(this.url, this.protocol, { onEvent: (event) => this.on(event), onState: (state) => this.onState(state) });
    this.source = memory?.source ?? null;
    this.player = null;
    this.latencies = new Latencies();
    this.departures = new Departures();
    this.inputs = new Map();             // input_id -> what was asked, until it is answered
    this.caughtUp = memory ? Infinity : 0;     // events up to this one were told before
    this.wave.peaks = new Peaks();
    if (memory) this.look.setLabels(this.conversation.labels);
    this.axis.advance(0);
    this.axis.follow();
    this.lanes.current = null;
    this.lanes.pending.clear();
    this.transcript.clear();
    $("feeling").replaceChildren(Object.assign(document.createElement("p"), { className: "soft", textContent: "The last turn's emotion appears here." }));
    $("announce").textContent = "";
    this.setMode(memory ? (memory.closing ? "finishing" : "paused") : "idle");
    this.connection.connect();
    this.render();
    this.paint();
  }

  setMode(mode) {
    this.mode = mode;
    this.controls.show(mode, this.created !== null);
    document.title = { listening: "● Listening", playing: "● Playing", paused: "Paused", waiting: "Paused" }[mode]?.concat(" - stream_erc") ?? "stream_erc";
    this.#hint();
    this.render();
  }

  get started() { return this.mode !== "idle" && this.mode !== "ended"; }

  /** Tell the server how to listen. */
  begin(pace) {
    if (this.protocol.begun) return;
    this.connection.start(this.settings.update(this.created, pace));
    this.connection.connect();
  }

  async anew() {
    await this.recorder.stop();
    this.player?.pause();
    if (this.protocol.begun && !this.protocol.ended) this.connection.close();
    if (this.protocol.sessionId) this.shelf?.drop(this.protocol.sessionId);
    forget(MEMORY);
    for (const key of ["link", "lost", "reload"]) unnote(key);
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
    if (this.mode === "cut") return this.finish();
    if (this.mode === "waiting") {
      this.player.start(this.protocol.configuration.pace);
      return this.setMode("playing");
    }
    return this.listen();
  }

  async listen() {
    unnote("microphone");
    this.setMode("listening");
    try {
      const { device, cleanUp } = this.settings.values;
      this.#setOpen();
      await this.recorder.start({ deviceId: device, cleanUp });
    } catch (error) {
      await this.recorder.stop();
      this.setMode(this.protocol.begun ? "paused" : "idle");
      note("microphone", microphoneTrouble(error));
      return;
    }
    if (this.mode !== "listening") return this.recorder.stop();
    const date = new Date();
    this.source ??= { name: "microphone", title: `Conversation of ${date.toLocaleString()}`, stem: `conversation-${stamp(date)}`, durationMs: null };
    this.begin("live");
    this.controls.listDevices();
  }

  async pause() {
    this.setMode("paused");
    await this.recorder.stop();
    if (this.mode === "paused") this.hear(new Int16Array(TAIL_MS * SAMPLES_PER_MS));
  }

  hold(holding) {
    this.#setOpen();
    if (holding && (this.mode === "idle" || this.mode === "paused")) this.listen();
    this.#hint();
  }

  #setOpen() { this.recorder.setOpen(!this.controls.pushToTalk || this.controls.holding); }

  async changeDevice() {
    if (this.mode !== "listening") return;
    await this.recorder.stop();
    await this.listen();
  }

  async microphoneGone() {
    await this.pause();
    note("microphone", "The microphone was taken away. Connect it or choose another, then go on.");
    this.controls.listDevices();
  }

  // --- a file ------------------------------------------------------------------------------------

  async openFile(file) {
    if (!file) return;
    if (this.started) {
      const anew = await confirmAnew(`${file.name} begins a conversation of its own. What was heard so far leaves the page; save it first if you want to keep it.`);
      if (!anew) return;
    }
    unnote("file");
    this.controls.hint(`Reading ${file.name}`);
    let pcm;
    try {
      pcm = await decode(file);
    } catch (error) {
      note("file", error.message);
      this.#hint();
      return;
    }
    if (this.mode !== "idle") await this.anew();
    const pace = this.settings.values.pace;
    this.player = new FilePlayer(pcm, {
      onAudio: (chunk) => this.hear(chunk),
      onEnd: () => this.finish(),
      waitingBytes: () => (this.protocol.open ? this.connection.waitingBytes : Infinity),
    });
    this.player.setMuted($("mute").getAttribute("aria-pressed") === "true");
    this.source = { name: file.name, title: file.name, stem: file.name.replace(/\.[^.]*$/, "") || "recording", durationMs: Math.round(this.player.durationMs) };
    this.setMode("playing");
    this.begin(pace);
    this.player.start(pace);
  }

  async openSample() {
    try {
      const answer = await fetch("sample.flac");
      if (!answer.ok) throw new Error(`expected the sample, got status ${answer.status}`);
      await this.openFile(new File([await answer.blob()], "sample.flac"));
    } catch (error) {
      note("file", `The sample could not be loaded: ${error.message}`);
    }
  }

  async finish() {
    if (!this.started || this.mode === "finishing") return;
    this.setMode("finishing");
    this.player?.pause();
    await this.recorder.stop();
    if (this.protocol.begun || this.protocol.wanted) this.connection.close();
    else this.open();
    this.remember();
  }

  /** Audio goes out: to the server, and to the timeline. */
  hear(pcm) {
    this.connection.sendAudio(pcm);
    this.wave.peaks.push(pcm);
    const { ms } = this.wave.peaks;
    this.departures.note(ms, performance.now());
    this.axis.advance(ms);
    this.controls.time(ms, this.source?.durationMs ?? null);
    if (this.mode === "listening" || this.mode === "playing") this.controls.level(this.wave.peaks.level);
    if (!this.protocol.open && this.protocol.buffer.samples - this.keptFrom > MAX_KEPT_MS * SAMPLES_PER_MS && this.mode === "listening") {
      note("kept", `The server has been away for long: the microphone was let go after ${clock(MAX_KEPT_MS)}. What was said until now is kept and goes out when the server is back.`);
      this.pause();
    }
    this.paint();
  }

  // --- what the server tells ---------------------------------------------------------------------

  on(event) {
    const told = this.conversation.apply(event);
    switch (event.type) {
      case "session.created": return this.#onCreated(event);
      case "session.updated": return this.#onUpdated(event);
      case "local.resumed": return this.#onResumed(event);
      case "session.closed": return this.#onClosed(event);
      case "error": return this.#onError(event);
      case "warning": return note(`warning ${event.code}`, event.message, { mild: true });
      case "session.going_away": return undefined;
      case "speaker.updated":
        this.lanes.settle(event.speaker);
        this.transcript.touchAll();
        break;
      default:
        if (told) this.#onTurn(event, told);
    }
    this.render();
    this.paint();
    return undefined;
  }

  #onCreated(created) {
    this.created = created;
    this.conversation.created = created;
    this.conversation.labels = created.labels;
    this.look.setLabels(created.labels);
    this.settings.offer(created);
    this.setMode(this.mode);
  }

  #onUpdated({ configuration }) {
    this.conversation.labels = configuration.labels;
    this.conversation.created = { ...this.protocol.created, model: configuration.model };
    this.look.setLabels(configuration.labels);
    this.shelf?.keepFor(this.protocol.sessionId);
    this.remember();
  }

  #onResumed({ lostMs, audioMs, lastEvent }) {
    this.conversation.dropPartial();
    if (this.caughtUp === Infinity) this.caughtUp = lastEvent;
    const { peaks } = this.wave;
    if (peaks.samples < this.protocol.buffer.samples) {
      // After a reload: the outline of what was heard before is gone, what was kept is drawn again.
      peaks.skipTo(audioMs * SAMPLES_PER_MS);
      peaks.push(this.protocol.buffer.audio());
      this.axis.advance(peaks.ms);
      this.controls.time(peaks.ms, this.source?.durationMs ?? null);
    }
    if (lostMs >= 100) {
      note("reload", `The page was reloaded before the server had everything: ${(lostMs / 1000).toFixed(1)} s of audio were lost. Everything else is here.`, { mild: true });
    }
    if (this.mode === "paused" && this.source?.durationMs && !this.player) {
      note("reload-file", `${this.source.name} is not in the page any more since it was reloaded. Finish, or open the file again to hear it from its beginning.`, { mild: true });
      this.setMode("cut");
    }
    this.created ??= this.protocol.created;
    this.controls.show(this.mode, true);
    this.remember();
  }

  #onTurn(event, { turn, isNew }) {
    this.transcript.touch(turn.index);
    const fresh = event.event_id > this.caughtUp;
    if (turn.failed !== null || !isNew) return;
    const live = this.protocol.configuration?.pace === "live" && turn.end !== null;
    this.latencies.push(turn.latency, fresh && live ? this.departures.since(turn.end, performance.now()) : null);
    if (fresh && live && this.settings.values.announceTurns) {
      $("announce").textContent = `${turn.speaker}, ${turn.emotion.label} ${percent(turn.emotion.confidence)}: ${turn.text}`;
    }
  }

  #onClosed(event) {
    forget(MEMORY);
    this.shelf?.drop(this.protocol.sessionId);
    this.wave.peaks.level = 0;
    if (event.failed_turns) note("failed turns", `${plural(event.failed_turns, "turn")} could not be read; marked in the transcript.`, { mild: true });
    this.setMode("ended");
  }

  async #onError(error) {
    const asked = this.inputs.get(error.input_id);
    if (asked) {
      this.lanes.settle(asked.speaker);
      note("input", `${asked.what} was refused: ${error.message}`);
      this.render();
      return;
    }
    if (error.code === "invalid_configuration" && !this.protocol.begun) {
      await this.anew();
      note("configuration", `The server does not take these settings: ${error.message}`, { actions: [["Settings", () => this.openSettings()]] });
    } else if (!["authentication", "resume_refused", "idle", "taken_over", "going_away"].includes(error.code)) {
      note(`error ${error.code}`, error.message);
    }
  }

  // --- what a person changes ---------------------------------------------------------------------

  rename(speaker, name) {
    if (this.mode === "ended") {             // the server has closed the book: the name holds for what is kept
      this.lanes.settle(speaker);
      if (this.conversation.speakers().some((one) => one.name === name)) note("input", `The name ${name} was refused: somebody else has it.`);
      else this.conversation.rename(speaker, name);
      this.transcript.touchAll();
      this.render();
      return;
    }
    const id = this.connection.sendInput({ type: "speaker.rename", speaker, name });
    this.inputs.set(id, { speaker, what: `The name ${name}` });
    this.remember();
  }

  async correct(turn) {
    if (this.mode === "ended") {
      note("input", "The conversation has ended: its turns stay as they are.", { mild: true });
      return;
    }
    const speaker = await askSpeaker(turn, this.conversation.speakers().map((one) => one.name));
    if (speaker === null) return;
    const id = this.connection.sendInput({ type: "turn.correct", turn: turn.index, speaker });
    this.inputs.set(id, { speaker: turn.speaker, what: `${speaker} for turn ${turn.index + 1}` });
    this.remember();
  }

  select(turn, scroll) {
    this.lanes.current = turn.index;
    this.transcript.select(turn.index, scroll);
    if (turn.start !== null) this.axis.reveal(turn.start);
    this.paint();
  }

  openSettings() {
    $("settings-note").hidden = !this.started;
    $("settings").showModal();
  }

  // --- the connection ----------------------------------------------------------------------------

  onState(state) {
    const { name } = state;
    if (name !== "connected" && this.keptFrom === undefined) this.keptFrom = this.protocol?.buffer.samples ?? 0;
    if (name === "connected") this.keptFrom = undefined;
    this.retryAt = state.delayMs === undefined ? null : performance.now() + state.delayMs;
    if (name === "connected") {
      unnote("link");
      unnote("kept");
      closeToken();
      if (this.protocol.token) keep(TOKEN, this.protocol.token);
      if (!this.protocol.begun && this.mode === "idle") this.controls.show(this.mode, this.created !== null);
    } else if (name === "needs_token") this.#askToken(state.message);
    else if (name === "reconnecting" && this.mode === "finishing" && state.attempt === 3) {
      note("link", "The server is away. What was said is kept, and goes out when it is back.", { actions: [["Begin a new conversation", () => this.anew()]] });
    } else if (name === "asleep" && (this.protocol.begun || this.protocol.wanted)) this.connection.connect();
    else if (ENDED.has(name)) this.#gone(state);
    this.#showState();
  }

  async #askToken(message) {
    forget(TOKEN);
    const token = await askToken(message);
    if (token !== null) this.connection.authenticate(token);
    else if (this.connection.state.name === "needs_token") {
      note("link", "This server asks for a token.", { mild: true, actions: [["Enter it", () => { unnote("link"); this.#askToken(null); }]] });
    }
  }

  /** There is no way back to this session. */
  async #gone({ name, message }) {
    const listening = this.mode === "listening";
    await this.recorder.stop();
    this.player?.pause();
    const text = {
      lost: "The server does not know this conversation any more. What it told so far is still here.",
      taken_over: "This conversation goes on in another tab or window.",
      failed: `The connection ended: ${message ?? "the server refused what was sent"}`,
    }[name];
    const actions = [["New conversation", () => this.anew()]];
    const unheard = this.protocol.buffer.audio();
    if (name !== "taken_over" && unheard.length > SAMPLE_RATE) {
      actions.unshift([`Save the last ${clock(unheard.length / SAMPLES_PER_MS)}`, () => saveAudio(`${this.source?.stem ?? "conversation"}.not-heard.wav`, unheard)]);
    }
    note("lost", listening ? `${text} The microphone was let go.` : text, { mild: name === "taken_over", actions });
    forget(MEMORY);
    this.setMode("ended");
  }

  #showState() {
    const { name, attempt } = this.connection?.state ?? { name: "connecting" };
    const kept = this.protocol.buffer.unacknowledgedMs;
    const safe = this.protocol.begun && kept >= 1_000 ? `, ${Math.round(kept / 1000)} s of audio kept` : "";
    const wait = this.retryAt === null ? 0 : Math.ceil((this.retryAt - performance.now()) / 1000);
    const again = wait > 0 ? `next attempt in ${wait} s` : "connecting again";
    const trip = this.connection.roundTripMs;
    const text = {
      connecting: attempt > 1 ? `No server, ${again}` : "Connecting",
      connected: "Connected",
      reconnecting: this.protocol.begun ? `Connection lost, ${again}${safe}` : `No server, ${again}`,
      full: `The server is full, ${again}`,
      needs_token: "A token is needed",
      asleep: "At rest until you start",
      lost: "Conversation unknown to the server",
      taken_over: "Goes on elsewhere",
      failed: "Ended by an error",
      ended: "Finished",
      stopped: "",
    }[name];
    $("connection").dataset.state = name;
    if ($("connection-text").textContent !== text) $("connection-text").textContent = text;
    $("trip").textContent = name === "connected" && trip !== null ? `${trip < 10 ? trip.toFixed(1) : Math.round(trip)} ms away` : "";
    $("retry").hidden = !(wait > 1);
    // A countdown would be read aloud every second: only what it counts down to is told.
    const spoken = { reconnecting: "Connection lost, connecting again", full: "The server is full" }[name] ?? text;
    if ($("announce-link").textContent !== spoken) $("announce-link").textContent = spoken;
  }

  tick() {
    if (this.connection) this.#showState();
  }

  /** Keep what a reload needs to go on. */
  remember() {
    const memory = this.protocol?.memory();
    if (memory) keep(MEMORY, JSON.stringify({ ...memory, source: this.source }));
  }

  // --- drawing -----------------------------------------------------------------------------------

  #hint() {
    const hints = {
      idle: "", paused: "Paused", waiting: "Paused", cut: "", finishing: "The server hears the rest",
      listening: this.controls.pushToTalk ? (this.controls.holding ? "Talking" : "Hold Space to talk") : "Listening",
      playing: this.source ? `Playing ${this.source.name}` : "Reading the file",
      ended: this.conversation?.closed ? `Finished: ${plural(this.conversation.closed.turns, "turn")}, ${clock(this.conversation.closed.audio_ms ?? 0)}` : "",
    };
    this.controls.hint(hints[this.mode]);
  }

  #render() {
    const { conversation } = this;
    this.transcript.render(conversation);
    this.lanes.list(conversation);
    const { partial } = conversation;
    showFeeling(partial?.emotion ? partial : conversation.latest(), Boolean(partial?.emotion), this.look);
    showLatency(this.latencies);
    const count = conversation.turns.length;
    $("count").textContent = count ? plural(count, "turn") : "";
    const nothing = count === 0 && !conversation.partial && conversation.speechFrom === null;
    $("empty").hidden = !nothing;
    $("sample").hidden = this.mode !== "idle" || this.created === null;
    const words = {
      idle: this.created ? ["Nothing has been said yet.", "Start listening, drop a recording anywhere on this page, or hear a sample first."] : ["One moment.", "Looking for the server."],
      listening: ["Listening.", "Say something: the words appear here."], playing: ["Listening.", "The words appear here."],
      paused: ["Paused.", "Nothing has been said yet."], waiting: ["Paused.", "Nothing has been said yet."], cut: ["Paused.", "Nothing has been said yet."], finishing: ["Finishing.", "The server hears the rest."],
      ended: ["No speech was heard.", "Begin a new conversation when you like."],
    }[this.mode];
    if (nothing && $("empty-title").textContent !== words[0]) $("empty-title").textContent = words[0];
    if (nothing) $("empty-text").textContent = words[1];
    $("save-events").disabled = $("save-report").disabled = conversation.events.length === 0;
  }

  #paint() {
    const { axis } = this, live = this.mode === "listening" || this.mode === "playing";
    this.wave.paint(this.conversation, live);
    this.lanes.paint(this.conversation, live);
    $("follow").hidden = axis.following;
    $("zoom-in").disabled = !axis.canZoomIn;
    $("zoom-out").disabled = !axis.canZoomOut;
    $("length").textContent = axis.nowMs ? clock(axis.nowMs) : "";
  }
}

const stamp = (date) => new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16).replace("T", "-").replace(":", "");

function listen(app) {
  const on = (id, act) => $(id).addEventListener("click", act);
  const zoom = (by) => { app.axis.zoom(by); app.paint(); };
  on("theme", () => app.look.toggle());
  on("open-settings", () => app.openSettings());
  on("open-side", () => $("open-side").setAttribute("aria-expanded", String(document.body.classList.toggle("side-open"))));
  on("retry", () => app.connection.now());
  on("zoom-in", () => zoom(-1));
  on("zoom-out", () => zoom(1));
  on("follow", () => { app.axis.follow(); app.paint(); $("overview").focus({ preventScroll: true }); });
  on("finish", () => app.finish());
  on("sample", () => app.openSample());
  on("choose-file", () => $("file").click());
  on("mute", () => {
    const muted = $("mute").getAttribute("aria-pressed") !== "true";
    $("mute").setAttribute("aria-pressed", String(muted));
    app.player?.setMuted(muted);
  });
  on("save-events", () => saveEvents(app.conversation, app.source));
  on("save-report", () => saveReport(app.conversation, app.source, (label) => app.look.style(label), app.latencies.stages()));
  $("file").addEventListener("change", () => {
    app.openFile($("file").files[0]);
    $("file").value = "";
  });
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!files(event)) return;
    event.preventDefault();
    app.openFile(event.dataTransfer.files[0]);
  });
  addEventListener("online", () => app.connection.now());
  const leave = () => { app.remember(); app.shelf?.flush(); };
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); });
  setInterval(() => app.tick(), 500);
}

const app = new App(await Shelf.open());
listen(app);
const memory = JSON.parse(recall(MEMORY) ?? "null");
app.open(memory, memory ? (await app.shelf?.load(memory.sessionId)) ?? [] : []);
