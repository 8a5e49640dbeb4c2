"""One conversation, without I/O: audio in, work and events out.

The session reads no clock, starts no thread and loads no model. Whoever holds one repeats four calls::

    session.receive_audio(chunk)             # or append_turn(...), and receive_eof() at the end
    while works := session.work_to_do():     # until there is none
        for work in works:                   # run each on an engine, then
            session.receive_result(work, result)
    events = session.events_received()

Work may run anywhere and analyses may come back in any order; speakers are clustered and emotions are
classified in turn order. A session is used by one thread at a time.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import SessionConfig
from stream_erc.conversation import Conversation, Conversing, Identified, Step
from stream_erc.diarization import OnlineClustering
from stream_erc.events import (
    Emotion,
    Event,
    Features,
    GivenTurn,
    LastingEvent,
    PartialTurn,
    Samples,
    SessionClosed,
    SpeechSegment,
    SpeechStarted,
    TurnFailed,
)
from stream_erc.exceptions import InputError, ProtocolMisuse
from stream_erc.segmentation import (
    BEGINNING,
    AppendedSegmenter,
    Found,
    GivenSegmenter,
    Segmenter,
    SegmenterMark,
    SpeechSegmenter,
    milliseconds,
)
from stream_erc.vad import WINDOW, Vad
from stream_erc.work import Analysis, AnalyzeSegment, Classification, ClassifyTurn, Failure, Result, Work

APPENDED_AUDIO_MS = 30_000
"""How far back into the audio an appended turn may reach."""


CROWD = 64
"""Appended turns that may wait for those before them."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A session after its last finished turn, for a new `Session` that hears on from `acknowledged`.

    Attributes:
        conversation: what is remembered.
        mark: the point in the audio that fits it: every turn found before it is finished, and no other.
        failed: turns that could not be read.
        done: the last turns, which a speaker correction can still reach.
        events: how many lasting events had been reported; it stands for those, and for no other.
        appended: how many appended turns are in it.
        said: how many corrections and names from outside are in it.
    """

    conversation: Conversation
    mark: SegmenterMark
    failed: int
    done: tuple[Step, ...] = ()
    events: int = 0
    appended: int = 0
    said: int = 0

    @property
    def acknowledged(self) -> int:
        """The position of the first sample to send again."""
        return self.mark.audio_from


@dataclass(slots=True, eq=False)
class _Pending:
    """A turn on its way: found, perhaps analysed, not yet classified."""

    segment: SpeechSegment | None
    given: GivenTurn
    analysis: Analysis | Failure | None = None


class Session:
    """A live conversation.

    Args:
        config: how it is heard.
        vad: the speech detector's weights; not needed where turns are given.
        clustering: not needed where speakers are given.
        given: what is known beforehand, in order of start; replaces those stages.
        appended: turns come with `append_turn`, with or without a span of the audio.
        resume: a snapshot to go on from.
    """

    def __init__(
        self,
        config: SessionConfig,
        *,
        vad: Vad | None = None,
        clustering: OnlineClustering | None = None,
        given: Sequence[GivenTurn] | None = None,
        appended: bool = False,
        resume: Snapshot | None = None,
    ) -> None:
        self._kept = resume or Snapshot(Conversation(), BEGINNING, 0)
        self._segmenter: Segmenter | None = None
        if given is not None:
            self._segmenter = GivenSegmenter(given, self._kept.mark)
        elif appended:
            self._segmenter = AppendedSegmenter(milliseconds(APPENDED_AUDIO_MS), self._kept.mark)
        elif vad is not None:
            self._segmenter = SpeechSegmenter(vad, config, self._kept.mark)
        self._given = None if given is None else tuple(given)
        self._appended: deque[GivenTurn] = deque()
        self._appending: GivenTurn | None = None
        known = frozenset(turn.speaker for turn in given or () if turn.speaker is not None)
        self._conversing = Conversing(
            clustering, config.rewind_turns, self._kept.conversation, self._kept.done, known
        )
        self._failed = self._kept.failed
        self._found = self._found_to = self._kept.conversation.turns  # turns, and the end of their range
        self._marks: dict[int, SegmenterMark] = {self._found: self._kept.mark}  # after how many turns
        self._chunks: deque[Samples] = deque()
        self._buffered = 0
        self._received = self._kept.mark.audio_from
        self._reported = self._kept.events
        self._finished, self._said = self._kept.appended, self._kept.said
        self._eof = self._heard_all = self._closed = False
        self._pending: dict[int, _Pending] = {}
        self._partial: Work | None = None
        self._provisional: Identified | None = None
        self._events: list[Event] = []
        self._work: deque[Work] = deque()
        self._last_id = 0

    # --- input ------------------------------------------------------------------------------------

    def receive_audio(self, chunk: Samples) -> None:
        """Take mono float32 samples at 16 kHz, any number of them; then call `work_to_do`."""
        if self._eof:
            raise ProtocolMisuse("receive_audio after receive_eof")
        if self._segmenter is None:
            raise ProtocolMisuse("this session hears text only: it was made without a VAD and without turns")
        if chunk.ndim != 1 or chunk.dtype != np.float32:
            raise ProtocolMisuse(f"expected mono float32 samples (N,), got {chunk.dtype} {chunk.shape}")
        if len(chunk):
            self._chunks.append(chunk)
            self._buffered += len(chunk)
            self._received += len(chunk)

    def append_turn(self, turn: GivenTurn) -> None:
        """Take the next turn: a text, a span of the audio, or both; then call `work_to_do`.

        A span may lie ahead of the audio received so far; the turn, and those after it, wait for it.

        Raises:
            InputError: neither text nor span, a span without length, or one out of reach.
        """
        if self._eof:
            raise ProtocolMisuse("append_turn after receive_eof")
        if self._segmenter is not None and not isinstance(self._segmenter, AppendedSegmenter):
            raise ProtocolMisuse("a session that finds turns in audio takes no appended ones")
        if (turn.start is None) != (turn.end is None) or (turn.start or 0) >= (turn.end or 1):
            raise InputError(f"expected a span that begins before it ends, got {turn.start} to {turn.end}")
        if turn.start is not None and self._segmenter is None:
            raise InputError("expected a text without a span in a session without audio, got a span")
        if turn.start is None and not (turn.text and turn.text.strip()):
            raise InputError(f"expected a turn with a text or a span of audio, got the text {turn.text!r}")
        if turn.start is not None and isinstance(self._segmenter, AppendedSegmenter):
            self._segmenter.check(turn.start)
        self._appended.append(turn)

    def receive_eof(self) -> None:
        """No more input comes; when all work is done the events end with `SessionClosed`."""
        self._eof = True

    @property
    def appended_turns(self) -> int:
        """How many appended turns have not been begun."""
        return len(self._appended)

    @property
    def crowded(self) -> bool:
        """Whether so many turns wait, for other turns and not for audio, that more should wait outside."""
        waits_for_audio = self._segmenter is not None and not self._segmenter.idle
        return len(self._appended) > CROWD and not waits_for_audio

    # --- work and events --------------------------------------------------------------------------

    def work_to_do(self) -> list[Work]:
        """Hear buffered audio until it asks for work, and return that work; empty when there is none.

        Each call hears no further than the first window that gives work. So a caller that runs the work at
        once and calls again sees the same events whatever the chunking was.
        """
        self._begin_appended()
        while not self._work and self._hear_window():
            self._begin_appended()
        self._close_when_done()
        work = list(self._work)
        self._work.clear()
        return work

    def receive_result(self, work: Work, result: Result) -> None:
        """Take the answer to `work`; answers to analyses may come in any order."""
        match work, result:
            case AnalyzeSegment(), Analysis() | Failure():
                if work.segment.final:
                    self._pending[work.segment.index].analysis = result
                    self._classify_next()
                else:
                    self._receive_partial(work, result)
            case ClassifyTurn(provisional=True), Classification() | Failure():
                self._receive_provisional(work, result)
            case ClassifyTurn(), Classification() | Failure():
                self._receive_classification(work, result)
            case _:
                raise ProtocolMisuse(f"a {type(work).__name__} was answered with a {type(result).__name__}")

    def events_received(self) -> list[Event]:
        """The events since the last call, in order."""
        events, self._events = self._events, []
        return events

    def correct_speaker(self, turn: int, speaker: str) -> None:
        """Say who really spoke a finished turn; it and the turns after it come again, revised.

        Call `work_to_do` afterwards. The clustering does not learn from it: it will not move this turn, and
        goes on deciding of the others by their voices.

        Raises:
            InputError: no such turn, or it is older than `SessionConfig.rewind_turns`.
        """
        self._conversing.correct(turn, speaker)
        self._said += 1
        self._classify_next()

    def rename_speaker(self, speaker: str, name: str) -> None:
        """Call a speaker by another name from now on, and in the turns so far.

        Raises:
            InputError: nobody has the name, or somebody else has the new one.
        """
        self._report(self._conversing.rename(speaker, name))
        self._said += 1
        self._keep()

    def snapshot(self) -> Snapshot:
        """The session after its last finished turn, or as it is now while nothing is said or worked on."""
        if not self._pending and not self._conversing.busy:
            if self._segmenter is None:
                self._keep()
            elif self._segmenter.idle:
                self._marks[self._found] = self._segmenter.mark()
                self._keep()
        return self._kept

    def _keep(self) -> None:
        """Take over what is settled where a point in the audio fits it.

        Given turns may overlap: where one ends within another, the later one is found first, and only after
        both is there a point behind which turns are either found and finished, or still to be found.
        """
        conversation, done = self._conversing.settled
        if self._segmenter is None:
            mark: SegmenterMark | None = self._kept.mark
        elif isinstance(self._segmenter, AppendedSegmenter):
            mark = self._segmenter.mark()
        else:
            mark = self._marks.get(conversation.turns)
        if mark is not None and not self._conversing.busy:
            self._kept = Snapshot(
                conversation, mark, self._failed, done, self._reported, self._finished, self._said
            )
            self._marks = {turns: m for turns, m in self._marks.items() if turns >= conversation.turns}

    def _report(self, event: LastingEvent) -> None:
        self._events.append(event)
        self._reported += 1

    # --- hearing ----------------------------------------------------------------------------------

    def _begin_appended(self) -> None:
        """Begin with the next appended turn when the one before it is finished."""
        while self._appended and self._appending is None:
            self._appending = turn = self._appended.popleft()
            index = self._conversing.now.turns
            if turn.start is None or turn.end is None:
                self._pending[index] = _Pending(None, turn, Analysis(None, None, Features(None)))
            elif isinstance(self._segmenter, AppendedSegmenter):
                self._take_found(self._segmenter.request(index, turn.start, turn.end))
                if self._heard_all:
                    self._fail_missing(self._segmenter)
            self._classify_next()

    def _finish_appended(self) -> None:
        """The turn that was begun has its emotion, or has failed."""
        if self._appending is not None:
            self._appending = None
            self._finished += 1

    def _hear_window(self) -> bool:
        """Feed the segmenter one window; False where there is not enough audio."""
        if self._segmenter is None:
            return False
        before = self._found
        if self._buffered >= WINDOW:
            found = self._segmenter.advance(self._take(WINDOW))
        elif self._eof and not self._heard_all:
            self._heard_all = True
            found = self._segmenter.finish(self._take(self._buffered))
        elif self._buffered and isinstance(self._segmenter, AppendedSegmenter) and not self._segmenter.idle:
            found = self._segmenter.advance(self._take(self._buffered))  # a turn waits for these very samples
        else:
            return False
        self._take_found(found)
        if self._heard_all:
            self._fail_missing(self._segmenter)
        if before < self._found == self._found_to:
            self._marks[self._found] = self._segmenter.mark()
        if self._heard_all:
            self._classify_next()  # given turns that the audio did not reach have failed by now
        return True

    def _take_found(self, found: Sequence[Found]) -> None:
        for item in found:
            if isinstance(item, SpeechStarted):
                self._events.append(item)
            else:
                self._analyze(item)

    def _fail_missing(self, segmenter: Segmenter) -> None:
        """Turns that the audio did not reach cannot be heard."""
        for index in segmenter.missing:
            given = self._given_turn(index)
            start = given.start or 0
            message = (
                f"turn {index + 1} begins at {start / SAMPLE_RATE:.2f} s: expected a turn within the audio, "
                f"which ends at {self._received / SAMPLE_RATE:.2f} s"
            )
            self._pending[index] = _Pending(None, given, Failure(message))

    def _take(self, count: int) -> Samples:
        """The next `count` buffered samples."""
        parts: list[Samples] = []
        self._buffered -= count
        while count:
            chunk = self._chunks.popleft()
            parts.append(chunk[:count])
            if len(chunk) > count:
                self._chunks.appendleft(chunk[count:])
            count -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, dtype=np.float32)])

    def _analyze(self, segment: SpeechSegment) -> None:
        """Ask for the analysis of a found segment."""
        assert self._segmenter is not None
        given = self._given_turn(segment.index)
        work = AnalyzeSegment(self._new_id(), segment, given.text is None, given.speaker is None)
        if segment.final:
            self._pending[segment.index] = _Pending(segment, given)
            self._found, self._found_to = self._found + 1, max(self._found_to, segment.index + 1)
        elif self._partial is None and not self._pending:
            self._partial = work
        else:
            return  # earlier turns come first; the next partial will do
        self._work.append(work)

    # --- understanding ----------------------------------------------------------------------------

    def _classify_next(self) -> None:
        """Have the next turn classified, unless one is being classified or none is ready."""
        conversing = self._conversing
        while not conversing.running:
            heard = conversing.next_heard()
            if heard is None:
                index = conversing.now.turns
                pending = self._pending.get(index)
                if pending is None or pending.analysis is None:
                    return
                if isinstance(pending.analysis, Failure):
                    self._fail(index, pending.analysis.message)
                else:
                    conversing.accept(
                        conversing.identify(index, pending.given, pending.segment, pending.analysis)
                    )
            elif heard.readable:
                self._work.append(conversing.ask(self._new_id(), heard))
            else:
                self._fail(heard.turn.index, "expected words or a voice to read, heard neither")

    def _receive_classification(self, work: ClassifyTurn, result: Classification | Failure) -> None:
        if not self._conversing.is_running(work):
            return  # a speaker correction overtook it
        if isinstance(result, Failure):
            self._fail(work.turn.index, result.message)
        else:
            self._report(self._conversing.remember(result))
            if self._pending.pop(work.turn.index, None) is not None:
                self._finish_appended()
            self._keep()
        self._classify_next()

    def _fail(self, index: int, message: str) -> None:
        """Report a turn that could not be read; the conversation goes on without it."""
        segment = self._pending[index].segment if index in self._pending else None
        start, end = (segment.start, segment.end) if segment else (None, None)
        self._report(TurnFailed(index, start, end, message))
        self._failed += 1
        self._conversing.skip(index)
        if self._pending.pop(index, None) is not None:
            self._finish_appended()
        self._keep()

    # --- partial turns ----------------------------------------------------------------------------

    def _receive_partial(self, work: AnalyzeSegment, result: Analysis | Failure) -> None:
        """Show what was heard so far, and have it read provisionally if the conversation has caught up."""
        self._partial = None
        index = work.segment.index
        if isinstance(result, Failure) or not self._is_next(index):
            return
        guess = self._conversing.identify(index, self._given_turn(index), work.segment, result)
        now, heard = guess.now, guess.heard
        if heard.turn.text:
            self._show_partial(guess, None)
            self._partial = ClassifyTurn(
                self._new_id(), heard.turn, heard.features, now.past, now.state, provisional=True
            )
            self._provisional = guess
            self._work.append(self._partial)

    def _receive_provisional(self, work: ClassifyTurn, result: Classification | Failure) -> None:
        """Show a provisional emotion; the state that came with it is thrown away."""
        if work is not self._partial:
            return
        self._partial = None
        if isinstance(result, Classification) and self._provisional and self._is_next(work.turn.index):
            self._show_partial(self._provisional, result.emotion)

    def _is_next(self, index: int) -> bool:
        """Whether turn `index` is still being spoken and everything before it is finished."""
        return (
            index not in self._pending and index == self._conversing.now.turns and not self._conversing.busy
        )

    def _show_partial(self, guess: Identified, emotion: Emotion | None) -> None:
        turn = guess.heard.turn
        assert turn.start is not None and turn.end is not None
        name = guess.now.names[turn.speaker]
        self._events.append(PartialTurn(turn.index, name, turn.text, turn.start, turn.end, emotion))

    # --- ending -----------------------------------------------------------------------------------

    def _close_when_done(self) -> None:
        """Report the end once, when everything heard has been understood."""
        heard_all = self._heard_all or self._segmenter is None
        if (
            self._eof
            and heard_all
            and not (self._closed or self._work or self._pending or self._appended or self._conversing.busy)
        ):
            self._closed = True
            now, failed = self._conversing.now, self._failed
            self._report(SessionClosed(self._received, now.turns - failed, failed, now.speakers))

    def _given_turn(self, index: int) -> GivenTurn:
        if self._appending is not None:
            return self._appending
        return self._given[index] if self._given is not None else GivenTurn(None)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id
