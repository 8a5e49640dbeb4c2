// The recorder on the audio thread: turns blocks of 128 samples into chunks of 16 kHz, 16 bit, mono.
// While the gate is closed it outputs silence, so that the audio clock advances.

import { Resampler, toInt16 } from "./resampler.js";

const CHUNK = 640;       // samples: 40 ms

class Recorder extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.resampler = sampleRate === 16_000 ? null : new Resampler(sampleRate, 16_000);
    this.chunk = new Float32Array(CHUNK);
    this.filled = 0;
    this.gate = processorOptions.open ? 1 : 0;
    this.goal = this.gate;
    this.done = false;
    this.port.onmessage = ({ data }) => {
      if (data === "stop") this.done = true;
      else this.goal = data.open ? 1 : 0;
    };
  }

  process([channels]) {
    if (this.done) {
      if (this.filled) this.#post();
      this.port.postMessage("stopped");
      return false;
    }
    const mono = new Float32Array(128);
    for (const channel of channels) for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / channels.length;
    const step = 1 / (0.005 * sampleRate);         // 5 ms: no click when the gate moves
    for (let i = 0; i < mono.length; i++) {
      if (this.gate !== this.goal) this.gate = this.goal ? Math.min(1, this.gate + step) : Math.max(0, this.gate - step);
      mono[i] *= this.gate;
    }
    for (const sample of this.resampler ? this.resampler.push(mono) : mono) {
      this.chunk[this.filled++] = sample;
      if (this.filled === CHUNK) this.#post();
    }
    return true;
  }

  #post() {
    const pcm = toInt16(this.chunk.subarray(0, this.filled));
    this.filled = 0;
    this.port.postMessage(pcm, [pcm.buffer]);
  }
}

registerProcessor("recorder", Recorder);
