// What the server may ask for again: the audio and the inputs that it has not acknowledged, in the order in
// which they were given. Positions count samples since the session's audio began.

export const SAMPLE_RATE = 16_000;
export const SAMPLES_PER_MS = SAMPLE_RATE / 1000;

export class Buffer {
  /** @param {{put(item): void, forget(samples, inputId): void}} [shelf] told of everything kept and forgotten. */
  constructor(shelf = null) {
    this.items = [];
    this.samples = 0;      // audio given so far, acknowledged or not
    this.inputs = 0;       // the last input_id given
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
    this.#keepAfter(audioMs * SAMPLES_PER_MS, inputId);
    this.shelf?.forget(audioMs * SAMPLES_PER_MS, inputId);
  }

  #keepAfter(samples, inputId) {
    this.items = this.items.filter((item) => (item.pcm
      ? item.start + item.pcm.length > samples : item.message.input_id > inputId));
  }

  /**
   * Go on where the server stands: what has to be sent again, in order, from `audioMs` and after `inputId`.
   *
   * After a reload something may be missing between the two. Audio carries no position on the wire, so what
   * is left moves up to where the server waits, and inputs are numbered anew.
   *
   * @returns {{items: object[], lostMs: number}} lostMs: audio that was given and is not here any more.
   */
  resume(audioMs, inputId, givenSamples = this.samples) {
    const from = audioMs * SAMPLES_PER_MS;
    this.#keepAfter(from, inputId);
    const kept = this.items.reduce((sum, item) => sum + (item.pcm ? item.pcm.length - Math.max(0, from - item.start) : 0), 0);
    const lost = Math.max(0, givenSamples - from - kept);
    this.samples = from;
    this.inputs = inputId;
    this.items = this.items.map((item) => {
      const moved = item.pcm
        ? { start: this.samples, pcm: item.pcm.subarray(Math.max(0, from - item.start)) }
        : { message: { ...item.message, input_id: this.inputs + 1 } };
      this.#count(moved);
      return moved;
    });
    this.shelf?.replace(this.items);
    return { items: [...this.items], lostMs: lost / SAMPLES_PER_MS };
  }

  /** Take back what a shelf kept over a reload. */
  restore(items) {
    this.items = items;
    for (const item of items) this.#count(item);
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
