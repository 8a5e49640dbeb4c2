// 16 kHz, 16 bit audio as a WAV file.

import { SAMPLE_RATE } from "./buffer.js";

/** Return a WAV file's bytes. @param {Int16Array} pcm the samples of the channels in turn. */
export function wav(pcm, channels = 1) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * pcm.length));
  const text = (at, word) => [...word].forEach((c, i) => bytes.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * pcm.length, true);
  text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true);
  bytes.setUint16(22, channels, true);
  bytes.setUint32(24, SAMPLE_RATE, true);
  bytes.setUint32(28, 2 * channels * SAMPLE_RATE, true);
  bytes.setUint16(32, 2 * channels, true);
  bytes.setUint16(34, 16, true);
  text(36, "data");
  bytes.setUint32(40, 2 * pcm.length, true);
  pcm.forEach((value, i) => bytes.setInt16(44 + 2 * i, value, true));
  return bytes.buffer;
}
