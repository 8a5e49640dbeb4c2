// The time axis of the timeline: the visible span, which follows the newest audio until the user looks back.

export const SPANS_MS = [10_000, 20_000, 40_000, 90_000, 300_000, 900_000, 3_600_000];

export class Axis {
  constructor(spanMs = 20_000) {
    this.spanMs = spanMs;
    this.nowMs = 0;
    this.following = true;
    this.fromMs = 0;
    this.wholeFrom = null;     // the span before all audio was shown
    this.paged = false;        // move page by page instead of scrolling, for reduced motion
  }

  /** Set the end of the audio. */
  advance(nowMs) {
    this.nowMs = nowMs;
    if (this.following) this.#follow();
  }

  #follow() {
    const behind = this.spanMs * 0.92;       // a little room on the right
    if (this.paged) this.fromMs = Math.floor(this.nowMs / behind) * behind;
    else this.fromMs = Math.max(0, this.nowMs - behind);
  }

  get toMs() { return this.fromMs + this.spanMs; }
  get longestMs() { return Math.max(this.nowMs, this.spanMs); }

  follow() {
    this.following = true;
    this.#follow();
  }

  /** Show all audio, unless the user is looking back. */
  whole() {
    if (!this.following) return;
    this.wholeFrom ??= this.spanMs;
    this.following = false;
    this.fromMs = 0;
    this.spanMs = Math.max(this.spanMs, this.nowMs);
  }

  /** Start over without audio. */
  reset() {
    this.spanMs = this.wholeFrom ?? this.spanMs;
    this.wholeFrom = null;
    this.nowMs = 0;
    this.follow();
  }

  /** Whether the newest audio is visible. */
  get atEnd() { return this.following || this.toMs >= this.nowMs; }

  /** Show the span that begins here; at the end, follow again. */
  lookAt(fromMs) {
    const last = Math.max(0, this.nowMs - this.spanMs * 0.92);
    this.following = fromMs >= last - 1;
    this.fromMs = Math.min(last, Math.max(0, fromMs));
    if (this.following) this.#follow();
  }

  /** Bring a moment, or a span, into view. */
  reveal(ms, toMs = ms) {
    if (ms >= this.fromMs && toMs <= this.toMs) return;
    this.lookAt(ms - this.spanMs / 3);
  }

  /** Zoom. @param {number} by steps in `SPANS_MS`; positive shows more time. @param {number} [anchorMs] the moment that stays in place. */
  zoom(by, anchorMs = this.fromMs + this.spanMs / 2) {
    const shorter = SPANS_MS.filter((span) => span < this.spanMs).length;
    const at = by > 0 && SPANS_MS[shorter] !== this.spanMs ? shorter - 1 : shorter;      // the span of all audio is not a step
    const next = SPANS_MS[Math.max(0, Math.min(SPANS_MS.length - 1, at + by))];
    const share = (anchorMs - this.fromMs) / this.spanMs;
    this.spanMs = next;
    if (this.following) this.#follow();
    else this.lookAt(anchorMs - share * next);
  }

  get canZoomIn() { return this.spanMs > SPANS_MS[0]; }
  get canZoomOut() { return this.spanMs < SPANS_MS.at(-1) && this.spanMs < Math.max(this.nowMs, SPANS_MS[3]); }

  x(ms, width) { return ((ms - this.fromMs) / this.spanMs) * width; }
  ms(x, width) { return this.fromMs + (x / width) * this.spanMs; }
}
