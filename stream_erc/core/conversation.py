"""The conversation so far, as a value, and the tracker that advances it turn by turn.

`Conversation` is the state after a turn. `ConversationTracker` advances it: it decides who spoke, requests
one classification at a time in turn order, keeps the states that a late speaker correction needs, and replays
the turns from there. Partial turns are classified from the same value and leave no trace in it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream_erc.audio import SAMPLE_RATE
from stream_erc.core.channels import ChannelMemory
from stream_erc.core.clustering_state import ClusteringState
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.enrolment import MIN_SPEECH_S
from stream_erc.core.summary import Tally, summarize
from stream_erc.core.work import Analysis, Classification, ClassifyTurn, ConversationState
from stream_erc.events import (
    EmotionEvent,
    Features,
    GivenTurn,
    Hypothesis,
    KnownVoice,
    Latency,
    SpeakerRenamed,
    SpeakerSummary,
    SpeechSegment,
    Turn,
    Vector,
    Word,
    check_voice_name,
    unit,
)
from stream_erc.exceptions import InputError, VoicesError

MAX_SPEAKERS = 256
"""Names in a session: of 100 characters each, with their tallies, about 0.3 MB."""

PAST_TURNS = 8
"""Past turns whose words are kept for the text encoder."""


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """The state of the conversation after a turn: one immutable value.

    Attributes:
        turns: the number of finished turns.
        past: (speaker, text) of the last turns, oldest first.
        names: the speakers' names by index.
        clustering: the voices so far.
        state: the network's memory.
        pinned: turns whose speaker the client corrected; the clustering does not move them.
        tally: the finished turns, counted by speaker.
        renamed: (original name, current name) of each renamed voice.
        language: the language of the last turn with words, None if no recognizer told one.
        channels: voices and languages by channel, where channels are heard separately.
        known: the number of voices that were known before any turn; they have the first indices in
            `clustering`, and the numbers of unnamed speakers begin after them.
    """

    turns: int = 0
    past: tuple[tuple[int, str], ...] = ()
    names: tuple[str, ...] = ()
    clustering: ClusteringState | None = None
    state: ConversationState | None = None
    pinned: frozenset[int] = frozenset()
    tally: Tally = field(default_factory=Tally)
    renamed: tuple[tuple[str, str], ...] = ()
    language: str | None = None
    channels: ChannelMemory = field(default_factory=ChannelMemory)
    known: int = 0

    @property
    def memory(self) -> "Memory":
        """The part that a correction restores."""
        return Memory(self.past, self.state, self.tally)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The names of all speakers with a turn, by order of appearance."""
        spoken = zip(self.names, self.tally.speakers, strict=False)
        return tuple(dict.fromkeys(name for name, tally in spoken if tally.turns))

    @property
    def summary(self) -> tuple[SpeakerSummary, ...]:
        """The whole of the conversation so far, by speaker."""
        return summarize(self.tally, self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The part of a conversation that every turn changes; fields as in `Conversation`."""

    past: tuple[tuple[int, str], ...]
    state: ConversationState | None
    tally: Tally


@dataclass(frozen=True, slots=True, eq=False)
class AnalyzedTurn:
    """A turn that is ready for classification: all but its emotion."""

    turn: Turn
    features: Features
    latency: Latency
    revision: int = 0

    @property
    def classifiable(self) -> bool:
        """Whether there are words or acoustic features to classify."""
        acoustic = self.features.acoustic
        return bool(self.turn.read) or (acoustic is not None and not bool(np.isnan(acoustic).all()))


@dataclass(frozen=True, slots=True, eq=False)
class IdentifiedTurn:
    """A turn with its speaker, not yet part of the conversation.

    Attributes:
        conversation: the conversation after this voice was added.
        analyzed: the turn.
        corrections: (earlier turn, its new voice) for each turn that the clustering moved.
    """

    conversation: Conversation
    analyzed: AnalyzedTurn
    corrections: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A turn that is being classified or was classified, and the memory before it."""

    before: Memory
    analyzed: AnalyzedTurn


class ConversationTracker:
    """Advances a conversation turn by turn, and rewinds it for corrections.

    Args:
        clustering: tells voices apart; None if all speakers are given.
        rewind_turns: the number of past turns that a correction can reach.
        conversation: the conversation to resume.
        done: its last turns, which a correction can still reach.
        known: given names, which must not be used for unnamed voices.
        channels: the names of the channels, where they are heard separately.

    Attributes:
        current: the conversation now.
        settled: the conversation and its last turns when the tracker was last idle.
    """

    def __init__(
        self,
        clustering: OnlineClustering | None,
        rewind_turns: int,
        conversation: Conversation | None = None,
        done: Sequence[Step] = (),
        known: frozenset[str] = frozenset(),
        channels: Sequence[str | None] = (),
    ) -> None:
        taken = any(name.startswith("speaker_") for name in known)
        self._voice = "voice" if taken else "speaker"
        self.current = conversation or Conversation()
        self._clustering, self._channels = clustering, channels
        self._done: deque[Step] = deque(done, maxlen=rewind_turns)
        self.settled = (self.current, tuple(self._done))
        self._queue: deque[AnalyzedTurn] = deque()
        self._running: tuple[Step, ClassifyTurn] | None = None

    @property
    def busy(self) -> bool:
        """Whether a turn is being classified or queued for classification."""
        return self._running is not None or bool(self._queue)

    @property
    def running(self) -> bool:
        """Whether a turn is being classified."""
        return self._running is not None

    def identify(
        self, index: int, given: GivenTurn, segment: SpeechSegment | None, analysis: Analysis
    ) -> IdentifiedTurn:
        """Decide who spoke turn `index`, without changing the tracker; see `accept`."""
        heard = (analysis.hypothesis if given.text is None else None) or Hypothesis(given.text or "")
        names, clustering, channels = self.current.names, self.current.clustering, self.current.channels
        channel = segment.channel if segment else None
        named = None if channel is None else self._channels[channel]
        corrections: tuple[tuple[int, int], ...] = ()
        unsure = False
        if given.speaker is not None:
            name = given.speaker
        elif named is not None:
            name = dict(self.current.renamed).get(named, named)
        elif self._clustering is not None and segment is not None and channel is not None:
            duration = segment.end - segment.start
            channels, assignment = channels.assign(
                self._clustering, channel, analysis.speaker_embedding, duration, index
            )
            name, corrections = self._voice_name(assignment.speaker), assignment.corrections
            unsure = assignment.unsure
        elif self._clustering is not None and segment is not None:
            clustering = clustering or self._clustering.initial()
            silent = sum(name not in (None, *self.current.speakers) for name in clustering.names)
            clustering, assignment = self._clustering.allowing(silent).assign(
                clustering,
                analysis.speaker_embedding,
                segment.end - segment.start,
                index,
            )
            name, corrections = self._voice_name(assignment.speaker), assignment.corrections
            unsure = assignment.unsure
        else:
            name = self._voice_name(channel or 0)
        names = _with_name(names, name)
        start, end = (segment.start, segment.end) if segment else (None, None)
        turn = Turn(
            index,
            names.index(name),
            heard.text.strip(),
            start,
            end,
            heard.language,
            heard.translation,
            _shifted(heard.words, segment.samples_from if segment else 0),
            channel,
            segment.overlap if segment else 0.0,
            unsure,
        )
        analyzed = AnalyzedTurn(turn, analysis.features, _latency(segment, analysis))
        return IdentifiedTurn(
            replace(self.current, names=names, clustering=clustering, channels=channels),
            analyzed,
            corrections,
        )

    def accept(self, identified: IdentifiedTurn) -> None:
        """Queue a turn for classification, after the earlier turns whose speaker it corrects."""
        self.current = identified.conversation
        reachable = {step.analyzed.turn.index for step in self._done} - self.current.pinned
        moved = {turn: self._voice_name(who) for turn, who in identified.corrections if turn in reachable}
        if moved:
            self._rewind(moved)
        self._queue.append(identified.analyzed)

    def next_turn(self) -> AnalyzedTurn | None:
        """Remove and return the oldest queued turn, None if there is none."""
        return self._queue.popleft() if self._queue else None

    def start(self, work_id: int, analyzed: AnalyzedTurn, begun: int | None = None) -> ClassifyTurn:
        """Start the classification of `analyzed` and return its work."""
        work = ClassifyTurn(
            work_id, analyzed.turn, analyzed.features, self.current.past, self.current.state, begun=begun
        )
        self._running = Step(self.current.memory, analyzed), work
        return work

    def is_running(self, work: ClassifyTurn) -> bool:
        """Return whether `work` is the running classification."""
        return self._running is not None and self._running[1] is work

    def complete(self, result: Classification) -> EmotionEvent:
        """Advance the conversation past the running turn, and return the turn's event."""
        assert self._running is not None
        (step, _), self._running = self._running, None
        analyzed, turn = step.analyzed, step.analyzed.turn
        total = analyzed.latency.total + result.elapsed_ms
        latency = replace(analyzed.latency, emotion=result.emotion_ms, total=total)
        past = (*step.before.past, (turn.speaker, turn.read)) if turn.text else step.before.past
        turns = max(self.current.turns, turn.index + 1)
        channels = self.current.channels
        if turn.channel is not None and turn.language:
            channels = channels.with_language(turn.channel, turn.language)
        self.current = replace(
            self.current,
            turns=turns,
            past=past[-PAST_TURNS:],
            state=result.state,
            tally=step.before.tally.with_turn(turn, result.emotion),
            language=turn.language or self.current.language,
            channels=channels,
        )
        self._done.append(step)
        self._settle()
        return EmotionEvent(
            turn,
            self.current.names[turn.speaker],
            result.emotion,
            latency,
            analyzed.revision,
            tuple(dict.fromkeys(self.current.names[who] for who in step.before.tally.others(turn))),
        )

    def skip(self, index: int) -> None:
        """Advance past turn `index`, which failed."""
        self._running = None
        self.current = replace(self.current, turns=max(self.current.turns, index + 1))
        self._settle()

    def check_speaker(self, speaker: str | None) -> None:
        """Refuse another name in a session with many.

        Raises:
            InputError: there are `MAX_SPEAKERS` already.
        """
        names = self.current.names
        if speaker is not None and speaker not in names and len(names) >= MAX_SPEAKERS:
            raise InputError(f"expected at most {MAX_SPEAKERS} speakers in a session, got one more")

    def correct(self, turn: int, speaker: str) -> None:
        """Rewind to before `turn`, then queue it, with `speaker`, and all later turns again.

        Raises:
            InputError: no such finished turn, or it is out of reach.
        """
        known = [step.analyzed.turn.index for step in self._done]
        if turn not in known:
            held = f"{min(known)} to {max(known)}" if known else "none yet"
            raise InputError(f"expected a turn that can still be corrected ({held}), got {turn}")
        self.check_speaker(speaker)
        pinned = frozenset({t for t in self.current.pinned if t in known} | {turn})
        self.current = replace(self.current, pinned=pinned)
        self._rewind({turn: speaker})

    def rename(self, speaker: str, name: str) -> SpeakerRenamed:
        """Rename a speaker, in past and future turns.

        Raises:
            InputError: no speaker has the name, or another speaker has the new one.
        """
        names = self.current.names
        if speaker not in names:
            known = ", ".join(names) or "nobody yet"
            raise InputError(f"expected the name of a speaker ({known}), got {speaker!r}")
        if name in names and name != speaker:
            raise InputError(f"expected a name that no other speaker has, got {name!r}")
        return self._rename(speaker, name)

    def enrol_clip(self, name: str, embedding: Vector) -> None:
        """Make the voice of a clip known by its name, from the next turn on.

        Raises:
            VoicesError: an unusable name, or a session that does not tell voices apart.
        """
        self._check_enrolment(name)
        self._enrol(name, embedding, self._voice_of(name))

    def enrol_turn(self, turn: int, name: str) -> tuple[SpeakerRenamed | None, Vector, float]:
        """Name the speaker of a turn, whose voice is known from then on.

        If another speaker or a known voice has the name, both are one: their turns that a correction can
        still reach are queued again.

        Returns:
            The new name of the turn's speaker, None if it had that name; the turn's voice vector (D,); and
            the seconds of its speech.

        Raises:
            VoicesError: an unusable name, no such turn, one that is out of reach or too short, or one of
                another known voice.
        """
        self._check_enrolment(name)
        spoken, embedding = self._voice_in(turn)
        now = self.current.names[spoken.speaker]
        voice = self._voice_of(now)
        if now != name and voice is not None and self._known_name(voice) is not None:
            raise VoicesError(
                f"expected a turn of somebody who is not known yet, got turn {turn} of {now!r}: "
                "correct its speaker first"
            )
        renamed = None if now == name else self._rename(now, name)
        self._enrol(name, embedding, self._voice_of(name))
        first = self.current.names.index(name)
        others = (step.analyzed.turn for step in self._done)
        moved = {
            other.index: name
            for other in others
            if other.speaker != first and self.current.names[other.speaker] == name
        }
        if moved:
            self._rewind(moved)
        self._settle()
        return renamed, embedding, _seconds(spoken)

    def _check_enrolment(self, name: str) -> None:
        """Refuse a name that a known voice cannot have, and sessions that know no voices."""
        check_voice_name(name)
        if self._clustering is None:
            raise VoicesError("expected a session that tells voices apart, got one without")
        if self._channels:
            raise VoicesError("expected a session that hears one channel, got one that hears them separately")

    def _voice_in(self, turn: int) -> tuple[Turn, Vector]:
        """Return a turn and its voice vector (D,), or say why there is none."""
        state = self.current.clustering
        held = {} if state is None else dict(zip(state.recent_turns.tolist(), state.recent, strict=True))
        found = {t.index: t for step in self._done if (t := step.analyzed.turn).index in held}
        if turn not in found:
            reach = f"{min(found)} to {max(found)}" if found else "none"
            raise VoicesError(f"expected a turn whose voice is in memory ({reach}), got {turn}")
        embedding = unit(held[turn].astype(np.float32))
        if embedding is None or _seconds(found[turn]) < MIN_SPEECH_S:
            got = f"turn {turn} of {_seconds(found[turn]):.2f} s"
            raise VoicesError(f"expected a turn with at least {MIN_SPEECH_S:g} s of speech, got {got}")
        return found[turn], embedding

    def _enrol(self, name: str, embedding: Vector, voice: int | None) -> None:
        """Add an embedding to a voice, a new one if `voice` is None, and give it the name."""
        assert self._clustering is not None
        state = self.current.clustering or self._clustering.initial()
        before = state.speakers()
        state, known = self._clustering.enrol(state, name, embedding, voice), self.current.known
        if len(before) == known and state.speakers() == list(range(known + 1)):
            known += 1  # nobody else has spoken
        self.current = replace(self.current, clustering=state, known=known)
        self._settle()

    def _rename(self, speaker: str, name: str) -> SpeakerRenamed:
        """Rename a speaker, and merge the voice into that of a known voice with the new name.

        Raises:
            InputError: both are known voices.
        """
        event = SpeakerRenamed(self.current.names.index(speaker), speaker, name)
        state, mine, other = self.current.clustering, self._voice_of(speaker), self._voice_of(name)
        freed = None
        if mine is not None and other is not None and mine != other:
            assert state is not None and self._clustering is not None
            if self._known_name(mine) is not None:
                raise InputError(f"expected a name that no other voice has, got {name!r} for {speaker!r}")
            state, freed = self._clustering.merge(state, mine, other), self._numbered(mine)
        if state is not None:
            state = replace(state, names=tuple(name if n == speaker else n for n in state.names))
        self.current = replace(_renamed(self.current, speaker, name, freed), clustering=state)
        self._settle()
        return event

    def _rewind(self, speakers: dict[int, str]) -> None:
        """Rewind to before the first of the given turns, then queue it and all later turns again.

        Args:
            speakers: turn index -> its new speaker.
        """
        assert self._running is None
        names = self.current.names
        for name in speakers.values():
            names = _with_name(names, name)
        steps = list(self._done)
        first = next(k for k, step in enumerate(steps) if step.analyzed.turn.index in speakers)
        stale = [replace(step.analyzed, revision=step.analyzed.revision + 1) for step in steps[first:]]
        for k, analyzed in enumerate(stale):
            if analyzed.turn.index in speakers:
                speaker = names.index(speakers[analyzed.turn.index])
                unsure = analyzed.turn.unsure and analyzed.turn.index not in self.current.pinned
                stale[k] = replace(analyzed, turn=replace(analyzed.turn, speaker=speaker, unsure=unsure))
        self._queue = deque([*stale, *self._queue])
        self._done = deque(steps[:first], maxlen=self._done.maxlen)
        before = steps[first].before
        self.current = replace(
            self.current, past=before.past, state=before.state, tally=before.tally, names=names
        )

    def _voice_name(self, speaker: int) -> str:
        """Return the name of a voice."""
        name = self._numbered(speaker)
        return self._known_name(speaker) or dict(self.current.renamed).get(name, name)

    def _numbered(self, speaker: int) -> str:
        """Return the name that a voice has until it is given one."""
        return f"{self._voice}_{speaker + 1 - self.current.known}"

    def _known_name(self, speaker: int) -> str | None:
        """Return the name of a known voice, None for the others."""
        names = self.current.clustering.names if self.current.clustering is not None else ()
        return names[speaker] if speaker < len(names) else None

    def _voice_of(self, name: str) -> int | None:
        """Return the voice that has a name, None if none has."""
        state = self.current.clustering
        voices = state.speakers() if state is not None else []
        return next((voice for voice in voices if self._voice_name(voice) == name), None)

    def _settle(self) -> None:
        if not self.busy:
            self.settled = (self.current, tuple(self._done))


def with_voices(clustering: OnlineClustering, voices: Sequence[KnownVoice]) -> Conversation:
    """Return the conversation before any turn in which `voices` are known."""
    if not voices:
        return Conversation()
    state = clustering.initial()
    for voice in voices:
        state = clustering.enrol(state, voice.name, voice.embedding)
    return Conversation(clustering=state, known=len(state.speakers()))


def _latency(segment: SpeechSegment | None, analysis: Analysis) -> Latency:
    """Return the latency before classification."""
    endpointing = (segment.decided_at - segment.end) * 1000 / SAMPLE_RATE if segment else 0.0
    return Latency(
        endpointing=endpointing,
        asr=analysis.asr_ms,
        features=analysis.features_ms,
        total=endpointing + analysis.elapsed_ms,
    )


def _shifted(words: Sequence[Word], by: int) -> tuple[Word, ...]:
    """Return the words, `by` samples later."""
    return tuple(replace(word, start=word.start + by, end=word.end + by) for word in words)


def _seconds(turn: Turn) -> float:
    """Return the length of a turn in the audio, 0 without audio."""
    return ((turn.end or 0) - (turn.start or 0)) / SAMPLE_RATE


def _renamed(conversation: Conversation, speaker: str, name: str, freed: str | None = None) -> Conversation:
    """Return the conversation with `speaker` renamed; `freed` is a voice's first name that nobody has now."""
    first = {now: given for given, now in conversation.renamed}.get(speaker, speaker)
    others = tuple(pair for pair in conversation.renamed if pair[0] != first)
    return replace(
        conversation,
        names=tuple(name if known == speaker else known for known in conversation.names),
        renamed=(*others, (first, name)) if first != freed else others,
    )


def _with_name(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)
