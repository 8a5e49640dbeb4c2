"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const SVG = "http://www.w3.org/2000/svg";
  const RULER = 26, WAVE = 76, LANE = 34, GAP = 14;   // px; LANE and GAP as in report.css
  const EAGER_TURNS = 1500;        // a larger report draws a dialogue when it comes into view
  const MAX_ZOOM_PX_S = 160;
  const NARROW_PX = 500, READABLE_PX = 56;

  /** An element with properties and children; text only ever goes in as text. */
  function el(tag, props = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (key === "class") node.className = value;
      else if (key.includes("-")) node.setAttribute(key, value);
      else node[key] = value;
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  /** The English name of a language, given its ISO 639-1 code. */
  function languageName(code) {
    try { return new Intl.DisplayNames(["en"], { type: "language" }).of(code) ?? code; } catch { return code; }
  }
  const percent = (p) => `${Math.round(100 * p)}%`;
  /** Who spoke a turn, in words; where it is shown, an unsure name has a question mark. */
  const speakerText = (turn) => (turn.unsure ? `probably ${turn.speaker}` : turn.speaker);
  const shownName = (turn) => [turn.speaker, turn.unsure ? el("span", { class: "unsure" }, "?") : null];
  /** Who else spoke in a turn, and in how much of it; "" for nobody. */
  function overlapText({ overlap, others }) {
    if (!overlap && !others.length) return "";
    const share = overlap ? percent(overlap) : "";
    if (!others.length) return `overlap ${share}`;
    const names = others.length > 1 ? `${others.slice(0, -1).join(", ")} and ${others.at(-1)}` : others[0];
    return `overlaps ${names}${share && `, ${share}`}`;
  }
  const plural = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;
  function clock(ms, tenths = true) {
    const t = tenths ? Math.floor(ms / 100) : Math.floor(ms / 1000) * 10;
    const pad = (n) => String(n).padStart(2, "0");
    const h = Math.floor(t / 36000), m = Math.floor(t / 600) % 60, s = Math.floor(t / 10) % 60;
    return (h ? `${h}:` : "") + `${pad(m)}:${pad(s)}` + (tenths ? `.${t % 10}` : "");
  }

  // --- emotions ----------------------------------------------------------------------------------

  const emotions = new Map(data.emotions.map((e, i) => [e.label, { ...e, css: `e${i}` }]));

  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  function luminance(color) {
    const [r, g, b] = color.map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  const inkOn = (color) => (luminance(color) > 0.22 ? "#16171a" : "#ffffff");
  const themed = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  const FACES = {
    neutral: ["M5.2 10.7h5.6", "dots"],
    joy: ["M4.4 9.3q3.6 4.2 7.2 0", "dots"],
    sadness: ["M5.2 11.6q2.8-2.6 5.6 0", "dots"],
    anger: ["M5.4 11.5q2.6-1.6 5.2 0M4 4.9l2.9 1.5M12 4.9l-2.9 1.5", "low"],
    fear: ["M4.6 11.2q.85-1.5 1.7 0t1.7 0 1.7 0 1.7 0", "wide"],
    surprise: ["M8 9.4a1.6 1.9 0 1 0 .01 0M4.6 4.1q.9-.8 1.8-.3M11.4 4.1q-.9-.8-1.8-.3", "dots"],
    disgust: ["M4.8 11.4q1.6-1.9 3.2-.5t3.2-.9M4.5 6.6l2.3.3M11.5 6.6l-2.3.3", "none"],
  };
  function face(label) {
    const emotion = emotions.get(label);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("class", `face ${emotion.css}`);
    svg.setAttribute("aria-hidden", "true");
    const add = (tag, attributes) => {
      const node = document.createElementNS(SVG, tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      svg.append(node);
      return node;
    };
    add("circle", { class: "skin", cx: 8, cy: 8, r: 8 });
    const [path, eyes] = FACES[emotion.face] ?? [null, null];
    if (path === null || data.emotions.some((e) => e.face === emotion.face && e.label < label)) {
      add("text", { x: 8, y: 10.3 }).textContent = emotion.code;
      return svg;
    }
    add("path", { class: "feature", d: path });
    const y = eyes === "low" ? 7.5 : 6.5, r = eyes === "wide" ? 1.5 : 1;
    if (eyes !== "none") for (const x of [5.5, 10.5]) add("circle", { class: "dot", cx: x, cy: y, r });
    return svg;
  }

  // --- the sessions ------------------------------------------------------------------------------

  const sessions = data.sessions.map((raw, number) => {
    const turns = raw.turns.map((m, at) => ({
      at, session: null, index: m.turn, start: m.audio_start_ms ?? null, end: m.audio_end_ms ?? null,
      speaker: m.speaker ?? null, unsure: m.speaker_unsure ?? false, overlap: m.overlap ?? 0, others: m.others ?? [], text: m.text ?? "", language: m.language ?? null, translation: m.translation ?? "", emotion: m.emotion ?? null, latency: m.latency_ms ?? null,
      revision: m.revision ?? 0, failed: m.type === "turn.failed" ? String(m.message) : null,
      blocks: [], row: null, shown: true,
    }));
    const speakers = [...new Set([...turns.filter((t) => !t.failed).map((t) => t.speaker)])];
    const timed = turns.some((t) => t.start !== null);
    const dialogue = raw.created?.dialogue ?? raw.closed?.dialogue ?? raw.turns[0]?.dialogue ?? raw.created?.source?.dialogue;
    const session = {
      number, raw, turns, speakers, timed, labels: turns.every((t) => t.failed) ? [] : data.emotions.map((e) => e.label).filter((label) =>
        !raw.created?.labels || raw.created.labels.includes(label)),
      name: dialogue !== undefined && dialogue !== null ? String(dialogue) : `Dialogue ${number + 1}`,
    };
    for (const turn of turns) turn.session = session;
    session.heard = timed || (raw.closed?.audio_ms ?? 0) > 0 || (raw.created?.source?.duration_ms ?? 0) > 0;
    return session;
  });
  const every = sessions.flatMap((s) => s.turns);
  const many = sessions.length > 1;
  const ROW = many ? 24 : 32;      // px
  const FIGURE_PX = 30, FIGURE_P = 0.1;      // a turn of this width tells its probabilities in figures, from this one on
  const heard = data.audio ? sessions.find((s) => s.timed) ?? sessions.find((s) => s.heard) ?? (many ? undefined : sessions[0]) : undefined;
  for (const s of sessions) {
    const ends = s.turns.map((t) => t.end ?? 0);
    const heardMs = Math.max(s === heard ? data.audio.duration_ms : 0, s.raw.closed?.audio_ms ?? 0, 0, ...ends);
    s.wholeMs = s.raw.created?.source?.duration_ms ?? 0;
    s.durationMs = heardMs || s.wholeMs;      // what was heard of it, where it was stopped before its end
  }
  const anchor = (turn) => (many ? `s${turn.session.number + 1}-turn-${turn.index + 1}` : `turn-${turn.index + 1}`);

  // --- audio -------------------------------------------------------------------------------------

  const audio = { element: null, stopAt: null };
  function openAudio() {
    const text = $("audio").textContent;
    if (!text) return;
    const step = 1 << 22, parts = [];      // a multiple of 4: every part decodes alone
    for (let at = 0; at < text.length; at += step) {
      const binary = atob(text.slice(at, at + step));
      const bytes = new Uint8Array(binary.length);
      for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
      parts.push(bytes);
    }
    $("audio").textContent = "";
    audio.element = new Audio(URL.createObjectURL(new Blob(parts, { type: data.audio.mime })));
    audio.element.preload = "auto";
    for (const name of ["play", "pause", "ended", "seeked"]) audio.element.addEventListener(name, follow);
    audio.element.addEventListener("timeupdate", tick);
  }
  const nowMs = () => (audio.element ? audio.element.currentTime * 1000 : 0);
  const playing = () => audio.element !== null && !audio.element.paused;

  function tick() {
    if (audio.stopAt !== null && nowMs() >= audio.stopAt) {
      audio.element.pause();
      audio.stopAt = null;
    }
    showTime();
  }
  function follow() {
    document.body.classList.toggle("playing", playing());
    $("play").setAttribute("aria-label", playing() ? "Pause" : "Play");
    const frame = () => { if (playing()) { tick(); requestAnimationFrame(frame); } };
    requestAnimationFrame(frame);
    showTime();
  }
  function seek(ms) {
    audio.stopAt = null;
    audio.element.currentTime = ms / 1000;
    showTime();
  }
  function toggle() {
    if (!audio.element) return;
    if (playing()) audio.element.pause();
    else { audio.stopAt = null; start(); }
  }
  function start() { audio.element.play().catch(() => follow()); }

  /** Hear one turn and stop at its end; the same turn again pauses and resumes. */
  function hear(turn) {
    select(turn);
    if (!audio.element || turn.session !== heard || turn.start === null) return;
    const inside = nowMs() >= turn.start && nowMs() < turn.end - 60;
    if (playing() && inside && audio.stopAt === turn.end) { audio.element.pause(); return; }
    if (!(inside && audio.stopAt === turn.end)) audio.element.currentTime = turn.start / 1000 + 0.001;
    audio.stopAt = turn.end;
    start();
  }

  // --- the current turn --------------------------------------------------------------------------

  let current = null;
  function select(turn, scroll = false) {
    if (current !== turn) {
      for (const [t, on] of [[current, false], [turn, true]]) {
        if (!t) continue;
        for (const block of t.blocks) block.classList.toggle("current", on);
        if (t.row) { t.row.classList.toggle("current", on); on ? t.row.setAttribute("aria-current", "true") : t.row.removeAttribute("aria-current"); }
      }
      current = turn;
      showNow();
    }
    if (scroll && turn) {
      turn.session.draw();
      turn.row?.scrollIntoView({ block: "nearest", behavior: "smooth" });
      timelines.get(turn.session)?.reveal(turn);
    }
  }
  function showNow() {
    const turn = current;
    $("now").replaceChildren(...(turn === null ? every.length ? [el("span", {}, "Choose a turn to hear it")] : [] : turn.failed
      ? [el("span", {}, `Turn ${turn.index + 1} failed: ${turn.failed}`)]
      : [face(turn.emotion.label), el("b", {}, ...shownName(turn)), el("span", { dir: "auto" }, turn.text || turn.emotion.label)]));
  }
  function showTime() {
    if (!heard) return;
    const ms = nowMs();
    $("clock").replaceChildren(clock(ms), el("span", {}, ` / ${clock(heard.durationMs)}`));
    const share = heard.durationMs ? ms / heard.durationMs : 0;
    if (document.activeElement !== $("seek") || playing()) $("seek").value = String(Math.round(1000 * share));
    $("seek").style.setProperty("--at", `${100 * share}%`);
    $("seek").setAttribute("aria-valuetext", clock(ms));
    timelines.get(heard)?.moveHead(ms);
    const under = heard.turns.findLast((t) => t.start !== null && t.start <= ms && ms < t.end);
    if (under && (playing() || current === null) && !(audio.stopAt !== null && current?.session === heard && ms < current.end && ms >= current.start)) select(under);
  }
  function step(by) {
    const all = every.filter((t) => t.shown);
    if (!all.length) return;
    let at = current ? all.indexOf(current) : -1;
    if (at < 0 && current) at = all.findIndex((t) => every.indexOf(t) > every.indexOf(current)) - (by > 0 ? 1 : 0);
    const turn = all[Math.min(all.length - 1, Math.max(0, at + by))];
    select(turn, true);
    if (audio.element && turn.session === heard && turn.start !== null) seek(turn.start + 1);
  }

  // --- timeline ----------------------------------------------------------------------------------

  const timelines = new Map();
  const peaks = data.audio ? Int8Array.from(atob(data.audio.peaks), (c) => c.charCodeAt(0) << 24 >> 24) : new Int8Array();

  class Timeline {
    constructor(session) {
      this.session = session;
      this.timed = session.timed || session === heard;
      this.zoom = 1;       // a narrow screen begins with the first turns: see `begin`
      // A text-only turn is as wide as any other: one unit of the axis.
      this.total = this.timed ? Math.max(1, session.durationMs) : Math.max(1, session.turns.length);
      this.wave = session === heard && peaks.length ? WAVE : 0;
      this.failedLane = session.turns.some((t) => t.failed);
      const lanes = session.speakers.length + (this.failedLane ? 1 : 0);
      const name = (kind, height, ...content) => el("div", { class: kind, style: `height:${height}px` }, ...content);
      this.top = el("canvas", { "aria-hidden": "true" });
      this.rows = el("canvas", { "aria-hidden": "true" });
      this.inner = el("div", { class: "inner" }, this.top);
      this.scroller = el("div", { class: "scroller" }, this.inner);
      const names = this.names = el("div", { class: "names", "aria-hidden": "true" }, name("", RULER + this.wave));
      for (let i = 0; i < lanes; i++) {
        const speaker = session.speakers[i] ?? null;
        const failed = i >= session.speakers.length;
        names.append(name("lane-name", LANE, el("span", { title: failed ? "" : speaker, class: failed ? "failed" : "" }, failed ? "failed" : speaker)));
        const lane = el("div", { class: "lane", role: "group", "aria-label": failed ? "Failed turns" : `Turns of ${speaker}` });
        const own = session.turns.filter((t) => (failed ? t.failed : !t.failed && t.speaker === speaker));
        // Of two at once, the longer one lies below.
        for (const turn of this.timed ? own.sort((a, b) => a.start - b.start || b.end - a.end) : own) this.addBlock(lane, turn);
        this.inner.append(lane);
      }
      if (session.labels.length) this.inner.append(el("div", { class: "gap" }), this.rows);
      names.append(name("", GAP), ...session.labels.map((label) => name("row-name", ROW, face(label), el("span", { title: label }, label))));
      this.head = el("div", { class: "head", hidden: session !== heard });
      this.inner.append(this.head);
      this.figure = el("figure", { class: this.timed ? "timeline" : "timeline by-turn", role: "group", "aria-label": `Timeline of ${many ? session.name : "the conversation"}: the same turns as in the transcript` }, names, this.scroller);
      if (this.timed) this.addZoom();
      this.listen();
    }

    span(turn) { return this.timed ? [turn.start, Math.max(turn.end, turn.start + 1)] : [turn.at + 0.04, turn.at + 0.96]; }

    addBlock(lane, turn) {
      if (this.timed && turn.start === null) return;
      const [from, to] = this.span(turn);
      const what = turn.failed ? "failed" : `${turn.emotion.label} ${percent(turn.emotion.confidence)}`;
      const block = el("button", {
        type: "button", tabIndex: -1, class: `block ${turn.failed ? "failed" : emotions.get(turn.emotion.label).css}`,
        "aria-label": `Turn ${turn.index + 1}, ${speakerText(turn) ?? ""} ${what}`,
      }, el("span", {}, turn.failed ? "" : turn.emotion.label), turn.unsure ? el("span", { class: "unsure" }, "?") : null);
      block.style.left = `${(100 * from) / this.total}%`;
      block.style.width = `${(100 * (to - from)) / this.total}%`;
      block.addEventListener("click", () => { hear(turn); if (turn.session !== heard || !audio.element) select(turn, true); });
      block.addEventListener("mousemove", (event) => showTip(turn, event));
      block.addEventListener("mouseleave", hideTip);
      turn.blocks.push(block);
      lane.append(block);
    }

    addZoom() {
      const button = (text, label, act) => {
        const b = el("button", { type: "button", "aria-label": label, title: label }, text);
        b.addEventListener("click", act);
        return b;
      };
      this.out = button("−", "Zoom out", () => this.setZoom(this.zoom / 2));
      this.in = button("+", "Zoom in", () => this.setZoom(this.zoom * 2));
      this.figure.append(el("div", { class: "zoom" }, this.out, this.in));
    }

    setZoom(zoom, anchorX = this.scroller.clientWidth / 2) {
      const most = Math.max(1, (MAX_ZOOM_PX_S * this.total) / 1000 / Math.max(1, this.scroller.clientWidth));
      const centre = (this.scroller.scrollLeft + anchorX) / this.width();
      this.zoom = Math.min(most, Math.max(1, zoom));
      this.draw();
      this.scroller.scrollLeft = centre * this.width() - anchorX;
      this.draw();
    }

    /** Draw for the first time: on a narrow screen so much time that most turns are wide enough to be read. */
    begin() {
      this.draw();
      const widths = this.session.turns.filter((t) => t.start !== null).map((t) => t.end - t.start).sort((a, b) => a - b);
      const median = widths[Math.floor(widths.length / 2)];
      if (this.timed && median && this.scroller.clientWidth < NARROW_PX) this.setZoom((READABLE_PX * this.total) / median / this.scroller.clientWidth, 0);
    }

    width() { return this.inner.offsetWidth; }
    x(value) { return (value / this.total) * this.width(); }
    valueAt(event) { return ((event.clientX - this.inner.getBoundingClientRect().left) / this.width()) * this.total; }
    turnAt(value, slack = 0) {
      return this.session.turns.find((t) => !(this.timed && t.start === null) && this.span(t)[0] - slack <= value && value < this.span(t)[1] + slack);
    }

    listen() {
      this.scroller.addEventListener("scroll", () => this.paint(), { passive: true });
      this.scroller.addEventListener("wheel", (event) => {
        if (!this.timed || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        this.setZoom(this.zoom * (event.deltaY < 0 ? 1.25 : 0.8), event.clientX - this.scroller.getBoundingClientRect().left);
      }, { passive: false });
      for (const canvas of [this.top, this.rows]) {
        canvas.addEventListener("click", (event) => {
          const value = this.valueAt(event);
          const turn = this.turnAt(value);
          if (canvas === this.top && audio.element && this.session === heard) { if (turn) select(turn); seek(value); }
          else if (turn) { hear(turn); if (!audio.element) select(turn, true); }
        });
        canvas.addEventListener("mousemove", (event) => { const turn = this.turnAt(this.valueAt(event)); turn ? showTip(turn, event) : hideTip(); });
        canvas.addEventListener("mouseleave", hideTip);
      }
      this.resized = new ResizeObserver(() => this.draw());
    }

    /** Lay out for the width there is, then paint. */
    draw() {
      const box = this.figure.parentElement;
      if (!box?.clientWidth) return;
      const room = this.timed ? this.scroller.clientWidth : box.clientWidth - this.names.offsetWidth - 22;
      // Text-only turns get 14 to 44 px each; a timed axis fills the width, times the zoom.
      const width = this.timed ? room * (printing ? 1 : this.zoom) : this.total * Math.min(44, Math.max(14, room / this.total));
      this.inner.style.width = `${width}px`;
      if (!this.timed) {
        this.inner.style.minWidth = "0";
        this.scroller.style.width = `${Math.min(width, room)}px`;
      }
      if (this.in) { this.out.disabled = this.zoom <= 1; this.in.disabled = (this.total / 1000) * MAX_ZOOM_PX_S <= width + 1; }
      this.paint();
    }

    paint() {
      const room = Math.min(this.scroller.clientWidth, this.width());
      const left = this.scroller.scrollLeft;
      this.paintTop(prepare(this.top, room, RULER + this.wave), left, room);
      this.paintRows(prepare(this.rows, room, this.session.labels.length * ROW), left, room);
      if (this.session === heard) this.moveHead(nowMs(), false);
    }

    paintTop(pen, left, room) {
      pen.font = `11px ${themed("--sans")}`;
      pen.fillStyle = themed("--soft");
      pen.textBaseline = "middle";
      const perPixel = this.total / this.width();
      const steps = this.timed ? [500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5] : [1, 2, 5, 10, 20, 50, 100, 200, 500];
      const step = steps.find((s) => s / perPixel >= (this.timed ? 74 : 24)) ?? steps.at(-1);
      for (let value = Math.floor((left * perPixel) / step) * step; value <= this.total; value += step) {
        const x = this.x(this.timed ? value : value + 0.5) - left;
        if (x > room) break;
        const text = this.timed ? clock(value, step < 1000) : String(value + 1);
        const half = pen.measureText(text).width / 2;
        if (!this.timed && value >= this.total) break;
        const at = this.timed ? Math.max(x, half - left) : x;
        if (at + half <= room) pen.fillText(text, at - half, 12);
      }
      if (this.wave) this.paintWave(pen, left, room);
    }

    paintWave(pen, left, room) {
      const count = peaks.length / 2, middle = RULER + this.wave / 2, half = this.wave / 2 - 6;
      const perPixel = (count * (this.total / (data.audio.duration_ms || 1))) / this.width();
      const headX = printing ? 0 : this.x(nowMs()) - left;
      const [ahead, behind] = [themed("--wave"), themed("--wave-played")];
      const pitch = 3, bar = 2;
      for (let x = -(left % pitch); x < room; x += pitch) {
        const from = Math.floor((left + x) * perPixel), to = Math.max(from + 1, Math.floor((left + x + pitch) * perPixel));
        if (from >= count || from < 0) continue;
        let low = 0, high = 0;
        for (let i = from; i < Math.min(to, count); i++) { low = Math.min(low, peaks[2 * i]); high = Math.max(high, peaks[2 * i + 1]); }
        pen.fillStyle = x < headX ? behind : ahead;
        const y0 = middle - (high / 127) * half, y1 = middle - (low / 127) * half;
        pen.beginPath();
        pen.roundRect(x, Math.min(y0, middle - 0.75), bar, Math.max(1.5, y1 - y0), 1);
        pen.fill();
      }
    }

    /** Paint a row for each label: its probability in each turn, as a bar that fills the row at 100%, and in figures. */
    paintRows(pen, left, room) {
      const theme = root.dataset.theme, [track, ink] = [themed("--hover"), themed("--ink")];
      const most = ROW - 6;
      pen.font = `600 11px ${themed("--sans")}`;
      pen.textBaseline = "middle";
      this.session.labels.forEach((label, i) => {
        const base = (i + 1) * ROW - 3, figures = [];      // written last: turns that overlap cover one another
        for (const turn of this.session.turns) {
          if (turn.failed || (this.timed && turn.start === null)) continue;
          const [from, to] = this.span(turn).map((v) => this.x(v) - left);
          if (to < 0 || from > room) continue;
          const p = turn.emotion.probabilities[label] ?? 0, width = Math.max(1.5, to - from - 1), first = label === turn.emotion.label;
          pen.globalAlpha = turn.shown ? 1 : 0.14;
          pen.fillStyle = track;
          pen.fillRect(from, base - most, width, most);
          pen.fillStyle = emotions.get(label)[theme];
          pen.globalAlpha *= first ? 1 : 0.45;
          pen.fillRect(from, base - p * most, width, p * most);
          pen.globalAlpha = turn.shown ? 1 : 0.14;
          if (width < FIGURE_PX || p < FIGURE_P) continue;
          // In the bar where it is high, or else above it.
          const inside = p >= 0.45, text = percent(p);
          const colour = inside && first ? inkOn(rgb(emotions.get(label)[theme])) : ink;
          figures.push([colour, pen.globalAlpha, text, from + (width - pen.measureText(text).width) / 2, inside ? base - (p * most) / 2 : base - p * most - 7]);
        }
        for (const [colour, alpha, text, x, y] of figures) {
          pen.fillStyle = colour;
          pen.globalAlpha = alpha;
          pen.fillText(text, x, y);
        }
        pen.globalAlpha = 1;
      });
    }

    moveHead(ms, repaint = true) {
      const x = this.x(ms);
      this.head.style.left = `${x}px`;
      if (!repaint) return;
      const { scrollLeft, clientWidth } = this.scroller;
      if (playing() && (x < scrollLeft || x > scrollLeft + clientWidth * 0.92)) this.scroller.scrollLeft = x - clientWidth * 0.08;
      if (this.wave) this.paintTop(prepare(this.top, Math.min(clientWidth, this.width()), RULER + this.wave), this.scroller.scrollLeft, clientWidth);
    }

    reveal(turn) {
      if (this.timed && turn.start === null) return;
      const [from, to] = this.span(turn).map((v) => this.x(v));
      const { scrollLeft, clientWidth } = this.scroller;
      if (from < scrollLeft || to > scrollLeft + clientWidth) this.scroller.scrollLeft = from - clientWidth / 3;
    }
  }

  /** A cleared 2D context of a canvas of that size in CSS pixels. */
  function prepare(canvas, width, height) {
    const scale = Math.max(window.devicePixelRatio || 1, printing ? 2 : 1);
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  function showTip(turn, event) {
    const when = turn.start === null ? `Turn ${turn.index + 1}` : `${clock(turn.start)} – ${clock(turn.end)}`;
    const what = turn.failed ? `failed: ${turn.failed}` : `${turn.emotion.label} ${percent(turn.emotion.confidence)}`;
    $("tip").replaceChildren(el("b", {}, turn.failed ? what : `${speakerText(turn)} · ${what}`), el("div", {}, [when, overlapText(turn)].filter(Boolean).join(" · ")), el("p", { dir: "auto" }, turn.text));
    $("tip").hidden = false;
    const { offsetWidth: w, offsetHeight: h } = $("tip");
    $("tip").style.left = `${Math.min(innerWidth - w - 8, Math.max(8, event.clientX - w / 2))}px`;
    $("tip").style.top = `${event.clientY + 20 + h > innerHeight ? event.clientY - h - 14 : event.clientY + 20}px`;
  }
  function hideTip() { $("tip").hidden = true; }

  // --- transcript --------------------------------------------------------------------------------

  function bar(share) {
    const fill = el("i");
    fill.style.width = percent(share);
    return el("div", { class: "bar" }, fill);
  }

  function rowOf(turn, previous) {
    const when = turn.start === null ? `${turn.index + 1}` : clock(turn.start);
    const spoken = turn.start === null ? `Turn ${turn.index + 1}` : `Play turn ${turn.index + 1}, at ${when}`;
    const time = el("button", { type: "button", class: "when", "aria-label": `${spoken}, ${turn.failed ? "failed" : speakerText(turn)}` }, when);
    const row = el("li", { class: `turn ${turn.failed ? "failed" : emotions.get(turn.emotion.label).css}`, id: anchor(turn) }, time);
    turn.row = row;
    row.addEventListener("click", (event) => {
      if (event.target.closest(".felt, .more") || String(getSelection()) !== "") return;
      hear(turn);
    });
    if (turn.failed) {
      row.append(el("div", { class: "who" }, "failed"), el("p", { class: "said" }, turn.failed));
      return row;
    }
    const { label, confidence, probabilities } = turn.emotion;
    const same = previous && !previous.failed && previous.speaker === turn.speaker;
    const said = el("p", { class: turn.text ? "said" : "said none", dir: "auto" }, turn.text || "no words");
    if (turn.text && turn.language) said.lang = turn.language;
    turn.said = said;
    const overlap = overlapText(turn);
    if (overlap) said.append(el("span", { class: "overlap", title: "Others spoke in this turn as well, in this share of it", lang: "en", dir: "auto" }, overlap));
    if (turn.revision) said.append(el("span", { class: "revised", title: "The speaker was corrected", lang: "en" }, "revised"));
    if (turn.translation) {
      const from = turn.language ? [el("span", { class: "from" }, `from ${languageName(turn.language)}`), " "] : [];
      said.append(el("span", { class: "translation", lang: "en", dir: "auto" }, ...from, turn.translation));
    }
    const more = el("div", { class: "more", hidden: true });
    const felt = el("button", { type: "button", class: "felt", "aria-expanded": "false", "aria-label": `${label}, ${percent(confidence)}; all probabilities` },
      face(label), el("span", { class: "label" }, label), el("span", { class: "n" }, percent(confidence)), bar(confidence));
    felt.addEventListener("click", () => {
      if (!more.childElementCount) {
        const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
        more.append(...sorted.map(([name, p]) => el("div", { class: emotions.get(name).css }, face(name), el("span", { class: "label" }, name), bar(p), el("span", { class: "n" }, `${(100 * p).toFixed(1)}%`))));
      }
      more.hidden = !more.hidden;
      felt.setAttribute("aria-expanded", String(!more.hidden));
    });
    row.append(el("div", { class: same ? "who same" : "who", title: speakerText(turn), dir: "auto" }, ...shownName(turn)), said, felt, more);
    return row;
  }

  function drawSession(session) {
    const list = el("ol", { class: "turns" });
    session.turns.forEach((turn, i) => list.append(rowOf(turn, session.turns[i - 1])));
    const timeline = new Timeline(session);
    timelines.set(session, timeline);
    if (many) {
      const people = session.speakers.join(", ");
      session.box.append(el("div", { class: "session-head" }, el("h3", { dir: "auto" }, session.name), el("small", {}, `${plural(session.turns.length, "turn")}${people ? ` · ${people}` : ""}`)));
      if (session.turns.length) session.box.append(timeline.figure);
    } else if (session.turns.length || session.heard) $("hero").append(timeline.figure);
    session.box.append(session.turns.length ? list : el("p", { class: "empty" }, session.heard ? "No speech was heard." : "No turns."));
    session.box.style.minHeight = "";
    if (timeline.figure.parentElement) timeline.resized.observe(timeline.figure.parentElement);
    timeline.begin();
    refresh(session);
  }

  // --- filters -----------------------------------------------------------------------------------

  const wanted = { words: "", emotions: new Set(), speakers: new Set() };
  const fold = (text) => text.normalize("NFKC").toLocaleLowerCase();

  function matches(turn) {
    if (wanted.emotions.size && (turn.failed || !wanted.emotions.has(turn.emotion.label))) return false;
    if (wanted.speakers.size && !wanted.speakers.has(turn.speaker)) return false;
    return !wanted.words || fold(`${turn.text} ${turn.translation}`).includes(wanted.words);
  }
  function highlight(turn) {
    if (!turn.said || !turn.text) return;
    const kept = turn.said.querySelectorAll(".overlap, .revised, .translation");
    const parts = [];
    // Folding may change lengths in rare scripts; marks are only set where it does not.
    const folded = fold(turn.text), word = wanted.words;
    let at = 0;
    if (word && folded.length === turn.text.length) {
      for (let hit = folded.indexOf(word); hit >= 0; hit = folded.indexOf(word, at)) {
        parts.push(turn.text.slice(at, hit), el("mark", {}, turn.text.slice(hit, hit + word.length)));
        at = hit + word.length;
      }
    }
    turn.said.replaceChildren(...parts, turn.text.slice(at), ...kept);
    turn.marked = parts.length > 0;
  }
  function refresh(session) {
    for (const turn of session.turns) {
      turn.row.hidden = !turn.shown;
      for (const block of turn.blocks) block.classList.toggle("dim", !turn.shown);
      if (wanted.words ? turn.shown : turn.marked) highlight(turn);
    }
    timelines.get(session).paint();
  }
  function filter() {
    for (const turn of every) turn.shown = matches(turn);
    for (const session of sessions) {
      session.box.hidden = many && session.turns.length > 0 && !session.turns.some((t) => t.shown);
      if (timelines.has(session)) refresh(session);
    }
    const shown = every.filter((t) => t.shown).length;
    $("count").textContent = shown === every.length ? plural(every.length, "turn") : `${shown.toLocaleString("en")} of ${plural(every.length, "turn")}`;
  }
  function chip(group, key, count, ...content) {
    const button = el("button", { type: "button", "aria-pressed": "false" }, ...content, el("span", { class: "n" }, String(count)));
    button.addEventListener("click", () => {
      group.has(key) ? group.delete(key) : group.add(key);
      button.setAttribute("aria-pressed", String(group.has(key)));
      filter();
    });
    return button;
  }

  // --- summaries ---------------------------------------------------------------------------------

  function tally(items) {
    const counts = new Map();
    for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
    return counts;
  }

  function drawPeople() {
    const turns = every.filter((t) => !t.failed);
    const counts = tally(turns.map((t) => t.emotion.label));
    const speakers = [...tally(turns.map((t) => t.speaker))];
    $("by-emotion").append(...data.emotions.filter((e) => counts.has(e.label)).map((e) =>
      chip(wanted.emotions, e.label, counts.get(e.label), face(e.label), el("span", { class: "label" }, e.label))));
    const most = [...speakers].sort((a, b) => b[1] - a[1]);
    const listed = many ? most.slice(0, 12) : speakers.slice(0, 24);
    $("people").classList.toggle("people-many", speakers.length > 5);
    if (speakers.length > 1) $("by-speaker").append(...listed.map(([name, n]) => chip(wanted.speakers, name, n, el("span", { class: "label" }, name))));
    const drawn = listed.filter(([, n]) => n >= 0.06 * most[0][1]);      // less could not be told apart
    for (const [name, n] of drawn) {
      const own = turns.filter((t) => t.speaker === name);
      const ms = own.reduce((sum, t) => sum + (t.start === null ? 0 : t.end - t.start), 0);
      const share = el("div", { class: "share", role: "img" });
      const said = [];
      const ownCounts = tally(own.map((t) => t.emotion.label));
      for (const e of data.emotions) {
        const c = ownCounts.get(e.label) ?? 0;
        if (!c) continue;
        const part = el("i", { class: emotions.get(e.label).css, title: `${e.label}: ${plural(c, "turn")}` }, el("span", {}, e.label));
        part.style.flex = `${c} 1 0`;
        share.style.width = percent(n / most[0][1]);
        share.append(part);
        said.push(`${e.label} ${c}`);
      }
      share.setAttribute("aria-label", said.join(", "));
      $("people").append(el("div", { class: "person" }, el("div", {}, el("b", { title: name, dir: "auto" }, name), el("small", {}, plural(n, "turn") + (ms ? ` · ${clock(ms, false)} of speech` : ""))), share));
    }
    if (speakers.length > drawn.length) $("people").append(el("p", { class: "empty" }, `and ${plural(speakers.length - drawn.length, "more speaker")}`));
    $("overview").hidden = turns.length === 0;
    for (const id of ["search", "by-emotion", "by-speaker"]) $(id).hidden = turns.length < 2;
  }

  /** The server's summary of each speaker, once a single conversation has come to its end. */
  function drawWhole() {
    const summary = many ? [] : sessions[0]?.raw.closed?.summary ?? [];
    $("whole").hidden = !summary.length;
    for (const one of summary.slice(0, 12)) {
      const facts = [["Turns", String(one.turns)], ["Shifts of emotion", shiftText(one.shifts)]];
      if (one.share !== null) facts.unshift(["Speech", `${clock(one.speaking_ms, false)}, ${percent(one.share)} of all`]);
      if (one.share !== null) facts.push(["Interruptions", String(one.interruptions)]);
      const list = el("dl", {}, ...facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
      const heads = ["Emotion", "Turns", ...(one.share === null ? [] : ["Time"]), "Mean probability"];
      const rows = Object.entries(one.emotions).filter(([, e]) => e.turns).sort(([, a], [, b]) => b.turns - a.turns || b.probability - a.probability);
      const body = rows.map(([label, e]) => {
        const bar = el("i");
        bar.style.width = percent(e.probability);
        const cells = [el("td", { class: "num" }, String(e.turns)), ...(one.share === null ? [] : [el("td", { class: "num" }, clock(e.speaking_ms, false))])];
        return el("tr", { class: emotions.get(label)?.css ?? "" }, el("th", { scope: "row" }, el("span", {}, face(label), label)), ...cells, el("td", { class: "probability" }, el("div", { class: "bar", "aria-hidden": "true" }, bar), el("span", {}, percent(e.probability))));
      });
      const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((name, i) => el("th", { scope: "col", class: i && i < heads.length - 1 ? "num" : "" }, name)))), el("tbody", {}, ...body));
      $("wholes").append(el("article", { class: "card" }, el("h3", { dir: "auto" }, one.speaker), list, table));
    }
    if (summary.length > 12) $("whole").append(el("p", { class: "empty" }, `and ${plural(summary.length - 12, "more speaker")}`));
  }

  /** How often an emotion followed another, and which most often. */
  function shiftText(shifts) {
    const count = shifts.reduce((sum, shift) => sum + shift.count, 0);
    const [most] = shifts;
    return count > 1 && most.count > 1 ? `${count}, most often ${most.before} to ${most.after} (${most.count} times)` : String(count);
  }

  function drawIndex() {
    if (!many) return;
    $("index").hidden = false;
    $("index").append(...sessions.map((session) => {
      const strip = el("span", { class: "strip" }, ...session.turns.map((t) => el("i", { class: t.failed ? "failed" : emotions.get(t.emotion.label).css })));
      const link = el("a", { href: `#dialogue-${session.number + 1}` }, el("b", { dir: "auto" }, session.name), strip, el("small", {}, plural(session.turns.length, "turn")));
      link.addEventListener("click", () => session.draw());
      return link;
    }));
  }

  function drawLatency() {
    const rows = every.filter((t) => t.latency);
    const words = { endpointing: "Waiting for silence", asr: "Speech recognition", features: "Voice", emotion: "Emotion", total: "Total" };
    const at = (sorted, q) => { const i = q * (sorted.length - 1), f = Math.floor(i); return sorted[f] + (i - f) * ((sorted[f + 1] ?? sorted[f]) - sorted[f]); };
    const stages = Object.keys(words).map((key) => {
      const values = rows.map((t) => t.latency[key]).filter((v) => typeof v === "number").sort((a, b) => a - b);
      return { key, median: values.length ? at(values, 0.5) : 0, p95: values.length ? at(values, 0.95) : 0 };
    }).filter((s) => s.p95 > 0);
    if (!stages.length) return;
    $("latency").hidden = false;
    const most = Math.max(...stages.map((s) => s.p95));
    const ms = (v) => `${v < 10 ? v.toFixed(1) : Math.round(v).toLocaleString("en")} ms`;
    const cell = (kind, text, more) => el("div", { class: kind, ...more }, text);
    const table = el("div", { class: "stages", role: "table", "aria-label": "Latency by stage" }, cell("th", ""), cell("th", ""), cell("th num", "median"), el("div", { class: "th num" }, el("abbr", { title: "95th percentile" }, "p95")));
    for (const s of stages) {
      const [long, short] = [el("i"), el("i")];
      long.style.width = percent(s.p95 / most);
      short.style.width = percent(s.median / most);
      const kind = s.key === "total" ? " total" : "";
      table.append(cell(kind, words[s.key]), el("div", { class: "span", "aria-hidden": "true" }, long, short), cell(`num${kind}`, ms(s.median)), cell(`num${kind}`, ms(s.p95)));
    }
    $("latency").append(table);
    if (!sessions.some((s) => s.heard)) $("latency-what").textContent = "To the result of a turn.";
  }

  function drawMeta() {
    const [first] = sessions;
    const created = first?.raw.created;
    const good = every.filter((t) => !t.failed);
    const names = new Set(good.map((t) => t.speaker));
    const parts = [];
    if (created?.source?.name && created.source.name !== data.title) parts.push(created.source.name);
    if (many) parts.push(plural(sessions.length, "dialogue"));
    const length = Math.max(0, ...sessions.map((s) => (s.heard || s === heard ? s.durationMs : 0)));
    if (length) parts.push(clock(length, false));
    parts.push(plural(good.length, "turn"), plural(names.size, "speaker"));
    if (created?.model) parts.push(`model ${created.model}`);
    if (created?.asr && first.heard && created.asr !== "none") parts.push(`speech recognition ${created.asr}`);
    for (const text of parts) $("meta").append(el("span", {}, text), " ");
    const failed = every.length - good.length;
    const note = (text, mild) => $("notes").append(el("p", { class: mild ? "note mild" : "note" }, text));
    if (failed) note(`${plural(failed, "turn")} could not be analysed; marked in the transcript.`);
    const open = sessions.filter((s) => !s.raw.closed).length;
    const cut = sessions.filter((s) => s.heard && s.wholeMs - s.durationMs > 1000);
    if (cut.length) note(many ? `${plural(cut.length, "dialogue")} stopped before the end of the recording.` : `Heard until ${clock(cut[0].durationMs, false)} of ${clock(cut[0].wholeMs, false)}.`, true);
    if (open) note(many ? `${plural(open, "dialogue")} did not come to an end: this is what was heard of them.` : "The session did not come to an end: this is what was heard until then.");
    if (data.audio?.note) note(data.audio.note, true);
    if (!sessions.length) note("Nothing was heard.", true);
  }

  // --- theme, keys, print ------------------------------------------------------------------------

  let printing = false;
  const sheet = el("style");
  document.head.append(sheet);
  function setTheme(theme) {
    root.dataset.theme = theme;
    sheet.textContent = [...emotions.values()].map((e) => `.${e.css}{--c:${e[theme]};--i:${inkOn(rgb(e[theme]))}}`).join("");
    for (const [session, timeline] of timelines) {
      tint(session);
      timeline.draw();
    }
  }
  /** Fill the blocks of a session: the emotion's colour, as strong as its confidence. */
  function tint(session) {
    const theme = root.dataset.theme, surface = rgb(themed("--surface"));
    for (const turn of session.turns) {
      if (turn.failed) continue;
      const share = 0.16 + 0.84 * turn.emotion.confidence;
      const mixed = rgb(emotions.get(turn.emotion.label)[theme]).map((v, i) => Math.round(v * share + surface[i] * (1 - share)));
      for (const block of turn.blocks) {
        block.style.setProperty("--fill", `rgb(${mixed})`);
        block.style.setProperty("--on", inkOn(mixed));
      }
    }
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("stream-erc-theme"); } catch { return null; } };
  const preferred = () => remembered() ?? (dark.matches ? "dark" : "light");
  $("theme").addEventListener("click", () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("stream-erc-theme", theme); } catch { /* a page without storage forgets */ }
    setTheme(theme);
  });
  dark.addEventListener("change", () => setTheme(preferred()));
  addEventListener("beforeprint", () => { printing = true; for (const s of sessions) s.draw(); setTheme("light"); });
  addEventListener("afterprint", () => { printing = false; setTheme(preferred()); });

  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const tag = event.target.tagName;
    if (event.key === "Escape" && event.target === $("search")) { $("search").value = ""; wanted.words = ""; filter(); $("search").blur(); return; }
    if (tag === "INPUT" || tag === "SELECT") return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") step(event.key === "ArrowRight" ? 1 : -1);
    else if (event.key === " " && tag !== "BUTTON" && tag !== "A" && audio.element) toggle();
    else if (event.key === "Enter" && tag !== "BUTTON" && tag !== "A" && current) hear(current);
    else if (event.key === "/") { $("search").focus(); $("search").select(); }
    else return;
    event.preventDefault();
  });
  // After a mouse click the space bar belongs to the player again, not to what was clicked.
  addEventListener("click", (event) => { if (event.detail) event.target.closest(".block, .when, .player button")?.blur(); });
  $("search").addEventListener("input", () => { wanted.words = fold($("search").value.trim()); filter(); });
  $("play").addEventListener("click", toggle);
  $("prev").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("seek").addEventListener("input", () => seek((Number($("seek").value) / 1000) * heard.durationMs));
  $("rate").addEventListener("change", () => { audio.element.playbackRate = Number($("rate").value); });

  // --- go ----------------------------------------------------------------------------------------

  root.dataset.theme = preferred();
  drawMeta();
  drawPeople();
  drawWhole();
  drawIndex();
  drawLatency();
  const lazy = many && every.length > EAGER_TURNS;
  const watcher = lazy ? new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) sessions[Number(entry.target.dataset.session)].draw();
  }, { rootMargin: "800px" }) : null;
  for (const session of sessions) {
    session.box = el("div", { class: "session", id: `dialogue-${session.number + 1}` });
    session.box.dataset.session = String(session.number);
    session.draw = () => {
      if (timelines.has(session)) return;
      watcher?.unobserve(session.box);
      drawSession(session);
      tint(session);
    };
    $("sessions").append(session.box);
    if (watcher) {
      session.box.style.minHeight = `${260 + 48 * session.turns.length}px`;
      watcher.observe(session.box);
    } else drawSession(session);
  }
  setTheme(root.dataset.theme);
  filter();
  if (heard && $("audio").textContent) {
    $("player").hidden = false;
    document.body.classList.add("has-player");
    openAudio();
    showNow();
    showTime();
  }
  const keys = [...(audio.element ? [["Space", "play or pause"], ["Enter", "hear the turn"]] : []), ["← →", "turn by turn"], ["/", "search"]];
  $("keys").append(...keys.map(([key, what]) => el("span", {}, el("kbd", {}, key), ` ${what}`)));
  const linked = every.find((t) => `#${anchor(t)}` === location.hash);
  if (linked) { select(linked, true); if (audio.element && linked.start !== null) seek(linked.start); }
})();
