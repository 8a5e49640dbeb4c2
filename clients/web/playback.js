// The last half hour of audio, kept in the page, so that a turn can be heard again.

import { SAMPLE_RATE, SAMPLES_PER_MS } from "./buffer.js";

const KEPT = 30 * 60 * SAMPLE_RATE;        // samples: 58 MB
const BLOCK = SAMPLE_RATE;                 // samples a block

export class Playback {
  /** @param {(turn: number|null) => void} onChange which turn is to be heard now. */
  constructor(onChange) {
    this.onChange = onChange;
    this.context = this.source = null;
    this.clear();
  }

  /** Audio begins at this sample; what was before it is not here. */
  clear(from = 0) {
    this.stop();
    this.blocks = new Map();               // number of the block -> its samples
    this.from = this.to = from;
  }

  push(pcm) {
    for (let at = 0; at < pcm.length;) {
      const number = Math.floor(this.to / BLOCK), inside = this.to % BLOCK;
      if (!this.blocks.has(number)) this.blocks.set(number, new Int16Array(BLOCK));
      const piece = pcm.subarray(at, at + BLOCK - inside);
      this.blocks.get(number).set(piece, inside);
      at += piece.length;
      this.to += piece.length;
    }
    while (this.to - this.from > KEPT) {
      this.blocks.delete(Math.floor(this.from / BLOCK));
      this.from = (Math.floor(this.from / BLOCK) + 1) * BLOCK;
    }
  }

  /** Whether all of a stretch is here. */
  has(fromMs, toMs) {
    return fromMs * SAMPLES_PER_MS >= this.from && toMs * SAMPLES_PER_MS <= this.to;
  }

  /** A stretch as floats. */
  samples(fromMs, toMs) {
    const from = Math.round(fromMs * SAMPLES_PER_MS), to = Math.round(toMs * SAMPLES_PER_MS);
    const out = new Float32Array(to - from);
    for (let i = from; i < to; i++) out[i - from] = this.blocks.get(Math.floor(i / BLOCK))[i % BLOCK] / 32_768;
    return out;
  }

  /** Hear a turn; the same one again stops it. */
  play(turn) {
    const again = this.turn === turn.index;
    this.stop();
    if (again) return;
    this.context ??= new AudioContext();
    const samples = this.samples(turn.start, turn.end);
    const buffer = this.context.createBuffer(1, samples.length, SAMPLE_RATE);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.onended = () => { if (this.source === source) this.stop(); };
    source.connect(this.context.destination);
    this.context.resume();
    source.start();
    this.source = source;
    this.turn = turn.index;
    this.offsetMs = turn.start - this.context.currentTime * 1000;
    this.endMs = turn.end;
    this.onChange(turn.index);
  }

  /** What is to be heard now, on the audio's clock; null where nothing is. */
  get atMs() { return this.source ? Math.min(this.endMs, this.offsetMs + this.context.currentTime * 1000) : null; }

  stop() {
    const was = this.source;
    this.source = null;
    this.turn = null;
    if (!was) return;
    was.stop();
    this.onChange(null);
  }
}
