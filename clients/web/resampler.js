// Streaming resampling from the sound card's rate to 16 kHz: a windowed-sinc filter, one set of taps per phase.

const ZEROS = 16;        // zero crossings on either side: more are steeper and slower

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

export class Resampler {
  constructor(from, to) {
    const divisor = gcd(from, to);
    this.up = to / divisor;
    this.down = from / divisor;
    const scale = Math.max(1, from / to);          // the filter's width in input samples, per zero crossing
    const cutoff = 0.94 / scale;                   // relative to the input's Nyquist frequency; leaves room for the slope
    this.half = Math.ceil(ZEROS * scale);
    this.taps = Array.from({ length: this.up }, (_, phase) => {
      const taps = new Float32Array(2 * this.half + 1);
      let sum = 0;
      for (let i = 0; i < taps.length; i++) {
        const t = i - this.half - phase / this.up;
        const x = Math.PI * cutoff * t;
        const w = Math.abs(t) > this.half ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * t) / (this.half + 1));
        taps[i] = (x === 0 ? 1 : Math.sin(x) / x) * w;
        sum += taps[i];
      }
      return taps.map((tap) => tap / sum);         // unit gain: a constant stays the same constant
    });
    this.rest = new Float32Array(this.half);       // as if silence had come before
    this.phase = 0;
  }

  /** Resample a chunk. @param {Float32Array} samples @returns {Float32Array} the output so far; the filter's delay comes later. */
  push(samples) {
    const input = new Float32Array(this.rest.length + samples.length);
    input.set(this.rest);
    input.set(samples, this.rest.length);
    const width = 2 * this.half + 1;
    const out = [];
    let at = 0;
    while (at + width <= input.length) {
      const taps = this.taps[this.phase];
      let sum = 0;
      for (let i = 0; i < width; i++) sum += input[at + i] * taps[i];
      out.push(sum);
      this.phase += this.down;
      at += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    this.rest = input.slice(Math.min(at, input.length));
    return Float32Array.from(out);
  }
}

/** Convert floats to 16-bit integers, clipping loud ones; integers that a decoder made floats are restored exactly. */
export function toInt16(samples) {
  return Int16Array.from(samples, (v) => Math.max(-32_768, Math.min(32_767, Math.round(v * 32_768))));
}
