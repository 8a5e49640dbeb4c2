// A recording from a file: decoded by the browser, sent in real time or as fast as the server accepts it.

import { SAMPLE_RATE } from "./buffer.js";
import { carryDifferentSpeech, interleave, mix } from "./channels.js";
import { note } from "./notes.js";
import { toInt16 } from "./resampler.js";

const CHUNK = SAMPLE_RATE / 25;          // samples: 40 ms
const FAST_CHUNK = SAMPLE_RATE / 5;
const WAITING_BYTES = 256_000;           // queued in the socket, beyond which a fast file waits
const MAX_BYTES = 600_000_000;           // size of a file: the browser decodes it in memory as a whole

const MAX_CHANNELS = 8;                  // of the protocol

/**
 * Decode an audio or video file to 16 kHz, 16 bit.
 * @param {"auto"|"mix"|"separate"} choice what becomes of its channels; "auto" separates two that carry different speech.
 * @returns {Promise<{pcm: Int16Array, channels: number}>} the samples of the separate channels in turn, or of one.
 * @throws {Error} with a message for the user.
 */
async function decode(file, choice) {
  if (file.size > MAX_BYTES) throw new Error(`${file.name} is too large for the browser: expected up to ${MAX_BYTES / 1e6} MB, got ${Math.round(file.size / 1e6)} MB.`);
  let decoded;
  try {
    // A context of 16 kHz has the browser resample while it decodes.
    decoded = await new OfflineAudioContext(1, 1, SAMPLE_RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} could not be read: expected an audio or video file that this browser can play.`);
  }
  if (!decoded.length) throw new Error(`${file.name} contains no audio.`);
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, c) => decoded.getChannelData(c));
  const many = channels.length > 1 && channels.length <= MAX_CHANNELS;
  if (many && (choice === "separate" || (choice === "auto" && channels.length === 2 && carryDifferentSpeech(channels, SAMPLE_RATE)))) {
    return { pcm: interleave(channels.map(toInt16)), channels: channels.length };
  }
  const mono = new Float32Array(decoded.length);
  for (const channel of channels) for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / channels.length;
  return { pcm: toInt16(mono), channels: 1 };
}

/** Decode a file; show a note and return null if that fails. */
export async function read(file, choice) {
  try {
    return await decode(file, choice);
  } catch (error) {
    note("file", error.message);
    return null;
  }
}

/** Download the sample conversation; show a note and return null if that fails. */
export async function fetchSample() {
  try {
    const answer = await fetch("sample.flac");
    if (!answer.ok) throw new Error(`expected the sample, got status ${answer.status}`);
    return new File([await answer.blob()], "sample.flac");
  } catch (error) {
    note("file", `The sample could not be loaded: ${error.message}`);
    return null;
  }
}

export class FilePlayer {
  /**
   * @param {Int16Array} pcm the samples of the channels in turn.
   * @param {number} channels
   * @param {object} hooks
   * @param {(pcm: Int16Array) => void} hooks.onAudio
   * @param {() => void} hooks.onEnd
   * @param {() => number} hooks.waitingBytes queued in the socket.
   */
  constructor(pcm, channels, { onAudio, onEnd, waitingBytes }) {
    Object.assign(this, { pcm, channels, onAudio, onEnd, waitingBytes });
    this.length = pcm.length / channels;
    this.at = 0;
    this.timer = null;
    this.muted = false;
    this.context = this.source = null;
  }

  get running() { return this.timer !== null; }
  get durationMs() { return (this.length * 1000) / SAMPLE_RATE; }

  /** Start or continue. @param {"live"|"replay"} pace */
  start(pace) {
    this.pace = pace;
    if (pace === "live") {
      this.from = this.at;
      this.began = performance.now();
      this.#play();
    }
    this.#step();
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = null;
    this.#silence();
  }

  setMuted(muted) {
    this.muted = muted;
    if (this.volume) this.volume.gain.value = muted ? 0 : 1;
  }

  #step() {
    let due = this.length;
    if (this.pace === "live") due = Math.min(due, this.from + Math.floor(((performance.now() - this.began) * SAMPLE_RATE) / 1000));
    const size = this.pace === "live" ? CHUNK : FAST_CHUNK;
    let budget = 40;             // chunks per step, so that the page stays responsive
    while (this.at < due && budget-- > 0 && (due - this.at >= size || due === this.length)) {
      if (this.pace === "replay" && this.waitingBytes() > WAITING_BYTES) break;
      const chunk = this.pcm.slice(this.at * this.channels, Math.min(this.at + size, due) * this.channels);
      this.at += chunk.length / this.channels;
      this.onAudio(chunk);
    }
    if (this.at >= this.length) {
      this.pause();
      this.onEnd();
      return;
    }
    this.timer = setTimeout(() => this.#step(), this.pace === "live" ? 40 : 5);
  }

  /** Play the file to the user too, from the position being sent. */
  #play() {
    try {
      this.context = new AudioContext({ sampleRate: SAMPLE_RATE });
      const left = mix(this.pcm.subarray(this.at * this.channels), this.channels);
      const buffer = this.context.createBuffer(1, left.length, SAMPLE_RATE);
      const samples = buffer.getChannelData(0);
      for (let i = 0; i < samples.length; i++) samples[i] = left[i] / 32_768;
      this.source = new AudioBufferSourceNode(this.context, { buffer });
      this.volume = new GainNode(this.context, { gain: this.muted ? 0 : 1 });
      this.source.connect(this.volume).connect(this.context.destination);
      this.source.start();
    } catch {
      this.#silence();           // no sound card: the server gets the audio all the same
    }
  }

  #silence() {
    this.context?.close();
    this.context = this.source = this.volume = null;
  }
}
