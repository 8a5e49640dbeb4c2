"""Audio -> speech segments, window by window: found by VAD and endpointing.

All segmenters (see `given_segmentation` for known turns) keep only the audio that a segment may still need.
`mark` returns a resume point: everything needed to continue from there except the audio, whose last part the
client sends again. So a stored `SegmenterMark` contains no speech.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from stream_erc.audio import ms_to_samples
from stream_erc.config import SessionConfig
from stream_erc.core import endpointing
from stream_erc.core.audio_tail import AudioTail
from stream_erc.core.speaker_change import HOP, LAG, Change
from stream_erc.core.speaker_watch import Question, SpeakerWatch, WatchState
from stream_erc.core.vad import WINDOW, Vad, VadState, is_silent
from stream_erc.events import (
    RunningSpeech,
    Samples,
    SpeakerActivity,
    SpeechSegment,
    SpeechStarted,
    SpeechStopped,
)

VOICE_PRE_ROLL = ms_to_samples(200)
"""Pre-roll that voices are measured in: words may begin earlier, but silence tells nothing of a voice."""

PARTIAL_GROWTH = 4
"""The next partial turn is due when the segment has grown by 1/4, and by `partial_interval_ms` at least."""

SegmenterOutput: TypeAlias = SpeechStarted | SpeechStopped | SpeechSegment | RunningSpeech


@dataclass(frozen=True, slots=True, eq=False)
class SegmenterMark:
    """A point in the audio from which a segmenter can resume.

    Attributes:
        position: samples segmented so far.
        audio_from: the first sample to send again; audio before `position` is buffered, not segmented again.
        segments: the number of segments found so far.
        vad, endpoint: the states of VAD and endpointing; None if turns are given or appended.
        partial_at: the sample at which the next partial turn is due.
        last_heard: the end of the last segment's audio; no pre-roll reaches before it.
        channels: the resume point of each channel, if there are several.
        watch: what is known of who holds the running turn.
    """

    position: int
    audio_from: int
    segments: int = 0
    vad: VadState | None = None
    endpoint: endpointing.EndpointState | None = None
    partial_at: int | None = None
    last_heard: int = 0
    channels: tuple["SegmenterMark", ...] = ()
    watch: WatchState = field(default_factory=WatchState)


class Segmenter(Protocol):
    """Finds the speech segments in a session's audio."""

    position: int

    def advance(self, window: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the next 512 samples."""

    def finish(self, rest: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the rest of the audio, less than a window, and close running segments."""

    def mark(self) -> SegmenterMark:
        """Return the resume point here."""

    @property
    def idle(self) -> bool:
        """Whether no segment is running."""

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of given or appended turns that the audio has not reached."""


BEGINNING = SegmenterMark(0, 0)
"""Before any audio."""


class SpeechSegmenter:
    """Finds segments with a VAD and the endpointing table, and divides them where the speaker changes.

    Args:
        vad: the voice activity detector.
        config: the session's settings.
        mark: the point to resume from.
        watches: whether somebody tells who speaks in running speech; see `hear`.
    """

    def __init__(
        self, vad: Vad, config: SessionConfig, mark: SegmenterMark | None = None, *, watches: bool = False
    ) -> None:
        self._vad, self._config = vad, config
        self._resumed = mark = mark or BEGINNING
        self.position = mark.audio_from
        self._tail = AudioTail(mark.audio_from)
        self._segments = mark.segments
        self._vad_state = mark.vad or VadState.initial()
        self._endpoint = mark.endpoint or endpointing.EndpointState()
        self._partial_at = mark.partial_at
        self._last_heard = mark.last_heard
        self._pre_roll = ms_to_samples(config.endpointing.pre_roll_ms)
        endpointing.validate(config.vad, config.endpointing)
        lag = min(LAG, endpointing.shortest_silence(config.endpointing) - endpointing.TRAIL - WINDOW)
        self._watch = SpeakerWatch(max(0, lag), mark.watch) if watches else None

    @property
    def idle(self) -> bool:
        """Whether no segment is running."""
        return self._endpoint.phase == endpointing.Phase.SILENCE

    @property
    def missing(self) -> tuple[int, ...]:
        """Always empty: no turns are given."""
        return ()

    def advance(self, window: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the next 512 samples."""
        changed = self._take_answers()
        self._tail.push(window)
        self.position += len(window)
        if self.position <= self._resumed.position:  # segmented before the session was resumed
            self._vad_state = self._vad_state.after(window)
            if self.position < self._resumed.position:
                return ()
            undecided = endpointing.is_undecided(self._endpoint, self._config.endpointing)
            return (*(self._paused() if undecided else ()), *self._ask_again())
        if self.idle and is_silent(window):  # the network has heard the pause that ended the last segment
            probability, self._vad_state = 0.0, self._vad_state.after(window)
        else:
            probability, self._vad_state = self._vad(window, self._vad_state)
        self._endpoint, boundaries = endpointing.step(
            self._endpoint, probability, self._config.vad, self._config.endpointing, self._tail.quietest
        )
        found = self._collect(boundaries)
        return (*changed, *(found or self._pause() or self._partial()), *self._ask())

    @property
    def awaits_speakers(self) -> bool:
        """Whether an answer of `hear` must come before the next window."""
        return self._watch is not None and self._watch.awaits(self.position)

    @property
    def asks_for_speakers(self) -> bool:
        """Whether any answer of `hear` is missing."""
        return self._watch is not None and self._watch.asking

    def hear(self, position: int, activity: SpeakerActivity) -> None:
        """Receive who speaks in the `RunningSpeech` of this position."""
        if self._watch is not None:
            self._watch.answer(position, activity)

    @property
    def awaits_words(self) -> bool:
        """Whether the running segment ends here or not, depending on its words: see `decide`."""
        return endpointing.awaits_words(self._endpoint, self._config.endpointing)

    def decide(self, paused: SpeechSegment, silence_ms: int) -> tuple[SegmenterOutput, ...]:
        """Say how much silence ends the segment that `paused`, unless it was resumed or has ended."""
        state = self._endpoint
        now = (self._segments, endpointing.Phase.MAYBE_SILENCE, state.start, state.end)
        if now != (paused.index, state.phase, paused.start, paused.end):
            return ()
        silence = ms_to_samples(silence_ms)
        self._endpoint, boundaries = endpointing.decide(state, silence, self._config.endpointing)
        return self._collect(boundaries)

    def interrupt(self) -> tuple[SegmenterOutput, ...]:
        """Close a running segment here, since no more audio comes for now."""
        if self.position < self._resumed.position:
            return ()
        changed = self._take_answers(at_end=True)
        self._endpoint, boundaries = endpointing.finish(
            self._endpoint, self.position, self._config.endpointing
        )
        found = self._collect(boundaries)
        if self._watch is not None:
            self._watch.stop()
        return (*changed, *found)

    def finish(self, rest: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the rest of the audio and close a running segment."""
        changed = self._take_answers(at_end=True)
        self._tail.push(rest)
        self.position += len(rest)
        ended_at = max(self.position, self._resumed.position)
        self._endpoint, boundaries = endpointing.finish(self._endpoint, ended_at, self._config.endpointing)
        return (*changed, *self._collect(boundaries))

    def mark(self) -> SegmenterMark:
        """Return the resume point here."""
        if self.position < self._resumed.position:
            return self._resumed
        return SegmenterMark(
            self.position,
            self._tail.start,
            self._segments,
            self._vad_state,
            self._endpoint,
            self._partial_at,
            self._last_heard,
            watch=WatchState() if self._watch is None else self._watch.state,
        )

    def _collect(self, boundaries: Sequence[endpointing.Boundary]) -> tuple[SegmenterOutput, ...]:
        found: list[SegmenterOutput] = []
        for boundary in boundaries:
            if isinstance(boundary, endpointing.Started):
                found.append(SpeechStarted(boundary.start))
                self._partial_at = boundary.start + ms_to_samples(self._config.partial_interval_ms)
                if self._watch is not None:
                    self._watch.begin(boundary.start)
            elif isinstance(boundary, endpointing.Ended):
                segment = self._ended(boundary)
                found += (SpeechStopped(segment.end), segment)
                self._segments += 1
                self._partial_at, self._last_heard = None, boundary.heard_to
        if self.idle and boundaries and self._watch is not None:
            self._watch.stop()
        needed = (self.position if self.idle else self._endpoint.start) - self._pre_roll
        self._tail.trim(min(needed, self.position - WINDOW))  # the VAD needs the previous window
        return tuple(found)

    def _segment(self, start: int, end: int, heard_to: int, decided_at: int | None = None) -> SpeechSegment:
        """Return a segment with the audio from its pre-roll to `heard_to`."""
        samples = self._tail.cut(self._audio_from(start), heard_to)
        first = heard_to - len(samples)
        lead = max(0, self._last_heard - first, start - VOICE_PRE_ROLL - first)
        return SpeechSegment(
            self._segments, start, end, samples, first, decided_at or self.position, lead=lead
        )

    def _ended(self, ended: endpointing.Ended) -> SpeechSegment:
        segment = self._segment(ended.start, ended.end, ended.heard_to, ended.decided_at)
        if self._watch is None:
            return segment
        earliest = max(ended.earliest, self._audio_from(ended.start))
        start, end = self._watch.extend(ended.start, ended.end, earliest, ended.latest)
        return replace(segment, start=start, end=end, overlap=self._watch.overlap(start, end))

    def _audio_from(self, start: int) -> int:
        """Return the first sample of a segment's audio: the audio of the one before does not come again."""
        return min(start, max(start - self._pre_roll, self._last_heard))

    def _ask(self) -> tuple[RunningSpeech, ...]:
        """Return the running speech whenever it is to be told who speaks in it."""
        state = self._endpoint
        paused = endpointing.begins_pause(state)
        speaking = state.phase == endpointing.Phase.SPEECH and self.position % HOP == 0
        if self._watch is None or not (paused or speaking):
            return ()
        question = Question(self.position, state.end if paused else self.position, paused)
        return self._watch.ask(question, self._audio_from(state.start), self._tail.cut)

    def _ask_again(self) -> tuple[RunningSpeech, ...]:
        """Return the running speech for the questions that were open where the session is resumed."""
        if self._watch is None:
            return ()
        first = self._audio_from(self._endpoint.start)
        questions = self._watch.state.questions
        return tuple(speech for q in questions for speech in self._watch.ask(q, first, self._tail.cut))

    def _take_answers(self, *, at_end: bool = False) -> tuple[SegmenterOutput, ...]:
        """Divide the running segment as the answers tell that are due now, or all at the end of the audio."""
        found: list[SegmenterOutput] = []
        watch, due = self._watch, sys.maxsize if at_end else self.position
        while watch is not None and (question := watch.take(due)) is not None:
            while (change := self._change(watch, question)) is not None:
                state, end = self._endpoint, change.end
                heard_to = max(end, min(end + endpointing.TRAIL, change.start))
                ended = endpointing.Ended(state.start, end, self.position, heard_to, state.earliest, end)
                self._endpoint = endpointing.divide(state, change.start)
                found += self._collect((ended, endpointing.Started(change.start)))
                found += self._repaused()
        return tuple(found)

    def _change(self, watch: SpeakerWatch, question: Question) -> Change | None:
        """Return the change of speaker that an answer tells of in the running segment."""
        state = self._endpoint
        if state.phase not in (endpointing.Phase.SPEECH, endpointing.Phase.MAYBE_SILENCE):
            return None
        silent = state.phase == endpointing.Phase.MAYBE_SILENCE
        end = min(question.end, state.end) if silent else question.end
        last = question.paused and silent and state.end == question.end
        return watch.change(state.start, end, last, self._tail.quietest)

    def _repaused(self) -> tuple[SegmenterOutput, ...]:
        """Return the rest of a divided segment, if it is in the pause that may be its end."""
        state = self._endpoint
        pausing = state.phase == endpointing.Phase.MAYBE_SILENCE
        return self._paused() if pausing and state.position - state.end >= endpointing.TRAIL else ()

    def _pause(self) -> tuple[SegmenterOutput, ...]:
        """Return the running segment as it will be if the pause that just began is its end."""
        return self._paused() if endpointing.begins_pause(self._endpoint) else ()

    def _paused(self) -> tuple[SegmenterOutput, ...]:
        start, end = self._endpoint.start, self._endpoint.end
        heard_to = end + endpointing.TRAIL
        return (replace(self._segment(start, end, heard_to, heard_to), final=False, paused=True),)

    def _partial(self) -> tuple[SegmenterOutput, ...]:
        """Return a snapshot of the running segment, once per interval.

        The interval grows with the segment, since the whole segment is analysed again each time.
        """
        if not self._config.partials or self._partial_at is None or self.position < self._partial_at:
            return ()
        start, now = self._endpoint.start, self.position
        interval = ms_to_samples(self._config.partial_interval_ms)
        self._partial_at += max(interval, (now - start) // PARTIAL_GROWTH)
        return (replace(self._segment(start, now, now), final=False),)
