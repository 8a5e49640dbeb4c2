"""Work that is begun when a pause begins changes no turn: needed or not, late, dropped or failed."""

import dataclasses
import time

import numpy as np
import pytest
from fakes import CONFIG, HashEngine, Late, Talking, conversation, drive, muted, open_session, silence, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_erc.core.endpointing import TRAIL
from stream_erc.core.vad import WINDOW
from stream_erc.core.work import AnalyzeSegment, ClassifyTurn, Failure
from stream_erc.events import (
    EmotionEvent,
    Hypothesis,
    LastingEvent,
    PartialTurn,
    SpeakerRenaming,
    SpeechStarted,
    SpeechStopped,
    TurnCorrection,
    TurnFailed,
)
from stream_erc.inference.workers import InlineWorker, ThreadWorker

TALK = conversation([(1.0, 200), (0.8, 600), (1.2, 200)])


def lasting(events):
    """Return the lasting events without latencies, then where speech was found.

    What is found in the audio may be reported before or after an earlier turn: work takes its time.
    """
    kept = [event for event in events if isinstance(event, LastingEvent)]
    kept = [dataclasses.replace(e, latency=None) if isinstance(e, EmotionEvent) else e for e in kept]
    return kept + [event for event in events if isinstance(event, SpeechStarted | SpeechStopped)]


def feed(worker, session, audio, size=WINDOW):
    events = []
    for at in range(0, len(audio), size):
        session.receive_audio(audio[at : at + size])
        events += worker.advance(session)
    session.receive_eof()
    return events + worker.advance(session, wait=True)


@pytest.fixture
def audio():
    """A turn with a pause too short to end it, and one more turn."""
    first = [tone(0.6, 200), silence(0.15), tone(0.6, 200)]
    return np.concatenate([silence(0.5), *first, silence(0.6), tone(1.0, 500), silence(1)])


def works_of(session, audio):
    """Return all work of a session, and its events."""
    engine, seen, events = HashEngine(), [], []
    for at in range(0, len(audio), WINDOW):
        session.receive_audio(audio[at : at + WINDOW])
        while works := session.work_to_do():
            seen += works
            for work, result in zip(works, engine.run(works), strict=True):
                session.receive_result(work, result)
        events += session.events_received()
    return seen, events


def test_each_pause_begins_an_analysis_and_only_the_last_one_is_used(audio):
    seen, _ = works_of(open_session(), audio)
    analyses = [work for work in seen if isinstance(work, AnalyzeSegment)]
    assert [work.segment.index for work in analyses] == [0, 0, 1]  # no final one was needed
    assert all(work.ahead for work in analyses)
    classified = [work for work in seen if isinstance(work, ClassifyTurn)]
    assert [work.ahead for work in classified] == [True] * 3


def test_the_pause_has_the_samples_of_the_final_segment(audio):
    session, engine, found = open_session(), HashEngine(), {}
    for at in range(0, len(audio), WINDOW):
        session.receive_audio(audio[at : at + WINDOW])
        while works := session.work_to_do():
            for work in works:
                result = Failure("not run") if work.ahead else engine.run([work])[0]
                if isinstance(work, AnalyzeSegment):
                    kind = "pause" if work.segment.paused else "final"
                    found[work.segment.index, kind] = work.segment
                session.receive_result(work, result)
    for index in (0, 1):
        pause, final = found[index, "pause"], found[index, "final"]
        assert (pause.start, pause.end) == (final.start, final.end)
        assert np.array_equal(pause.samples, final.samples)
        assert pause.decided_at == pause.end + TRAIL < final.decided_at


@pytest.mark.parametrize(
    ("elapsed_ms", "after_end_ms"), [(10.0, 192), (48.0, 192), (100.0, 296), (1000.0, 2096)]
)
def test_a_turn_is_as_late_as_its_work_was_longer_than_the_silence(audio, elapsed_ms, after_end_ms):
    """Work begins 96 ms after the end of speech; the silence of 200 ms has passed after 192 or 224 ms."""

    class Slow(HashEngine):
        def _one(self, work):
            result = super()._one(work)
            return dataclasses.replace(result, elapsed_ms=elapsed_ms)

    session, engine, events = open_session(), Slow(), []
    for at in range(0, len(audio), WINDOW):
        session.receive_audio(audio[at : at + WINDOW])
        events += drive(session, engine)
    turns = [event for event in events if isinstance(event, EmotionEvent)]
    assert len(turns) == 2
    for turn in turns:
        assert turn.latency.total == max(after_end_ms, turn.latency.endpointing)


def test_a_pause_is_shown_as_a_partial_turn(audio):
    session = open_session(dataclasses.replace(CONFIG, partials=True))
    events = feed(InlineWorker(HashEngine(), ahead=True), session, audio)
    first = next(event for event in events if isinstance(event, EmotionEvent))
    shown = [event for event in events if isinstance(event, PartialTurn) and event.text == first.turn.text]
    assert [event.emotion for event in shown] == [None, first.emotion]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_failed_turn_fails_either_way(audio, ahead):
    engine = HashEngine()
    engine.fail_on = {0}
    events = feed(InlineWorker(engine, ahead=ahead), open_session(), audio)
    turns = [event for event in events if isinstance(event, EmotionEvent | TurnFailed)]
    assert [type(event) for event in turns] == [TurnFailed, EmotionEvent]


def test_words_decide_how_long_a_pause_is():
    class Says(HashEngine):
        def __init__(self, text):
            super().__init__()
            self.text = text

        def _one(self, work):
            result = super()._one(work)
            heard = isinstance(work, AnalyzeSegment)
            return dataclasses.replace(result, hypothesis=Hypothesis(self.text)) if heard else result

    config = dataclasses.replace(
        CONFIG, endpointing=dataclasses.replace(CONFIG.endpointing, short_silence_ms=128, long_silence_ms=640)
    )
    audio = np.concatenate([silence(0.5), tone(0.6, 200), silence(0.45), tone(0.6, 200), silence(1)])
    for text, turns, delay in (("Well.", 2, 128), ("Well", 2, 224), ("Well, and", 1, 640)):
        events = feed(InlineWorker(Says(text)), open_session(config), audio)
        found = [event for event in events if isinstance(event, EmotionEvent)]
        assert (len(found), found[-1].latency.endpointing) == (turns, delay)


def test_a_turn_ends_where_no_more_audio_comes(audio):
    for ahead in (False, True):
        session, worker = open_session(), InlineWorker(HashEngine(), ahead=ahead)
        session.receive_audio(audio[: 24 * WINDOW + 100])  # in the midst of the first word
        assert not [event for event in worker.advance(session) if isinstance(event, EmotionEvent)]
        session.end_turn()
        [turn] = [event for event in worker.advance(session) if isinstance(event, EmotionEvent)]
        assert turn.turn.end == 24 * WINDOW
        session.end_turn()  # nothing is being said now
        session.receive_audio(audio[24 * WINDOW + 100 :])
        session.receive_eof()
        events = worker.advance(session, wait=True)
        assert events[-1].turns == 3 and events[-1].audio_samples == len(audio)


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(20_000, 60_000))
def test_a_muted_turn_ends_in_the_same_place_however_long_its_work_takes(random, cut):
    config = dataclasses.replace(
        CONFIG, endpointing=dataclasses.replace(CONFIG.endpointing, short_silence_ms=128, long_silence_ms=640)
    )
    talk = conversation([(0.5, 200)] * 5, gap=0.3)  # some of the pauses end a turn
    expected = lasting(muted(InlineWorker(Talking(), ahead=True), open_session(config), talk, cut))
    late = Late(lambda: random.randrange(10))
    assert lasting(muted(late, open_session(config), talk, cut)) == expected


turns = st.lists(
    st.tuples(
        st.sampled_from([0.3, 0.6, 1.1]),
        st.sampled_from([200, 400, 700]),
        st.sampled_from([0.1, 0.14, 0.2, 0.5]),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(turns, st.randoms(use_true_random=False), st.booleans())
def test_events_do_not_depend_on_what_was_begun(talk, random, partials):
    config = dataclasses.replace(CONFIG, partials=partials, partial_interval_ms=200)
    audio = np.concatenate(
        [silence(0.3), *(part for s, hz, gap in talk for part in (tone(s, hz), silence(gap)))]
    )
    expected = lasting(feed(InlineWorker(Talking()), open_session(config), audio))
    assert lasting(feed(InlineWorker(Talking(), ahead=True), open_session(config), audio)) == expected
    late = Late(lambda: random.randrange(10))
    assert lasting(feed(late, open_session(config), audio, size=random.choice([160, 512, 1600]))) == expected


@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False))
def test_inputs_in_a_pause_count(random):
    """A correction or a new name between the pause and the end of a turn has its effect on it."""
    expected = None
    late = Late(lambda: random.randrange(10))
    for worker in (InlineWorker(Talking()), InlineWorker(Talking(), ahead=True), late):
        session, events = open_session(), []
        for at in range(0, len(TALK), WINDOW):
            session.receive_audio(TALK[at : at + WINDOW])
            if at // WINDOW == 83:  # within the pause after the second turn
                session.submit(TurnCorrection(0, "Zoe"))
                session.submit(SpeakerRenaming("Zoe", "Ada"))
            events += worker.advance(session)
        session.receive_eof()
        events += worker.advance(session, wait=True)
        found = lasting(events)
        expected = expected or found
        assert found == expected


class Threaded(HashEngine):
    """Runs in threads, at its leisure."""

    max_batch = 4

    def analyze(self, work, beside=None):
        time.sleep(0.002 * (work.id % 3))
        return self.run([work])[0]

    def classify(self, works):
        return self.run(works)


def test_threads_give_the_same_turns(audio):
    expected = lasting(feed(InlineWorker(HashEngine()), open_session(), audio))
    for _ in range(5):
        worker = ThreadWorker(Threaded())
        try:
            assert lasting(feed(worker, open_session(), audio)) == expected
        finally:
            worker.close()
