"""Snapshots as bytes: they restore the same session, and contain no audio."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fakes import CONFIG, HashEngine, conversation, drive, open_session, play, through_bytes
from serving import FakeClassifier

from stream_erc.config import EngineConfig, SessionConfig
from stream_erc.core.session import Session
from stream_erc.core.snapshots import decode, encode_header, encode_step
from stream_erc.events import EmotionEvent, GivenTurn, SpeakerRenaming, TurnCorrection
from stream_erc.exceptions import InputError
from stream_erc.inference.engine import TEXT_ONLY, Engine
from stream_erc.inference.workers import InlineWorker

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900), (0.9, 200), (1.1, 900)])


def heard(samples: int) -> Session:
    session = open_session()
    session.receive_audio(TALK[:samples])
    drive(session, HashEngine())
    return session


@pytest.mark.parametrize("cut", range(0, len(TALK), 9_000))
def test_a_session_goes_on_from_the_bytes_as_it_would_have(cut: int) -> None:
    snapshot = heard(cut).snapshot()
    again = through_bytes(snapshot, FakeClassifier())
    assert (again.acknowledged, again.events, again.failed) == (
        snapshot.acknowledged,
        snapshot.events,
        snapshot.failed,
    )
    rest = TALK[snapshot.acknowledged :]
    assert play(open_session(resume=again), rest, [1600]) == play(open_session(resume=snapshot), rest, [1600])


def test_a_correction_reaches_back_through_the_bytes() -> None:
    session = heard(len(TALK))
    session.submit(SpeakerRenaming("speaker_1", "Anna"))
    drive(session, HashEngine())
    sessions = [
        open_session(resume=kept)
        for kept in (session.snapshot(), through_bytes(session.snapshot(), FakeClassifier()))
    ]
    events = []
    for one in sessions:
        one.submit(TurnCorrection(1, "Anna"))
        events.append(drive(one, HashEngine()))
    assert (
        events[0] == events[1] and [e.revision for e in events[0] if isinstance(e, EmotionEvent)] == [1] * 5
    )


def test_a_network_s_memory_survives_bit_for_bit(tiny_checkpoint: Path) -> None:
    engine = Engine.load(EngineConfig(model=str(tiny_checkpoint)), SessionConfig(), TEXT_ONLY)
    worker = InlineWorker(engine)
    first = engine.open_session(SessionConfig())
    texts = ["oh god", "yes i am so happy", "why do you hate me", "no", "i am sad", "hello"]

    def say(session: Session, texts: list[str]) -> list[EmotionEvent]:
        events = []
        for k, text in enumerate(texts):
            session.submit(GivenTurn("ab"[k % 2], text))
            events += worker.advance(session)
        return [dataclasses.replace(e, latency=None) for e in events]  # type: ignore[arg-type]

    say(first, texts)
    snapshot = first.snapshot()
    again = engine.open_session(SessionConfig(), resume=through_bytes(snapshot, engine.classifier))
    assert say(again, texts) == say(engine.open_session(SessionConfig(), resume=snapshot), texts)


def test_there_is_no_audio_in_the_bytes() -> None:
    """The bytes contain no window of samples, at any offset that a snapshot could have stored."""
    for cut in range(0, len(TALK), 20_000):
        snapshot = heard(cut).snapshot()
        blobs = [encode_header(snapshot, FakeClassifier())]
        blobs += [encode_step(step, FakeClassifier()) for step in snapshot.done]
        loud = [k for k in range(0, cut - 16, 160) if np.abs(TALK[k : k + 16]).max() > 0.1]
        for form in (np.float32, np.float16):
            assert not any(TALK[k : k + 16].astype(form).tobytes() in blob for k in loud for blob in blobs)


def test_other_bytes_are_named() -> None:
    header = encode_header(heard(len(TALK)).snapshot(), FakeClassifier())
    for wrong in (b"", b"nonsense", header[:-1], b"\x9b\x07" + header[2:]):
        with pytest.raises(InputError, match="expected a snapshot of version 4"):
            decode(wrong, {}, FakeClassifier())


def test_a_header_stays_small_however_long_the_talk() -> None:
    session, sizes = open_session(CONFIG), []
    for _ in range(20):
        session.receive_audio(TALK)
        drive(session, HashEngine())
        sizes.append(len(encode_header(session.snapshot(), FakeClassifier())))
    assert sizes[-1] < 1.1 * sizes[9] + 200
