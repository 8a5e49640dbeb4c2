"""The conversation so far, as a value, and its way from turn to turn.

`Conversation` is what is remembered after a turn. `ConversationTracker` moves it on: it decides who spoke,
asks for one classification at a time in turn order, keeps what a late speaker correction needs, and replays
from there. Partial turns are read against the same value and leave no trace in it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_erc.audio import SAMPLE_RATE
from stream_erc.core.diarization import ClusteringState, OnlineClustering
from stream_erc.core.work import Analysis, Classification, ClassifyTurn, ConversationState
from stream_erc.events import EmotionEvent, Features, GivenTurn, Latency, SpeakerRenamed, SpeechSegment, Turn
from stream_erc.exceptions import InputError

PAST_TURNS = 8
"""How many past turns' words are kept for the text encoder."""


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """What is remembered of the conversation after a turn: one immutable value.

    Attributes:
        turns: how many turns are behind.
        past: (speaker, text) of the last turns, oldest first.
        names: the speakers' names by index.
        clustering: voices heard so far.
        state: the network's memory.
        pinned: turns whose speaker was said from outside; the clustering does not move them.
        spoken: how many turns each speaker has, by index.
        renamed: (name that a voice was given, name that it goes by now).
    """

    turns: int = 0
    past: tuple[tuple[int, str], ...] = ()
    names: tuple[str, ...] = ()
    clustering: ClusteringState | None = None
    state: ConversationState | None = None
    pinned: frozenset[int] = frozenset()
    spoken: tuple[int, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def memory(self) -> "Memory":
        """What a correction goes back to."""
        return Memory(self.past, self.state, self.spoken)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The names of those who have a turn, by order of appearance."""
        return tuple(name for name, turns in zip(self.names, self.spoken, strict=False) if turns)


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The part of a conversation that every turn changes; fields as in `Conversation`."""

    past: tuple[tuple[int, str], ...]
    state: ConversationState | None
    spoken: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HeardTurn:
    """A turn ready to be classified: everything about it but its emotion."""

    turn: Turn
    features: Features
    latency: Latency
    revision: int = 0

    @property
    def readable(self) -> bool:
        """Whether there are words or a voice to read an emotion from."""
        acoustic = self.features.acoustic
        return bool(self.turn.text) or (acoustic is not None and not bool(np.isnan(acoustic).all()))


@dataclass(frozen=True, slots=True, eq=False)
class Identified:
    """A turn with its speaker, not yet part of the conversation.

    Attributes:
        now: the conversation with that voice in it.
        heard: the turn.
        corrections: (earlier turn, voice it turned out to be).
    """

    now: Conversation
    heard: HeardTurn
    corrections: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A turn that is being classified, or has been, and the memory before it."""

    before: Memory
    heard: HeardTurn


class ConversationTracker:
    """A conversation on its way through its turns.

    Args:
        clustering: tells voices apart; None where speakers are always given.
        rewind_turns: how many past turns a correction can reach.
        conversation: where to go on from.
        done: its last turns, which a correction can still reach.
        known: names that are given, and so are not free for voices without one.

    Attributes:
        settled: the conversation and its last turns after the last turn for which nothing is being redone.
    """

    def __init__(
        self,
        clustering: OnlineClustering | None,
        rewind_turns: int,
        conversation: Conversation | None = None,
        done: Sequence[Step] = (),
        known: frozenset[str] = frozenset(),
    ) -> None:
        taken = any(name.startswith("speaker_") for name in known)
        self._voice = "voice" if taken else "speaker"
        self.now = conversation or Conversation()
        self._clustering = clustering
        self._done: deque[Step] = deque(done, maxlen=rewind_turns)
        self.settled = (self.now, tuple(self._done))
        self._queue: deque[HeardTurn] = deque()
        self._running: tuple[Step, ClassifyTurn] | None = None

    @property
    def busy(self) -> bool:
        """Whether a turn is being classified, or waits to be, for the first time or again."""
        return self._running is not None or bool(self._queue)

    @property
    def running(self) -> bool:
        """Whether a turn is being classified."""
        return self._running is not None

    def identify(
        self, index: int, given: GivenTurn, segment: SpeechSegment | None, analysis: Analysis
    ) -> Identified:
        """Decide who spoke turn `index`; nothing is remembered until `accept`."""
        heard = analysis.hypothesis.text if analysis.hypothesis else ""
        text = (heard if given.text is None else given.text).strip()
        names, clustering = self.now.names, self.now.clustering
        corrections: tuple[tuple[int, int], ...] = ()
        if given.speaker is not None:
            name = given.speaker
        elif self._clustering is not None and segment is not None:
            clustering, assignment = self._clustering.assign(
                clustering or self._clustering.initial(),
                analysis.speaker_embedding,
                segment.end - segment.start,
                index,
            )
            name, corrections = self._voice_name(assignment.speaker), assignment.corrections
        else:
            name = self._voice_name(0)
        names = _with(names, name)
        start, end = (segment.start, segment.end) if segment else (None, None)
        turn = Turn(index, names.index(name), text, start, end)
        turn_heard = HeardTurn(turn, analysis.features, _latency(segment, analysis))
        return Identified(replace(self.now, names=names, clustering=clustering), turn_heard, corrections)

    def accept(self, identified: Identified) -> None:
        """Take a turn over for classification, and the earlier turns that its voice put right before it."""
        self.now = identified.now
        reachable = {step.heard.turn.index for step in self._done} - self.now.pinned
        moved = {turn: self._voice_name(who) for turn, who in identified.corrections if turn in reachable}
        if moved:
            self._rewind(moved)
        self._queue.append(identified.heard)

    def next_heard(self) -> HeardTurn | None:
        """The next turn to classify, oldest first."""
        return self._queue.popleft() if self._queue else None

    def ask(self, work_id: int, heard: HeardTurn) -> ClassifyTurn:
        """What has to be classified for `heard`, from the conversation as it is now."""
        work = ClassifyTurn(work_id, heard.turn, heard.features, self.now.past, self.now.state)
        self._running = Step(self.now.memory, heard), work
        return work

    def is_running(self, work: ClassifyTurn) -> bool:
        """Return whether `work` is the running classification."""
        return self._running is not None and self._running[1] is work

    def remember(self, result: Classification) -> EmotionEvent:
        """Take over the state after the running turn, and report the turn."""
        assert self._running is not None
        (step, _), self._running = self._running, None
        heard, turn = step.heard, step.heard.turn
        total = heard.latency.total + result.elapsed_ms
        latency = replace(heard.latency, emotion=result.emotion_ms, total=total)
        past = (*step.before.past, (turn.speaker, turn.text)) if turn.text else step.before.past
        turns = max(self.now.turns, turn.index + 1)
        counts = [*step.before.spoken, *[0] * (len(self.now.names) - len(step.before.spoken))]
        counts[turn.speaker] += 1
        self.now = replace(
            self.now, turns=turns, past=past[-PAST_TURNS:], state=result.state, spoken=tuple(counts)
        )
        self._done.append(step)
        self._settle()
        return EmotionEvent(turn, self.now.names[turn.speaker], result.emotion, latency, heard.revision)

    def skip(self, index: int) -> None:
        """Go on without turn `index`."""
        self._running = None
        self.now = replace(self.now, turns=max(self.now.turns, index + 1))
        self._settle()

    def correct(self, turn: int, speaker: str) -> None:
        """Rewind to before `turn` and line up that turn, spoken by `speaker`, and all after it.

        Raises:
            InputError: no such finished turn, or it is out of reach.
        """
        known = [step.heard.turn.index for step in self._done]
        if turn not in known:
            held = f"{min(known)} to {max(known)}" if known else "none yet"
            raise InputError(f"expected a turn that can still be corrected ({held}), got {turn}")
        self.now = replace(self.now, pinned=frozenset({t for t in self.now.pinned if t in known} | {turn}))
        self._rewind({turn: speaker})

    def rename(self, speaker: str, name: str) -> SpeakerRenamed:
        """Call a speaker by another name, in the turns before and after.

        Raises:
            InputError: nobody has the name, or somebody else has the new one.
        """
        names = self.now.names
        if speaker not in names:
            known = ", ".join(names) or "nobody yet"
            raise InputError(f"expected the name of a speaker ({known}), got {speaker!r}")
        if name in names and name != speaker:
            raise InputError(f"expected a name that no other speaker has, got {name!r}")
        self.now = _renamed(self.now, speaker, name)
        self.settled = (_renamed(self.settled[0], speaker, name), self.settled[1])
        return SpeakerRenamed(names.index(speaker), speaker, name)

    def _rewind(self, speakers: dict[int, str]) -> None:
        """Go back to before the first of some turns; line it and all after it up, with these speakers."""
        assert self._running is None
        names = self.now.names
        for name in speakers.values():
            names = _with(names, name)
        steps = list(self._done)
        first = next(k for k, step in enumerate(steps) if step.heard.turn.index in speakers)
        stale = [replace(step.heard, revision=step.heard.revision + 1) for step in steps[first:]]
        for k, heard in enumerate(stale):
            if heard.turn.index in speakers:
                speaker = names.index(speakers[heard.turn.index])
                stale[k] = replace(heard, turn=replace(heard.turn, speaker=speaker))
        self._queue = deque([*stale, *self._queue])
        self._done = deque(steps[:first], maxlen=self._done.maxlen)
        before = steps[first].before
        self.now = replace(self.now, past=before.past, state=before.state, spoken=before.spoken, names=names)

    def _voice_name(self, speaker: int) -> str:
        """What a voice is called whose name nobody gave."""
        name = f"{self._voice}_{speaker + 1}"
        return dict(self.now.renamed).get(name, name)

    def _settle(self) -> None:
        if not self.busy:
            self.settled = (self.now, tuple(self._done))


def _latency(segment: SpeechSegment | None, analysis: Analysis) -> Latency:
    """The latency known before classification."""
    endpointing = (segment.decided_at - segment.end) * 1000 / SAMPLE_RATE if segment else 0.0
    return Latency(
        endpointing=endpointing,
        asr=analysis.asr_ms,
        features=analysis.features_ms,
        total=endpointing + analysis.elapsed_ms,
    )


def _renamed(conversation: Conversation, speaker: str, name: str) -> Conversation:
    """The conversation in which `speaker` goes by another name."""
    first = {now: given for given, now in conversation.renamed}.get(speaker, speaker)
    others = tuple(pair for pair in conversation.renamed if pair[0] != first)
    return replace(
        conversation,
        names=tuple(name if known == speaker else known for known in conversation.names),
        renamed=(*others, (first, name)),
    )


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)
