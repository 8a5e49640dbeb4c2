"""The whole of a conversation, counted turn by turn: who spoke how much, with which emotions.

A `Tally` is a value like the rest of the conversation: a correction goes back to the one before the turn and
counts from there again, and a snapshot holds it. Its size depends on speakers and labels, not on turns.

Probabilities are summed in millionths, as they are on the wire, so that a sum does not depend on its order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from stream_erc.events import Emotion, EmotionShift, EmotionTotals, SpeakerSummary, Turn

PAST_SPANS = 32
"""Past turns that a turn can be found to interrupt, or to be interrupted by."""

MILLION = 1_000_000

Totals = tuple[str, int, int, int]
"""Of a label: name, turns that expressed it, their samples, and its summed probability in all turns."""

Span = tuple[int, int, int, int, int | None]
"""Of a turn: its index, speaker, first sample and end, and the speaker whom it interrupted."""


@dataclass(frozen=True, slots=True)
class SpeakerTally:
    """The turns of a speaker.

    Attributes:
        turns, samples: their number and length.
        emotions: the totals of each label, in the checkpoint's order.
        last: the label of the last one, None before the first; labels are positions in `emotions`, here and
            in `shifts`, since every past turn that a correction can reach is stored with a tally.
        shifts: (label, next label, how often) of turns of the speaker that follow one another.
        interruptions: (speaker, how often) of those who spoke when a turn began.
    """

    turns: int = 0
    samples: int = 0
    emotions: tuple[Totals, ...] = ()
    last: int | None = None
    shifts: tuple[tuple[int, int, int], ...] = ()
    interruptions: tuple[tuple[int, int], ...] = ()

    def with_turn(self, samples: int, emotion: Emotion) -> "SpeakerTally":
        """Return the tally with one more turn."""
        known = {totals[0]: totals for totals in self.emotions}
        for label, probability in emotion.probabilities.items():
            _, turns, spoken, summed = known.get(label, (label, 0, 0, 0))
            said = label == emotion.label
            known[label] = (
                label,
                turns + said,
                spoken + said * samples,
                summed + round(probability * MILLION),
            )
        last = list(known).index(emotion.label)
        shifts = {(before, after): count for before, after, count in self.shifts}
        if self.last is not None and self.last != last:
            shifts[self.last, last] = shifts.get((self.last, last), 0) + 1
        return replace(
            self,
            turns=self.turns + 1,
            samples=self.samples + samples,
            emotions=tuple(known.values()),
            last=last,
            shifts=tuple((before, after, count) for (before, after), count in shifts.items()),
        )

    @property
    def named_shifts(self) -> Iterator[tuple[str, str, int]]:
        """The shifts, with the labels' names."""
        for before, after, count in self.shifts:
            yield self.emotions[before][0], self.emotions[after][0], count

    def with_interruption(self, speaker: int) -> "SpeakerTally":
        """Return the tally with one more turn that began while `speaker` spoke."""
        counts = dict(self.interruptions)
        counts[speaker] = counts.get(speaker, 0) + 1
        return replace(self, interruptions=tuple(counts.items()))


@dataclass(frozen=True, slots=True)
class Tally:
    """The turns of a conversation so far.

    Attributes:
        speakers: by the speakers' indices.
        spans: the last turns with audio, in turn order.
    """

    speakers: tuple[SpeakerTally, ...] = ()
    spans: tuple[Span, ...] = ()

    def with_turn(self, turn: Turn, emotion: Emotion) -> "Tally":
        """Return the tally with one more turn."""
        tallies = [*self.speakers, *[SpeakerTally()] * (turn.speaker + 1 - len(self.speakers))]
        if turn.start is None or turn.end is None:
            tallies[turn.speaker] = tallies[turn.speaker].with_turn(0, emotion)
            return replace(self, speakers=tuple(tallies))
        tallies[turn.speaker] = tallies[turn.speaker].with_turn(turn.end - turn.start, emotion)
        spans = []
        for index, speaker, start, end, interrupted in self.spans:
            if interrupted is None and speaker != turn.speaker and turn.start < start < turn.end:
                interrupted = turn.speaker  # it was finished before the turn that it began in
                tallies[speaker] = tallies[speaker].with_interruption(interrupted)
            spans.append((index, speaker, start, end, interrupted))
        going_on = [span for span in self._speaking_at(turn) if span[2] < turn.start]
        mine = max(going_on, key=lambda span: span[2])[1] if going_on else None
        if mine is not None:
            tallies[turn.speaker] = tallies[turn.speaker].with_interruption(mine)
        spans.append((turn.index, turn.speaker, turn.start, turn.end, mine))
        return Tally(tuple(tallies), tuple(spans[-PAST_SPANS:]))

    def others(self, turn: Turn) -> tuple[int, ...]:
        """Return the other speakers whose earlier turns go on into `turn`, in the order of their turns."""
        return tuple(dict.fromkeys(span[1] for span in self._speaking_at(turn)))

    def _speaking_at(self, turn: Turn) -> Iterator[Span]:
        """Yield the earlier turns of others that have not ended when `turn` begins."""
        for span in self.spans:
            index, speaker, _, end, _ = span
            if index < turn.index and speaker != turn.speaker and turn.start is not None and end > turn.start:
                yield span


def summarize(tally: Tally, names: Sequence[str]) -> tuple[SpeakerSummary, ...]:
    """Return the summary of each speaker with a turn, in order of appearance.

    Args:
        tally: the turns.
        names: the speakers' names by index; several with one name are one speaker.
    """
    by_name: dict[str, list[int]] = {}
    for index, (name, spoken) in enumerate(zip(names, tally.speakers, strict=False)):
        if spoken.turns:
            by_name.setdefault(name, []).append(index)
    total = sum(spoken.samples for spoken in tally.speakers)
    return tuple(
        _summary(name, [tally.speakers[k] for k in indices], frozenset(indices), total)
        for name, indices in by_name.items()
    )


def _summary(name: str, tallies: Sequence[SpeakerTally], own: frozenset[int], total: int) -> SpeakerSummary:
    turns, samples = sum(t.turns for t in tallies), sum(t.samples for t in tallies)
    shifts = _added(((before, after), count) for t in tallies for before, after, count in t.named_shifts)
    often = sorted(shifts.items(), key=lambda item: -item[1])
    emotions = tuple(
        EmotionTotals(label, count, spoken, summed / turns / MILLION)
        for label, (count, spoken, summed) in _emotions(tallies).items()
    )
    return SpeakerSummary(
        name,
        turns,
        samples,
        samples / total if total else None,
        emotions,
        tuple(EmotionShift(before, after, count) for (before, after), count in often),
        sum(count for t in tallies for whom, count in t.interruptions if whom not in own),
    )


def _emotions(tallies: Sequence[SpeakerTally]) -> dict[str, tuple[int, int, int]]:
    totals: dict[str, tuple[int, int, int]] = {}
    for tally in tallies:
        for label, turns, samples, summed in tally.emotions:
            before = totals.get(label, (0, 0, 0))
            totals[label] = (before[0] + turns, before[1] + samples, before[2] + summed)
    return totals


def _added(counts: Iterable[tuple[tuple[str, str], int]]) -> dict[tuple[str, str], int]:
    added: dict[tuple[str, str], int] = {}
    for key, count in counts:
        added[key] = added.get(key, 0) + count
    return added
