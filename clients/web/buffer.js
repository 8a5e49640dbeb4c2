// What the server may ask for again: the audio and the inputs that it has not acknowledged, in the order in
// which they were given. Positions count samples since the session's audio began.

export const SAMPLE_RATE = 16_000;
export const SAMPLES_PER_MS = SAMPLE_RATE / 1000;

/** Whether the server may still ask for some of an item. */
function isAfter(item, samples, inputId) {
  return item.pcm ? item.start + item.pcm.length > samples : item.message.input_id > inputId;
}

export class Buffer {
  /** @param {{put(item): void, forget(samples, inputId): void}} [shelf] told of everything kept and forgotten. */
  constructor(shelf = null) {
    this.items = [];
    this.samples = 0;      // audio given so far, acknowledged or not
    this.inputs = 0;       // the last input_id given
    this.restored = null;  // how many items outlived a reload, until the server told where it stands
    this.shelf = shelf;
  }

  /** How much audio is not acknowledged. */
  get unacknowledgedMs() {
    let samples = 0;
    for (const item of this.items) if (item.pcm) samples += item.pcm.length;
    return samples / SAMPLES_PER_MS;
  }

  /** @param {Int16Array} pcm mono, 16 kHz. */
  pushAudio(pcm) {
    return this.#push({ start: this.samples, pcm });
  }

  /** Number an input (`turn.correct`, `speaker.rename`) and keep it. */
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
    if (item.pcm) this.samples = item.start + item.pcm.length;
    else this.inputs = item.message.input_id;
  }

  /** The server has all audio before `audioMs` and all inputs up to `inputId`: forget them. */
  acknowledge(audioMs, inputId) {
    const samples = audioMs * SAMPLES_PER_MS;
    this.items = this.items.filter((item) => isAfter(item, samples, inputId));
    this.shelf?.forget(samples, inputId);
  }

  /**
   * Go on where the server stands: what has to be sent again, in order, from `audioMs` and after `inputId`.
   *
   * After a reload something may be missing between the two. Audio carries no position on the wire, so what
   * is left, and all that came since, moves up to where the server waits, and inputs are numbered anew.
   *
   * @param {number} [givenSamples] audio that was given before the reload.
   * @returns {{items: object[], lostMs: number}} lostMs: audio that was given and is not here any more.
   */
  resume(audioMs, inputId, givenSamples = this.samples) {
    const from = audioMs * SAMPLES_PER_MS;
    const old = this.restored === null ? this.items : this.items.slice(0, this.restored);
    const since = this.restored === null ? [] : this.items.slice(this.restored);
    const left = old.filter((item) => isAfter(item, from, inputId))
      .map((item) => (item.pcm ? { pcm: item.pcm.subarray(Math.max(0, from - item.start)) } : item));
    const kept = left.reduce((sum, item) => sum + (item.pcm?.length ?? 0), 0);
    this.restored = null;
    this.samples = from;
    this.inputs = inputId;
    this.items = [...left, ...since].map((item) => {
      const moved = item.pcm ? { start: this.samples, pcm: item.pcm } : { message: { ...item.message, input_id: this.inputs + 1 } };
      this.#count(moved);
      return moved;
    });
    this.shelf?.replace(this.items);
    return { items: [...this.items], lostMs: Math.max(0, givenSamples - from - kept) / SAMPLES_PER_MS };
  }

  /** Take back what a shelf kept over a reload. @param {number} samples audio given until then. */
  restore(items, samples) {
    this.items = [...items];
    for (const item of items) this.#count(item);
    this.samples = Math.max(this.samples, samples);
    this.restored = items.length;
  }

  /** The audio that is not acknowledged, as one piece. */
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
