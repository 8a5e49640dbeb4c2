import dataclasses
import gc
import os
import sys
import threading
import time

import numpy as np
import pytest
from fakes import CONFIG, HashEngine, conversation, open_session, play, silence, tone

from stream_erc.core.session import Session
from stream_erc.core.work import AnalyzeSegment
from stream_erc.events import EmotionEvent, GivenTurn, SessionClosed
from stream_erc.exceptions import CheckpointError
from stream_erc.inference import work_queues
from stream_erc.inference.workers import STALE_S, InlineWorker, ThreadWorker

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900)])
FIXED = dataclasses.replace(CONFIG, endpointing=dataclasses.replace(CONFIG.endpointing, adaptive=False))
"""Pauses end turns whatever the words are, so that turns can be analysed side by side."""


class SlowEngine(HashEngine):
    """A slow hashing engine that records which work ran together."""

    max_batch = 8

    def __init__(self, delay=0.0):
        super().__init__()
        self.delay, self.batches, self.running, self.most = delay, [], 0, 0
        self.lock = threading.Lock()

    def analyze(self, work, beside=None):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.delay * (1 + work.segment.index % 3))
        with self.lock:
            self.running -= 1
        return self.run([work])[0]

    def classify(self, works):
        self.batches.append(len(works))
        time.sleep(self.delay)
        return self.run(works)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
def test_analyses_give_way_to_what_is_short(threads):
    class Priorities(HashEngine):
        max_batch = 1

        def __init__(self):
            super().__init__()
            self.nice = {}

        def analyze(self, work, beside=None):
            self.nice["analysis"] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            return self.run([work])[0]

        def classify(self, works):
            self.nice["classification"] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            return self.run(works)

    engine = Priorities()
    session = open_session()
    session.receive_audio(TALK)
    threads(engine).advance(session, wait=True)
    assert engine.nice["analysis"] > engine.nice["classification"] == os.getpriority(os.PRIO_PROCESS, 0)


def outcome(events):
    """Return all final turns and the close, without latencies: these must not depend on the worker."""
    kept = [e for e in events if isinstance(e, EmotionEvent | SessionClosed)]
    return [dataclasses.replace(e, latency=None) if isinstance(e, EmotionEvent) else e for e in kept]


@pytest.fixture
def threads():
    workers = []

    def make(engine, **options):
        workers.append(ThreadWorker(engine, **options))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


def feed(worker, session, audio, size=1600):
    events = []
    for at in range(0, len(audio), size):
        session.receive_audio(audio[at : at + size])
        events += worker.advance(session)
    session.receive_eof()
    return events + worker.advance(session, wait=True)


def test_inline_equals_by_hand():
    assert feed(InlineWorker(HashEngine()), open_session(), TALK) == play(open_session(), TALK, [1600])


def test_threads_give_the_same_turns_in_the_same_order(threads):
    expected = outcome(play(open_session(), TALK, [1600]))
    assert outcome(feed(threads(SlowEngine(0.003)), open_session(), TALK)) == expected


def test_sessions_in_several_threads_share_batches_and_do_not_notice(threads):
    engine = SlowEngine(0.01)
    worker = threads(engine)
    talks = [
        [GivenTurn(who, f"{text} {k}") for who, text in [("a", "x"), ("b", "y"), ("a", "z")]]
        for k in range(12)
    ]
    found = [None] * len(talks)

    def run(k):
        session, events = Session(CONFIG), []
        for turn in talks[k]:
            session.submit(turn)
            events += worker.advance(session)
        session.receive_eof()
        found[k] = outcome(events + worker.advance(session, wait=True))

    users = [threading.Thread(target=run, args=(k,)) for k in range(len(talks))]
    for user in users:
        user.start()
    for user in users:
        user.join()
    for talk, events in zip(talks, found, strict=True):
        session, alone = Session(CONFIG), []
        inline = InlineWorker(HashEngine())
        for turn in talk:
            session.submit(turn)
            alone += inline.advance(session)
        session.receive_eof()
        assert events == outcome(alone + inline.advance(session))
    assert max(engine.batches) > 1


def test_a_flood_of_audio_waits_for_the_work(threads):
    engine = SlowEngine(0.005)
    worker = threads(engine, threads=2, max_in_flight=3)
    session = open_session()
    talk = np.tile(conversation([(0.4, 200)], gap=0.4), 30)
    session.receive_audio(talk)
    events = worker.advance(session)
    assert worker._clients[session].in_flight <= 3
    session.receive_eof()
    events += worker.advance(session, wait=True)
    assert events[-1].turns == 30
    assert engine.most <= 2


def test_elapsed_time_counts_the_waiting(threads):
    worker = threads(SlowEngine(0.02), threads=1)
    events = feed(worker, open_session(FIXED), TALK, size=len(TALK))
    totals = [e.latency.total - e.latency.endpointing for e in events if isinstance(e, EmotionEvent)]
    assert min(totals) >= 20 and max(totals) >= 60


def test_the_total_counts_waiting_for_earlier_turns(threads):
    """Two turns are analysed in parallel; the second's classification waits for the first's."""
    engine = SlowEngine(0.05)
    talk = conversation([(0.3, 200), (0.3, 900), (0.3, 200)], gap=0.3)
    began = time.perf_counter()
    events = feed(threads(engine, threads=3), open_session(FIXED), talk, size=len(talk))
    spent = 1000 * (time.perf_counter() - began)
    totals = [e.latency.total - e.latency.endpointing for e in events if isinstance(e, EmotionEvent)]
    assert totals == sorted(totals) and totals[-1] >= 3 * 50
    assert totals[-1] <= spent


def test_an_abandoned_session_leaves_nothing(threads):
    worker = threads(SlowEngine())
    session = open_session()
    session.receive_audio(TALK)
    worker.advance(session)
    assert len(worker._clients) == 1
    del session
    gc.collect()
    assert len(worker._clients) == 0


def test_a_failure_in_a_thread_is_the_turns_alone(threads):
    engine = SlowEngine()
    engine.fail_on = {1}
    events = feed(threads(engine), open_session(), TALK)
    assert events[-1].turns == 3 and events[-1].failed_turns == 1


def test_work_is_a_value(threads):
    session = open_session()
    session.receive_audio(TALK)
    (work,) = session.work_to_do()
    assert isinstance(work, AnalyzeSegment)
    with pytest.raises(dataclasses.FrozenInstanceError):
        work.transcribe = False


def test_a_partial_turn_that_nobody_waits_for_is_not_analysed():
    """While the only thread is blocked, stale partial turns are dropped; all finished turns are analysed."""
    analysed, held = [], threading.Event()

    class Held(SlowEngine):
        def analyze(self, work, beside=None):
            if not analysed:
                held.wait(20)
            analysed.append(work.segment.final or work.awaited)
            return self.run([work])[0]

    worker, sessions = ThreadWorker(Held(), threads=1), []
    for _ in range(4):
        sessions.append(open_session(dataclasses.replace(CONFIG, partials=True, partial_interval_ms=300)))
        sessions[-1].receive_audio(conversation([(0.5, 200)]))
        worker.poll(sessions[-1])
    assert worker.waiting[0] >= 3
    time.sleep(STALE_S + 0.1)
    held.set()
    events = [event for session in sessions for event in worker.advance(session, wait=True)]
    worker.close()
    assert len([event for event in events if isinstance(event, EmotionEvent)]) == 4
    assert analysed.count(True) == 4 and analysed.count(False) <= 1


def test_who_is_gone_or_patient_holds_up_nobody():
    """One thread: the work of a detached session is dropped, a low-priority one's comes last."""
    analysed, held = [], threading.Event()

    class Held(SlowEngine):
        def analyze(self, work, beside=None):
            if not analysed:
                held.wait(20)
            analysed.append(work.segment.samples[2_000])
            return self.run([work])[0]

    worker, sessions = ThreadWorker(Held(), threads=1), {}
    for name, level in (("first", 0.2), ("detached", 0.3), ("low", 0.4), ("last", 0.5)):
        sessions[name] = open_session()
        worker.attach(sessions[name], lambda: None, low_priority=name == "low")
        sessions[name].receive_audio(np.concatenate([silence(0.3), tone(0.5, 200, level), silence(0.5)]))
        worker.poll(sessions[name])
    worker.detach(sessions.pop("detached"))
    held.set()
    turns = [sum(isinstance(event, EmotionEvent) for event in worker.advance(session, wait=True))
             for session in sessions.values()]  # fmt: skip
    worker.close()
    assert turns == [1, 1, 1] and len(analysed) == 3
    loudness = np.abs(np.array(analysed)) / max(np.abs(analysed))
    assert list(np.argsort(loudness)) == [0, 2, 1]


@pytest.mark.parametrize(("live", "most"), [(False, 3), (True, 2), ("gone", 3)])
def test_recordings_leave_a_thread_free_while_somebody_talks(live, most):
    running, peak, lock = 0, 0, threading.Lock()

    class Counting(SlowEngine):
        def analyze(self, work, beside=None):
            nonlocal running, peak
            with lock:
                running += 1
                peak = max(peak, running)
            time.sleep(0.05)
            with lock:
                running -= 1
            return self.run([work])[0]

    worker, talk = ThreadWorker(Counting(), threads=3), open_session()
    worker.attach(talk, lambda: None, low_priority=not live)
    if live == "gone":
        worker.detach(talk)
    recordings = [open_session() for _ in range(6)]
    for recording in recordings:
        worker.attach(recording, lambda: None, low_priority=True)
        recording.receive_audio(np.concatenate([silence(0.3), tone(0.5, 200, 0.3), silence(0.5)]))
        worker.poll(recording)
    turns = [sum(isinstance(event, EmotionEvent) for event in worker.advance(recording, wait=True))
             for recording in recordings]  # fmt: skip
    worker.close()
    assert (turns, peak) == ([1] * 6, most)


def test_a_recording_waits_outside_while_its_turns_are_awaited(monkeypatch):
    """Words decide whether a turn has ended: audio behind it is not piled up meanwhile."""
    monkeypatch.setattr("stream_erc.inference.workers.MAX_WAITING_SAMPLES", 32_000)
    worker, session = ThreadWorker(SlowEngine()), open_session()
    worker.attach(session, lambda: None, low_priority=True)
    audio, most, events = conversation([(0.5, 200), (0.5, 900)] * 10), 0, []
    for chunk in np.split(audio, range(1_600, len(audio), 1_600)):
        session.receive_audio(chunk)
        events += worker.advance(session)
        most = max(most, session.waiting_samples)
    session.receive_eof()
    events += worker.advance(session, wait=True)
    worker.close()
    assert sum(isinstance(event, EmotionEvent) for event in events) == 20
    assert 16_000 < most <= 32_000, most


def test_work_waits_for_an_engine_that_warms_up() -> None:
    warm, order = threading.Event(), []

    class Cold(SlowEngine):
        def warm_up(self):
            warm.wait(10)
            order.append("warm")

        def run(self, works):
            order.append("work")
            return super().run(works)

    worker, session = ThreadWorker(Cold()), open_session()
    session.receive_audio(conversation([(0.8, 440)]))
    session.receive_eof()
    assert worker.advance(session) and not worker.ready
    warm.set()
    events = worker.advance(session, wait=True)
    worker.close()
    assert worker.ready and order[0] == "warm" and len(order) >= 3
    assert isinstance(events[-1], SessionClosed) and events[-1].turns == 1


@pytest.mark.parametrize("error", [CheckpointError("got no encoder"), ImportError("no encoder")])
def test_an_engine_that_cannot_be_warmed_up_is_told(error: Exception) -> None:
    class Broken(SlowEngine):
        def warm_up(self):
            raise error

    told: list[Exception] = []
    worker, session = ThreadWorker(Broken(), on_failure=told.append), open_session()
    session.receive_audio(conversation([(0.8, 440)]))
    session.receive_eof()
    events = worker.advance(session, wait=True)  # the worker goes on: what can be done is done
    worker.close()
    assert told == [error] and not worker.ready
    assert isinstance(events[-1], SessionClosed)


def test_a_greedy_session_holds_up_no_other(threads, monkeypatch) -> None:
    monkeypatch.setattr(work_queues, "FIRST_CREDIT_S", 0.02)
    blocked = threading.Event()

    class Blocks(HashEngine):
        max_batch = 1

        def classify(self, works):
            if works[0].turn.text == "forever":
                blocked.wait(30)
            time.sleep(0.03)
            return self.run(works)

    def say(session, text):
        session.submit(GivenTurn("A", text))
        return worker.advance(session, wait=text != "forever")

    worker = threads(Blocks())
    greedy, other = Session(CONFIG), Session(CONFIG)
    say(greedy, "one")  # takes its credit
    say(greedy, "forever")
    try:
        assert [event.turn.text for event in say(other, "hello")] == ["hello"]
    finally:
        blocked.set()
    greedy.receive_eof()
    assert [event.turn.text for event in worker.advance(greedy, wait=True)[:1]] == ["forever"]


def test_who_has_used_least_is_classified_first(threads, monkeypatch) -> None:
    monkeypatch.setattr(work_queues, "CREDIT_PER_S", 0.0)
    blocked, order = threading.Event(), []

    class Blocks(HashEngine):
        max_batch = 1

        def classify(self, works):
            order.append(works[0].turn.text)
            if order[-1] == "first":
                blocked.wait(30)
            time.sleep(0.01)
            return self.run(works)

    def say(session, text, *, wait):
        session.submit(GivenTurn("A", text))
        worker.advance(session, wait=wait)

    worker = threads(Blocks())
    first, new, *used = (Session(CONFIG) for _ in range(5))
    for session in used:
        say(session, "before", wait=True)
    say(first, "first", wait=False)
    for session in used:
        say(session, "used", wait=False)
    say(new, "new", wait=False)
    blocked.set()
    for session in (first, new, *used):
        worker.advance(session, wait=True)
    assert order[3:] == ["first", "new", "used", "used", "used"]


def test_beginning_anew_gives_little_credit() -> None:
    begun = work_queues.Client()
    begun.spend(work_queues.FIRST_CREDIT_S + 0.01, time.perf_counter())
    assert begun.is_greedy(time.perf_counter())
    later = time.perf_counter() + 2 * work_queues.CREDIT_S / work_queues.CREDIT_PER_S
    assert not begun.is_greedy(later) and begun.credit_s == work_queues.CREDIT_S
