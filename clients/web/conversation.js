// The conversation so far, built from the server's events, without sockets and elements.

const PRE_ROLL_MS = 500;     // a turn may begin so much before the speech that announced it

const KEPT = new Set(["turn.final", "turn.revised", "turn.failed", "speaker.updated", "voice.enrolled", "session.closed"]);

export class Conversation {
  constructor(created, configuration = null) {
    this.created = created;
    this.labels = configuration?.labels ?? created?.labels ?? [];
    this.turns = [];           // by index; a missing turn is undefined
    this.speeches = [];        // speech without a finished turn: {channel, start, end, over, partial}, in ms; end is the last known one
    this.closed = null;
    this.summary = [];         // of each speaker, once it is closed
    this.events = [];          // the events for the session's file
    this.tally = null;         // cache of `speakers()`
    this.seen = [];            // all speakers so far, in order of appearance; a correction does not move them
  }

  /**
   * Apply an event.
   * @returns {{turn: object, isNew: boolean} | null} the turn that the event brought, if any.
   */
  apply(event) {
    if (KEPT.has(event.type)) {
      if (this.events.at(-1)?.event_id >= event.event_id) this.events = this.events.filter(({ event_id: id }) => id !== event.event_id);
      this.events.push(event);
    }
    switch (event.type) {
      case "speech.started":
        this.#speak(event, null, null);
        return null;
      case "speech.stopped": {
        const speech = this.speeches.findLast(({ channel }) => channel === (event.channel ?? null));
        if (speech && event.audio_end_ms !== null) Object.assign(speech, { end: event.audio_end_ms, over: true });
        return null;
      }
      case "turn.partial":
        this.#speak(event, event.audio_end_ms, event);
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
        this.summary = (event.summary ?? []).map((one) => ({ ...one }));
        this.dropPartial();
        return null;
      default:
        return null;
    }
  }

  rename(speaker, name) {
    for (const turn of this.turns) {
      if (!turn) continue;
      if (turn.speaker === speaker) turn.speaker = name;
      turn.others = turn.others.map((other) => (other === speaker ? name : other));
    }
    this.seen = [...new Set(this.seen.map((other) => (other === speaker ? name : other)))];
    for (const one of this.summary) if (one.speaker === speaker) one.speaker = name;
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
      unsure: event.speaker_unsure ?? false,
      overlap: event.overlap ?? 0,
      others: event.others ?? [],
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
    if (!failed && !this.seen.includes(turn.speaker)) this.seen.push(turn.speaker);
    // Speech that began later is another turn's, even where it began before this one ended.
    if (isNew) this.speeches = this.speeches.filter(({ channel, start }) => turn.start !== null && (channel !== (event.channel ?? null) || start > turn.start + PRE_ROLL_MS));
    return { turn, isNew };
  }

  /** Drop everything provisional, which may have changed while the connection was lost. */
  dropPartial() { this.speeches = []; }

  /** The latest partial turn. */
  get partial() { return this.speeches.findLast((speech) => speech.partial)?.partial ?? null; }

  /** Number of speeches that have ended and have no finished turn yet. */
  get behind() { return this.speeches.filter((speech) => speech.over).length; }

  #speak({ channel = null, audio_start_ms: start }, end, partial) {
    if (start === null) return;
    let speech = this.speeches.find((one) => one.start === start && one.channel === channel);
    if (!speech) this.speeches.push(speech = { channel, start, end: null, over: false, partial: null });
    if (!speech.over) speech.end = end;
    speech.partial = partial ?? speech.partial;
  }

  /** Return the speakers that have turns, in order of appearance: `{name, turns, ms, byLabel}`. */
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
    this.tally = this.seen.filter((name) => found.has(name)).map((name) => found.get(name));
    return this.tally;
  }

  /** Return the turns that overlap a span of audio, by their start: of two at once, the longer one comes first. */
  between(fromMs, toMs) {
    return this.turns.filter((turn) => turn && turn.start !== null && turn.end >= fromMs && turn.start <= toMs)
      .sort((a, b) => a.start - b.start || b.end - a.end);
  }

  /** Return the last turn that has an emotion. */
  latest() {
    return this.turns.findLast((turn) => turn && turn.failed === null) ?? null;
  }
}
