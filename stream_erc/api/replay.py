"""A recorded conversation -> messages: an audio recording, or text dialogues."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import SessionConfig
from stream_erc.events import EmotionEvent, GivenTurn, KnownVoice, Samples, TurnFailed
from stream_erc.exceptions import AudioError, InputError, TurnsError
from stream_erc.protocol.encoding import FileEncoder, Message
from stream_erc.sources.turn_files import TextDialogue

if TYPE_CHECKING:
    from stream_erc.inference.engine import Engine
    from stream_erc.inference.workers import Worker


def replay_audio(
    engine: "Engine",
    worker: "Worker",
    config: SessionConfig,
    chunks: Iterable[Samples],
    *,
    name: str,
    duration_ms: int | None = None,
    given: Sequence[GivenTurn] | None = None,
    channels: Sequence[str | None] | None = None,
    voices: Sequence[KnownVoice] = (),
    session_id: str = "session-1",
    on_progress: Callable[[int], None] = lambda samples: None,
) -> Iterator[Message]:
    """Run a session over audio (a recording or a live source); yield its messages.

    Args:
        engine: opens the session.
        worker: runs its work.
        config: the session's settings.
        chunks: the audio, float32 at 16 kHz; after an error in it, the turns so far are finished first.
        name: the name of the source, for the first message.
        duration_ms: its length, if known.
        given: all turns, if known, in order of start.
        channels: the name of each channel, if channels are heard separately; see `Session`.
        voices: the voices to tell by name.
        session_id: the session's name.
        on_progress: called with the number of samples processed so far.

    Raises:
        InputError: an error in the audio, given turns past its end, or no speech; after the last message.
        VoicesError: the voices cannot be told in this session; before the first.
    """
    session = engine.open_session(config, given=given, channels=channels, voices=voices)
    encoder = FileEncoder(session_id, given=given)
    yield _created(encoder, engine, name, duration_ms, channels)
    samples = turns = 0
    broken: InputError | None = None
    try:
        for chunk in chunks:
            session.receive_audio(chunk)
            for event in worker.advance(session):
                turns += isinstance(event, EmotionEvent | TurnFailed)
                yield encoder.encode(event)
            samples += len(chunk)
            on_progress(samples)
    except InputError as error:
        broken = error
    session.receive_eof()
    for event in worker.advance(session, wait=True):
        turns += isinstance(event, EmotionEvent | TurnFailed)
        yield encoder.encode(event)
    if broken is not None:
        raise broken
    if not turns:
        raise AudioError(f"{name}: expected speech, found none in {samples / SAMPLE_RATE:.3f} s of audio")
    for number, turn in enumerate(given or (), 1):
        if turn.start is not None and turn.start >= samples:
            raise TurnsError(
                f"turn {number} begins at {turn.start / SAMPLE_RATE:.2f} s: expected turns within the audio, "
                f"which ends at {samples / SAMPLE_RATE:.2f} s"
            )


def replay_text(
    engine: "Engine", worker: "Worker", config: SessionConfig, dialogues: Iterable[TextDialogue], *, name: str
) -> Iterator[Message]:
    """Run a session over each text dialogue; yield their messages.

    The session knows no times, since it has no audio; the messages have those of the file.
    """
    for number, dialogue in enumerate(dialogues, 1):
        session = engine.open_session(config)
        encoder = FileEncoder(f"session-{number}", dialogue.dialogue, dialogue.turns)
        yield _created(encoder, engine, name)
        for turn in dialogue.turns:
            session.submit(GivenTurn(turn.speaker, turn.text))
            yield from map(encoder.encode, worker.advance(session))
        session.receive_eof()
        yield from map(encoder.encode, worker.advance(session, wait=True))


def _created(
    encoder: FileEncoder,
    engine: "Engine",
    name: str,
    duration_ms: int | None = None,
    channels: Sequence[str | None] | None = None,
) -> Message:
    classifier = engine.classifier
    return encoder.created(
        model=classifier.name,
        asr=engine.asr_name,
        labels=classifier.labels,
        name=name,
        duration_ms=duration_ms,
        channels=channels,
    )
