"""Replay with the real components: the sample, Silero, openSMILE, speaker vectors, untrained networks.

Only words are fake: a recognizer derives them from a segment's loudness, since PocketSphinx and Whisper are
slow and have tests of their own.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import paths
import pytest

from stream_erc.api.replay import replay_audio, replay_text
from stream_erc.audio import SAMPLE_RATE
from stream_erc.cli.main import main
from stream_erc.config import SessionConfig
from stream_erc.core.session import Session
from stream_erc.events import EmotionEvent, Event, GivenTurn, Hypothesis, Samples
from stream_erc.exceptions import AudioError, TurnsError
from stream_erc.inference.acoustics import load_extractor
from stream_erc.inference.emotion.opening import open_classifier
from stream_erc.inference.emotion.shipped import shipped_models
from stream_erc.inference.engine import Engine
from stream_erc.inference.silero import SileroVad
from stream_erc.inference.speaker_encoder import load_encoder
from stream_erc.inference.workers import InlineWorker, ThreadWorker, Worker
from stream_erc.protocol.encoding import Message
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.pacing import paced
from stream_erc.sources.turn_files import TextDialogue, read_turns

SAMPLE = paths.SAMPLE / "conversation"
GOLDEN = paths.DATA / "golden.jsonl"
SECONDS = 24  # of the sample: six turns
CONFIG = SessionConfig()
LIVE = dataclasses.replace(CONFIG, partials=True, partial_interval_ms=400)


OVERLAPPING = [GivenTurn("Eve", "why", 16_000, 16_000 * 11), GivenTurn("Eve", "so", 16_000 * 8, 16_000 * 12)]


class LoudnessRecognizer:
    """A fake recognizer: the same samples give the same words."""

    name, languages = "loudness", ("en",)

    def transcribe(self, samples: Samples, *, language: str | None = None, **_: object) -> Hypothesis:
        words = ("i am so happy", "oh no", "what do you hate", "hello", "she was very angry")
        return Hypothesis(words[int(1e4 * np.abs(samples).sum()) % len(words)])


@pytest.fixture(scope="module")
def engine(tiny_checkpoint) -> Engine:
    classifier = open_classifier(tiny_checkpoint, "cpu")
    assert classifier.acoustic_spec is not None
    return Engine(
        classifier,
        vad=SileroVad(),
        recognizer=LoudnessRecognizer(),
        speaker_encoder=load_encoder(CONFIG.diarization, "cpu"),
        acoustics=load_extractor(classifier.acoustic_spec),
    )


@pytest.fixture(scope="module")
def audio() -> Samples:
    return np.concatenate(list(AudioFile(SAMPLE.with_suffix(".flac")).chunks()))[: SECONDS * SAMPLE_RATE]


@pytest.fixture(scope="module")
def known() -> list[GivenTurn]:
    turns = read_turns(SAMPLE.with_suffix(".json")).turns
    return [turn for turn in turns if turn.end is not None and turn.end <= SECONDS * SAMPLE_RATE]


def chunks(audio: Samples, size: int = 1_600) -> Iterator[Samples]:
    return (audio[at : at + size] for at in range(0, len(audio), size))


def replay(
    engine: Engine,
    chunks: Iterable[Samples],
    given: Sequence[GivenTurn] | None = None,
    worker: Worker | None = None,
    config: SessionConfig = CONFIG,
) -> list[Message]:
    worker = worker or InlineWorker(engine)
    return list(replay_audio(engine, worker, config, chunks, name="sample", given=given))


def finals(messages: Sequence[Message]) -> list[Message]:
    """Return final turns, revisions and the end, without times and message numbers."""
    kept = [m for m in messages if m["type"] in ("turn.final", "turn.revised", "session.closed")]
    return [{key: value for key, value in m.items() if key not in ("seq", "latency_ms")} for m in kept]


@pytest.fixture(scope="module")
def heard(engine, audio) -> list[Message]:
    """The messages of the clip without given turns."""
    messages = replay(engine, chunks(audio))
    kinds = [message["type"] for message in messages]
    assert kinds.count("turn.final") >= 5
    return messages


@pytest.fixture(scope="module")
def given(engine, audio, known) -> list[Message]:
    """The messages of the clip with given turns."""
    messages = replay(engine, chunks(audio), known)
    assert [m["text"] for m in messages if m["type"] == "turn.final"] == [turn.text for turn in known]
    return messages


# --- the properties -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_ms", [10, 5_000])
def test_property_1_any_chunking_gives_the_same_turns(engine, audio, known, heard, given, chunk_ms) -> None:
    size = chunk_ms * SAMPLE_RATE // 1_000
    assert replay(engine, chunks(audio, size)) == heard
    assert replay(engine, chunks(audio, size), known) == given


def test_property_1_a_file_in_any_chunking_is_the_same_audio() -> None:
    file = AudioFile(SAMPLE.with_suffix(".flac"))
    whole = np.concatenate(list(file.chunks(100)))
    for chunk_ms in (10, 5_000):
        np.testing.assert_array_equal(np.concatenate(list(file.chunks(chunk_ms))), whole)


@pytest.mark.parametrize("config", [CONFIG, LIVE], ids=["finals", "partials"])
def test_property_2_replay_equals_live(engine, audio, known, heard, given, config) -> None:
    worker = ThreadWorker(engine)
    try:
        live = replay(engine, paced(chunks(audio), 50), None, worker, config)
        told = replay(engine, paced(chunks(audio), 50), known, worker, config)
    finally:
        worker.close()
    assert_near(finals(live), finals(heard))
    assert_near(finals(told), finals(given))


def test_property_4_sessions_that_share_a_batch_do_not_notice(engine, audio, known, heard, given) -> None:
    sessions = [engine.open_session(CONFIG), engine.open_session(CONFIG, given=known)]
    found: list[list[Event]] = [[], []]
    together = 0
    for session in sessions:
        session.receive_audio(audio)
        session.receive_eof()
    while works := [(session, work) for session in sessions for work in session.work_to_do()]:
        together += len({id(session) for session, _ in works}) == 2
        for (session, work), result in zip(works, engine.run([work for _, work in works]), strict=True):
            session.receive_result(work, result)
    for session, events in zip(sessions, found, strict=True):
        events += session.events_received()
    assert together >= 5
    for events, alone in zip(found, (heard, given), strict=True):
        turns = [event for event in events if isinstance(event, EmotionEvent)]
        expected = [message for message in finals(alone) if message["type"] != "session.closed"]
        assert [turn.turn.index for turn in turns] == [message["turn"] for message in expected]
        for turn, message in zip(turns, expected, strict=True):
            assert dict(turn.emotion.probabilities) == pytest.approx(
                message["emotion"]["probabilities"], abs=1e-4
            )


def hear(engine: Engine, session: Session, audio: Samples, *, end: bool) -> list[Event]:
    """Feed audio in chunks, and run all work."""
    worker, events = InlineWorker(engine), []
    for chunk in chunks(audio):
        session.receive_audio(chunk)
        events += worker.advance(session)
    if end:
        session.receive_eof()
        events += worker.advance(session, wait=True)
    return events


@pytest.fixture(scope="module", params=["heard", "given", "overlapping"])
def uninterrupted(request, engine, audio, known) -> tuple[dict[str, object], list[Event]]:
    """Options of a session, and its events from beginning to end."""
    options = {}
    if request.param != "heard":
        options["given"] = [*known, *OVERLAPPING] if request.param == "overlapping" else known
        options["given"].sort(key=lambda turn: turn.start)
    return options, hear(engine, engine.open_session(CONFIG, **options), audio, end=True)


@pytest.mark.parametrize("at_s", [4.4, 10.0, 11.5, 22.5])
def test_property_7_a_restored_session_goes_on_the_same(engine, audio, uninterrupted, at_s) -> None:
    options, expected_events = uninterrupted
    first = engine.open_session(CONFIG, **options)
    before = hear(engine, first, audio[: int(at_s * SAMPLE_RATE)], end=False)
    snapshot = first.snapshot()
    second = engine.open_session(CONFIG, **options, resume=snapshot)
    after = hear(engine, second, audio[snapshot.acknowledged :], end=True)
    turns_before, turns_after, expected = (
        [event for event in events if isinstance(event, EmotionEvent)]
        for events in (before, after, expected_events)
    )
    acknowledged = [event for event in turns_before if event.turn.index < snapshot.conversation.turns]
    assert acknowledged + turns_after == expected
    assert after[-1] == expected_events[-1]


# --- the golden file ------------------------------------------------------------------------------


def assert_near(messages: Sequence[Message], expected: Sequence[Message], within: float = 1e-4) -> None:
    """Assert equal messages, with a tolerance for probabilities."""
    assert len(messages) == len(expected)
    for message, golden in zip(messages, expected, strict=True):
        emotion, other = message.get("emotion"), golden.get("emotion")
        if isinstance(emotion, dict) and isinstance(other, dict):
            assert emotion["label"] == other["label"], (message, golden)
            assert emotion["probabilities"] == pytest.approx(other["probabilities"], abs=within)
        rest, told = ({k: v for k, v in m.items() if k != "emotion"} for m in (message, golden))
        assert rest == told


@pytest.mark.skipif(
    "si-lstm" not in [model.name for model in shipped_models()], reason="the checkpoint si-lstm is not here"
)
def test_property_9_the_sample_gives_the_golden_messages(tmp_path, capsys) -> None:
    """After an intended change, `scripts/update_golden` writes the file anew."""
    events = tmp_path / "events.jsonl"
    words = [f"{SAMPLE}.flac", "--turns", f"{SAMPLE}.json", "--out", str(events), "--device", "cpu"]
    assert main(["replay", *words]) == 0
    assert capsys.readouterr().err == ""
    made, golden = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (events, GOLDEN)
    )
    for message in made:
        message.pop("latency_ms", None)
    assert_near(made, golden, within=0.02)


# --- the shell itself -----------------------------------------------------------------------------


def test_messages_are_numbered_and_begin_and_end_as_the_protocol_says(given, known) -> None:
    assert [message["seq"] for message in given] == list(range(len(given)))
    assert {message["session_id"] for message in given} == {"session-1"}
    assert (given[0]["type"], given[-1]["type"]) == ("session.created", "session.closed")
    assert given[0]["source"] == {"name": "sample", "duration_ms": None}
    assert given[-1] == given[-1] | {"audio_ms": 1_000 * SECONDS, "turns": len(known), "failed_turns": 0}
    assert given[-1]["speakers"] == ["Anna", "Tom"]


def test_progress_counts_what_was_heard(engine, audio, known) -> None:
    heard: list[int] = []
    worker = InlineWorker(engine)
    list(
        replay_audio(
            engine, worker, CONFIG, chunks(audio, 100_000), name="", given=known, on_progress=heard.append
        )
    )
    assert heard == [100_000, 200_000, 300_000, len(audio)]


def test_audio_that_breaks_off_is_finished_first(engine, audio, known) -> None:
    def broken() -> Iterator[Samples]:
        yield audio[: 6 * SAMPLE_RATE]
        raise AudioError("expected more, got none")

    made: list[Message] = []
    with pytest.raises(AudioError, match="expected more"):
        for message in replay_audio(engine, InlineWorker(engine), CONFIG, broken(), name="", given=known):
            made.append(message)
    assert [m["turn"] for m in made if m["type"] == "turn.final"] == [0, 1]
    assert made[-1]["type"] == "session.closed"


def test_turns_past_the_end_are_told_after_the_last_message(engine, audio) -> None:
    late = [GivenTurn("Anna", "hello", 1_000, 20_000), GivenTurn("Tom", "oh", 10**8, 10**8 + 16_000)]
    made: list[Message] = []
    with pytest.raises(TurnsError, match=r"turn 2 begins at 6250\.00 s.*ends at 2\.00 s"):
        for message in replay_audio(
            engine, InlineWorker(engine), CONFIG, chunks(audio[:32_000]), name="", given=late
        ):
            made.append(message)
    assert [m["type"] for m in made[1:]] == ["turn.final", "turn.failed", "session.closed"]


def test_what_else_a_file_tells_of_a_turn_is_in_its_message(engine, audio: Samples) -> None:
    """Further columns, and the times of a conversation without audio."""
    joy, none = {"Emotion": "joy", "id": "7"}, {"id": "8"}
    given = [
        GivenTurn("Anna", "hello", 1_000, 20_000, joy),
        GivenTurn("Tom", "oh", 21_000, 22_000),
        GivenTurn("Tom", "late", 10**8, 10**8 + 16_000, none),
    ]
    made: list[Message] = []
    with pytest.raises(TurnsError, match="turn 3 begins at"):
        for message in replay_audio(
            engine, InlineWorker(engine), CONFIG, chunks(audio[:32_000]), name="", given=given
        ):
            made.append(message)
    assert [m.get("extra") for m in made if m["type"] == "turn.final"] == [joy, None]
    assert [m.get("extra") for m in made if m["type"] == "turn.failed"] == [none]
    text_only = Engine(engine.classifier)
    dialogue = TextDialogue(None, (GivenTurn("Anna", "hello", 8_000, 16_000, joy), GivenTurn(None, "oh no")))
    replayed = finals(
        list(replay_text(text_only, InlineWorker(text_only), CONFIG, [dialogue], name="talk.csv"))
    )
    assert [(m["audio_start_ms"], m["audio_end_ms"], m.get("extra")) for m in replayed[:2]] == [
        (500, 1_000, joy),
        (None, None, None),
    ]


def test_each_text_dialogue_is_a_session(engine) -> None:
    turns = (GivenTurn("Anna", "hello"), GivenTurn(None, "oh no"), GivenTurn("Anna", "why"))
    dialogues = [TextDialogue("one", turns), TextDialogue(None, turns)]
    text_only = Engine(engine.classifier)
    made = list(replay_text(text_only, InlineWorker(text_only), CONFIG, dialogues, name="talk.jsonl"))
    assert [m["session_id"] for m in made] == ["session-1"] * 5 + ["session-2"] * 5
    assert [m.get("dialogue") for m in made] == ["one"] * 5 + [None] * 5
    first, second = finals(made[:5])[:3], finals(made[5:])[:3]
    assert [m["speaker"] for m in first] == ["Anna", "speaker_1", "Anna"]
    assert all(m["audio_start_ms"] is None and m["audio_end_ms"] is None for m in first)
    assert [m["emotion"] for m in first] == [m["emotion"] for m in second]
