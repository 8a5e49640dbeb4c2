// The live waveform, with a band behind speech.

import { SAMPLE_RATE } from "./buffer.js";
import { clock, prepare } from "./elements.js";

const BLOCK = SAMPLE_RATE / 50;      // samples: 20 ms, the finest resolution; an hour takes 360 kB
const BLOCK_MS = 20;
const PITCH = 3, BAR = 2;            // px
const STEPS_MS = [1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5];

/** The outline of the audio: lowest and highest sample of each block, from -127 to 127. */
export class Peaks {
  constructor() {
    this.values = new Int8Array(2 * 4096);
    this.samples = 0;
    this.first = 0;            // the first known block
    this.level = 0;            // of the last block, 0 to 1
    this.low = this.high = 0;
  }

  get blocks() { return Math.floor(this.samples / BLOCK); }
  get ms() { return (this.samples * 1000) / SAMPLE_RATE; }

  /** Begin the outline at this sample, without the audio before. */
  skipTo(samples) {
    this.samples = samples;
    this.first = this.blocks;
    this.#reserve(this.first);
    this.low = this.high = 0;
  }

  push(pcm) {
    this.#reserve(Math.floor((this.samples + pcm.length) / BLOCK) + 1);
    for (const value of pcm) {
      if (value < this.low) this.low = value;
      else if (value > this.high) this.high = value;
      if (++this.samples % BLOCK) continue;
      const at = 2 * (this.samples / BLOCK - 1);
      this.values[at] = Math.round(this.low / 258);
      this.values[at + 1] = Math.round(this.high / 258);
      this.level = Math.max(-this.low, this.high) / 32_768;
      this.low = this.high = 0;
    }
  }

  /** Return the lowest and highest value of the blocks in [from, to); null if there are none. */
  range(from, to) {
    const last = Math.min(to, this.blocks);
    if (from < this.first || from >= last) return null;
    let low = 0, high = 0;
    for (let i = from; i < last; i++) {
      low = Math.min(low, this.values[2 * i]);
      high = Math.max(high, this.values[2 * i + 1]);
    }
    return [low, high];
  }

  #reserve(blocks) {
    if (2 * blocks <= this.values.length) return;
    const values = new Int8Array(2 ** Math.ceil(Math.log2(2 * blocks)));
    values.set(this.values);
    this.values = values;
  }
}

export class Waveform {
  constructor(canvas, axis, look) {
    Object.assign(this, { canvas, axis, look });
    this.peaks = new Peaks();
    this.ruler = 22;
    this.height = 96;
    this.loudest = 24;         // the peak that fills the height: quiet microphones are drawn larger
  }

  /** Paint the waveform. @param {number|null} headMs position of the head: the newest audio, or the audio being played. */
  paint(conversation, headMs) {
    const width = this.canvas.parentElement.clientWidth, height = this.height;
    const pen = prepare(this.canvas, width, height);
    this.#paintBand(pen, width, height, conversation);
    this.#paintRuler(pen, width);
    this.#paintWave(pen, width, height, conversation);
    if (headMs !== null) this.#paintHead(pen, headMs, width, height);
  }

  #paintBand(pen, width, height, conversation) {
    const { axis } = this;
    for (const [from, to, open, waits] of speech(conversation, axis)) {
      const x = axis.x(from, width), end = axis.x(to, width);
      pen.fillStyle = waits ? this.look.colours.pending : this.look.colours.band;
      pen.beginPath();
      pen.roundRect(x, this.ruler + 2, Math.max(2, end - x), height - this.ruler - 2, open ? [6, 0, 0, 6] : 6);
      pen.fill();
    }
  }

  #paintRuler(pen, width) {
    const { axis } = this, colours = this.look.colours;
    pen.font = `11px ${colours.sans}`;
    pen.fillStyle = colours.soft;
    pen.textBaseline = "middle";
    const step = STEPS_MS.find((s) => (s / axis.spanMs) * width >= 74) ?? STEPS_MS.at(-1);
    for (let ms = Math.ceil(axis.fromMs / step) * step; ms <= axis.toMs; ms += step) {
      const text = clock(ms), half = pen.measureText(text).width / 2;
      const x = Math.max(half, axis.x(ms, width));
      if (x + half <= width) pen.fillText(text, x - half, 10);
    }
  }

  #paintWave(pen, width, height, conversation) {
    const { axis, peaks } = this, colours = this.look.colours;
    const room = height - this.ruler - 2, middle = this.ruler + 2 + room / 2, half = room / 2 - 7;
    // Bars lie on a grid of time, not of pixels, so that they do not flicker while the axis moves.
    const barMs = Math.max(BLOCK_MS, Math.round((PITCH / width) * axis.spanMs / BLOCK_MS) * BLOCK_MS);
    const spans = speech(conversation, axis);
    const bars = [];
    let loudest = 24;
    for (let ms = Math.floor(axis.fromMs / barMs) * barMs; ms < Math.min(axis.toMs, peaks.ms); ms += barMs) {
      const range = peaks.range(ms / BLOCK_MS, (ms + barMs) / BLOCK_MS);
      if (!range) continue;
      loudest = Math.max(loudest, -range[0], range[1]);
      bars.push([ms, range]);
    }
    this.loudest = axis.following ? Math.max(loudest, this.loudest * 0.98) : loudest;
    let at = 0;
    for (const [ms, [low, high]] of bars) {
      while (at < spans.length && spans[at][1] < ms) at += 1;
      const spoken = at < spans.length && spans[at][0] <= ms + barMs;
      const top = middle - (high / this.loudest) * half, bottom = middle - (low / this.loudest) * half;
      pen.fillStyle = spoken ? colours.speech : colours.wave;
      pen.beginPath();
      pen.roundRect(axis.x(ms, width), Math.min(top, middle - 0.75), BAR, Math.max(1.5, bottom - top), 1);
      pen.fill();
    }
  }

  #paintHead(pen, ms, width, height) {
    const x = this.axis.x(ms, width) + 2;
    if (x < 0) return;
    pen.fillStyle = this.look.colours.ink;
    pen.fillRect(x, this.ruler, 1.5, height - this.ruler);
    pen.beginPath();
    pen.arc(x + 0.75, this.ruler, 3.5, 0, 2 * Math.PI);
    pen.fill();
  }
}

/** Return the visible spans of speech in order, as [fromMs, toMs, open, waits]: open while spoken, waiting without a finished turn. */
function speech(conversation, axis) {
  const spans = conversation.between(axis.fromMs, axis.toMs).map((turn) => [turn.start, turn.end, false, false]);
  conversation.speeches.forEach(({ start, end, over }, i, all) => {
    const next = all[i + 1]?.start, open = next === undefined && !over;
    if (start < axis.toMs) spans.push([start, open ? axis.nowMs : Math.min(end ?? next, next ?? end), open, true]);
  });
  return spans;
}
