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

import sys
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
    Said,
    SaidRefused,
    Samples,
    SessionClosed,
    SpeakerRenaming,
    SpeechSegment,
    SpeechStarted,
    TurnCorrection,
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
"""How much that was said may wait for what was said before."""

TAKES_NO_TURNS = "expected no appended turns in a session that finds its turns in audio, got one"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A session after its last finished turn, for a new `Session` that hears on from `acknowledged`.

    Attributes:
        conversation: what is remembered.
        mark: the point in the audio that fits it: every turn found before it is finished, and no other.
        failed: turns that could not be read.
        done: the last turns, which a speaker correction can still reach.
        events: how many lasting events had been reported; it stands for those, and for no other.
        said: how much of what was said from outside is in it, or was refused.
    """

    conversation: Conversation
    mark: SegmenterMark
    failed: int
    done: tuple[Step, ...] = ()
    events: int = 0
    said: int = 0

    @property
    def acknowledged(self) -> int:
        """The position of the first sample to send again."""
        return self.mark.audio_from


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What was said from outside, after how many samples, and why it cannot be used, if so."""

    said: Said
    at: int
    problem: str | None


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
        appended: turns come with `say`, with or without a span of the audio.
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
        self._waiting: deque[_Waiting] = deque()
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
        self._reported, self._said = self._kept.events, self._kept.said
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
        """As `say` of a turn, but one that cannot be used is refused at once.

        Raises:
            InputError: neither text nor span, a span without length, or one out of reach.
        """
        if self._segmenter is not None and not isinstance(self._segmenter, AppendedSegmenter):
            raise ProtocolMisuse(TAKES_NO_TURNS)
        problem = self._problem(turn)
        if problem is not None:
            raise InputError(problem)
        self.say(turn)

    def say(self, said: Said) -> None:
        """Take what is known outside, in line with the audio received so far; then call `work_to_do`.

        It takes effect when all that was heard and said before is settled, so what follows does not depend on
        how long work takes. The span of an appended turn may lie ahead of the audio; the turn, and what is
        said after it, wait for it. What cannot be used is reported as `SaidRefused`.
        """
        if self._eof:
            raise ProtocolMisuse("say after receive_eof")
        problem = self._problem(said) if isinstance(said, GivenTurn) else None
        self._waiting.append(_Waiting(said, self._received, problem))
        self._hold_audio()

    def receive_eof(self) -> None:
        """No more input comes; when all work is done the events end with `SessionClosed`."""
        self._eof = True

    @property
    def waiting(self) -> int:
        """How much of what was said has not been taken in."""
        return len(self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether so much that was said waits, and not for audio, that more should wait outside."""
        waits_for_audio = isinstance(self._segmenter, AppendedSegmenter) and not self._segmenter.idle
        return len(self._waiting) > CROWD and not waits_for_audio

    # --- work and events --------------------------------------------------------------------------

    def work_to_do(self) -> list[Work]:
        """Hear buffered audio until it asks for work, and return that work; empty when there is none.

        Each call hears no further than the first window that gives work. So a caller that runs the work at
        once and calls again sees the same events whatever the chunking was.
        """
        self._take_said()
        while not self._work and self._hear_window():
            self._take_said()
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
        self._classify_next()

    def rename_speaker(self, speaker: str, name: str) -> None:
        """Call a speaker by another name from now on, and in the turns so far.

        Raises:
            InputError: nobody has the name, or somebody else has the new one.
        """
        self._report(self._conversing.rename(speaker, name))
        self._keep()

    def snapshot(self) -> Snapshot:
        """The session after its last finished turn, or as it is now while nothing is said or worked on."""
        if not self._pending and not self._conversing.busy:
            if self._segmenter is None:
                self._keep()
            elif self._closed or self._segmenter.idle:
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
            self._kept = Snapshot(conversation, mark, self._failed, done, self._reported, self._said)
            self._marks = {turns: m for turns, m in self._marks.items() if turns >= conversation.turns}

    def _report(self, event: LastingEvent) -> None:
        self._events.append(event)
        self._reported += 1

    # --- what is said from outside ----------------------------------------------------------------

    def _problem(self, turn: GivenTurn) -> str | None:
        """Why an appended turn cannot be used, if so."""
        if self._segmenter is not None and not isinstance(self._segmenter, AppendedSegmenter):
            return TAKES_NO_TURNS
        start, end = (None if at is None else at / SAMPLE_RATE for at in (turn.start, turn.end))
        if (start is None) != (end is None) or (start or 0.0) >= (end or 1.0):
            return f"expected a span that begins before it ends, got {_seconds(start)} to {_seconds(end)}"
        if start is None and not (turn.text and turn.text.strip()):
            return f"expected a turn with a text or a span of audio, got the text {turn.text!r}"
        if start is not None and self._segmenter is None:
            return "expected a text without a span in a session without audio, got a span"
        reach = (self._received - milliseconds(APPENDED_AUDIO_MS)) / SAMPLE_RATE
        if start is not None and start < reach:
            return f"expected a turn from {_seconds(reach)} on, got one from {_seconds(start)} on"
        return None

    def _hold_audio(self) -> None:
        """Have the audio held that turns which wait will need."""
        if isinstance(self._segmenter, AppendedSegmenter):
            turns = [w.said for w in self._waiting if isinstance(w.said, GivenTurn)]
            self._segmenter.needed_from = min(
                (turn.start for turn in turns if turn.start is not None), default=sys.maxsize
            )

    def _take_said(self) -> None:
        """Take in what was said, as far as everything before it is settled."""
        while self._waiting and self._is_settled(self._waiting[0].at):
            said, problem = self._waiting[0].said, self._waiting[0].problem
            self._waiting.popleft()
            self._hold_audio()
            if isinstance(said, GivenTurn) and problem is None:
                self._begin_appended(said)
                continue
            try:
                if problem is not None:
                    raise InputError(problem)
                if isinstance(said, TurnCorrection):
                    self._conversing.correct(said.turn, said.speaker)
                elif isinstance(said, SpeakerRenaming):
                    self._report(self._conversing.rename(said.speaker, said.name))
            except InputError as error:
                self._events.append(SaidRefused(self._said + 1, said, str(error)))
            self._said += 1
            self._keep()
            self._classify_next()

    def _is_settled(self, at: int) -> bool:
        """Whether all audio before `at` was heard, and every turn in it or begun is finished."""
        if self._appending is not None or self._pending or self._conversing.busy:
            return False
        if self._segmenter is None or isinstance(self._segmenter, AppendedSegmenter):
            return True
        return self._segmenter.position + WINDOW > at

    def _begin_appended(self, turn: GivenTurn) -> None:
        self._appending, index = turn, self._conversing.now.turns
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
            self._said += 1

    # --- hearing ----------------------------------------------------------------------------------

    def _hear_window(self) -> bool:
        """Feed the segmenter one window; False where there is none, or something was said before it."""
        if self._segmenter is None:
            return False
        before, appended = self._found, isinstance(self._segmenter, AppendedSegmenter)
        if not appended and self._waiting and self._segmenter.position + WINDOW > self._waiting[0].at:
            return False
        if self._buffered >= WINDOW:
            found = self._segmenter.advance(self._take(WINDOW))
        elif self._eof and not self._heard_all:
            self._heard_all = True
            found = self._segmenter.finish(self._take(self._buffered))
        elif self._buffered and appended and not self._segmenter.idle:
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
            and not (self._closed or self._work or self._pending or self._conversing.busy)
            and not (self._waiting or self._appending)
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


def _seconds(at: float | None) -> str:
    return "nothing" if at is None else f"{at:.3f} s"
