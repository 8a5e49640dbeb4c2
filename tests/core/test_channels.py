"""Channels that are heard separately: each as if it were alone, all together one conversation."""

import dataclasses

import numpy as np
import pytest
from fakes import (
    CONFIG,
    HashEngine,
    Late,
    LoudnessVad,
    Talking,
    conversation,
    drive,
    muted,
    play,
    silence,
    tone,
    totals,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import FakeClassifier

from stream_erc.config import MAX_CHANNELS
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.session import Session
from stream_erc.core.snapshots import decode, encode_header, encode_step
from stream_erc.core.work import AnalyzeSegment
from stream_erc.events import (
    EmotionEvent,
    GivenTurn,
    Hypothesis,
    LastingEvent,
    PartialTurn,
    SessionClosed,
    SpeakerRenaming,
    SpeechStarted,
    SpeechStopped,
    TurnCorrection,
    TurnFailed,
)
from stream_erc.exceptions import ConfigError, ProtocolMisuse
from stream_erc.inference.workers import InlineWorker

ADAPTIVE = dataclasses.replace(
    CONFIG, endpointing=dataclasses.replace(CONFIG.endpointing, short_silence_ms=128, long_silence_ms=640)
)
NAMES = ("agent", "caller")


def open_channels(channels=NAMES, config=ADAPTIVE, **options):
    clustering = OnlineClustering(config.diarization, 8)
    return Session(config, vad=LoudnessVad(), clustering=clustering, channels=channels, **options)


def together(*channels):
    """Put channels side by side, (N, C); shorter ones end in silence."""
    longest = max(map(len, channels))
    return np.stack([np.pad(channel, (0, longest - len(channel))) for channel in channels], axis=1)


def speech(parts, before=0.3):
    """Make a channel of (seconds, Hz, seconds of silence after it)."""
    return np.concatenate(
        [silence(before), *(x for s, hz, gap in parts for x in (tone(s, hz), silence(gap)))]
    )


def finals(events):
    return [event for event in events if isinstance(event, EmotionEvent)]


def lasting(events):
    """Return the lasting events without latencies."""
    kept = [event for event in events if isinstance(event, LastingEvent)]
    return [dataclasses.replace(e, latency=None) if isinstance(e, EmotionEvent) else e for e in kept]


def alone(channel, config=ADAPTIVE):
    """Return (start, end, text) of the turns of a channel that is heard alone, and its language's."""
    session = Session(config, vad=LoudnessVad(), clustering=OnlineClustering(config.diarization, 8))
    events = play(session, np.ascontiguousarray(channel), [1600], Talking())
    return [(e.turn.start, e.turn.end, e.turn.text) for e in finals(events) if not e.revision]


def of_channel(events, channel):
    turns = [e.turn for e in finals(events) if e.turn.channel == channel and not e.revision]
    return [(turn.start, turn.end, turn.text) for turn in turns]


sides = st.lists(
    st.tuples(
        st.sampled_from([0.3, 0.6, 1.1, 4.5]),
        st.sampled_from([200, 400, 700]),
        st.sampled_from([0.1, 0.14, 0.3, 0.8]),
    ),
    max_size=5,
).map(speech)
calls = st.lists(sides, min_size=1, max_size=3).map(lambda channels: together(*channels))


@settings(deadline=None, max_examples=40)
@given(calls, st.randoms(use_true_random=False))
def test_each_channel_is_heard_as_if_it_were_alone(call, random):
    """The text of a turn is a hash of its samples: equal texts mean equal samples."""
    channels = [None] * call.shape[1]
    events = play(open_channels(channels), call, [random.choice([160, 511, 512, 3000])], Talking())
    for number in range(call.shape[1]):
        assert of_channel(events, number) == alone(call[:, number])
    indices = [event.turn.index for event in finals(events) if not event.revision]
    assert indices == list(range(len(indices)))


@settings(deadline=None, max_examples=40)
@given(calls, st.randoms(use_true_random=False), st.booleans())
def test_chunks_and_the_order_of_results_change_nothing(call, random, partials):
    config = dataclasses.replace(ADAPTIVE, partials=partials, partial_interval_ms=200)
    channels = [None, "caller", None][: call.shape[1]]

    def run(worker, size):
        session, events = open_channels(channels, config), []
        for at in range(0, len(call), size):
            session.receive_audio(call[at : at + size])
            events += worker.advance(session)
        session.receive_eof()
        return lasting(events + worker.advance(session, wait=True))

    expected = run(InlineWorker(Talking()), 1600)
    assert run(InlineWorker(Talking()), random.choice([7, 160, 511, 512, 513, 16_000])) == expected
    assert run(InlineWorker(Talking(), ahead=True), 512) == expected
    late = Late(lambda: random.randrange(10))
    assert run(late, random.choice([160, 512, 1600, 160_000])) == expected


@settings(deadline=None, max_examples=40)
@given(calls, st.lists(st.integers(1, 120), min_size=1, max_size=4), st.sets(st.integers(0, 4), max_size=2))
def test_a_snapshot_at_any_moment_goes_on_bit_for_bit(call, cuts, fails):
    engine, channels = Talking(), [None, "caller", None][: call.shape[1]]
    engine.fail_on = fails
    expected = [e for e in play(open_channels(channels), call, [1600], engine) if isinstance(e, LastingEvent)]
    kept, session, at = [], open_channels(channels), 0
    for cut in sorted(cuts):
        reported = []
        while at < min(1600 * cut, len(call)):
            session.receive_audio(call[at : at + 1600])
            at += len(call[at : at + 1600])
            reported += [e for e in drive(session, engine) if isinstance(e, LastingEvent)]
        snapshot = session.snapshot()
        kept += reported[: snapshot.events - len(kept)]
        codec = FakeClassifier()
        steps = {step.analyzed.turn.index: encode_step(step, codec) for step in snapshot.done}
        session = open_channels(channels, resume=decode(encode_header(snapshot, codec), steps, codec))
        at = snapshot.acknowledged
    rest = play(session, call[at:], [1600], engine)
    assert kept + [e for e in rest if isinstance(e, LastingEvent)] == expected


class Brief(HashEngine):
    """Hears a sentence that has ended in the second channel, and one that has not in the first."""

    def _one(self, work):
        result = super()._one(work)
        if isinstance(work, AnalyzeSegment):
            text = result.hypothesis.text + (" and", ".")[work.segment.channel]
            result = dataclasses.replace(result, hypothesis=Hypothesis(text))
        return result


def test_a_pause_that_waits_for_its_words_goes_on_after_resuming():
    """The other channel's turn ends, and is saved, in a pause whose words are still out."""
    first = [silence(0.32), tone(0.64, 200), silence(0.5), tone(0.5, 200), silence(1)]
    second = [silence(0.32), tone(0.608, 400)]  # ends with the first window in which the pause may be an end
    call = together(np.concatenate(first), np.concatenate(second))
    engine, session, held, events = Brief(), open_channels(), [], []
    expected = lasting(play(open_channels(), call, [512], engine))
    for at in range(0, 33 * 512, 512):
        session.receive_audio(call[at : at + 512])
        while works := session.work_to_do():
            for work in works:
                if isinstance(work, AnalyzeSegment) and work.segment.channel == 0:
                    held.append(work)
                else:
                    session.receive_result(work, engine.run([work])[0])
        events += session.events_received()
    assert [work.awaited for work in held] == [True]
    snapshot = session.snapshot()
    assert snapshot.events == len(finals(events)) == 1
    rest = play(open_channels(resume=snapshot), call[snapshot.acknowledged :], [512], engine)
    assert lasting(events) + lasting(rest) == expected and len(expected) == 3


def test_words_that_decide_at_the_same_sample_count_in_the_order_of_the_channels():
    """Both channels pause at the same moment; the words of the second come first."""
    call = together(speech([(0.6, 200, 1)]), speech([(0.6, 400, 1)]))
    found = []
    for order in (1, -1):
        session, engine, events = open_channels(), HashEngine(), []
        session.receive_audio(call)
        session.receive_eof()
        while works := session.work_to_do():
            waiting = works
            while more := session.work_to_do():
                waiting += more
            for work in waiting[::order]:
                session.receive_result(work, engine.run([work])[0])
            events += session.events_received()
        found.append(lasting(events + session.events_received()))
    assert found[0] == found[1]
    assert [event.turn.channel for event in finals(found[0])] == [0, 1]


def test_overlapping_turns_are_one_conversation_in_the_order_of_their_ends():
    call = together(speech([(2.0, 200, 0.8)]), speech([(0.5, 400, 2), (0.4, 400, 1)]))
    events = play(open_channels(), call, [1600])
    turns = finals(events)
    assert [(e.turn.channel, e.speaker_name) for e in turns] == [
        (1, "caller"), (0, "agent"), (1, "caller"),
    ]  # fmt: skip
    assert turns[0].turn.start > turns[1].turn.start - 600 and turns[0].turn.end < turns[1].turn.end
    assert [e.channel for e in events if isinstance(e, SpeechStarted)] == [0, 1, 1]
    assert [e.channel for e in events if isinstance(e, SpeechStopped)] == [1, 0, 1]
    assert totals(events[-1]) == SessionClosed(len(call), 3, 0, ("caller", "agent"))


def test_each_turn_is_classified_with_the_turns_of_all_channels_before_it():
    seen = []

    class Watching(HashEngine):
        def _one(self, work):
            if not isinstance(work, AnalyzeSegment):
                seen.append((work.turn.speaker, [speaker for speaker, _ in work.past]))
            return super()._one(work)

    call = together(speech([(0.5, 200, 1.5), (0.5, 200, 1)]), speech([(0.5, 400, 1)], before=1.4))
    worker, session = InlineWorker(Watching()), open_channels()
    session.receive_audio(call)
    session.receive_eof()
    worker.advance(session, wait=True)
    assert seen == [(0, []), (1, [0]), (0, [0, 1])]


def test_voices_of_different_channels_are_never_one_speaker():
    """The same two voices in both channels are four speakers, named by order of appearance."""
    one = [(0.6, 200, 0.8), (0.6, 900, 0.8)] * 3
    call = together(speech(one), speech(one, before=1.0))
    events = play(open_channels((None, None)), call, [1600])
    by_channel = {}
    for event in finals(events):
        by_channel.setdefault(event.turn.channel, set()).add(event.speaker_name)
    assert len(by_channel[0]) == len(by_channel[1]) == 2 and not by_channel[0] & by_channel[1]
    assert events[-1].speakers == ("speaker_1", "speaker_2", "speaker_3", "speaker_4")


def test_a_named_channel_needs_no_voice_and_an_unnamed_one_does():
    call = together(speech([(0.6, 200, 0.8)]), speech([(0.8, 200, 0.8)]))
    session, works = open_channels(("speaker_1", None)), []
    session.receive_audio(call)
    session.receive_eof()
    engine, events = HashEngine(), []
    while new := session.work_to_do():
        works += new
        for work in new:
            session.receive_result(work, engine.run([work])[0])
        events += session.events_received()
    events += session.events_received()
    needed = {w.segment.channel: w.embed_speaker for w in works if isinstance(w, AnalyzeSegment)}
    assert needed == {0: False, 1: True}
    assert [e.speaker_name for e in finals(events)] == ["speaker_1", "voice_1"]  # never mixed up


def test_a_channel_keeps_a_new_name_and_a_turn_can_be_corrected():
    call = together(speech([(0.5, 200, 1.0)] * 3), speech([(0.5, 400, 3)], before=1.0))
    session, engine = open_channels(), HashEngine()
    session.receive_audio(call[:20_000])
    events = drive(session, engine)
    session.submit(SpeakerRenaming("agent", "Ann"))
    session.receive_audio(call[20_000:])
    session.receive_eof()
    events += drive(session, engine)
    assert [e.speaker_name for e in finals(events)] == ["agent", "caller", "Ann", "Ann"]
    session = open_channels()
    session.receive_audio(call)
    first = drive(session, engine)
    session.submit(TurnCorrection(1, "Tom"))
    revised = finals(drive(session, engine))
    assert [e.speaker_name for e in revised] == ["Tom", "agent", "agent"]
    assert [e.turn.channel for e in revised] == [e.turn.channel for e in finals(first)[1:]]


def test_each_channel_keeps_its_language():
    likely = {}

    class Hears(HashEngine):
        def _one(self, work):
            result = super()._one(work)
            if isinstance(work, AnalyzeSegment):
                channel = work.segment.channel
                likely.setdefault(channel, []).append(work.likely)
                heard = Hypothesis("so.", language=("de", "fr")[channel])
                result = dataclasses.replace(result, hypothesis=heard)
            return result

    call = together(speech([(0.5, 200, 1.0)] * 3), speech([(0.5, 400, 1.0)] * 3, before=0.6))
    session = open_channels((None, None), detect_language=True)
    session.receive_audio(call)
    session.receive_eof()
    events = InlineWorker(Hears(), ahead=True).advance(session, wait=True)
    assert [e.turn.language for e in finals(events)] == ["de", "fr"] * 3
    assert likely == {0: [None, "de", "de"], 1: [None, "fr", "fr"]}


def test_a_turn_of_a_muted_client_ends_in_every_channel():
    call = together(speech([(2.0, 200, 0.5)]), speech([(2.0, 400, 0.5)]))
    session, engine = open_channels(), HashEngine()
    session.receive_audio(call[:20_000])
    drive(session, engine)
    session.end_turn()
    turns = finals(drive(session, engine))
    assert [(e.turn.channel, e.turn.end) for e in turns] == [(0, 19_968), (1, 19_968)]
    assert not session.speaking


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1_000, 60_000))
def test_a_muted_call_does_not_depend_on_how_long_its_work_takes(random, cut):
    """The words that one channel waits for say nothing about where the other one ends."""
    call = together(
        speech([(0.5, 200, 0.4), (1.5, 300, 0.5)]), speech([(0.9, 400, 0.3), (1.2, 500, 1)], before=0.5)
    )
    expected = lasting(muted(InlineWorker(Talking(), ahead=True), open_channels(), call, cut))
    late = Late(lambda: random.randrange(10))
    assert lasting(muted(late, open_channels(), call, cut)) == expected


def test_partial_turns_tell_their_channel_and_leave_nothing_behind():
    config = dataclasses.replace(ADAPTIVE, partials=True, partial_interval_ms=200)
    call = together(speech([(1.5, 200, 0.8)]), speech([(1.2, 400, 1.0)]))
    events = play(open_channels(config=config), call, [512])
    shown = [e for e in events if isinstance(e, PartialTurn)]
    assert {(e.channel, e.speaker) for e in shown} == {(0, "agent"), (1, "caller")}
    assert lasting(events) == lasting(play(open_channels(), call, [512]))


def test_a_turn_that_fails_tells_its_channel():
    engine = HashEngine()
    engine.fail_on = {1}
    call = together(speech([(0.5, 200, 2.0)]), speech([(0.5, 400, 1)], before=1.0))
    failed = [e for e in play(open_channels(), call, [1600], engine) if isinstance(e, TurnFailed)]
    assert [(e.index, e.channel) for e in failed] == [(1, 1)]


def test_memory_does_not_grow_with_silence_or_turns():
    session, engine = open_channels((None, None)), HashEngine()
    call = together(conversation([(1.0, 200)], gap=1.0), conversation([(0.5, 400)], gap=1.0))
    for _ in range(40):
        session.receive_audio(call)
        drive(session, engine)
    mark = session.snapshot().mark
    assert mark.position - mark.audio_from <= 0.5 * 16_000 and len(mark.channels) == 2
    assert len(session._audio._marks) == 1 and not session._pending and len(session._aheads) <= 2


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ((), "expected 1 to 8 to hear separately, got 0"),
        ((None,) * (MAX_CHANNELS + 1), "got 9"),
        (("a", "a"), "a different name for each, got 'a' twice"),
        (("a", " "), "names of 1 to 100 characters, got ' '"),
        (("a" * 101,), "1 to 100 characters"),
    ],
)
def test_channels_that_cannot_be_heard_are_named(channels, expected):
    with pytest.raises(ConfigError, match=expected):
        open_channels(channels)


def test_misuse_is_named():
    session = open_channels()
    for wrong in (silence(1), np.zeros((10, 3), np.float32), np.zeros((10, 2))):
        with pytest.raises(ProtocolMisuse, match=r"expected float32 samples \(N, 2\)"):
            session.receive_audio(wrong)
    with pytest.raises(ConfigError, match="turns that are found in the audio"):
        Session(CONFIG, given=[GivenTurn("ann", "so", 0, 100)], channels=NAMES)
    with pytest.raises(ConfigError, match="turns that are found in the audio"):
        Session(CONFIG, channels=NAMES)
    snapshot = open_channels().snapshot()
    session = open_channels()
    session.receive_audio(np.zeros((5000, 2), np.float32))
    drive(session, HashEngine())
    snapshot = session.snapshot()
    with pytest.raises(ProtocolMisuse, match="a resume point of 3 channels, got one of 2"):
        open_channels((None,) * 3, resume=snapshot)
