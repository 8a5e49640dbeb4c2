"""The session's contract: the properties that need no model (architecture, properties 1 and 4 to 7)."""

import dataclasses
import itertools
import random
import re

import numpy as np
import pytest
from fakes import (
    CONFIG,
    HashEngine,
    LoudnessVad,
    conversation,
    drive,
    open_session,
    play,
    silence,
    tone,
    totals,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_erc.core.diarization import Assignment, OnlineClustering
from stream_erc.core.session import Session
from stream_erc.core.work import AnalyzeSegment, ClassifyTurn
from stream_erc.events import (
    EmotionEvent,
    GivenTurn,
    InputRejected,
    PartialTurn,
    SessionClosed,
    SpeakerRenamed,
    SpeakerRenaming,
    SpeechSegment,
    SpeechStarted,
    SpeechStopped,
    TurnCorrection,
    TurnFailed,
)
from stream_erc.exceptions import InputError, ProtocolMisuse

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900), (0.9, 200), (1.1, 900)])
PARTIALS = dataclasses.replace(CONFIG, partials=True, partial_interval_ms=300)


def finals(events):
    """Return the last event of every turn."""
    return {e.turn.index: dataclasses.replace(e, revision=0) for e in events if isinstance(e, EmotionEvent)}


def rejection(session):
    """Return why the last input was rejected, which must be its only event."""
    (event,) = drive(session, HashEngine())
    assert isinstance(event, InputRejected)
    return event.message


def test_tones_become_turns_of_two_speakers():
    events = play(open_session(), TALK, [1600])
    turns = finals(events)
    assert [turns[i].turn.speaker for i in range(6)] == [0, 1, 0, 1, 0, 1]
    assert all(abs(sum(t.emotion.probabilities.values()) - 1) < 1e-6 for t in turns.values())
    starts = [e.start for e in events if isinstance(e, SpeechStarted)]
    assert starts == [turns[i].turn.start for i in range(6)]
    assert [e.end for e in events if isinstance(e, SpeechStopped)] == [turns[i].turn.end for i in range(6)]
    kinds = [type(e) for e in events if isinstance(e, SpeechStarted | SpeechStopped | EmotionEvent)]
    assert kinds[:3] == [SpeechStarted, SpeechStopped, EmotionEvent]  # before the turn was worked on
    assert abs(turns[0].turn.start - 8000) <= 512 and abs(turns[0].turn.end - 24000) <= 1024
    assert totals(events[-1]) == SessionClosed(len(TALK), 6, 0, ("speaker_1", "speaker_2"))


@pytest.mark.parametrize("config", [CONFIG, PARTIALS], ids=["finals", "partials"])
@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([7, 160, 511, 512, 513, 3000, 16_000, 160_000]), min_size=1, max_size=12)
)
def test_property_1_any_chunking_gives_the_same_events(config, sizes):
    assert play(open_session(config), TALK, sizes) == play(open_session(config), TALK, [1600])


@pytest.mark.parametrize("appended", [False, True])
def test_only_the_points_that_may_still_be_gone_on_from_are_kept(appended):
    session = open_session(appended=appended)
    engine = HashEngine()
    for at in range(0, len(TALK), 1_600):
        if appended:
            session.submit(GivenTurn("ann", "so", at, at + 1_600))
            drive(session, engine)  # it waits for its audio
        session.receive_audio(TALK[at : at + 1_600])
        drive(session, engine)
        session.snapshot()
    assert session.snapshot().conversation.turns > 4
    assert len(session._audio._marks) == 1


def test_property_1_sample_by_sample():
    short = TALK[:40_000]
    assert play(open_session(PARTIALS), short, [1]) == play(open_session(PARTIALS), short, [160_000])


@pytest.mark.parametrize("seed", range(5))
def test_property_4_completion_order_changes_nothing(seed):
    expected = finals(play(open_session(), TALK, [1600]))
    rng, engine = random.Random(seed), HashEngine()
    session, waiting, events = open_session(), [], []
    session.receive_audio(TALK)
    session.receive_eof()
    while works := session.work_to_do() or waiting:
        if works is not waiting:
            waiting += works
            if rng.random() < 0.7:
                continue
        work = waiting.pop(rng.randrange(len(waiting)))
        session.receive_result(work, engine.run([work])[0])
        events += session.events_received()
    events += session.events_received()
    assert finals(events) == expected
    order = [e.turn.index for e in events if isinstance(e, EmotionEvent) and not e.revision]
    assert order == sorted(order)
    assert isinstance(events[-1], SessionClosed)


def test_property_4_sessions_that_share_an_engine_do_not_notice():
    other = conversation([(0.7, 900), (1.3, 200), (0.6, 500)])
    alone = [finals(play(open_session(), audio, [1600])) for audio in (TALK, other)]
    engine, sessions, found = HashEngine(), [open_session(), open_session()], [[], []]
    for session, audio in zip(sessions, (TALK, other), strict=True):
        session.receive_audio(audio)
        session.receive_eof()
    for _ in range(40):
        works = [(s, w) for s in sessions for w in s.work_to_do()]
        for (session, work), result in zip(works, engine.run([w for _, w in works]), strict=True):
            session.receive_result(work, result)
        for events, session in zip(found, sessions, strict=True):
            events += session.events_received()
    assert [finals(events) for events in found] == alone


def test_property_5_partials_leave_nothing_behind():
    with_partials = play(open_session(PARTIALS), TALK, [1600])
    shown = [e for e in with_partials if isinstance(e, PartialTurn)]
    assert any(e.emotion is not None for e in shown)
    assert {e.index for e in shown} == set(range(6))
    assert finals(with_partials) == finals(play(open_session(), TALK, [1600]))


def test_property_6_a_correction_equals_having_known():
    texts = ["hello", "hi there", "how are you", "fine", "good to hear", "bye"]
    truth = ["ann", "bob", "ann", "bob", "ann", "bob"]
    wrong = ["ann", "bob", "bob", "bob", "ann", "bob"]

    def run(speakers, correct_after=None):
        session, engine, events = Session(CONFIG), HashEngine(), []
        for i, (who, text) in enumerate(zip(speakers, texts, strict=True)):
            session.submit(GivenTurn(who, text))
            events += drive(session, engine)
            if i == correct_after:
                session.submit(TurnCorrection(2, "ann"))
                events += drive(session, engine)
        session.receive_eof()
        return events + drive(session, engine)

    for after in (2, 3, 5):
        corrected = run(wrong, after)
        assert finals(corrected) == finals(run(truth))
        revised = [e.turn.index for e in corrected if isinstance(e, EmotionEvent) and e.revision]
        assert revised == list(range(2, after + 1))
        assert finals(run(wrong)) != finals(run(truth))


class LateClustering(OnlineClustering):
    """A clustering with one voice, until turn 4 reveals that turns 1 and 3 were another's."""

    def assign(self, state, embedding, duration_samples, turn=None):
        late = turn == 4
        return state, Assignment(0, 1.0, turn == 0, ((1, 1), (3, 1)) if late else ())


def test_property_6_a_clustering_that_learns_late_equals_having_known():
    def hear(**options):
        return play(Session(CONFIG, vad=LoudnessVad(), **options), TALK, [1600])

    late = hear(clustering=LateClustering(CONFIG.diarization, 8))
    assert [e.turn.index for e in late if isinstance(e, EmotionEvent) and e.revision] == [1, 2, 3]
    spans = [(t.turn.start, t.turn.end, t.turn.text) for t in finals(late).values()]
    assert [finals(late)[i].turn.speaker for i in range(6)] == [0, 1, 0, 1, 0, 0]
    session, engine, events = Session(CONFIG), HashEngine(), []
    for (_, _, text), who in zip(sorted(spans), [1, 2, 1, 2, 1, 1], strict=True):
        session.submit(GivenTurn(f"speaker_{who}", text))
        events += drive(session, engine)
    for index, event in finals(events).items():
        assert event.emotion == finals(late)[index].emotion


def test_a_said_speaker_is_not_moved_by_the_clustering():
    session, engine = (
        Session(CONFIG, vad=LoudnessVad(), clustering=LateClustering(CONFIG.diarization, 8)),
        HashEngine(),
    )
    session.receive_audio(TALK[:60_000])
    events = drive(session, engine)
    session.submit(TurnCorrection(1, "ann"))
    session.receive_audio(TALK[60_000:])
    session.receive_eof()
    events += drive(session, engine)
    assert [finals(events)[i].speaker_name for i in range(5)] == [
        "speaker_1", "ann", "speaker_1", "speaker_2", "speaker_1"
    ]  # fmt: skip


def test_a_correction_while_a_turn_is_being_classified():
    session, engine = Session(CONFIG), HashEngine()
    for who, text in [("ann", "a"), ("bob", "b"), ("ann", "c")]:
        session.submit(GivenTurn(who, text))
    first = session.work_to_do()
    session.receive_result(first[0], engine.run(first)[0])
    (running,) = session.work_to_do()  # turn 1 is under way
    session.submit(TurnCorrection(0, "bob"))
    session.receive_eof()
    assert session.work_to_do() == []  # the correction waits for the turns submitted before it
    session.receive_result(running, engine.run([running])[0])
    with pytest.raises(ProtocolMisuse, match="the running classification"):
        session.receive_result(running, engine.run([running])[0])
    events = session.events_received() + drive(session, engine)
    assert [(e.turn.index, e.turn.speaker, e.revision) for e in events if isinstance(e, EmotionEvent)] == [
        (0, 0, 0), (1, 1, 0), (2, 0, 0), (0, 1, 1), (1, 1, 1), (2, 0, 1)
    ]  # fmt: skip
    assert isinstance(events[-1], SessionClosed) and events[-1].turns == 3


def test_a_turn_out_of_reach_cannot_be_corrected():
    session = Session(dataclasses.replace(CONFIG, rewind_turns=2))
    for text in "abcd":
        session.submit(GivenTurn("ann", text))
        drive(session, HashEngine())
    session.submit(TurnCorrection(1, "bob"))
    assert re.search(r"2 to 3.*got 1", rejection(session))


@pytest.mark.parametrize("cut", [3000, 20_000, 41_000, 70_001, 100_000, len(TALK) - 5])
def test_property_7_a_restored_session_goes_on_bit_for_bit(cut):
    undisturbed = play(open_session(), TALK, [1600])
    session, engine = open_session(), HashEngine()
    session.receive_audio(TALK[:cut])
    before = drive(session, engine)
    snapshot = session.snapshot()
    session.receive_audio(TALK[cut:])  # what happens to the old session afterwards does not matter
    drive(session, engine)
    after = play(open_session(resume=snapshot), TALK[snapshot.acknowledged :], [1600])
    assert finals(before) | finals(after) == finals(undisturbed)
    assert not set(finals(before)) & set(finals(after))
    assert after[-1] == undisturbed[-1]


LASTING = (EmotionEvent, TurnFailed, SpeakerRenamed, SessionClosed)
INPUTS = {
    30: SpeakerRenaming("speaker_1", "Anna"),
    45: TurnCorrection(0, "Tom"),
    50: TurnCorrection(99, "Tom"),
    60: SpeakerRenaming("speaker_2", "Eva"),
}
"""Chunk number -> the input that is submitted before it."""


def chunks_from(position):
    """Yield TALK from a sample on, in numbered chunks that begin at multiples of 1,600 samples."""
    while position < len(TALK):
        end = (position // 1600 + 1) * 1600
        yield end // 1600 - 1, TALK[position:end]
        position = end


def feed(session, engine, position, done, *, until=None):
    """Feed audio and inputs up to a chunk, or all of them; return the events."""
    events = []
    for number, chunk in chunks_from(position):
        if number == until:
            break
        if number in INPUTS and number not in done:
            session.submit(INPUTS[number])
            done.append(number)
        session.receive_audio(chunk)
        events += drive(session, engine)
    return events


def hear(session, engine, position, done):
    """Feed all audio and inputs and close; return the events."""
    events = feed(session, engine, position, done)
    session.receive_eof()
    return events + drive(session, engine)


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 80), min_size=1, max_size=4), fails=st.sets(st.integers(0, 5), max_size=2)
)
def test_property_7_a_snapshot_stands_for_exactly_the_events_it_counts(cuts, fails):
    engine = HashEngine()
    engine.fail_on = fails - {0, 1}
    lasting = [e for e in hear(open_session(), engine, 0, []) if isinstance(e, LASTING)]
    kept, session, done = [], open_session(), []
    for cut in sorted(cuts):
        start = session.snapshot()
        reported = [
            e for e in feed(session, engine, start.acknowledged, done, until=cut) if isinstance(e, LASTING)
        ]
        snapshot = session.snapshot()
        kept += reported[: snapshot.events - len(kept)]
        done = done[: snapshot.inputs]
        session = open_session(resume=snapshot)
    rest = hear(session, engine, session.snapshot().acknowledged, done)
    assert kept + [e for e in rest if isinstance(e, LASTING)] == lasting


def test_a_name_from_outside_holds_for_all_turns_of_the_voice():
    session, engine = open_session(), HashEngine()
    events = feed(session, engine, 0, [])
    session.submit(SpeakerRenaming("Anna", "Eva"))
    assert "no other speaker has, got 'Eva'" in rejection(session)
    session.submit(SpeakerRenaming("nobody", "Ann"))
    assert re.search(r"Anna, Eva, Tom.*'nobody'", rejection(session))
    session.receive_eof()
    events += drive(session, engine)
    assert [e for e in events if isinstance(e, SpeakerRenamed)] == [
        SpeakerRenamed(0, "speaker_1", "Anna"),
        SpeakerRenamed(1, "speaker_2", "Eva"),
    ]
    names = [e.speaker_name for e in events if isinstance(e, EmotionEvent) and e.turn.index >= 4]
    assert names == ["Anna", "Eva"]
    assert events[-1].speakers == ("Anna", "Eva", "Tom")


APPENDED = [
    GivenTurn("Anna", "hello there", 8_000, 24_000),
    GivenTurn(None, None, 32_000, 44_800),
    GivenTurn("Anna", "and a text", None, None),
    GivenTurn("Tom", None, 52_800, 72_000),
]


@pytest.mark.parametrize("ahead", [True, False])
def test_appended_turns_take_their_span_of_the_audio_before_or_after_it_came(ahead):
    session, engine = (
        Session(CONFIG, clustering=OnlineClustering(CONFIG.diarization, 8), appended=True),
        HashEngine(),
    )
    events = []
    if not ahead:
        session.receive_audio(TALK)
        events += drive(session, engine)
    for turn in APPENDED:
        session.submit(turn)
    for start in range(0, len(TALK) if ahead else 0, 1600):
        session.receive_audio(TALK[start : start + 1600])
        events += drive(session, engine)
    session.receive_eof()
    events += drive(session, engine)
    turns = [e for e in events if isinstance(e, EmotionEvent)]
    assert [(e.speaker_name, e.turn.start, e.turn.end) for e in turns] == [
        ("Anna", 8_000, 24_000),
        ("speaker_1", 32_000, 44_800),
        ("Anna", None, None),
        ("Tom", 52_800, 72_000),
    ]
    assert turns[0].turn.text == "hello there" and turns[1].turn.text.startswith("heard ")
    expected = engine.run([AnalyzeSegment(1, SpeechSegment(0, 0, 0, TALK[32_000:44_800], 0, 0), True, True)])[
        0
    ]
    assert turns[1].turn.text == expected.hypothesis.text
    assert totals(events[-1]) == SessionClosed(len(TALK), 4, 0, ("Anna", "speaker_1", "Tom"))


def test_what_is_said_takes_effect_in_its_turn_however_long_work_takes():
    """Whether results return at once or as late as possible, the events are the same, rejections included."""
    said = [
        GivenTurn("Ann", "one"),
        GivenTurn("Ben", "two"),
        SpeakerRenaming("Ben", "Bob"),
        GivenTurn("Ben", "three"),
        TurnCorrection(1, "Ann"),
        TurnCorrection(9, "Ann"),
        SpeakerRenaming("nobody", "x"),
        GivenTurn("Ann", ""),
        GivenTurn("Bob", "four"),
    ]
    runs = []
    for at_once in (True, False):
        session, engine, events = Session(CONFIG, appended=True), HashEngine(), []
        for one in said:
            session.submit(one)
            events += drive(session, engine) if at_once else []
        session.receive_eof()
        runs.append(events + drive(session, engine))
    assert runs[0] == runs[1]
    assert [e.number for e in runs[0] if isinstance(e, InputRejected)] == [6, 7, 8]
    assert [e.speaker_name for e in runs[0] if isinstance(e, EmotionEvent) and not e.revision] == [
        "Ann", "Ben", "Ben", "Bob",
    ]  # fmt: skip
    assert session.snapshot().inputs == len(said)


@pytest.mark.parametrize("delay", [0, 3, 30])
def test_what_is_said_of_heard_turns_waits_for_the_turns_heard_before(delay):
    """The events are the same if analyses return late, by `delay` chunks."""
    session, engine, events, late = open_session(), HashEngine(), [], []
    for number, chunk in chunks_from(0):
        if number in INPUTS:
            session.submit(INPUTS[number])
        session.receive_audio(chunk)
        late.append(session.work_to_do())
        if len(late) > delay:
            for work in late.pop(0):
                session.receive_result(work, engine.run([work])[0])
            events += session.events_received()
    for works in late:
        for work in works:
            session.receive_result(work, engine.run([work])[0])
    session.receive_eof()
    events += drive(session, engine)
    expected = hear(open_session(), HashEngine(), 0, [])
    assert [e for e in events if isinstance(e, LASTING)] == [e for e in expected if isinstance(e, LASTING)]


def test_an_appended_turn_that_ends_with_the_audio_so_far_comes_at_once():
    session, engine = Session(CONFIG, appended=True), HashEngine()
    session.receive_audio(TALK[:20_100])  # no whole number of windows
    session.submit(GivenTurn("Anna", "hello", 8_000, 20_100))
    (event,) = drive(session, engine)
    assert (event.turn.start, event.turn.end) == (8_000, 20_100)
    again = Session(CONFIG, appended=True, resume=session.snapshot())
    for one, audio in ((session, TALK[20_100:]), (again, TALK[session.snapshot().acknowledged :])):
        one.receive_audio(audio)
        one.submit(GivenTurn("Tom", None, 30_000, 40_000))
        one.receive_eof()
    assert drive(session, engine) == drive(again, engine)


def test_appended_turns_beyond_the_audio_fail_and_one_out_of_reach_is_refused():
    session, engine = Session(CONFIG, appended=True), HashEngine()
    session.submit(GivenTurn("Anna", "a", len(TALK) - 800, len(TALK) + 800))
    session.submit(GivenTurn("Anna", "b", len(TALK) + 800, len(TALK) + 1_600))
    session.submit(GivenTurn("Anna", "c"))
    session.receive_audio(TALK)
    session.receive_eof()
    events = drive(session, engine)
    assert [type(e) for e in events] == [EmotionEvent, TurnFailed, EmotionEvent, SessionClosed]
    assert "within the audio" in events[1].message
    session = Session(CONFIG, appended=True)
    for _ in range(8):
        session.receive_audio(TALK)
        drive(session, engine)
    session.submit(GivenTurn("Anna", "late", 16_000, 32_000))
    assert "expected a turn from 42.000 s on, got one from 1.000 s on" in rejection(session)
    for start, end in ((10, 10), (None, 10), (10, None)):
        session.submit(GivenTurn("Anna", "a", start, end))
        assert "begins before it ends" in rejection(session)


@pytest.mark.parametrize("cut", [5, 16, 27, 33, 50])
def test_property_7_appended_turns_come_once_after_a_cut(cut):
    def run(session, position, turns, until=None):
        events = []
        for number, chunk in chunks_from(position):
            if number == until:
                return events
            while turns and (turns[0].end or 0) <= number * 1600:
                session.submit(turns.pop(0))
            session.receive_audio(chunk)
            events += drive(session, engine)
        session.receive_eof()
        return events + drive(session, engine)

    engine = HashEngine()
    whole = run(Session(CONFIG, appended=True), 0, list(APPENDED[::3]))
    first = Session(CONFIG, appended=True)
    before = run(first, 0, list(APPENDED[::3]), until=cut)
    snapshot = first.snapshot()
    rest = run(
        Session(CONFIG, appended=True, resume=snapshot),
        snapshot.acknowledged,
        list(APPENDED[::3])[snapshot.inputs :],
    )
    assert before[: snapshot.events] + rest == whole


def test_a_snapshot_in_silence_acknowledges_the_silence():
    session = open_session()
    session.receive_audio(silence(5.0))
    drive(session, HashEngine())
    assert session.snapshot().acknowledged > 4.8 * 16_000


def test_given_turns_replace_hearing():
    given = [
        GivenTurn("ann", "one", 0, 8000),
        GivenTurn("bob", None, 4000, 12_000),
        GivenTurn(None, "x", 12_000, 20_000),
    ]
    session = Session(CONFIG, given=given)
    session.receive_audio(tone(2.0, 200))
    session.receive_eof()
    works = session.work_to_do()
    assert [(w.segment.start, w.segment.end, w.transcribe, w.embed_speaker) for w in works] == [
        (0, 8000, False, False)
    ]
    engine = HashEngine()
    session.receive_result(works[0], engine.run(works)[0])
    events = finals(drive(session, engine))
    assert [events[i].speaker_name for i in range(3)] == ["ann", "bob", "speaker_1"]
    assert events[0].turn.text == "one" and events[1].turn.text.startswith("heard")


def test_a_given_name_is_never_mixed_up_with_an_unnamed_voice():
    given = [GivenTurn("speaker_1", "a", 0, 8000), GivenTurn(None, "b", 8000, 16_000)]
    events = play(Session(CONFIG, given=given), tone(1.0, 200), [1600])
    assert [finals(events)[i].speaker_name for i in range(2)] == ["speaker_1", "voice_1"]


def test_a_speaker_corrected_away_is_not_in_the_totals():
    session, engine = Session(CONFIG), HashEngine()
    for text in "abc":
        session.submit(GivenTurn("ann", text))
        drive(session, engine)
    session.submit(TurnCorrection(0, "bob"))
    drive(session, engine)
    session.submit(TurnCorrection(0, "ann"))
    session.receive_eof()
    assert totals(drive(session, engine)[-1]) == SessionClosed(0, 3, 0, ("ann",))


def test_given_turns_past_the_end_fail_and_a_cut_one_is_clipped():
    given = [
        GivenTurn("ann", "a", 0, 8000),
        GivenTurn("ann", "b", 9000, 99_000),
        GivenTurn("bob", "c", 50_000, 60_000),
    ]
    events = play(Session(CONFIG, given=given), tone(1.0, 200), [1600])
    assert finals(events)[1].turn.end == 16_000
    (failed,) = [e for e in events if isinstance(e, TurnFailed)]
    assert failed.index == 2 and "within the audio, which ends at 1.00 s" in failed.message
    assert totals(events[-1]) == SessionClosed(16_000, 2, 1, ("ann",))


def test_overlapping_given_turns_keep_the_order_of_their_starts():
    given = [GivenTurn("ann", "long", 0, 30_000), GivenTurn("bob", "short", 5000, 9000)]
    events = play(Session(CONFIG, given=given), tone(2.0, 200), [1600])
    assert [e.turn.text for e in events if isinstance(e, EmotionEvent)] == ["long", "short"]


def test_a_failed_turn_is_reported_and_the_session_goes_on():
    engine = HashEngine()
    engine.fail_on = {1, 5}
    events = play(open_session(), TALK, [1600], engine)
    assert [e.index for e in events if isinstance(e, TurnFailed)] == [1, 5]
    assert sorted(finals(events)) == [0, 2, 3, 4]
    assert events[-1].failed_turns == 2 and events[-1].turns == 4


def test_long_speech_is_split_without_losing_a_sample():
    events = play(open_session(), conversation([(10.0, 300)]), [1600])
    turns = [e.turn for e in events if isinstance(e, EmotionEvent)]
    assert len(turns) >= 3
    assert all(a.end == b.start for a, b in itertools.pairwise(turns))
    assert max(t.end - t.start for t in turns) <= 4 * 16_000


def test_memory_does_not_grow_with_silence_or_turns():
    session, engine = open_session(), HashEngine()
    for _ in range(50):
        session.receive_audio(conversation([(1.0, 200)], gap=1.0))
        drive(session, engine)
    mark = session.snapshot().mark
    assert mark.position - mark.audio_from <= 0.5 * 16_000
    assert len(session._pending) == 0 and len(session._tracker._done) <= CONFIG.rewind_turns


def test_silence_alone_gives_no_turn():
    events = play(open_session(), silence(3.0), [1600])
    assert events == [SessionClosed(48_000, 0, 0, ())]
    assert play(open_session(), silence(0), [1]) == [SessionClosed(0, 0, 0, ())]


def test_misuse_is_named():
    session = open_session()
    with pytest.raises(ProtocolMisuse, match=r"float32.*float64"):
        session.receive_audio(np.zeros(10))
    session.submit(GivenTurn("ann", "hello"))
    assert "no appended turns" in rejection(session)
    session.receive_eof()
    with pytest.raises(ProtocolMisuse, match="after receive_eof"):
        session.receive_audio(silence(1))
    with pytest.raises(ProtocolMisuse, match="after receive_eof"):
        session.submit(GivenTurn("ann", "hello"))
    text = Session(CONFIG)
    with pytest.raises(ProtocolMisuse, match="text-only"):
        text.receive_audio(silence(1))
    text.submit(GivenTurn("ann", "  "))
    assert "a text or a span" in rejection(text)


def test_work_is_answered_in_kind():
    session, engine = open_session(), HashEngine()
    session.receive_audio(TALK)
    (work,) = session.work_to_do()
    assert isinstance(work, AnalyzeSegment)
    session.receive_result(work, engine.run([work])[0])
    (turn,) = [w for w in session.work_to_do() if isinstance(w, ClassifyTurn)]
    with pytest.raises(ProtocolMisuse, match="expected the result of a ClassifyTurn, got a Analysis"):
        session.receive_result(turn, engine.run([work])[0])


def test_the_vad_is_configured_sensibly():
    bad = dataclasses.replace(CONFIG, endpointing=dataclasses.replace(CONFIG.endpointing, min_silence_ms=-1))
    with pytest.raises(InputError, match="min_silence_ms"):
        Session(bad, vad=LoudnessVad())
