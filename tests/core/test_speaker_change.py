import dataclasses

import numpy as np
import pytest
from fakes import (
    CONFIG,
    HashEngine,
    Late,
    activity,
    conversation,
    drive,
    open_session,
    play,
    silence,
    through_bytes,
    tone,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import FakeClassifier

from stream_erc.audio import ms_to_samples
from stream_erc.core.speaker_change import (
    FRAME,
    TAKEOVER,
    Speaking,
    Stretch,
    expected_similarity,
    find_other_voice,
    find_takeover,
)
from stream_erc.core.work import AnalyzeSegment, Failure, SegmentSpeakers
from stream_erc.events import EmotionEvent, LastingEvent, SpeechStarted, SpeechStopped

A, B, C = 310.0, 580.0, 940.0  # Hz, amid the bands of the fake


def speaking(*spans, frames=1000):
    """Return who speaks: (speaker, first frame, last frame + 1)."""
    active = np.zeros((frames, 3), dtype=bool)
    for who, begin, end in spans:
        active[begin:end, who] = True
    return Speaking(0, active)


def take(*spans, least=TAKEOVER):
    return find_takeover(speaking(*spans), 0, 1000 * FRAME, least)


def near(change, end, start):
    return abs(change.end - end * FRAME) < 4 * FRAME and abs(change.start - start * FRAME) < 4 * FRAME


def test_who_goes_on_speaking_has_taken_over():
    assert near(take((0, 0, 200), (1, 210, 300)), 200, 210)


def test_turns_may_overlap():
    assert near(take((0, 0, 200), (1, 170, 300)), 200, 170)


def test_the_first_change_comes_first():
    assert near(take((0, 0, 100), (1, 100, 200), (2, 200, 300)), 100, 100)


@pytest.mark.parametrize("remark", [(80, 100), (95, 130)])
def test_a_remark_within_a_turn_does_not_divide_it(remark):
    assert take((0, 0, 100), (1, *remark), (0, 110, 300)) is None


def test_a_short_answer_is_a_turn_only_if_nobody_goes_on():
    answer = (0, 0, 200), (1, 205, 225)  # 340 ms
    assert take(*answer) is None
    assert near(take(*answer, least=ms_to_samples(250)), 200, 205)


def test_a_cough_before_somebody_speaks_is_no_turn():
    assert take((0, 0, 5), (1, 10, 300)) is None


def test_overlap_is_a_share_of_the_speech():
    heard = speaking((0, 0, 100), (1, 50, 100))
    assert heard.overlap(0, 10**6) == pytest.approx(0.5)
    assert heard.overlap(0, 40 * FRAME) == 0.0 and heard.overlap(500 * FRAME, 600 * FRAME) == 0.0


def stretches(voices, noise=0.6, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for number, who in enumerate(voices):
        vector = np.eye(32)[who] + noise * rng.standard_normal(32) / np.sqrt(32)
        begin = number * 12_288
        found.append(Stretch(begin, begin + 20_480, (vector / np.linalg.norm(vector)).astype(np.float32)))
    return found


def test_speech_reaches_to_where_nobody_speaks():
    heard = speaking((0, 10, 20), (0, 30, 50), (1, 48, 70), (0, 80, 90))
    start, end = heard.extend(40 * FRAME, 60 * FRAME, 0, 1000 * FRAME)
    assert abs(start - 30 * FRAME) < 3 * FRAME and abs(end - 70 * FRAME) < 3 * FRAME
    assert heard.extend(40 * FRAME, 60 * FRAME, 35 * FRAME, 62 * FRAME) == (35 * FRAME, 62 * FRAME)
    assert heard.extend(40 * FRAME, 60 * FRAME, 40 * FRAME, 60 * FRAME) == (40 * FRAME, 60 * FRAME)
    silent = Speaking(0, np.zeros((0, 3), dtype=bool))
    assert silent.extend(40 * FRAME, 60 * FRAME, 0, 1000 * FRAME) == (40 * FRAME, 60 * FRAME)


def test_another_voice_is_found_where_it_begins():
    heard = stretches([0, 0, 0, 1, 1])
    assert abs(find_other_voice(heard) - heard[2].end) < 8_192


@pytest.mark.parametrize("seed", range(20))
def test_one_voice_does_not_change(seed):
    assert find_other_voice(stretches([0] * 8, seed=seed)) is None


def test_more_speech_lets_expect_more_similarity():
    lengths = [0.5, 1, 2, 5, 20, 1000]
    shares = [expected_similarity(length, length) for length in lengths]
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] < 1


# --- in a session ---------------------------------------------------------------------------------

WATCHING = dataclasses.replace(
    CONFIG, endpointing=dataclasses.replace(CONFIG.endpointing, max_turn_ms=15_000)
)


def watching(**options):
    return open_session(WATCHING, watches=True, **options)


def talk(*turns):
    """Make tones one right after the other: seconds and Hz; None for silence; and what overlaps them."""
    return np.concatenate(
        [silence(0.5), *(silence(s) if hz is None else tone(s, hz) for s, hz in turns), silence(1)]
    )


def turns(events):
    last = {e.turn.index: e for e in events if isinstance(e, EmotionEvent)}
    return [last[index] for index in sorted(last)]


def spoken(events):
    return [
        (round(e.turn.start / 16000, 1), round(e.turn.end / 16000, 1), e.speaker_name) for e in turns(events)
    ]


def test_a_turn_ends_where_the_speaker_changes():
    heard = spoken(play(watching(), talk((2, A), (2.5, B), (1.5, A)), [1600]))
    assert [(a, c) for a, _, c in heard] == [(0.5, "speaker_1"), (2.5, "speaker_2"), (5.0, "speaker_1")]
    without = play(open_session(WATCHING), talk((2, A), (2.5, B), (1.5, A)), [1600])
    assert len(turns(without)) == 1


def test_the_turn_before_is_told_while_the_next_one_is_spoken():
    session, engine = watching(), HashEngine()
    session.receive_audio(talk((2, A), (3, B))[: int(4.5 * 16000)])
    events = drive(session, engine)
    assert [e.turn.end // 16000 for e in turns(events)] == [2]
    order = [type(e) for e in events if isinstance(e, SpeechStarted | SpeechStopped)]
    assert order == [SpeechStarted, SpeechStopped, SpeechStarted]


def test_a_short_answer_right_after_a_question_is_a_turn():
    heard = spoken(play(watching(), talk((2, A), (0.4, B)), [1600]))
    assert [(a, b) for a, b, _ in heard] == [(0.5, 2.5), (2.5, 2.9)]


def test_overlap_is_told_and_with_whom():
    audio = talk((2, A), (3, None))
    both = int(2.0 * 16000)
    audio[both : both + 32_000] += tone(2, B)  # from half a second before the end of the other
    first, second = turns(play(watching(), audio, [1600]))
    assert first.turn.end > second.turn.start and second.others == (first.speaker_name,)
    assert 0.15 < first.turn.overlap < 0.4 and 0.15 < second.turn.overlap < 0.4 and first.others == ()


def test_a_voice_is_heard_where_nobody_else_speaks():
    session, engine, heard = watching(), HashEngine(), {}
    audio = talk((2, A), (3, None))
    audio[32_000:64_000] += tone(2, B)  # 0.5 s over the end of the other
    session.receive_audio(audio)
    while works := session.work_to_do():
        found = [w.segment for w in works if isinstance(w, AnalyzeSegment)]
        heard |= {segment.index: segment for segment in found if segment.final or segment.paused}
        for work, result in zip(works, engine.run(works), strict=True):
            session.receive_result(work, result)
    first, second = heard[0], heard[1]
    assert first.lead == 0 and first.alone is first.samples
    assert 0 < second.lead == first.end - second.samples_from
    assert len(second.alone) == len(second.samples) - second.lead
    short = dataclasses.replace(second, samples=second.samples[: second.lead + 100])
    assert short.alone is short.samples


TALK = talk((2, A), (2.5, B), (0.6, None), (1.5, A), (1.2, C), (0.4, None), (0.8, B), (2, A), (0.4, C))
EXPECTED = play(watching(), TALK, [1600])


def comparable(events):
    kept = [e for e in events if isinstance(e, LastingEvent | SpeechStarted | SpeechStopped)]
    return [dataclasses.replace(e, latency=None) if isinstance(e, EmotionEvent) else e for e in kept]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([1, 160, 512, 3000, 20_000, 100_000]), min_size=1, max_size=4))
def test_property_1_chunks_change_nothing(sizes):
    sizes = [*sizes, 4000]
    assert comparable(play(watching(), TALK, sizes)) == comparable(EXPECTED)
    assert len(turns(EXPECTED)) == 7


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_property_4_answers_may_come_at_any_time(random):
    worker, session, events = Late(lambda: random.randrange(10)), watching(), []
    for at in range(0, len(TALK), 4000):
        session.receive_audio(TALK[at : at + 4000])
        events += worker.advance(session)
    session.receive_eof()
    events += worker.advance(session, wait=True)
    talking = play(watching(), TALK, [1600], worker.engine)

    def lasting(found):
        return [e for e in comparable(found) if isinstance(e, EmotionEvent)]

    assert lasting(events) == lasting(talking)


@pytest.mark.parametrize("cut", range(6_000, len(TALK), 9_000))
def test_property_7_a_restored_session_goes_on_bit_for_bit(cut):
    session = watching()
    session.receive_audio(TALK[:cut])
    before = drive(session, HashEngine())
    snapshot = through_bytes(session.snapshot(), FakeClassifier())
    after = play(watching(resume=snapshot), TALK[snapshot.acknowledged :], [1600])
    final = {
        e.turn.index: e for e in [*comparable(before), *comparable(after)] if isinstance(e, EmotionEvent)
    }
    assert [final[k] for k in sorted(final)] == comparable(turns(EXPECTED))


def test_nobody_new_speaks_if_it_cannot_be_told():
    class Broken(HashEngine):
        def _one(self, work):
            return Failure("expected to work") if isinstance(work, SegmentSpeakers) else super()._one(work)

    assert len(turns(play(watching(), talk((2, A), (2.5, B)), [1600], Broken()))) == 1


def test_an_ended_turn_asks_nothing_more():
    session, engine, audio = watching(), HashEngine(), talk((2, A))
    session.receive_audio(audio[:24_000])
    events = drive(session, engine)
    session.receive_audio(audio[24_000:25_600])  # the question at 24,576
    (work,) = session.work_to_do()
    assert isinstance(work, SegmentSpeakers)
    session.end_turn()
    session.receive_result(work, activity(work))
    events += drive(session, engine)
    assert len(turns(events)) == 1
    session.receive_audio(conversation([(1.0, B)]))
    session.receive_eof()
    assert len(turns(events + drive(session, engine))) == 2
