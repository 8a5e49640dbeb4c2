"""One conversation, without I/O: audio in, work and events out.

A session reads no clock, starts no thread and loads no model. Its caller repeats four calls::

    session.receive_audio(chunk)             # or submit(...), and receive_eof() at the end
    while works := session.work_to_do():     # until there is none
        for work in works:                   # run each on an engine, and hand back its result
            session.receive_result(work, result)
    events = session.events_received()

Work may run anywhere, and analyses may return in any order; speakers are clustered and emotions classified
in turn order. A session must be used by one thread at a time.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.config import SessionConfig, check_channels
from stream_erc.core.audio_input import AudioInput
from stream_erc.core.channels import ChannelSegmenter
from stream_erc.core.conversation import (
    AnalyzedTurn,
    Conversation,
    ConversationTracker,
    IdentifiedTurn,
    Step,
    with_voices,
)
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.given_segmentation import AppendedSegmenter, GivenSegmenter
from stream_erc.core.input_queue import APPENDED_AUDIO_MS, InputQueue
from stream_erc.core.pending import AheadWork, PendingTurn, same_input
from stream_erc.core.segmentation import (
    BEGINNING,
    Segmenter,
    SegmenterMark,
    SegmenterOutput,
    SpeechSegmenter,
)
from stream_erc.core.speaker_change import LOCAL_SPEAKERS
from stream_erc.core.turn_end import needed_silence_ms
from stream_erc.core.vad import Vad
from stream_erc.core.work import (
    Analysis,
    AnalyzeSegment,
    Classification,
    ClassifyTurn,
    Failure,
    MeasuredVoice,
    MeasureVoice,
    Result,
    SegmentSpeakers,
    Work,
)
from stream_erc.events import (
    ClientInput,
    ClipEnrolment,
    Emotion,
    Event,
    Features,
    GivenTurn,
    InputRejected,
    KnownVoice,
    LastingEvent,
    PartialTurn,
    RunningSpeech,
    Samples,
    SessionClosed,
    SpeakerActivity,
    SpeakerRenaming,
    SpeechSegment,
    TurnCorrection,
    TurnEnrolment,
    TurnFailed,
    VoiceEnrolled,
)
from stream_erc.exceptions import ConfigError, InputError, ProtocolMisuse, VoicesError


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A session after its last finished turn; a new `Session` resumes from it at sample `acknowledged`.

    Attributes:
        conversation: the conversation after that turn.
        mark: the matching resume point in the audio: exactly the turns found before it are finished.
        failed: the number of failed turns.
        done: the last turns, which a speaker correction can still reach.
        events: the number of lasting events reported so far; the snapshot includes exactly these.
        inputs: the number of the client's inputs that were processed, rejected ones included.
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


class Session:
    """A live conversation.

    Args:
        config: the session's settings.
        vad: the voice activity detector; not needed if turns are given.
        clustering: tells speakers apart; not needed if speakers are given.
        given: all turns, if known beforehand, in order of start; replaces those stages.
        channels: the name of each channel, None for one without a name, if channels are heard separately:
            the audio is then (N, C). All turns of a named channel are by the speaker of that name; the voices
            of any other channel are its own speakers. None for mono audio.
        appended: whether the client submits the turns, with or without a span of the audio.
        resume: a snapshot to resume from.
        voices: the voices that are known from the beginning; a snapshot has them already.
        detect_language: whether languages are detected; each turn then waits for the one before it, since a
            session (each channel of it) keeps to its language unless it is sure of a change.
        watches: whether the engine can tell who speaks in running speech, so that turns end where the speaker
            changes, pause or not.

    Raises:
        ConfigError: channels that cannot be heard separately, or along with turns that are given or appended.
        VoicesError: known voices along with channels.
    """

    def __init__(
        self,
        config: SessionConfig,
        *,
        vad: Vad | None = None,
        clustering: OnlineClustering | None = None,
        given: Sequence[GivenTurn] | None = None,
        appended: bool = False,
        channels: Sequence[str | None] | None = None,
        resume: Snapshot | None = None,
        voices: Sequence[KnownVoice] = (),
        detect_language: bool = False,
        watches: bool = False,
    ) -> None:
        begun = Conversation() if clustering is None else with_voices(clustering, voices)
        self._snapshot = resume or Snapshot(begun, BEGINNING, 0)
        segmenter: Segmenter | None = None
        if channels is not None:
            check_channels(channels)
            if given is not None or appended or vad is None:
                raise ConfigError("channels: expected turns that are found in the audio, got other turns")
            if voices:
                raise VoicesError("expected no known voices where channels are heard separately, got some")
        if given is not None:
            segmenter = GivenSegmenter(given, self._snapshot.mark)
        elif appended:
            segmenter = AppendedSegmenter(ms_to_samples(APPENDED_AUDIO_MS), self._snapshot.mark)
        elif vad is not None and channels is not None:
            segmenter = ChannelSegmenter(
                len(channels),
                lambda channel, mark: SpeechSegmenter(
                    vad, config, mark, watches=watches and channels[channel] is None
                ),
                self._snapshot.mark,
            )
        elif vad is not None:
            segmenter = SpeechSegmenter(vad, config, self._snapshot.mark, watches=watches)
        self._audio = AudioInput(
            segmenter,
            self._snapshot.mark,
            self._snapshot.conversation.turns,
            None if channels is None else len(channels),
        )
        self._channels = tuple(channels or ())
        self._input_queue = InputQueue(self._audio)
        self._language, self._partials, self._words = config.language, config.partials, config.words
        self._detect_language = detect_language
        self._endpointing = config.endpointing
        self._adaptive = config.endpointing.adaptive
        self._given = None if given is None else tuple(given)
        self._appending: GivenTurn | None = None
        names = [*self._channels, *(turn.speaker for turn in given or ())]
        self._tracker = ConversationTracker(
            clustering,
            config.rewind_turns,
            self._snapshot.conversation,
            self._snapshot.done,
            frozenset(name for name in names if name is not None),
            self._channels,
        )
        self._failed = self._snapshot.failed
        self._reported, self._inputs_done = self._snapshot.events, self._snapshot.inputs
        self._closed = False
        self._pending: dict[int, PendingTurn] = {}
        self._partial: Work | None = None
        self._guess: IdentifiedTurn | None = None
        self._enrolling: tuple[ClipEnrolment, MeasureVoice] | None = None
        self._aheads: dict[int | None, AheadWork] = {}  # by channel
        self._events: list[Event] = []
        self._work: deque[Work] = deque()
        self._last_id = 0
        self._muted_at: int | None = None  # where `end_turn` was called

    # --- input ------------------------------------------------------------------------------------

    def receive_audio(self, chunk: Samples) -> None:
        """Buffer float32 samples at 16 kHz, any number of them; then call `work_to_do`.

        Args:
            chunk: mono, (N,); (N, C) where channels are heard separately.

        Raises:
            ProtocolMisuse: after `receive_eof`, in a session without audio, or samples of another kind.
        """
        if self._audio.eof:
            raise ProtocolMisuse("expected no audio after receive_eof, got a chunk")
        if self._audio.text_only:
            raise ProtocolMisuse(
                "expected no audio in a text-only session (without VAD and turns), got a chunk"
            )
        self._audio.check(chunk)
        self._audio.receive(chunk)

    def submit(self, given: ClientInput, problem: str | None = None) -> None:
        """Queue an input behind the audio received so far; then call `work_to_do`.

        It takes effect once all earlier audio and inputs are processed, so the outcome does not depend on how
        long work takes. The span of an appended turn may lie ahead of the audio: the turn and all later
        inputs wait for it. An invalid input changes nothing and is reported as `InputRejected`.

        A speaker correction reports the turn and all turns after it again, revised. The clustering keeps the
        corrected turn as it is, but does not learn from it. An enrolment names a voice from then on: a turn's
        speaker in all turns, earlier ones included; the voice of a clip from the next turn on, and in the
        turns that the clustering then moves to it.

        Args:
            given: the input.
            problem: why the caller rejects it, to be reported in input order; None if it does not.

        Raises:
            ProtocolMisuse: after `receive_eof`.
        """
        if self._audio.eof:
            raise ProtocolMisuse("expected no input after receive_eof, got one")
        self._input_queue.add(given, problem)

    @property
    def waiting_samples(self) -> int:
        """Number of samples that wait until a result tells whether a turn has ended."""
        return self._audio.waiting

    @property
    def speaking(self) -> bool:
        """Whether a turn that is found in the audio has begun and not ended."""
        return not (self._audio.idle or self._audio.takes_turns)

    def end_turn(self) -> None:
        """End a turn that is being spoken: no audio comes for now; then call `work_to_do`.

        Whoever calls it has a clock: a microphone was muted, or a connection is slow. The turn ends where the
        audio received so far does, once its work is done, so that the outcome does not depend on how long
        work takes. Audio that comes later continues the session, and begins another turn.
        """
        self._muted_at = self._audio.received

    def receive_eof(self) -> None:
        """End the input; once all work is done, the last event is `SessionClosed`."""
        self._audio.eof = True

    @property
    def waiting(self) -> int:
        """The number of queued inputs."""
        return len(self._input_queue)

    @property
    def waiting_bytes(self) -> int:
        """The size of the queued inputs."""
        return self._input_queue.bytes

    @property
    def waiting_audio_bytes(self) -> int:
        """The size of the audio that is not segmented yet, or kept for appended turns that wait."""
        return self._audio.bytes

    @property
    def turn_awaits_audio(self) -> bool:
        """Whether an appended turn waits for its audio, and all later inputs for the turn."""
        return self._audio.turn_awaits_audio

    @property
    def input_queue_full(self) -> bool:
        """Whether the caller should stop submitting inputs until queued ones are processed."""
        return self._input_queue.input_queue_full

    # --- work and events --------------------------------------------------------------------------

    def work_to_do(self) -> list[Work]:
        """Process buffered audio until it needs work, and return that work; empty if there is none.

        Each call stops at the first window that needs work. So a caller that runs the work at once and calls
        again gets the same events for any chunking.
        """
        self._take_inputs()
        while not self._work and (self._end_muted_turn() or self._segment_window()):
            self._take_inputs()
        self._close_when_done()
        work = list(self._work)
        self._work.clear()
        return work

    def receive_result(self, work: Work, result: Result) -> None:
        """Process the result of `work`; analyses may return in any order.

        Raises:
            ProtocolMisuse: a result of the wrong type, or of work that is not running.
        """
        match work, result:
            case AnalyzeSegment(), Analysis() | Failure():
                if work.ahead:
                    self._receive_ahead(work, result)
                elif work.segment.final:
                    self._pending[work.segment.index].analysis = result
                    self._analyze_next(work.segment.channel)
                    self._classify_next()
                else:
                    self._receive_partial(work, result)
            case SegmentSpeakers(), SpeakerActivity() | Failure():
                self._receive_speakers(work.speech, result)
            case ClassifyTurn(ahead=True), Classification() | Failure():
                self._receive_emotion_ahead(work, result)
            case ClassifyTurn(provisional=True), Classification() | Failure():
                self._receive_provisional(work, result)
            case ClassifyTurn(), Classification() | Failure():
                self._receive_classification(work, result)
            case MeasureVoice(), MeasuredVoice() | Failure():
                self._receive_voice(work, result)
            case _:
                raise ProtocolMisuse(
                    f"expected the result of a {type(work).__name__}, got a {type(result).__name__}"
                )

    def events_received(self) -> list[Event]:
        """Return the events since the last call, in order."""
        events, self._events = self._events, []
        return events

    def snapshot(self) -> Snapshot:
        """Return the session after its last finished turn, or as it is now if no turn is under way."""
        if (self._closed or self._audio.idle) and not (self._pending or self._tracker.busy):
            self._audio.add_resume_point()
            self._update_snapshot()
        return self._snapshot

    def _update_snapshot(self) -> None:
        """Take a new snapshot if no turn is under way and the audio has a matching resume point."""
        conversation, done = self._tracker.settled
        if not self._tracker.busy and (mark := self._audio.resume_point(conversation.turns)) is not None:
            self._snapshot = Snapshot(
                conversation, mark, self._failed, done, self._reported, self._inputs_done
            )

    def _report(self, event: LastingEvent) -> None:
        self._events.append(event)
        self._reported += 1

    # --- the client's inputs ----------------------------------------------------------------------

    def _take_inputs(self) -> None:
        """Process queued inputs while all earlier audio and inputs are processed."""
        while not (self._appending or self._enrolling or self._pending or self._tracker.busy):
            if (taken := self._input_queue.take()) is None:
                return
            given = taken.given
            if isinstance(given, GivenTurn) and taken.problem is None:
                try:
                    self._tracker.check_speaker(given.speaker)
                except InputError as error:
                    self._finish_input(given, str(error))
                else:
                    self._begin_appended(given)
                continue
            if isinstance(given, ClipEnrolment) and taken.problem is None:
                self._enrolling = given, MeasureVoice(self._new_id(), given.clip)
                self._work.append(self._enrolling[1])
                continue
            self._finish_input(given, taken.problem)

    def _finish_input(
        self, given: ClientInput, problem: str | None, voice: MeasuredVoice | None = None
    ) -> None:
        """Carry out an input that needs no work, or whose work is done, and count it as processed."""
        try:
            if problem is not None:
                raise InputError(problem)
            match given:
                case TurnCorrection():
                    self._tracker.correct(given.turn, given.speaker)
                case SpeakerRenaming():
                    self._report(self._tracker.rename(given.speaker, given.name))
                case TurnEnrolment(turn, name, keep):
                    renamed, embedding, speech_s = self._tracker.enrol_turn(turn, name)
                    if renamed is not None:
                        self._report(renamed)
                    self._report(VoiceEnrolled(name, turn, embedding, speech_s, keep))
                case ClipEnrolment(name, _, keep) if voice is not None:
                    self._tracker.enrol_clip(name, voice.embedding)
                    self._report(VoiceEnrolled(name, None, voice.embedding, voice.speech_s, keep))
        except InputError as error:
            self._events.append(InputRejected(self._inputs_done + 1, given, str(error)))
        self._inputs_done += 1
        self._update_snapshot()
        self._classify_next()

    def _receive_voice(self, work: MeasureVoice, result: MeasuredVoice | Failure) -> None:
        """Enrol the voice of a clip, or reject it."""
        if self._enrolling is None or self._enrolling[1] is not work:
            raise ProtocolMisuse("expected the result of the running measurement, got another one")
        (given, _), self._enrolling = self._enrolling, None
        if isinstance(result, Failure):
            self._finish_input(given, result.message)
        else:
            self._finish_input(given, None, result)

    def _begin_appended(self, turn: GivenTurn) -> None:
        self._appending, index = turn, self._tracker.current.turns
        if turn.start is None or turn.end is None:
            self._pending[index] = PendingTurn(None, turn, Analysis(None, None, Features(None)))
        else:
            self._take_segments(self._audio.request(index, turn.start, turn.end))
        self._classify_next()

    def _finish_appended(self) -> None:
        """Count the appended turn, classified or failed, as processed."""
        if self._appending is not None:
            self._appending = None
            self._inputs_done += 1

    # --- audio ------------------------------------------------------------------------------------

    def _end_muted_turn(self) -> bool:
        """End the running turn where `end_turn` was called; return False if that is not reached yet."""
        if self._muted_at is None or not self._audio.settled(self._muted_at):
            return False
        self._muted_at = None
        self._take_segments(self._audio.interrupt())
        return True

    def _segment_window(self) -> bool:
        """Segment one window; return False if there is none, or if an input comes first."""
        found = None if self._enrolling else self._audio.advance(self._input_queue.next_position)
        if found is None:
            return False
        self._take_segments(found)
        if self._audio.exhausted:
            self._classify_next()  # given turns beyond the audio have failed
        return True

    def _take_segments(self, found: Sequence[SegmenterOutput]) -> None:
        for item in found:
            if isinstance(item, SpeechSegment):
                self._analyze(item)
            elif isinstance(item, RunningSpeech):
                self._work.append(SegmentSpeakers(self._new_id(), item))
            else:
                self._events.append(item)

        for index in self._audio.missing:
            given = self._given_turn(index)
            start = given.start or 0
            message = (
                f"turn {index + 1} begins at {start / SAMPLE_RATE:.2f} s: expected a turn within the audio, "
                f"which ends at {self._audio.received / SAMPLE_RATE:.2f} s"
            )
            self._pending[index] = PendingTurn(None, given, Failure(message))

    def _receive_speakers(self, speech: RunningSpeech, result: SpeakerActivity | Failure) -> None:
        """Tell the segmenter who speaks; if it could not be told, nobody new does."""
        if isinstance(result, Failure):
            nobody = np.zeros((0, LOCAL_SPEAKERS), dtype=bool)
            result = SpeakerActivity(speech.samples_from, None, nobody, None)
        self._audio.hear(speech, result)

    def _analyze(self, segment: SpeechSegment) -> None:
        """Request the analysis of a segment."""
        given, channel = self._given_turn(segment.index), segment.channel
        work = AnalyzeSegment(
            self._new_id(),
            segment,
            given.text is None,
            given.speaker is None and (channel is None or self._channels[channel] is None),
            self._language,
            self._likely_language(channel),
            self._words,
        )
        if segment.final:
            ahead = self._aheads.pop(channel, None)
            if ahead and ahead.matches(segment):
                self._aheads[channel], ahead.ended = ahead, True
            else:
                ahead = None
            earlier = self._awaits_analysis(channel)
            pending = self._pending[segment.index] = PendingTurn(segment, given)
            if earlier and self._detect_language:
                pending.waiting = work
                return
            if ahead and ahead.analysis:
                ahead.decided_at = segment.decided_at
                pending.analysis = replace(
                    ahead.analysis, elapsed_ms=ahead.late_ms(ahead.analysis.elapsed_ms)
                )
                self._classify_next()
                return
            if ahead:
                work = replace(work, begun=ahead.work.id)
        elif segment.paused:
            self._begin_ahead(work)
            return
        elif self._pending:
            return  # earlier turns come first
        elif self._partial is None:
            self._partial = work
        else:
            return
        self._work.append(work)

    def _awaits_analysis(self, channel: int | None) -> bool:
        """Return whether a turn of the channel has been found and not yet analysed."""
        return any(p.analysis is None and p.channel == channel for p in self._pending.values())

    def _likely_language(self, channel: int | None) -> str | None:
        """Return the language of the channel's last analysed turn that has one.

        It is None unless languages are detected.
        """
        if not self._detect_language:
            return None
        for _, pending in sorted(self._pending.items(), reverse=True):
            if pending.channel != channel:
                continue
            heard = pending.analysis.hypothesis if isinstance(pending.analysis, Analysis) else None
            if heard is not None and heard.language is not None:
                return heard.language
        now = self._tracker.current
        return now.language if channel is None else now.channels.language(channel)

    def _analyze_next(self, channel: int | None) -> None:
        """Request the analysis that waited for the language of the turn before it in its channel."""
        pending = [p for _, p in sorted(self._pending.items()) if p.waiting and p.channel == channel]
        ahead = self._aheads.get(channel)
        if pending and pending[0].waiting:
            self._work.append(replace(pending[0].waiting, likely=self._likely_language(channel)))
            pending[0].waiting = None
        elif ahead and ahead.waiting:
            ahead.work = replace(ahead.work, likely=self._likely_language(channel))
            ahead.waiting = False
            self._work.append(ahead.work)

    # --- classification ---------------------------------------------------------------------------

    def _classify_next(self) -> None:
        """Start the classification of the next turn, unless one is running or none is ready."""
        tracker = self._tracker
        while not tracker.running:
            analyzed = tracker.next_turn()
            if analyzed is None:
                index = tracker.current.turns
                pending = self._pending.get(index)
                if pending is None or pending.analysis is None:
                    return
                if isinstance(pending.analysis, Failure):
                    self._fail(index, pending.analysis.message)
                else:
                    tracker.accept(tracker.identify(index, pending.given, pending.segment, pending.analysis))
            elif analyzed.classifiable:
                self._classify(analyzed)
            else:
                self._fail(analyzed.turn.index, "expected words or a voice to classify, got neither")

    def _classify(self, analyzed: AnalyzedTurn) -> None:
        """Classify a turn, or take the result if it was classified ahead, in the same conversation."""
        now, ahead = self._tracker.current, self._aheads.get(analyzed.turn.channel)
        begun = ahead.classify if ahead else None
        if ahead and begun and same_input(begun, analyzed, now):
            del self._aheads[analyzed.turn.channel]
            if ahead.classification:
                work = self._tracker.start(self._new_id(), analyzed)
                before = ahead.analysis.elapsed_ms if ahead.analysis else 0.0
                after = ahead.late_ms(before + ahead.classification.elapsed_ms)
                elapsed_ms = after - ahead.late_ms(before)
                self._receive_classification(work, replace(ahead.classification, elapsed_ms=elapsed_ms))
            else:
                self._work.append(self._tracker.start(self._new_id(), analyzed, begun=begun.id))
        else:
            self._work.append(self._tracker.start(self._new_id(), analyzed))

    def _receive_classification(self, work: ClassifyTurn, result: Classification | Failure) -> None:
        if not self._tracker.is_running(work):
            raise ProtocolMisuse(
                f"expected the result of the running classification, got one of turn {work.turn.index}"
            )
        if isinstance(result, Failure):
            self._fail(work.turn.index, result.message)
        else:
            # 1. Count the event, 2. count the input that it completes, 3. take a snapshot that includes both.
            self._report(self._tracker.complete(result))
            if self._pending.pop(work.turn.index, None) is not None:
                self._finish_appended()
            self._update_snapshot()
        self._classify_next()

    def _fail(self, index: int, message: str) -> None:
        """Report a failed turn; the conversation continues without it."""
        segment = self._pending[index].segment if index in self._pending else None
        start, end, channel = (segment.start, segment.end, segment.channel) if segment else (None, None, None)
        self._report(TurnFailed(index, start, end, message, channel))
        self._failed += 1
        self._tracker.skip(index)
        if self._pending.pop(index, None) is not None:
            self._finish_appended()
        self._update_snapshot()

    # --- ahead of the end -------------------------------------------------------------------------

    @property
    def held_for(self) -> AnalyzeSegment | None:
        """The unfinished work on a pause that decides whether the turn has ended, None if nothing waits."""
        for channel, ahead in sorted(self._aheads.items(), key=lambda item: item[0] or 0):
            undone = ahead.analysis is None and not ahead.waiting
            if undone and self._audio.awaits_words_of(channel):
                return ahead.work
        return None

    def _begin_ahead(self, work: AnalyzeSegment) -> None:
        """Request the analysis of a turn that may have ended."""
        if not self._adaptive and self._pending:
            return  # earlier turns come first
        channel = work.segment.channel
        self._aheads[channel] = ahead = AheadWork(replace(work, awaited=self._adaptive))
        ahead.waiting = self._detect_language and self._awaits_analysis(channel)
        if not ahead.waiting:
            self._work.append(ahead.work)

    def _receive_ahead(self, work: AnalyzeSegment, result: Analysis | Failure) -> None:
        """Keep an analysis for the turn that may have ended, and request its classification."""
        channel = work.segment.channel
        ahead = self._aheads.get(channel)
        if ahead is None or ahead.work is not work:
            return  # speech went on, or the turn ended before
        index = work.segment.index
        heard = result.hypothesis if isinstance(result, Analysis) else None
        if isinstance(result, Failure):
            del self._aheads[channel]  # it will be done, or fail, in its time
        elif not ahead.ended:
            ahead.analysis = result
            if self._is_next(index):
                ahead.guess = guess = self._tracker.identify(
                    index, self._given_turn(index), work.segment, result
                )
                if guess.analyzed.classifiable and not guess.corrections:
                    self._classify_ahead(ahead, guess)
        if work.awaited:
            needed_ms = needed_silence_ms(heard, self._endpointing)
            self._take_segments(self._audio.decide(work.segment, needed_ms))

    def _classify_ahead(self, ahead: AheadWork, guess: IdentifiedTurn) -> None:
        before, analyzed = guess.conversation, guess.analyzed
        ahead.classify = ClassifyTurn(
            self._new_id(), analyzed.turn, analyzed.features, before.past, before.state, ahead=True
        )
        self._work.append(ahead.classify)
        if self._partials and analyzed.turn.text:
            self._report_partial(guess, None)

    def _receive_emotion_ahead(self, work: ClassifyTurn, result: Classification | Failure) -> None:
        ahead = self._aheads.get(work.turn.channel)
        if ahead is None or ahead.classify is not work:
            return
        if isinstance(result, Failure):
            ahead.classify = None
            return
        ahead.classification = result
        if self._partials and ahead.guess and work.turn.text and self._is_next(work.turn.index):
            self._report_partial(ahead.guess, result.emotion)

    # --- partial turns ----------------------------------------------------------------------------

    def _receive_partial(self, work: AnalyzeSegment, result: Analysis | Failure) -> None:
        """Report a partial turn and request its classification, if all earlier turns are finished."""
        self._partial = None
        index = work.segment.index
        if isinstance(result, Failure) or not self._is_next(index):
            return
        guess = self._tracker.identify(index, self._given_turn(index), work.segment, result)
        before, analyzed = guess.conversation, guess.analyzed
        if analyzed.turn.text:
            self._report_partial(guess, None)
            self._partial = ClassifyTurn(
                self._new_id(), analyzed.turn, analyzed.features, before.past, before.state, provisional=True
            )
            self._guess = guess
            self._work.append(self._partial)

    def _receive_provisional(self, work: ClassifyTurn, result: Classification | Failure) -> None:
        """Report the emotion of a partial turn; its new conversation state is discarded."""
        if work is not self._partial:
            return
        self._partial = None
        if isinstance(result, Classification) and self._guess and self._is_next(work.turn.index):
            self._report_partial(self._guess, result.emotion)

    def _is_next(self, index: int) -> bool:
        """Return whether turn `index` is still being spoken and all earlier turns are finished."""
        return index not in self._pending and index == self._tracker.current.turns and not self._tracker.busy

    def _report_partial(self, guess: IdentifiedTurn, emotion: Emotion | None) -> None:
        turn = guess.analyzed.turn
        assert turn.start is not None and turn.end is not None
        name = guess.conversation.names[turn.speaker]
        self._events.append(
            PartialTurn(turn.index, name, turn.text, turn.start, turn.end, emotion, turn.channel)
        )

    # --- end --------------------------------------------------------------------------------------

    def _close_when_done(self) -> None:
        """Report the end, once, when all audio, inputs and turns are processed."""
        inputs = self._input_queue or self._appending or self._enrolling
        done = not (self._work or self._pending or self._tracker.busy or inputs)
        if self._audio.eof and self._audio.exhausted and done and not self._closed:
            self._closed = True
            now, failed = self._tracker.current, self._failed
            closed = SessionClosed(
                self._audio.received, now.turns - failed, failed, now.speakers, now.summary
            )
            self._report(closed)

    def _given_turn(self, index: int) -> GivenTurn:
        if self._appending is not None:
            return self._appending
        return self._given[index] if self._given is not None else GivenTurn(None)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id
