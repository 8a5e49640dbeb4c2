// The recorder on the audio thread: turns blocks of 128 samples into chunks of 16 kHz, 16 bit, a channel for each input.
// While the gate is closed the first input, the microphone, is silence, so that the audio clock advances.

import { interleave } from "./channels.js";
import { Resampler, toInt16 } from "./resampler.js";

const CHUNK = 640;       // samples: 40 ms

class Recorder extends AudioWorkletProcessor {
  constructor({ numberOfInputs, processorOptions }) {
    super();
    this.resamplers = Array.from({ length: numberOfInputs }, () => (sampleRate === 16_000 ? null : new Resampler(sampleRate, 16_000)));
    this.chunks = this.resamplers.map(() => new Float32Array(CHUNK));
    this.filled = 0;
    this.gated = processorOptions.gated;
    this.gate = processorOptions.open ? 1 : 0;
    this.goal = this.gate;
    this.done = false;
    this.port.onmessage = ({ data }) => {
      if (data === "stop") this.done = true;
      else this.goal = data.open ? 1 : 0;
    };
  }

  process(inputs) {
    if (this.done) {
      if (this.filled) this.#post();
      this.port.postMessage("stopped");
      return false;
    }
    const pieces = inputs.map((channels, input) => {
      const mono = new Float32Array(128);
      for (const channel of channels) for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / channels.length;
      if (this.gated && input === 0) this.#applyGate(mono);
      return this.resamplers[input]?.push(mono) ?? mono;
    });
    for (let i = 0; i < pieces[0].length; i++) {
      pieces.forEach((piece, input) => { this.chunks[input][this.filled] = piece[i]; });
      if (++this.filled === CHUNK) this.#post();
    }
    return true;
  }

  /** Move the gate to its goal in 5 ms, so that there is no click. */
  #applyGate(mono) {
    const step = 1 / (0.005 * sampleRate);
    for (let i = 0; i < mono.length; i++) {
      if (this.gate !== this.goal) this.gate = this.goal ? Math.min(1, this.gate + step) : Math.max(0, this.gate - step);
      mono[i] *= this.gate;
    }
  }

  #post() {
    const pcm = interleave(this.chunks.map((chunk) => toInt16(chunk.subarray(0, this.filled))));
    this.filled = 0;
    this.port.postMessage(pcm, [pcm.buffer]);
  }
}

registerProcessor("recorder", Recorder);
