// Channels that are heard separately: their samples in turn, mixed for the eye and the ear, and whether they differ.

import { quantile } from "./quantile.js";

// As in stream_erc/sources/channels.py: the beginning that is looked at, the length of a frame, how far below the
// loud frames a frame is silent, from which difference on one channel is alone, and in how many frames it must be.
const LOOK_S = 600, FRAME_S = 0.05, RANGE_DB = 30, APART_DB = 12, MIN_SHARE_EACH = 0.05, MIN_SHARE_BOTH = 0.5;

/** Return the samples of several channels of equal length in turn. @param {Int16Array[]} channels */
export function interleave(channels) {
  const out = new Int16Array(channels.length * channels[0].length);
  channels.forEach((samples, c) => { for (let i = 0; i < samples.length; i++) out[i * channels.length + c] = samples[i]; });
  return out;
}

/** Return the mean of channels. @param {Int16Array} pcm their samples in turn. @param {number} count of channels. */
export function mix(pcm, count) {
  if (count === 1) return pcm;
  const out = new Int16Array(pcm.length / count);
  for (let i = 0; i < out.length; i++) {
    let sum = 0;
    for (let c = 0; c < count; c++) sum += pcm[i * count + c];
    out[i] = Math.round(sum / count);
  }
  return out;
}

/**
 * Return whether two channels carry different speech, as the two ends of a call do: one is nearly silent while the
 * other one speaks, in both directions.
 * @param {Float32Array[]} channels
 * @param {number} rate samples a second.
 */
export function carryDifferentSpeech([first, second], rate) {
  const size = Math.round(rate * FRAME_S), frames = Math.min(Math.floor(first.length / size), LOOK_S / FRAME_S);
  const level = (samples, frame) => {
    let power = 0;
    for (let i = frame * size; i < (frame + 1) * size; i++) power += samples[i] * samples[i];
    return 10 * Math.log10(power / size + 1e-10);
  };
  const levels = Array.from({ length: frames }, (_, frame) => [level(first, frame), level(second, frame)]);
  if (!frames) return false;
  const loud = quantile(levels.map(([a, b]) => Math.max(a, b)).sort((a, b) => a - b), 0.95);
  const apart = levels.filter(([a, b]) => Math.max(a, b) >= loud - RANGE_DB).map(([a, b]) => a - b);
  const [one, other] = [1, -1].map((sign) => apart.filter((d) => sign * d >= APART_DB).length / apart.length);
  return Math.min(one, other) >= MIN_SHARE_EACH && one + other >= MIN_SHARE_BOTH;
}
