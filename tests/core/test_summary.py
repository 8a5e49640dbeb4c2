"""The whole of a conversation: counted turn by turn, it equals what the final turns tell."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from fakes import CONFIG, HashEngine, LoudnessVad, conversation, drive, open_session, play, through_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import FakeClassifier

from stream_erc.core.session import Session
from stream_erc.core.summary import PAST_SPANS, Tally, summarize
from stream_erc.events import (
    ClientInput,
    Emotion,
    EmotionEvent,
    EmotionShift,
    Event,
    GivenTurn,
    SessionClosed,
    SpeakerRenamed,
    SpeakerRenaming,
    SpeakerSummary,
    Turn,
    TurnCorrection,
    TurnEnrolment,
    TurnFailed,
)

Said = tuple[str, int | None, int | None, Emotion]
"""Of a final turn: speaker, first sample, end, emotion."""


def said(events: Iterable[Event]) -> list[Said]:
    """The turns in the end, in their order."""
    turns: dict[int, EmotionEvent] = {}
    for event in events:
        if isinstance(event, EmotionEvent):
            turns[event.turn.index] = event
        elif isinstance(event, TurnFailed):
            turns.pop(event.index, None)
        elif isinstance(event, SpeakerRenamed):
            for index, turn in turns.items():
                if turn.speaker_name == event.previous:
                    turns[index] = dataclasses.replace(turn, speaker_name=event.name)
    ordered = [turns[index] for index in sorted(turns)]
    return [(e.speaker_name, e.turn.start, e.turn.end, e.emotion) for e in ordered]


def check(summary: Sequence[SpeakerSummary], turns: Sequence[Said]) -> None:
    """Assert that a summary is what the turns in the end tell."""
    assert [s.speaker for s in summary] == [s.speaker for s in summary if s.turns]
    assert {s.speaker for s in summary} == {speaker for speaker, *_ in turns}
    total = sum((end or 0) - (start or 0) for _, start, end, _ in turns)
    for one in summary:
        mine = [turn for turn in turns if turn[0] == one.speaker]
        length = sum((end or 0) - (start or 0) for _, start, end, _ in mine)
        assert (one.turns, one.samples) == (len(mine), length)
        assert one.share == (pytest.approx(length / total) if total else None)
        labels = [emotion.label for *_, emotion in mine]
        pairs = Counter((a, b) for a, b in itertools.pairwise(labels) if a != b)
        assert {(s.before, s.after): s.count for s in one.shifts} == pairs
        assert [s.count for s in one.shifts] == sorted(pairs.values(), reverse=True)
        for totals in one.emotions:
            with_it = [turn for turn in mine if turn[3].label == totals.label]
            mean = sum(emotion.probabilities[totals.label] for *_, emotion in mine) / len(mine)
            assert totals.turns == len(with_it) and totals.probability == pytest.approx(mean, abs=1e-6)
            assert totals.samples == sum((end or 0) - (start or 0) for _, start, end, _ in with_it)
        assert sum(e.probability for e in one.emotions) == pytest.approx(1, abs=1e-5)
        assert one.interruptions == sum(interrupts(turn, turns) for turn in mine)


def interrupts(turn: Said, turns: Sequence[Said]) -> bool:
    """Whether a turn begins while somebody else speaks."""
    name, start, *_ = turn
    return start is not None and any(
        other != name and begun is not None and ended is not None and begun < start < ended
        for other, begun, ended, _ in turns
    )


def closed(events: Sequence[Event]) -> SessionClosed:
    assert isinstance(events[-1], SessionClosed)
    return events[-1]


# --- sessions -------------------------------------------------------------------------------------

NAMES = ("Anna", "Tom", "Eva")


@st.composite
def talks(draw: st.DrawFn) -> list[ClientInput]:
    """Turns that may overlap, be corrected, and speakers that are renamed."""
    inputs: list[ClientInput] = []
    at = 0
    for index in range(draw(st.integers(1, 12))):
        at += draw(st.integers(0, 3_000))
        end = at + draw(st.integers(1, 6_000))
        inputs.append(GivenTurn(draw(st.sampled_from(NAMES)), f"turn {index}", at, end))
        if draw(st.booleans()):
            inputs.append(TurnCorrection(draw(st.integers(0, index)), draw(st.sampled_from(NAMES))))
        if draw(st.integers(0, 5)) == 0:
            inputs.append(SpeakerRenaming(draw(st.sampled_from(NAMES)), f"name {index}"))
    return inputs


@settings(max_examples=80, deadline=None)
@given(inputs=talks(), cut=st.integers(0, 30))
def test_corrections_names_and_resuming_give_the_summary_of_the_turns_in_the_end(
    inputs: list[ClientInput], cut: int
) -> None:
    session, engine, events = Session(CONFIG, appended=True), HashEngine(), []
    session.receive_audio(conversation([(3.0, 200)]))
    for number, one in enumerate(inputs):
        if number == cut:
            snapshot = through_bytes(session.snapshot(), FakeClassifier())
            assert snapshot.inputs == number
            session = Session(CONFIG, appended=True, resume=snapshot)
            session.receive_audio(conversation([(3.0, 200)])[snapshot.acknowledged :])
        session.submit(one)
        events += drive(session, engine)
    session.receive_eof()
    events += drive(session, engine)
    check(closed(events).summary, said(events))


def test_a_clustering_that_learns_late_and_a_turn_that_fails() -> None:
    talk = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900), (0.9, 200), (1.1, 900)])
    engine = HashEngine()
    engine.fail_on = {1}
    events = play(open_session(), talk, [1600], engine)
    assert closed(events).failed_turns == 1
    check(closed(events).summary, said(events))
    assert sum(one.turns for one in closed(events).summary) == closed(events).turns == 5


def test_two_speakers_who_turn_out_to_be_one() -> None:
    talk = conversation([(1.2, 200), (1.2, 900), (1.2, 200), (1.2, 520)])
    session, engine = open_session(), HashEngine()
    session.receive_audio(talk)
    events = drive(session, engine)
    for turn in (1, 2):
        session.submit(TurnEnrolment(turn, "Anna"))
    session.receive_eof()
    events += drive(session, engine)
    names = [one.speaker for one in closed(events).summary]
    assert names == list(closed(events).speakers) and names.count("Anna") == 1
    check(closed(events).summary, said(events))


def test_text_alone_has_no_times() -> None:
    session = Session(CONFIG)
    for speaker, text in (("Anna", "a"), ("Tom", "b"), ("Anna", "c")):
        session.submit(GivenTurn(speaker, text))
    session.receive_eof()
    events = drive(session, HashEngine())
    check(closed(events).summary, said(events))
    assert [(one.samples, one.share) for one in closed(events).summary] == [(0, None)] * 2


def test_silence_has_no_summary() -> None:
    session = Session(CONFIG, vad=LoudnessVad())
    session.receive_eof()
    assert closed(drive(session, HashEngine())).summary == ()


# --- the tally ------------------------------------------------------------------------------------


def emotion(label: str) -> Emotion:
    return Emotion(
        label, 0.8, {"joy": 0.8 if label == "joy" else 0.2, "fear": 0.8 if label == "fear" else 0.2}
    )


def tally(*turns: tuple[int, int, int, str]) -> Tally:
    """The tally of turns: speaker, first sample, end, label."""
    made = Tally()
    for index, (speaker, start, end, label) in enumerate(turns):
        made = made.with_turn(Turn(index, speaker, "", start, end), emotion(label))
    return made


def test_shifts_are_counted_between_the_turns_of_one_speaker() -> None:
    made = tally(*((k % 2, k, k + 1, "joy" if k in (0, 1, 4) else "fear") for k in range(8)))
    anna, tom = summarize(made, ("Anna", "Tom"))
    assert anna.shifts == (EmotionShift("joy", "fear", 2), EmotionShift("fear", "joy", 1))
    assert tom.shifts == (EmotionShift("joy", "fear", 1),)


@pytest.mark.parametrize(
    ("turns", "interruptions"),
    [
        (((0, 0, 100), (1, 50, 150)), (0, 1)),
        (((0, 0, 100), (1, 100, 150)), (0, 0)),  # right after
        (((0, 0, 100), (1, 0, 150)), (0, 0)),  # both begin
        (((0, 0, 100), (0, 50, 150), (1, 200, 210)), (0, 0)),  # the speaker's own turn
        (((1, 50, 60), (0, 0, 100)), (0, 1)),  # a short turn that was finished before the long one
        (((1, 50, 60), (1, 70, 80), (0, 0, 100)), (0, 2)),
        (((0, 0, 100), (2, 10, 90), (1, 50, 60)), (0, 1, 1)),  # into two at once: one interruption
    ],
)
def test_an_interruption_begins_while_somebody_else_speaks(
    turns: Sequence[tuple[int, int, int]], interruptions: Sequence[int]
) -> None:
    made = tally(*((*turn, "joy") for turn in turns))
    names = [f"n{k}" for k in range(len(made.speakers))]
    found = {one.speaker: one.interruptions for one in summarize(made, names)}
    assert [found[name] for name in names] == list(interruptions)


def test_nobody_interrupts_themselves_under_two_names() -> None:
    made = tally((0, 0, 100, "joy"), (1, 50, 150, "fear"))
    (anna,) = summarize(made, ("Anna", "Anna"))
    assert (anna.turns, anna.samples, anna.share, anna.interruptions) == (2, 200, 1.0, 0)
    assert [(e.label, e.turns, e.samples, e.probability) for e in anna.emotions] == [
        ("joy", 1, 100, 0.5),
        ("fear", 1, 100, 0.5),
    ]


def test_a_tally_does_not_grow_with_the_turns() -> None:
    made = tally(*((k % 3, 10 * k, 10 * k + 15, ("joy", "fear")[k // 3 % 2]) for k in range(1_000)))
    assert len(made.spans) == PAST_SPANS
    assert all(len(t.emotions) == 2 and len(t.shifts) == 2 for t in made.speakers)
    assert all(len(t.interruptions) == 1 for t in made.speakers)
