// The conversation so far, built from the server's events, without sockets and elements.

const KEPT = new Set(["turn.final", "turn.revised", "turn.failed", "speaker.updated", "session.closed"]);

export class Conversation {
  constructor(created, configuration = null) {
    this.created = created;
    this.labels = configuration?.labels ?? created?.labels ?? [];
    this.turns = [];           // by index; a missing turn is undefined
    this.speeches = [];        // speech without a finished turn: {start, end, over, partial}, in ms; end is the last known one
    this.closed = null;
    this.events = [];          // the events for the session's file
    this.tally = null;         // cache of `speakers()`
  }

  /**
   * Apply an event.
   * @returns {{turn: object, isNew: boolean} | null} the turn that the event brought, if any.
   */
  apply(event) {
    if (KEPT.has(event.type)) this.events.push(event);
    switch (event.type) {
      case "speech.started":
        this.#speak(event.audio_start_ms, null, null);
        return null;
      case "speech.stopped":
        if (this.speeches.length && event.audio_end_ms !== null) Object.assign(this.speeches.at(-1), { end: event.audio_end_ms, over: true });
        return null;
      case "turn.partial":
        this.#speak(event.audio_start_ms, event.audio_end_ms, event);
        return null;
      case "turn.final":
      case "turn.revised":
      case "turn.failed":
        return this.#keep(event);
      case "speaker.updated":
        this.rename(event.speaker, event.name);
        return null;
      case "session.closed":
        this.closed = event;
        this.dropPartial();
        return null;
      default:
        return null;
    }
  }

  rename(speaker, name) {
    for (const turn of this.turns) if (turn?.speaker === speaker) turn.speaker = name;
    for (const speech of this.speeches) if (speech.partial?.speaker === speaker) speech.partial = { ...speech.partial, speaker: name };
    this.tally = null;
  }

  #keep(event) {
    const isNew = this.turns[event.turn] === undefined;
    const failed = event.type === "turn.failed";
    const turn = {
      index: event.turn,
      start: event.audio_start_ms,
      end: event.audio_end_ms,
      speaker: failed ? null : event.speaker,
      text: failed ? "" : event.text,
      language: event.language ?? null,
      translation: event.translation ?? null,
      emotion: failed ? null : event.emotion,
      latency: failed ? null : event.latency_ms,
      revision: event.revision ?? 0,
      failed: failed ? event.message : null,
    };
    this.turns[event.turn] = turn;
    this.tally = null;
    if (isNew) this.speeches = this.speeches.filter(({ start }) => event.audio_end_ms !== null && start >= event.audio_end_ms);
    return { turn, isNew };
  }

  /** Drop everything provisional, which may have changed while the connection was lost. */
  dropPartial() { this.speeches = []; }

  /** The latest partial turn. */
  get partial() { return this.speeches.findLast((speech) => speech.partial)?.partial ?? null; }

  /** Number of speeches that have ended and have no finished turn yet. */
  get behind() { return this.speeches.filter((speech) => speech.over).length; }

  #speak(start, end, partial) {
    if (start === null) return;
    let speech = this.speeches.find((one) => one.start === start);
    if (!speech) this.speeches.push(speech = { start, end: null, over: false, partial: null });
    if (!speech.over) speech.end = end;
    speech.partial = partial ?? speech.partial;
  }

  /** Return the speakers in order of appearance: `{name, turns, ms, byLabel}`. */
  speakers() {
    if (this.tally) return this.tally;
    const found = new Map();
    for (const turn of this.turns) {
      if (!turn || turn.failed !== null) continue;
      if (!found.has(turn.speaker)) found.set(turn.speaker, { name: turn.speaker, turns: 0, ms: 0, byLabel: new Map() });
      const one = found.get(turn.speaker);
      one.turns += 1;
      one.ms += turn.start === null ? 0 : turn.end - turn.start;
      one.byLabel.set(turn.emotion.label, (one.byLabel.get(turn.emotion.label) ?? 0) + 1);
    }
    this.tally = [...found.values()];
    return this.tally;
  }

  /** Return the turns that overlap a span of audio, by binary search. */
  between(fromMs, toMs) {
    const turns = this.turns;
    let low = 0, high = turns.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const end = turns[middle]?.end;
      if (end !== undefined && end !== null && end < fromMs) low = middle + 1;
      else high = middle;
    }
    const found = [];
    for (let i = low; i < turns.length; i++) {
      const turn = turns[i];
      if (!turn || turn.start === null) continue;
      if (turn.start > toMs) break;
      found.push(turn);
    }
    return found;
  }

  /** Return the last turn that has an emotion. */
  latest() {
    return this.turns.findLast((turn) => turn && turn.failed === null) ?? null;
  }
}
