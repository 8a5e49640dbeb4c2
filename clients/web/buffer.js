// The audio and inputs that the server has not acknowledged, and may ask for again, in order. Positions are
// samples since the session's audio began; those of several channels at a moment count once.

export const SAMPLE_RATE = 16_000;
export const SAMPLES_PER_MS = SAMPLE_RATE / 1000;

/** Return the position of an item's end. */
export const endOf = ({ start, pcm, channels = 1 }) => start + pcm.length / channels;

/** Return whether the server may still ask for any of an item. */
function isAfter(item, samples, inputId) {
  return item.pcm ? endOf(item) > samples : item.message.input_id > inputId;
}

export class Buffer {
  /** @param {{put(item): void, forget(samples, inputId): void}} [shelf] stores the same items over a reload. */
  constructor(shelf = null) {
    this.items = [];
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
    this.#count(item);
    this.shelf?.put(item);
    return item;
  }

  #count(item) {
    if (item.pcm) this.samples = endOf(item);
    else this.inputs = item.message.input_id;
  }

  /** Drop all audio before `audioMs` and all inputs up to `inputId`, which the server has. */
  acknowledge(audioMs, inputId) {
    const samples = audioMs * SAMPLES_PER_MS;
    this.items = this.items.filter((item) => isAfter(item, samples, inputId));
    this.shelf?.forget(samples, inputId);
  }

  /**
   * Resume at the server's position: return what has to be sent again, in order, from `audioMs` and after `inputId`.
   *
   * After a reload some audio may be missing. Audio carries no position on the wire, so the remaining audio, and
   * all audio since, moves up to the server's position, and inputs are renumbered.
   *
   * @param {number} [givenSamples] length of the audio before the reload.
   * @returns {{items: object[], lostMs: number}} lostMs: duration of the missing audio.
   */
  resume(audioMs, inputId, givenSamples = this.samples) {
    const from = audioMs * SAMPLES_PER_MS;
    const old = this.restored === null ? this.items : this.items.slice(0, this.restored);
    const since = this.restored === null ? [] : this.items.slice(this.restored);
    const left = old.filter((item) => isAfter(item, from, inputId))
      .map((item) => (item.pcm ? { pcm: item.pcm.subarray(Math.max(0, from - item.start) * this.channels) } : item));
    const kept = left.reduce((sum, item) => sum + (item.pcm?.length ?? 0), 0) / this.channels;
    this.restored = null;
    this.samples = from;
    this.inputs = inputId;
    this.items = [...left, ...since].map((item) => {
      const moved = item.pcm ? this.#audio(this.samples, item.pcm) : { message: { ...item.message, input_id: this.inputs + 1 } };
      this.#count(moved);
      return moved;
    });
    this.shelf?.replace(this.items);
    return { items: [...this.items], lostMs: Math.max(0, givenSamples - from - kept) / SAMPLES_PER_MS };
  }

  /** Restore the items stored over a reload. @param {number} samples length of the audio until then. */
  restore(items, samples) {
    this.items = [...items];
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
