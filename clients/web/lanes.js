// A lane for each speaker, with the turns and their emotions. The names are buttons for renaming; the canvases are
// visual only, and the transcript has the same turns for screen readers.

import { $, clock, el, percent, plural, prepare } from "./elements.js";
import { overlapText, speakerText } from "./texts.js";

const LANE = 34;         // px, as in style.css
const OVERVIEW = 22;

export class Lanes {
  /**
   * @param {object} hooks
   * @param {(speaker: string, name: string) => void} hooks.onRename
   * @param {(turn: object) => void} hooks.onSelect
   */
  constructor(axis, look, { onRename, onSelect, onMove }) {
    Object.assign(this, { axis, look, onRename, onSelect, onMove });
    this.names = $("names");
    this.canvas = $("lanes");
    this.overview = $("overview");
    this.tip = $("tip");
    this.current = null;         // index of the selected turn
    this.drawn = [];             // [turn, x, y, width] of the last painting, in its order, to find the turn under the pointer
    this.items = new Map();      // speaker -> [content, element]: a name that did not change keeps its element
    this.editing = null;
    this.pending = new Map();    // speaker -> the requested name
    this.shown = null;
    this.#listen();
  }

  clear() {
    this.current = this.editing = null;
    this.pending.clear();
  }

  // --- names -------------------------------------------------------------------------------------

  /** Update the list of speakers if it changed. */
  list(conversation) {
    this.conversation = conversation;
    const speakers = conversation.speakers();
    const key = JSON.stringify([speakers.map((s) => [s.name, s.turns, [...s.byLabel]]), [...this.pending]]);
    if (key === this.shown || this.editing) return;
    this.shown = key;
    const focused = document.activeElement?.closest?.("#names li"), at = [...this.names.children].indexOf(focused);
    this.items = new Map(speakers.map((speaker) => {
      const content = JSON.stringify([speaker.turns, [...speaker.byLabel], this.pending.get(speaker.name)]);
      const [shown, item] = this.items.get(speaker.name) ?? [];
      return [speaker.name, [content, shown === content && item.querySelector("button") ? item : this.#item(speaker)]];
    }));
    this.#place([...this.items.values()].map(([, item]) => item));
    if (focused && !focused.isConnected) this.names.children[at]?.querySelector("button").focus({ preventScroll: true });
    $("no-lanes").hidden = speakers.length > 0;
  }

  /** Bring the list to these elements; those in their place stay there, as the focus in them does. */
  #place(items) {
    for (const old of [...this.names.children]) if (!items.includes(old)) old.remove();
    items.forEach((item, i) => { if (this.names.children[i] !== item) this.names.insertBefore(item, this.names.children[i] ?? null); });
  }

  #item(speaker) {
    const wanted = this.pending.get(speaker.name);
    const button = el("button", {
      type: "button", class: wanted ? "name pending" : "name", title: `Rename ${speaker.name}`, dir: "auto",
    }, el("span", { class: "hush" }, "Rename "), el("span", { class: "text" }, wanted ?? speaker.name));
    const counts = [...speaker.byLabel].sort((a, b) => b[1] - a[1]).map(([label, n]) => `${label} ${n}`).join(", ");
    const item = el("li", {}, button, el("span", { class: "hush" }, ` ${plural(speaker.turns, "turn")}: ${counts}`));
    item.dataset.speaker = speaker.name;
    button.addEventListener("click", () => this.#edit(item, speaker.name));
    return item;
  }

  #edit(item, speaker) {
    if (this.editing) return;
    this.editing = speaker;
    const input = el("input", { class: "rename", value: speaker, maxLength: 100, "aria-label": `New name of ${speaker}`, autocomplete: "off", spellcheck: false });
    let done = false;
    const finish = (commit, refocus) => {
      if (done) return;
      done = true;
      const name = input.value.trim();
      this.editing = null;
      this.shown = null;
      if (commit && name && name !== speaker) {
        this.pending.set(speaker, name);
        this.onRename(speaker, name);
      }
      this.list(this.conversation);
      if (refocus) [...this.names.children].find((one) => one.dataset.speaker === speaker)?.querySelector("button").focus();
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();            // otherwise Enter would press the button that gets the focus next
      finish(event.key === "Enter", true);
    });
    input.addEventListener("blur", () => finish(true, false));
    item.replaceChildren(input);
    input.focus();
    input.select();
  }

  /** Show the current name, after the server accepted or refused a new one. */
  settle(speaker) {
    const name = this.pending.get(speaker);
    this.pending.delete(speaker);
    this.shown = null;
    if (this.editing === speaker) this.editing = null;
    return name;
  }

  // --- lanes -------------------------------------------------------------------------------------

  paint(conversation, live) {
    this.conversation = conversation;
    this.#paintLanes(conversation, live);
    this.#paintOverview(conversation);
  }

  #paintLanes(conversation, live) {
    const { axis, look } = this;
    const speakers = conversation.speakers().map((s) => s.name);
    const width = this.canvas.parentElement.clientWidth, height = Math.max(1, speakers.length) * LANE;
    const pen = prepare(this.canvas, width, height);
    pen.fillStyle = look.colours.line;
    for (let i = 0; i < Math.max(1, speakers.length); i++) pen.fillRect(0, i * LANE, width, 1);
    const rows = new Map(speakers.map((name, i) => [name, i]));
    this.drawn = [];
    const ends = new Map();      // speaker -> where the lane is painted up to
    for (const turn of conversation.between(axis.fromMs, axis.toMs)) {
      if (turn.failed !== null) continue;
      const x = axis.x(turn.start, width), w = Math.max(2, axis.x(turn.end, width) - x - 1), y = rows.get(turn.speaker) * LANE;
      if (x < ends.get(turn.speaker)) this.#paintGap(pen, x, y, w);
      this.#paintTurn(pen, turn, x, y, w);
      ends.set(turn.speaker, Math.max(x + w, ends.get(turn.speaker) ?? 0));
    }
    for (const { start, end, over, partial } of conversation.speeches) {
      if (!rows.has(partial?.speaker)) continue;
      const x = axis.x(start, width), to = axis.x(over || !live ? end ?? start : axis.nowMs, width);
      this.#paintPartial(pen, partial, x, rows.get(partial.speaker) * LANE, Math.max(2, to - x));
    }
  }

  /** Keep a turn apart from an earlier one that it overlaps in the same lane. */
  #paintGap(pen, x, y, width) {
    pen.fillStyle = this.look.colours.surface;
    pen.beginPath();
    pen.roundRect(x - 1.5, y + 3.5, width + 3, LANE - 5, 4);
    pen.fill();
  }

  #paintTurn(pen, turn, x, y, width) {
    const { look } = this;
    const { fill, ink } = look.tint(turn.emotion);
    const height = LANE - 8;
    pen.save();
    pen.beginPath();
    pen.roundRect(x, y + 5, width, height, 3);
    pen.clip();
    pen.fillStyle = fill;
    pen.fillRect(x, y + 5, width, height);
    pen.fillStyle = look.colour(turn.emotion.label);
    pen.fillRect(x, y + 5 + height - 3, width, 3);
    const style = look.style(turn.emotion.label);
    pen.font = `600 11.5px ${look.colours.sans}`;
    pen.fillStyle = ink;
    pen.textBaseline = "middle";
    const left = Math.max(x, 0) + 7;          // the label stays visible while its turn moves out
    const right = x + width - 4, unsure = turn.unsure ? pen.measureText(" ?").width : 0;
    if (unsure && x + unsure <= right) pen.fillText("?", right - unsure, y + 5 + height / 2 - 1);
    // The whole word or none: the colour stands for it, and the tooltip tells it.
    if (pen.measureText(style.label).width <= right - unsure - left) pen.fillText(style.label, left, y + 5 + height / 2 - 1);
    pen.restore();
    if (turn.index === this.current) {
      pen.strokeStyle = look.colours.ink;
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.roundRect(x, y + 5, width, height, 3);
      pen.stroke();
    }
    this.drawn.push([turn, x, y, width]);
  }

  #paintPartial(pen, partial, x, y, width) {
    const { look } = this;
    pen.strokeStyle = partial.emotion ? look.colour(partial.emotion.label) : look.colours.soft;
    pen.lineWidth = 1.5;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.roundRect(x + 0.75, y + 5.75, width - 1.5, LANE - 9.5, 3);
    pen.stroke();
    pen.setLineDash([]);
  }

  // --- overview ----------------------------------------------------------------------------------

  #paintOverview(conversation) {
    const { axis, look } = this;
    const width = this.overview.parentElement.clientWidth;
    const pen = prepare(this.overview, width, OVERVIEW);
    const total = axis.longestMs, scale = width / total;
    pen.fillStyle = look.colours.hover;
    pen.beginPath();
    pen.roundRect(0, 7, width, 8, 4);
    pen.fill();
    let filled = -1;                           // with thousands of turns, one mark per pixel is enough
    for (const turn of conversation.turns) {
      if (!turn || turn.start === null) continue;
      const x = turn.start * scale, w = Math.max(1, (turn.end - turn.start) * scale);
      if (x + w < filled + 0.5) continue;
      pen.fillStyle = turn.failed === null ? look.tint(turn.emotion).fill : look.colours.error;
      pen.fillRect(x, 7, w, 8);
      filled = x + w;
    }
    this.overview.parentElement.classList.toggle("unused", axis.nowMs === 0);
    const x = axis.fromMs * scale, w = Math.max(8, Math.min(axis.spanMs, total - axis.fromMs) * scale);
    pen.strokeStyle = look.colours.ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.roundRect(Math.max(1, Math.min(x, width - w)), 3, w - 2, 16, 5);
    pen.stroke();
    this.overview.setAttribute("aria-valuemax", String(Math.round(axis.nowMs / 1000)));
    this.overview.setAttribute("aria-valuenow", String(Math.round(axis.fromMs / 1000)));
    this.overview.setAttribute("aria-valuetext", `${clock(axis.fromMs)} to ${clock(Math.min(axis.nowMs, axis.toMs))}${axis.following ? ", following" : ""}`);
  }

  // --- pointer and keys --------------------------------------------------------------------------

  #listen() {
    const under = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      return this.drawn.findLast(([, left, top, width]) => x >= left && x < left + width && y >= top && y < top + LANE)?.[0];
    };
    this.canvas.addEventListener("pointermove", (event) => {
      const turn = under(event);
      this.canvas.classList.toggle("over", Boolean(turn));
      turn ? this.#showTip(turn, event) : this.hideTip();
    });
    this.canvas.addEventListener("pointerleave", () => this.hideTip());
    this.canvas.addEventListener("click", (event) => {
      const turn = under(event);
      if (turn) this.onSelect(turn);
    });
    const look = (event) => {
      const box = this.overview.getBoundingClientRect();
      const ms = ((event.clientX - box.left) / box.width) * this.axis.longestMs;
      this.axis.lookAt(ms - this.axis.spanMs / 2);
      this.onMove();
    };
    this.overview.addEventListener("pointerdown", (event) => {
      this.overview.setPointerCapture(event.pointerId);
      look(event);
    });
    this.overview.addEventListener("pointermove", (event) => {
      if (this.overview.hasPointerCapture(event.pointerId)) look(event);
    });
    this.overview.addEventListener("keydown", (event) => {
      const { axis } = this, step = axis.spanMs / 4;
      const to = {
        ArrowLeft: axis.fromMs - step, ArrowDown: axis.fromMs - step, ArrowRight: axis.fromMs + step, ArrowUp: axis.fromMs + step,
        PageDown: axis.fromMs - axis.spanMs, PageUp: axis.fromMs + axis.spanMs, Home: 0, End: Infinity,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      axis.lookAt(to);
      this.onMove();
    });
  }

  #showTip(turn, event) {
    const what = `${turn.emotion.label} ${percent(turn.emotion.confidence)}`;
    const when = [`${clock(turn.start, true)} – ${clock(turn.end, true)}`, overlapText(turn)].filter(Boolean).join(" · ");
    this.tip.replaceChildren(el("b", {}, `${speakerText(turn)} · ${what}`), el("div", {}, when), el("p", { dir: "auto" }, turn.text));
    this.tip.hidden = false;
    const { offsetWidth: w, offsetHeight: h } = this.tip;
    this.tip.style.left = `${Math.min(innerWidth - w - 8, Math.max(8, event.clientX - w / 2))}px`;
    this.tip.style.top = `${event.clientY + 20 + h > innerHeight ? event.clientY - h - 14 : event.clientY + 20}px`;
  }

  hideTip() { this.tip.hidden = true; }
}
