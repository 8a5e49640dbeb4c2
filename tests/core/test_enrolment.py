"""Known voices: measuring them, and enrolling them in a conversation."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

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
    voice,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import FakeClassifier

from stream_erc.audio import SAMPLE_RATE
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.enrolment import measure_voice
from stream_erc.core.session import Session, Snapshot
from stream_erc.core.snapshots import decode, encode_header, encode_step
from stream_erc.core.work import MeasureVoice, Work
from stream_erc.events import (
    ClientInput,
    ClipEnrolment,
    EmotionEvent,
    Event,
    GivenTurn,
    InputRejected,
    KnownVoice,
    PartialTurn,
    Samples,
    SessionClosed,
    SpeakerRenamed,
    SpeakerRenaming,
    TurnCorrection,
    TurnEnrolment,
    Vector,
    VoiceEnrolled,
)
from stream_erc.exceptions import VoicesError

LOW, HIGH, OTHER = 200, 900, 420  # Hz: voices
TALK = conversation([(1.2, LOW), (1.2, HIGH), (1.3, LOW), (0.6, HIGH), (1.4, LOW), (1.1, HIGH)])
ANNA = KnownVoice("Anna", voice(tone(1, LOW)))
BEN = KnownVoice("Ben", voice(tone(1, OTHER)))


def between(cosine: float, one: KnownVoice, other: KnownVoice) -> Vector:
    """Return the vector that has this cosine with the first voice, in the direction of the second."""
    return (cosine * one.embedding + np.sqrt(1 - cosine**2) * other.embedding).astype(np.float32)


# --- measuring ------------------------------------------------------------------------------------


def pieces(audio: Samples, size: int) -> list[Samples]:
    return [audio[at : at + size] for at in range(0, len(audio), size)]


def embed(samples: Samples) -> Vector | None:
    """Return a vector that tells whether the pitch is low or high."""
    if len(samples) < 0.4 * SAMPLE_RATE:
        return None
    low = np.abs(np.fft.rfft(samples, SAMPLE_RATE)).argmax() < 500
    return np.array([low, not low], np.float32)


def test_only_speech_is_measured_weighted_by_its_length() -> None:
    audio = np.concatenate([silence(3), tone(3, LOW), silence(4), tone(1, HIGH), silence(9)])
    mean, speech_s = measure_voice(pieces(audio, 1_000), LoudnessVad(), embed)
    assert speech_s == pytest.approx(4, abs=0.2)
    np.testing.assert_allclose(mean, np.array([3, 1]) / np.sqrt(10), atol=0.03)
    for size in (511, 512, len(audio)):
        again, _ = measure_voice(pieces(audio, size), LoudnessVad(), embed)
        np.testing.assert_array_equal(again, mean)


def test_long_speech_is_measured_in_parts() -> None:
    mean, speech_s = measure_voice([tone(70, LOW)], LoudnessVad(), embed)
    assert speech_s == pytest.approx(70, abs=0.5)
    np.testing.assert_allclose(mean, [1, 0])


NOT_A_NUMBER = np.full(80_000, np.nan, np.float32)


@pytest.mark.parametrize("audio", [silence(5), silence(0), tone(0.6, LOW), NOT_A_NUMBER])
def test_a_clip_without_speech_is_refused(audio: Samples) -> None:
    with pytest.raises(VoicesError, match="expected a clip with at least 1 s of speech, got 0"):
        measure_voice([audio], LoudnessVad(), embed)


# --- voices that are known from the beginning -----------------------------------------------------


def speakers(events: Sequence[Event]) -> dict[int, str]:
    """Return the last speaker of each turn, with later names applied."""
    found: dict[int, str] = {}
    for event in events:
        if isinstance(event, EmotionEvent):
            found[event.turn.index] = event.speaker_name
        elif isinstance(event, SpeakerRenamed):
            found = {turn: event.name if who == event.previous else who for turn, who in found.items()}
    return found


def heard(session: Session, *inputs: ClientInput, audio: Samples = TALK) -> list[Event]:
    """Hear the audio, then take the inputs, and go on with the session to its end."""
    session.receive_audio(audio)
    events = drive(session, HashEngine())
    for one in inputs:
        session.submit(one)
        events += drive(session, HashEngine())
    session.receive_eof()
    return events + drive(session, HashEngine())


def reasons(events: Sequence[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, InputRejected)]


def test_a_known_voice_has_its_name_and_a_stranger_a_number() -> None:
    events = play(open_session(voices=[BEN, ANNA]), TALK, [1_600])
    assert speakers(events) == dict(enumerate(["Anna", "speaker_1"] * 3))
    closed = events[-1]
    assert isinstance(closed, SessionClosed) and closed.speakers == ("Anna", "speaker_1")


def test_partial_turns_have_it_too() -> None:
    events = play(open_session(replace(CONFIG, partials=True), voices=[ANNA]), TALK, [1_600])
    assert {event.speaker for event in events if isinstance(event, PartialTurn)} == {"Anna", "speaker_1"}


@pytest.mark.parametrize("count", [None, 2])
def test_silent_voices_take_no_strangers_place(count: int | None) -> None:
    far = [KnownVoice(f"Guest {k}", voice(tone(1, hz))) for k, hz in enumerate((40, 72, 104, OTHER))]
    diarization = replace(CONFIG.diarization, speakers=count, max_speakers=2)
    events = play(open_session(replace(CONFIG, diarization=diarization), voices=far), TALK, [1_600])
    assert speakers(events) == dict(enumerate(["speaker_1", "speaker_2"] * 3))


def test_what_made_voices_known_makes_no_stranger_rare() -> None:
    guests = [KnownVoice(f"Guest {k}", voice(tone(1, hz))) for k, hz in enumerate((40, 72, 104))]
    anna = KnownVoice("Anna", between(0.25, ANNA, BEN))
    events = play(open_session(voices=[*guests, anna]), TALK, [1_600])
    assert speakers(events)[0] == "speaker_1"


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, len(TALK)), max_size=3))
def test_resuming_equals_going_on(cuts: list[int]) -> None:
    whole = play(open_session(voices=[ANNA, BEN]), TALK, [1_600])
    session = open_session(voices=[ANNA, BEN])
    for cut in sorted(cuts):
        session.receive_audio(TALK[session.snapshot().acknowledged : cut])
        drive(session, HashEngine())
        session = resumed(session.snapshot())
    rest = TALK[session.snapshot().acknowledged :]
    events = play(session, rest, [1_600])
    assert finals(whole)[len(finals(whole)) - len(finals(events)) :] == finals(events)
    assert events[-1] == whole[-1]


def finals(events: Sequence[Event]) -> list[EmotionEvent]:
    return [event for event in events if isinstance(event, EmotionEvent)]


def resumed(snapshot: Snapshot) -> Session:
    """Return the session that goes on from the bytes of a snapshot, without the voices at hand."""
    codec = FakeClassifier()
    steps = {step.analyzed.turn.index: encode_step(step, codec) for step in snapshot.done}
    return open_session(resume=decode(encode_header(snapshot, codec), steps, codec))


# --- voices of turns ------------------------------------------------------------------------------


def test_a_turn_names_its_speaker_before_and_after() -> None:
    session = open_session()
    events = heard(session, TurnEnrolment(2, "Anna", keep=True), audio=TALK[: 7 * SAMPLE_RATE])
    assert speakers(events)[0] == "Anna"
    enrolled = next(event for event in events if isinstance(event, VoiceEnrolled))
    assert (enrolled.name, enrolled.turn, enrolled.keep) == ("Anna", 2, True)
    assert enrolled.speech_s == pytest.approx(1.3, abs=0.1)
    np.testing.assert_allclose(enrolled.embedding, ANNA.embedding, atol=1e-3)
    again = open_session(voices=[KnownVoice("Anna", enrolled.embedding)])
    assert speakers(play(again, TALK, [1_600]))[4] == "Anna"


def test_the_name_holds_for_later_turns() -> None:
    session = open_session()
    session.receive_audio(TALK[: 4 * SAMPLE_RATE])
    events = drive(session, HashEngine())
    session.submit(TurnEnrolment(1, "Anna"))
    events += play(session, TALK[4 * SAMPLE_RATE :], [1_600])
    assert speakers(events) == dict(enumerate(["speaker_1", "Anna"] * 3))
    assert [e.revision for e in finals(events)] == [0] * 6


def test_a_known_voice_that_was_not_recognised_is_told() -> None:
    strange = KnownVoice("Anna", BEN.embedding)
    session = open_session(voices=[strange])
    session.receive_audio(TALK[: 4 * SAMPLE_RATE])
    events = drive(session, HashEngine())
    assert speakers(events) == {0: "speaker_1", 1: "speaker_2"}
    session.submit(TurnEnrolment(1, "Anna"))
    events += play(session, TALK[4 * SAMPLE_RATE :], [1_600])
    assert speakers(events) == dict(enumerate(["speaker_1", "Anna"] * 3))
    assert not reasons(events)


def test_renaming_to_a_silent_voice_makes_both_one() -> None:
    session = open_session(voices=[KnownVoice("Anna", between(0.33, ANNA, BEN))])
    session.receive_audio(TALK[: 4 * SAMPLE_RATE])
    events = drive(session, HashEngine())
    assert speakers(events) == {0: "speaker_1", 1: "speaker_2"}
    session.submit(SpeakerRenaming("speaker_1", "Anna"))
    events += play(session, conversation([(1.2, LOW), (1.2, HIGH), (1.2, 520)]), [1_600])
    # Nobody has the number 1 any more, until another voice takes it.
    assert speakers(events) == {0: "Anna", 1: "speaker_2", 2: "Anna", 3: "speaker_2", 4: "speaker_1"}


def test_two_speakers_with_one_name_become_one() -> None:
    session = open_session()
    events = heard(session, TurnEnrolment(1, "Anna"), TurnEnrolment(2, "Anna"))
    assert not reasons(events)
    assert set(speakers(events).values()) == {"Anna"}
    closed = events[-1]
    assert isinstance(closed, SessionClosed) and closed.speakers == ("Anna",)
    last = {event.turn.index: event for event in finals(events)}
    alone = replace(CONFIG, diarization=replace(CONFIG.diarization, speakers=1))
    known = {event.turn.index: event for event in finals(heard(open_session(alone)))}
    assert [e.emotion for e in last.values()] == [e.emotion for e in known.values()]


def test_a_turn_of_another_known_voice_is_refused_until_it_is_corrected() -> None:
    session = open_session(voices=[ANNA])
    events = heard(session, TurnEnrolment(0, "Ben"), TurnCorrection(0, "Ben"), TurnEnrolment(0, "Ben"))
    assert reasons(events) == [
        "expected a turn of somebody who is not known yet, got turn 0 of 'Anna': correct its speaker first"
    ]
    assert speakers(events)[0] == "Ben"
    assert sum(isinstance(event, VoiceEnrolled) for event in events) == 1


@pytest.mark.parametrize(
    ("enrolment", "said"),
    [
        (TurnEnrolment(9, "Anna"), r"expected a turn whose voice is in memory \(0 to 5\), got 9"),
        (TurnEnrolment(3, "Anna"), "expected a turn with at least 1 s of speech, got turn 3 of 0.6"),
        (TurnEnrolment(0, "speaker_2"), "expected a name that no unnamed speaker gets, got 'speaker_2'"),
        (TurnEnrolment(0, " "), "expected a voice's name"),
        (ClipEnrolment("Anna", silence(3)), "expected a clip with at least 1 s of speech, got 0.00 s"),
        (ClipEnrolment("voice_1", tone(3, LOW)), "expected a name that no unnamed speaker gets"),
    ],
)
def test_an_unusable_enrolment_changes_nothing(enrolment: ClientInput, said: str) -> None:
    events = heard(open_session(), enrolment)
    (reason,) = reasons(events)
    assert re.match(said, reason), reason
    assert finals(events) == finals(heard(open_session()))


def test_a_turn_out_of_memory_is_refused() -> None:
    config = replace(CONFIG, diarization=replace(CONFIG.diarization, memory_turns=2))
    events = heard(open_session(config), TurnEnrolment(3, "Anna"))
    assert reasons(events) == ["expected a turn whose voice is in memory (4 to 5), got 3"]


def test_a_session_that_tells_no_voices_apart_knows_none() -> None:
    session = Session(CONFIG, given=None)
    session.submit(GivenTurn("Tom", "hello"))
    session.submit(TurnEnrolment(0, "Anna"))
    session.submit(ClipEnrolment("Anna", tone(2, LOW)))
    session.receive_eof()
    assert (
        reasons(drive(session, HashEngine()))
        == [
            "expected a session that tells voices apart, got one without",
        ]
        * 2
    )


def test_channels_that_are_heard_separately_know_no_voices() -> None:
    clustering = OnlineClustering(CONFIG.diarization, 8)
    channels = (None, "Tom")
    with pytest.raises(VoicesError, match="expected no known voices where channels are heard separately"):
        Session(CONFIG, vad=LoudnessVad(), clustering=clustering, channels=channels, voices=[ANNA])
    session = Session(CONFIG, vad=LoudnessVad(), clustering=clustering, channels=channels)
    audio = np.stack([TALK, np.zeros_like(TALK)], axis=1)
    inputs = TurnEnrolment(0, "Anna"), ClipEnrolment("Anna", tone(2, LOW))
    events = heard(session, *inputs, audio=audio)
    assert (
        reasons(events)
        == ["expected a session that hears one channel, got one that hears them separately"] * 2
    )
    assert set(speakers(events).values()) == {"speaker_1", "speaker_2"}


def test_a_rename_carries_the_known_voice_along() -> None:
    session = open_session()
    session.receive_audio(TALK[: 4 * SAMPLE_RATE])
    events = drive(session, HashEngine())
    for one in (TurnEnrolment(0, "Anna"), SpeakerRenaming("Anna", "Mum"), SpeakerRenaming("Mum", "Anne")):
        session.submit(one)
    events += play(session, TALK[4 * SAMPLE_RATE :], [1_600])
    assert speakers(events) == dict(enumerate(["Anne", "speaker_2"] * 3))


# --- clips ----------------------------------------------------------------------------------------


def test_a_clip_names_turns_before_and_after() -> None:
    session = open_session()
    session.receive_audio(TALK[: 2 * SAMPLE_RATE])
    events = drive(session, HashEngine())
    session.submit(ClipEnrolment("Anna", tone(2, LOW)))
    events += play(session, TALK[2 * SAMPLE_RATE :], [1_600])
    assert speakers(events) == dict(enumerate(["Anna", "speaker_1"] * 3))
    assert sum(isinstance(event, VoiceEnrolled) for event in events) == 1


def test_a_clip_before_any_turn_is_like_a_voice_known_before() -> None:
    session = open_session()
    session.submit(ClipEnrolment("Anna", tone(2, LOW)))
    known = play(session, TALK, [1_600])
    assert finals(known) == finals(play(open_session(voices=[ANNA]), TALK, [1_600]))


INPUTS: list[tuple[int, ClientInput]] = [
    (20_000, ClipEnrolment("Anna", tone(2, LOW))),
    (60_000, TurnEnrolment(1, "Ben")),
    (90_000, ClipEnrolment("Nobody", silence(2))),
    (100_000, SpeakerRenaming("Ben", "Benno")),
    (110_000, TurnEnrolment(2, "Benno")),
    (len(TALK), TurnEnrolment(1, "Benno")),
]


def slowly(session: Session, at: int, order: random.Random, size: int = 1_600) -> list[Event]:
    """Hear the rest of the talk with its inputs, while results take their time and come in any order."""
    engine, events, running = HashEngine(), [], list[Work]()

    def settle(some: bool) -> None:
        running.extend(session.work_to_do())
        while running and (not some or order.random() < 0.5):
            work = running.pop(order.randrange(len(running)))
            session.receive_result(work, engine.run([work])[0])
            running.extend(session.work_to_do())
        events.extend(session.events_received())

    for position, one in INPUTS:
        while at < position:
            session.receive_audio(TALK[at : min(position, at + size)])
            at = min(position, at + size)
            settle(some=True)
        session.submit(one)
    session.receive_eof()
    settle(some=False)
    return events


def lasting(events: Sequence[Event]) -> list[str]:
    """Return what the events say, in order."""
    kinds = (EmotionEvent, SpeakerRenamed, VoiceEnrolled, InputRejected, SessionClosed)
    return [str(event) for event in events if isinstance(event, kinds)]


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_results_changes_nothing(seed: int) -> None:
    expected = lasting(slowly(open_session(), 0, random.Random(0), size=len(TALK)))
    assert any("VoiceEnrolled" in line for line in expected) and any("Rejected" in line for line in expected)
    assert lasting(slowly(open_session(), 0, random.Random(seed))) == expected


@pytest.mark.parametrize("cut", range(5_000, len(TALK), 17_000))
def test_inputs_are_taken_once_after_a_cut(cut: int) -> None:
    expected = lasting(slowly(open_session(), 0, random.Random(0)))
    session, engine = open_session(), HashEngine()
    at, rest = 0, list(INPUTS)
    while rest and rest[0][0] <= cut:
        position, one = rest.pop(0)
        session.receive_audio(TALK[at:position])
        at = position
        session.submit(one)
    session.receive_audio(TALK[at:cut])
    before = lasting(drive(session, engine))
    snapshot = session.snapshot()
    session = resumed(snapshot)
    at = snapshot.acknowledged
    for position, one in INPUTS[snapshot.inputs :]:
        session.receive_audio(TALK[at : max(at, position)])
        at = max(at, position)
        session.submit(one)
    session.receive_eof()
    after = lasting(drive(session, engine))
    assert after == expected[-len(after) :]
    told = len(expected) - len(after)
    assert before[:told] == expected[:told]


def test_a_result_of_another_measurement_is_a_misuse() -> None:
    session, engine = open_session(), HashEngine()
    session.submit(ClipEnrolment("Anna", tone(2, LOW)))
    (work,) = session.work_to_do()
    assert isinstance(work, MeasureVoice)
    session.receive_audio(TALK)
    assert session.work_to_do() == []  # the audio waits for the voice
    result = engine.run([work])[0]
    session.receive_result(work, result)
    with pytest.raises(Exception, match="expected the result of the running measurement"):
        session.receive_result(work, result)
