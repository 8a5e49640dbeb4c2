// The transcript: turns as rows, partial ones in grey, corrections in place. However long a session is, the page
// has only the last rows, until the user asks for earlier ones.

import { $, bar, clock, el, face, languageName, percent, plural } from "./elements.js";
import { overlapText, speakerText } from "./texts.js";

export const SHOWN = 150;        // rows while following
const MORE = 100;                // rows added by "Show earlier", and at most while the user looks back
const WAITING = 3;               // rows of speech without a finished turn
const SLACK = 30;                // rows beyond SHOWN before the oldest are removed

export class Transcript {
  /**
   * @param {object} hooks
   * @param {(turn: object, place: Element) => void} hooks.onCorrect the speaker of a turn was pressed.
   * @param {(turn: object) => void} hooks.onSelect the time of a turn was pressed.
   */
  constructor(look, { onCorrect, onSelect }) {
    Object.assign(this, { look, onCorrect, onSelect });
    this.list = $("turns");
    this.box = $("transcript");
    this.earlier = $("earlier");
    this.latest = $("latest");
    this.correctable = true;
    this.clear();
    this.earlier.addEventListener("click", () => this.#showEarlier());
    this.latest.addEventListener("click", () => { this.following = true; this.render(this.conversation); this.list.lastElementChild?.querySelector("button")?.focus({ preventScroll: true }); });
    for (const target of [this.box, window]) target.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => { if (this.following) this.toEnd(); }).observe(this.box);
  }

  clear() {
    this.first = 0;              // index of the first row in the page
    this.rows = new Map();
    this.dirty = new Set();
    this.open = new Set();       // turns whose probabilities are unfolded
    this.current = this.playing = null;
    this.seen = 0;               // number of turns when it last followed
    this.following = true;
    this.top = 0;                // the last scroll position
    this.speaking = [];          // rows of speech without a finished turn
    this.spoken = "";            // their content
    this.list.replaceChildren();
    this.latest.hidden = this.earlier.hidden = true;
  }

  /** Mark a new or changed turn for rendering. */
  touch(index) {
    this.dirty.add(index).add(index + 1);      // the row below omits a repeated speaker's name
  }

  /** Allow or forbid correcting speakers. */
  setOpen(correctable) {
    if (correctable === this.correctable) return;
    this.correctable = correctable;
    this.touchAll();
  }

  touchAll() {
    for (const index of this.rows.keys()) this.dirty.add(index);
  }

  // --- drawing -----------------------------------------------------------------------------------

  render(conversation) {
    this.conversation = conversation;
    const turns = conversation.turns, kept = this.following ? null : this.#firstInView();
    if (this.following && turns.length - this.first > SHOWN + SLACK) this.#trim(turns.length - SHOWN);
    if (this.following) {
      for (; this.seen < turns.length; this.seen++) if (!this.rows.has(this.seen)) this.dirty.add(this.seen);
    }
    for (const index of [...this.dirty].sort((a, b) => a - b)) {
      if (index >= this.first && index < this.seen + MORE && turns[index]) this.#place(index, turns[index], turns[index - 1]);
    }
    this.dirty.clear();
    this.#showSpeeches(conversation);
    this.earlier.hidden = this.first === 0;
    this.earlier.textContent = `Show earlier turns (${this.first.toLocaleString("en")})`;
    if (this.following) this.toEnd();
    else if (kept) this.#keepInPlace(kept);
    this.latest.hidden = this.following;
    this.latest.textContent = turns.length > this.seen ? `${plural(turns.length - this.seen, "new turn")} ↓` : "To the latest ↓";
  }

  #trim(first) {
    for (let index = this.first; index < first; index++) {
      this.rows.get(index)?.remove();
      this.rows.delete(index);
    }
    this.first = first;
  }

  #place(index, turn, previous) {
    const old = this.rows.get(index);
    const row = this.#row(turn, previous);
    if (old) {
      const focus = old.contains(document.activeElement) ? document.activeElement.classList[0] : null;
      old.replaceWith(row);
      if (focus) row.getElementsByClassName(focus)[0]?.focus({ preventScroll: true });
    } else {
      let next = null;
      for (let i = index + 1; !next && i < this.conversation.turns.length; i++) next = this.rows.get(i) ?? null;
      if (!next) row.classList.add("new");
      this.list.insertBefore(row, next ?? this.speaking[0] ?? null);
    }
    this.rows.set(index, row);
  }

  #row(turn, previous) {
    const style = turn.failed === null ? this.look.style(turn.emotion.label) : null;
    const when = turn.start === null ? String(turn.index + 1) : clock(turn.start);
    const time = el("button", { type: "button", class: "when", "aria-label": `Turn ${turn.index + 1}, at ${when}: show and hear it` }, when);
    const row = el("li", { class: `turn ${style?.css ?? "failed"}` }, time);
    row.addEventListener("click", ({ target }) => {
      const elsewhere = target.closest("button:not(.when), .more") || !getSelection().isCollapsed;
      if (!elsewhere) this.onSelect(turn);
    });
    row.dataset.turn = String(turn.index);
    if (turn.index === this.current) row.classList.add("current");
    if (turn.index === this.playing) row.classList.add("playing");
    if (turn.failed !== null) {
      row.append(el("div", { class: "who" }, "failed"), el("p", { class: "said" }, turn.failed));
      return row;
    }
    row.style.setProperty("--confidence", String(0.25 + 0.75 * turn.emotion.confidence));
    const same = previous && previous.failed === null && previous.speaker === turn.speaker;
    const who = el("button", { type: "button", class: same ? "who same" : "who", disabled: !this.correctable,
      title: this.correctable ? `${speakerText(turn)}: press if somebody else said this` : speakerText(turn), dir: "auto" },
      ...this.#name(turn), el("span", { class: "hush" }, this.correctable ? ": correct the speaker" : ""));
    who.addEventListener("click", () => this.onCorrect(turn, who));
    const said = el("p", { class: turn.text ? "said" : "said none", dir: "auto", lang: turn.text ? turn.language : null }, turn.text || "no words");
    const overlap = overlapText(turn);
    if (overlap) said.append(" ", el("span", { class: "overlap", title: "Others spoke in this turn as well, in this share of it", lang: "en", dir: "auto" }, overlap));
    if (turn.revision) said.append(" ", el("span", { class: "revised", title: "A correction changed this turn", lang: "en" }, "revised"));
    if (turn.translation) said.append(this.#translation(turn));
    row.append(who, said, ...this.#emotion(turn, style));
    return row;
  }

  /** A speaker's name; where it is unsure, with a question mark to see and a word to hear. */
  #name({ speaker, unsure }) {
    if (!unsure) return [speaker];
    return [el("span", { class: "hush", dir: "ltr" }, "probably "), speaker, el("span", { class: "unsure", "aria-hidden": "true" }, "?")];
  }

  #translation({ language, translation }) {
    const from = language && el("span", { class: "from" }, `from ${languageName(language)}`);
    return el("span", { class: "translation", lang: "en", dir: "auto" }, from, from && " ", translation);
  }

  #emotion(turn, style) {
    const { label, confidence } = turn.emotion;
    const unfolded = this.open.has(turn.index);
    const emotion = el("button", { type: "button", class: "felt", "aria-expanded": String(unfolded) },
      face(style), el("span", { class: "label" }, label), el("span", { class: "n" }, percent(confidence)),
      el("span", { class: "hush" }, ": all probabilities"), bar(confidence));
    const more = el("div", { class: "more", hidden: !unfolded });
    if (unfolded) this.#unfold(more, turn);
    emotion.addEventListener("click", () => {
      const show = more.hidden;
      if (show) this.#unfold(more, turn);
      show ? this.open.add(turn.index) : this.open.delete(turn.index);
      more.hidden = !show;
      emotion.setAttribute("aria-expanded", String(show));
    });
    return [emotion, more];
  }

  #unfold(more, turn) {
    const sorted = Object.entries(turn.emotion.probabilities).sort((a, b) => b[1] - a[1]);
    more.replaceChildren(...sorted.map(([name, p]) => {
      const style = this.look.style(name);
      return el("div", { class: style.css }, face(style), el("span", { class: "label" }, name), bar(p), el("span", { class: "n" }, `${(100 * p).toFixed(1)}%`));
    }));
  }

  /** Show a row for each speech without a finished turn: its words so far, or its state. */
  #showSpeeches({ speeches }) {
    const hidden = Math.max(0, speeches.length - WAITING);
    const rows = speeches.slice(hidden).map(({ start, over, partial }) => {
      const text = partial?.text || (over ? "being processed" : "listening");
      const emotion = el("span", { class: "felt" });
      if (partial?.emotion) {
        const style = this.look.style(partial.emotion.label);
        emotion.append(face(style), el("span", { class: "label" }, partial.emotion.label), el("span", { class: "n" }, percent(partial.emotion.confidence)));
      }
      return el("li", { class: over ? "turn partial waiting" : "turn partial" }, el("span", { class: "when" }, clock(start)),
        el("span", { class: "who", dir: "auto" }, partial?.speaker ?? ""), el("p", { class: partial?.text ? "said" : "said dots", dir: "auto" }, text), emotion);
    });
    if (hidden) {
      rows.unshift(el("li", { class: "turn partial waiting" }, el("span", { class: "when" }, clock(speeches[0].start)), el("span", { class: "who" }),
        el("p", { class: "said dots" }, `${plural(hidden, "turn")} before these, being processed`)));
    }
    const key = rows.map((row) => row.textContent + row.className).join("\n");
    if (key === this.spoken) return;
    this.spoken = key;
    for (const row of this.speaking) row.remove();
    this.speaking = rows;
    this.list.append(...rows);
  }

  // --- scrolling ---------------------------------------------------------------------------------

  /** The element that scrolls: the transcript, or the whole page in a low window. */
  get #scroller() {
    return getComputedStyle(this.box).overflowY === "auto" ? this.box : document.scrollingElement;
  }

  /** The first row that is seen: [row's turn, its place on the screen]; null for none. */
  #firstInView() {
    const top = Math.max(0, this.box.getBoundingClientRect().top);
    for (const row of this.list.children) {
      const place = row.getBoundingClientRect();
      if (place.bottom > top && row.dataset.turn) return [Number(row.dataset.turn), place.top];
    }
    return null;
  }

  /** Scroll by as much as rows above this one have grown. */
  #keepInPlace([turn, top]) {
    const grown = (this.rows.get(turn)?.getBoundingClientRect().top ?? top) - top;
    if (Math.abs(grown) < 0.5) return;
    this.#scroller.scrollTop += grown;
    this.top = this.#scroller.scrollTop;
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.#scroller;
    // Only scrolling up stops following: the end also moves away when the timeline grows.
    if (scrollTop + clientHeight >= scrollHeight - 60) this.following = true;
    else if (scrollTop < this.top - 1) this.following = false;
    this.top = scrollTop;
    this.latest.hidden = this.following;
    if (this.following && this.conversation?.turns.length > this.seen) this.render(this.conversation);
  }

  toEnd() {
    const scroller = this.#scroller;
    scroller.scrollTop = scroller.scrollHeight;
    this.top = scroller.scrollTop;
    this.following = true;
    this.latest.hidden = true;
  }

  #showEarlier() {
    this.following = false;
    const was = this.first;
    this.first = Math.max(0, was - MORE);
    for (let index = this.first; index <= was; index++) this.dirty.add(index);
    this.render(this.conversation);
    this.rows.get(this.first)?.querySelector("button").focus({ preventScroll: true });
  }

  /** Mark the turn being played, null for none. */
  showPlaying(index) {
    this.rows.get(this.playing)?.classList.remove("playing");
    this.playing = index;
    this.rows.get(index)?.classList.add("playing");
  }

  /** Select a turn, and scroll it into view if asked. */
  select(index, scroll) {
    this.rows.get(this.current)?.classList.remove("current");
    this.current = index;
    if (scroll && index < this.first) {
      this.following = false;
      const was = this.first;
      this.first = Math.max(0, index - 5);
      for (let i = this.first; i <= was; i++) this.dirty.add(i);
      this.render(this.conversation);
    }
    const row = this.rows.get(index);
    row?.classList.add("current");
    if (scroll) row?.scrollIntoView({ block: "nearest" });
  }
}
