"""One conversation, without I/O: audio in, work and events out.

The session reads no clock, starts no thread and loads no model. Whoever holds one repeats four calls::

    session.receive_audio(chunk)             # or submit(...), and receive_eof() at the end
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

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.config import SessionConfig
from stream_erc.core.audio_input import AudioInput
from stream_erc.core.conversation import Conversation, ConversationTracker, Identified, Step
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.input_queue import APPENDED_AUDIO_MS, InputQueue
from stream_erc.core.segmentation import (
    BEGINNING,
    AppendedSegmenter,
    GivenSegmenter,
    Segmenter,
    SegmenterMark,
    SegmenterOutput,
    SpeechSegmenter,
)
from stream_erc.core.vad import Vad
from stream_erc.core.work import Analysis, AnalyzeSegment, Classification, ClassifyTurn, Failure, Result, Work
from stream_erc.events import (
    ClientInput,
    Emotion,
    Event,
    Features,
    GivenTurn,
    InputRejected,
    LastingEvent,
    PartialTurn,
    Samples,
    SessionClosed,
    SpeakerRenaming,
    SpeechSegment,
    TurnCorrection,
    TurnFailed,
)
from stream_erc.exceptions import InputError, ProtocolMisuse


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A session after its last finished turn, for a new `Session` that hears on from `acknowledged`.

    Attributes:
        conversation: what is remembered.
        mark: the point in the audio that fits it: every turn found before it is finished, and no other.
        failed: turns that could not be read.
        done: the last turns, which a speaker correction can still reach.
        events: how many lasting events had been reported; it stands for those, and for no other.
        inputs: how many of the client's inputs are in it, or were rejected.
    """

    conversation: Conversation
    mark: SegmenterMark
    failed: int
    done: tuple[Step, ...] = ()
    events: int = 0
    inputs: int = 0

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
        appended: turns come with `submit`, with or without a span of the audio.
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
        segmenter: Segmenter | None = None
        if given is not None:
            segmenter = GivenSegmenter(given, self._kept.mark)
        elif appended:
            segmenter = AppendedSegmenter(ms_to_samples(APPENDED_AUDIO_MS), self._kept.mark)
        elif vad is not None:
            segmenter = SpeechSegmenter(vad, config, self._kept.mark)
        self._audio = AudioInput(segmenter, self._kept.mark, self._kept.conversation.turns)
        self._input_queue = InputQueue(self._audio)
        self._language = config.language
        self._given = None if given is None else tuple(given)
        self._appending: GivenTurn | None = None
        known = frozenset(turn.speaker for turn in given or () if turn.speaker is not None)
        self._tracker = ConversationTracker(
            clustering, config.rewind_turns, self._kept.conversation, self._kept.done, known
        )
        self._failed = self._kept.failed
        self._reported, self._inputs_done = self._kept.events, self._kept.inputs
        self._closed = False
        self._pending: dict[int, _Pending] = {}
        self._partial: Work | None = None
        self._provisional: Identified | None = None
        self._events: list[Event] = []
        self._work: deque[Work] = deque()
        self._last_id = 0

    # --- input ------------------------------------------------------------------------------------

    def receive_audio(self, chunk: Samples) -> None:
        """Take mono float32 samples at 16 kHz, any number of them; then call `work_to_do`."""
        if self._audio.eof:
            raise ProtocolMisuse("receive_audio after receive_eof")
        if self._audio.silent:
            raise ProtocolMisuse("this session hears text only: it was made without a VAD and without turns")
        if chunk.ndim != 1 or chunk.dtype != np.float32:
            raise ProtocolMisuse(f"expected mono float32 samples (N,), got {chunk.dtype} {chunk.shape}")
        self._audio.receive(chunk)

    def submit(self, given: ClientInput) -> None:
        """Queue an input behind the audio received so far; then call `work_to_do`.

        It takes effect once all earlier audio and inputs are processed, so the outcome does not depend on how
        long work takes. The span of an appended turn may lie ahead of the audio: the turn and all later
        inputs wait for it. An invalid input changes nothing and is reported as `InputRejected`.

        A speaker correction reports the turn and all turns after it again, revised. The clustering keeps the
        corrected turn as it is, but does not learn from it.

        Raises:
            ProtocolMisuse: after `receive_eof`.
        """
        if self._audio.eof:
            raise ProtocolMisuse("submit after receive_eof")
        self._input_queue.add(given)

    def receive_eof(self) -> None:
        """No more input comes; when all work is done the events end with `SessionClosed`."""
        self._audio.eof = True

    @property
    def waiting(self) -> int:
        """How much of what was said has not been taken in."""
        return len(self._input_queue)

    @property
    def input_queue_full(self) -> bool:
        """Whether so much that was said waits, and not for audio, that more should wait outside."""
        return self._input_queue.input_queue_full

    # --- work and events --------------------------------------------------------------------------

    def work_to_do(self) -> list[Work]:
        """Hear buffered audio until it asks for work, and return that work; empty when there is none.

        Each call hears no further than the first window that gives work. So a caller that runs the work at
        once and calls again sees the same events whatever the chunking was.
        """
        self._take_inputs()
        while not self._work and self._hear_window():
            self._take_inputs()
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

    def snapshot(self) -> Snapshot:
        """The session after its last finished turn, or as it is now while nothing is said or worked on."""
        if (self._closed or self._audio.idle) and not (self._pending or self._tracker.busy):
            self._audio.mark_here()
            self._keep()
        return self._kept

    def _keep(self) -> None:
        """Take over what is settled where a point in the audio fits it."""
        conversation, done = self._tracker.settled
        if not self._tracker.busy and (mark := self._audio.mark_after(conversation.turns)) is not None:
            self._kept = Snapshot(conversation, mark, self._failed, done, self._reported, self._inputs_done)

    def _report(self, event: LastingEvent) -> None:
        self._events.append(event)
        self._reported += 1

    # --- what is said from outside ----------------------------------------------------------------

    def _take_inputs(self) -> None:
        """Take in what was said, as far as everything before it is settled."""
        while not (self._appending or self._pending or self._tracker.busy):
            if (taken := self._input_queue.take()) is None:
                return
            given = taken.given
            if isinstance(given, GivenTurn) and taken.problem is None:
                self._begin_appended(given)
                continue
            try:
                if taken.problem is not None:
                    raise InputError(taken.problem)
                if isinstance(given, TurnCorrection):
                    self._tracker.correct(given.turn, given.speaker)
                elif isinstance(given, SpeakerRenaming):
                    self._report(self._tracker.rename(given.speaker, given.name))
            except InputError as error:
                self._events.append(InputRejected(self._inputs_done + 1, given, str(error)))
            self._inputs_done += 1
            self._keep()
            self._classify_next()

    def _begin_appended(self, turn: GivenTurn) -> None:
        self._appending, index = turn, self._tracker.now.turns
        if turn.start is None or turn.end is None:
            self._pending[index] = _Pending(None, turn, Analysis(None, None, Features(None)))
        else:
            self._take_found(self._audio.request(index, turn.start, turn.end))
        self._classify_next()

    def _finish_appended(self) -> None:
        """The turn that was begun has its emotion, or has failed."""
        if self._appending is not None:
            self._appending = None
            self._inputs_done += 1

    # --- audio ------------------------------------------------------------------------------------

    def _hear_window(self) -> bool:
        """Hear one window; False where there is none, or something was said before it."""
        found = self._audio.advance(self._input_queue.before)
        if found is None:
            return False
        self._take_found(found)
        if self._audio.over:
            self._classify_next()  # given turns that the audio did not reach have failed by now
        return True

    def _take_found(self, found: Sequence[SegmenterOutput]) -> None:
        for item in found:
            if isinstance(item, SpeechSegment):
                self._analyze(item)
            else:
                self._events.append(item)

        for index in self._audio.missing:
            given = self._given_turn(index)
            start = given.start or 0
            message = (
                f"turn {index + 1} begins at {start / SAMPLE_RATE:.2f} s: expected a turn within the audio, "
                f"which ends at {self._audio.received / SAMPLE_RATE:.2f} s"
            )
            self._pending[index] = _Pending(None, given, Failure(message))

    def _analyze(self, segment: SpeechSegment) -> None:
        """Ask for the analysis of a found segment."""
        given = self._given_turn(segment.index)
        work = AnalyzeSegment(
            self._new_id(), segment, given.text is None, given.speaker is None, self._language
        )
        if segment.final:
            self._pending[segment.index] = _Pending(segment, given)
        elif self._partial is None and not self._pending:
            self._partial = work
        else:
            return  # earlier turns come first; the next partial will do
        self._work.append(work)

    # --- understanding ----------------------------------------------------------------------------

    def _classify_next(self) -> None:
        """Have the next turn classified, unless one is being classified or none is ready."""
        tracker = self._tracker
        while not tracker.running:
            heard = tracker.next_heard()
            if heard is None:
                index = tracker.now.turns
                pending = self._pending.get(index)
                if pending is None or pending.analysis is None:
                    return
                if isinstance(pending.analysis, Failure):
                    self._fail(index, pending.analysis.message)
                else:
                    tracker.accept(
                        tracker.identify(index, pending.given, pending.segment, pending.analysis)
                    )
            elif heard.readable:
                self._work.append(tracker.ask(self._new_id(), heard))
            else:
                self._fail(heard.turn.index, "expected words or a voice to read, heard neither")

    def _receive_classification(self, work: ClassifyTurn, result: Classification | Failure) -> None:
        if not self._tracker.is_running(work):
            raise ProtocolMisuse(f"expected the answer to the running classification, got one to {work.turn}")
        if isinstance(result, Failure):
            self._fail(work.turn.index, result.message)
        else:
            self._report(self._tracker.remember(result))
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
        self._tracker.skip(index)
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
        guess = self._tracker.identify(index, self._given_turn(index), work.segment, result)
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
            index not in self._pending and index == self._tracker.now.turns and not self._tracker.busy
        )

    def _show_partial(self, guess: Identified, emotion: Emotion | None) -> None:
        turn = guess.heard.turn
        assert turn.start is not None and turn.end is not None
        name = guess.now.names[turn.speaker]
        self._events.append(PartialTurn(turn.index, name, turn.text, turn.start, turn.end, emotion))

    # --- ending -----------------------------------------------------------------------------------

    def _close_when_done(self) -> None:
        """Report the end once, when everything heard has been understood."""
        done = not (self._work or self._pending or self._tracker.busy or self._input_queue or self._appending)
        if self._audio.eof and self._audio.over and done and not self._closed:
            self._closed = True
            now, failed = self._tracker.now, self._failed
            self._report(SessionClosed(self._audio.received, now.turns - failed, failed, now.speakers))

    def _given_turn(self, index: int) -> GivenTurn:
        if self._appending is not None:
            return self._appending
        return self._given[index] if self._given is not None else GivenTurn(None)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id
