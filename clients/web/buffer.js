// The audio and inputs that the server may ask for again, in order: what it has not acknowledged, and the last
// part of what it has, for its store may go back in time. Positions are samples since the session's audio began;
// those of several channels at a moment count once.

export const SAMPLE_RATE = 16_000;
export const SAMPLES_PER_MS = SAMPLE_RATE / 1000;
export const KEPT_BYTES = 4 * 2 ** 20;      // up to which what was acknowledged is kept: two minutes

/** Return the position of an item's end. */
export const endOf = ({ start, pcm, channels = 1 }) => start + pcm.length / channels;

/** Return whether the server may still ask for any of an item. */
function isAfter(item, samples, inputId) {
  return item.pcm ? endOf(item) > samples : item.message.input_id > inputId;
}

const sizeOf = ({ pcm, message }) => pcm?.byteLength ?? JSON.stringify(message).length;

/** Return an item without its audio before a position. */
function from(item, samples) {
  if (!item.pcm || item.start >= samples) return item;
  return { ...item, start: samples, pcm: item.pcm.subarray((samples - item.start) * (item.channels ?? 1)) };
}

export class Buffer {
  /** @param {{put(item): void, forget(samples, inputId): void}} [shelf] stores the same items over a reload. */
  constructor(shelf = null) {
    this.items = [];       // that are not acknowledged
    this.kept = [];        // all that can be sent again
    this.bytes = 0;        // their size
    this.forgotten = { samples: 0, inputs: 0 };      // what is not kept, before and up to these
    this.samples = 0;      // length of all audio so far, acknowledged or not
    this.inputs = 0;       // the last input_id
    this.restored = null;  // number of items restored after a reload, until the session is resumed
    this.channels = 1;     // whose samples stand in turn
    this.shelf = shelf;
  }

  #audio(start, pcm) { return this.channels === 1 ? { start, pcm } : { start, pcm, channels: this.channels }; }

  /** Duration of the unacknowledged audio. */
  get unacknowledgedMs() {
    let samples = 0;
    for (const item of this.items) if (item.pcm) samples += endOf(item) - item.start;
    return samples / SAMPLES_PER_MS;
  }

  /** Append audio. @param {Int16Array} pcm 16 kHz, the channels in turn. */
  pushAudio(pcm) {
    return this.#push(this.#audio(this.samples, pcm));
  }

  /** Number an input (`turn.correct`, `speaker.rename`, `voice.enrol`) and append it. */
  pushInput(message) {
    return this.#push({ message: { ...message, input_id: this.inputs + 1 } });
  }

  #push(item) {
    this.items.push(item);
    this.kept.push(item);
    this.bytes += sizeOf(item);
    this.#count(item);
    this.shelf?.put(item);
    return item;
  }

  #count(item) {
    if (item.pcm) this.samples = endOf(item);
    else this.inputs = item.message.input_id;
  }

  #keep(items, samples, inputs) {
    this.kept = [...items];
    this.bytes = items.reduce((sum, item) => sum + sizeOf(item), 0);
    this.forgotten = { samples, inputs };
  }

  /** Count all audio before `audioMs` and all inputs up to `inputId` as stored; forget the earliest of it. */
  acknowledge(audioMs, inputId) {
    const samples = audioMs * SAMPLES_PER_MS;
    this.items = this.items.filter((item) => isAfter(item, samples, inputId));
    while (this.bytes > KEPT_BYTES && this.kept.length && !isAfter(this.kept[0], samples, inputId)) {
      const item = this.kept.shift();
      this.bytes -= sizeOf(item);
      if (item.pcm) this.forgotten.samples = endOf(item);
      else this.forgotten.inputs = item.message.input_id;
    }
    this.shelf?.forget(samples, inputId);
  }

  /**
   * Resume at the server's position: return what has to be sent again, in order, from `audioMs` and after `inputId`.
   *
   * What is not kept any more is skipped. After a reload some audio may be missing. Audio carries no position on the wire, so the remaining audio, and
   * all audio since, moves up to the server's position, and inputs are renumbered.
   *
   * @param {number|null} [givenSamples] length of the audio before the reload, if there was one.
   * @returns {{items: object[], lostMs: number, skip: object|null}} lostMs: duration of the missing audio; skip:
   *   the fields of `input.skip`, to be sent first.
   */
  resume(audioMs, inputId, givenSamples = null) {
    if (this.restored === null && givenSamples === null) return this.#goBack(audioMs, inputId);
    const start = audioMs * SAMPLES_PER_MS, before = this.samples;
    const reloaded = this.restored ?? this.items.length;
    const old = this.items.slice(0, reloaded);
    const since = this.items.slice(reloaded);
    const left = old.filter((item) => isAfter(item, start, inputId)).map((item) => from(item, start));
    const kept = left.reduce((sum, item) => sum + (item.pcm?.length ?? 0), 0) / this.channels;
    this.restored = null;
    this.samples = start;
    this.inputs = inputId;
    this.items = [...left, ...since].map((item) => {
      const moved = item.pcm ? this.#audio(this.samples, item.pcm) : { message: { ...item.message, input_id: this.inputs + 1 } };
      this.#count(moved);
      return moved;
    });
    this.#keep(this.items, start, inputId);
    this.shelf?.replace(this.items);
    return { items: [...this.items], lostMs: Math.max(0, (givenSamples ?? before) - start - kept) / SAMPLES_PER_MS, skip: null };
  }

  #goBack(audioMs, inputId) {
    const startMs = Math.max(audioMs, Math.ceil(this.forgotten.samples / SAMPLES_PER_MS));
    const after = Math.max(inputId, this.forgotten.inputs);
    const start = startMs * SAMPLES_PER_MS;
    this.items = this.kept.filter((item) => isAfter(item, start, after)).map((item) => from(item, start));
    this.shelf?.replace(this.items);
    const skip = startMs > audioMs || after > inputId ? { audio_ms: startMs, input_id: after } : null;
    return { items: [...this.items], lostMs: startMs - audioMs, skip };
  }

  /** Restore the items stored over a reload. @param {number} samples length of the audio until then. */
  restore(items, samples) {
    this.items = [...items];
    this.#keep(items, 0, 0);
    for (const item of items) this.#count(item);
    this.samples = Math.max(this.samples, samples);
    this.restored = items.length;
  }

  /** Return the unacknowledged audio in one piece, the channels in turn. */
  audio() {
    const parts = this.items.filter((item) => item.pcm).map((item) => item.pcm);
    const whole = new Int16Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }
}
