// The last half hour of audio, for playing a turn again.

import { SAMPLE_RATE, SAMPLES_PER_MS } from "./buffer.js";

const KEPT = 30 * 60 * SAMPLE_RATE;        // samples: 58 MB
const BLOCK = SAMPLE_RATE;                 // samples per block

export class Playback {
  /** @param {(turn: number|null) => void} onChange gets the turn being played, null for none. */
  constructor(onChange) {
    this.onChange = onChange;
    this.context = this.source = null;
    this.clear();
  }

  /** Drop all audio, and begin at this sample. */
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

  /** Return whether all audio of a span is kept. */
  has(fromMs, toMs) {
    return fromMs * SAMPLES_PER_MS >= this.from && toMs * SAMPLES_PER_MS <= this.to;
  }

  /** Return a span as floats. */
  samples(fromMs, toMs) {
    const from = Math.round(fromMs * SAMPLES_PER_MS), to = Math.round(toMs * SAMPLES_PER_MS);
    const out = new Float32Array(to - from);
    for (let i = from; i < to; i++) out[i - from] = this.blocks.get(Math.floor(i / BLOCK))[i % BLOCK] / 32_768;
    return out;
  }

  /** Play a turn, or stop it if it is playing. */
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

  /** The position being played, on the audio's clock; null if nothing is. */
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
