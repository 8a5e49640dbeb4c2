"""`recognize`, `listen` and `connect`: the engine behind one call, kept for the next one."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream_erc.api.replay import replay_audio, replay_text
from stream_erc.api.results import Recognition
from stream_erc.audio import Resampler, SeparateChannels
from stream_erc.config import Config, check_channels
from stream_erc.events import GivenTurn, Samples
from stream_erc.exceptions import ConfigError, EngineUnavailable, InputError
from stream_erc.inference.engine import TEXT_ONLY, Engine, Stages
from stream_erc.inference.workers import InlineWorker, ThreadWorker

if TYPE_CHECKING:
    from stream_erc.protocol.encoding import Message
    from stream_erc.sources.channels import ChannelChoice
    from stream_erc.sources.microphone import Microphone
    from stream_erc.sources.turn_files import TextDialogue

log = logging.getLogger(__name__)

Device: TypeAlias = Literal["auto", "cpu", "cuda"]

KEPT_ENGINES = 2
"""Engines that stay loaded for the next call; the least recently used one goes first."""

_engines: dict[tuple[object, ...], Engine] = {}


def recognize(
    source: Path | str | NDArray[Any],
    *,
    rate: int | None = None,
    turns: Path | str | Sequence[GivenTurn] | None = None,
    channels: "ChannelChoice" = "auto",
    track: str | None = None,
    model: str | None = None,
    asr: str | None = None,
    language: str | None = None,
    speakers: int | None = None,
    voices: str | None = None,
    labels_from: str | None = None,
    words: bool | None = None,
    device: Device | None = None,
    config: Config | None = None,
) -> Recognition:
    """Recognize a recording or a conversation in text; the same turns as ``stream-erc replay`` gives.

    The models are loaded at the first call, and kept for the next one. The work is done while the result is
    iterated, in the calling thread.

    Args:
        source: an audio or video file; a transcript or text dialogues, as for ``--turns``; or samples, (N,)
            or (N, channels), floats in [-1, 1].
        rate: samples a second, for samples.
        turns: known turns: a file, or turns with times; they replace the stages that find them.
        channels: ``auto``, ``mix``, ``separate``, or a name for each channel.
        track: of several audio tracks, its number or language.
        model: a checkpoint's name or folder.
        asr: ``auto``, ``faster-whisper[:MODEL]``, ``pocketsphinx`` or ``none``.
        language: ISO 639-1 code, or ``auto``.
        speakers: their number, if known.
        voices: a file or folder of known voices, or ``default``.
        labels_from: examples of your own labels.
        words: whether turns tell the time of every word (Whisper only).
        device: where the networks run.
        config: all other settings; the arguments above override it.

    Raises:
        InputError: the source, the turns or a setting cannot be used, with what was expected and what it got.
        EngineUnavailable: a component is not installed.
    """
    given = {"model": model, "asr": asr, "language": language, "speakers": speakers, "voices": voices}
    made = _configured(config, {**given, "labels_from": labels_from, "words": words, "device": device})
    if isinstance(source, Path | str):
        from stream_erc.sources.turn_files import is_text_input

        path = Path(source)
        if is_text_input(path):
            told = None if channels == "auto" else channels
            _refuse(path, rate=rate, turns=turns, track=track, voices=voices, channels=told)
            return _text(path, made)
        if rate is not None:
            raise ConfigError(f"rate: expected samples with it, got the file {path}")
        return _recording(path, made, turns, channels, track)
    return _samples(source, made, rate, turns, channels)


def listen(
    *,
    input_device: int | str | None = None,
    model: str | None = None,
    asr: str | None = None,
    language: str | None = None,
    speakers: int | None = None,
    voices: str | None = None,
    device: Device | None = None,
    config: Config | None = None,
) -> Recognition:
    """Recognize what the microphone hears, until `Recognition.close` or Ctrl-C.

    Args:
        input_device: the number of a microphone or a part of its name, as ``stream-erc devices`` shows them.
        model: as in `recognize`, with all arguments below.
        asr: the recognizer.
        language: of the speech.
        speakers: their number, if known.
        voices: known voices.
        device: where the networks run.
        config: all other settings.

    Raises:
        DeviceError: there is no such microphone.
        EngineUnavailable: a component is not installed.
    """
    from stream_erc.sources.microphone import Microphone

    given = {"model": model, "asr": asr, "language": language, "speakers": speakers, "voices": voices}
    made = _configured(config, {**given, "device": device})
    return _hear(made, _Input(_record(Microphone(input_device)), live=True), "microphone")


def connect(url: str, **options: Any) -> Any:
    """Return a session of the server at `url`, for ``with``; see `stream_erc_client.sync.connect`.

    Raises:
        EngineUnavailable: the client is not installed.
    """
    try:
        from stream_erc_client import sync
    except ImportError as error:
        raise EngineUnavailable(
            "connect expected the client of this project: pip install stream-erc-client (clients/python)"
        ) from error
    return sync.connect(url, **options)


# --- settings -------------------------------------------------------------------------------------


def _configured(config: Config | None, given: dict[str, Any]) -> Config:
    """Return the configuration with the arguments that were given."""
    config = config or Config()
    session, engine, asr = config.session, config.engine, config.engine.asr
    told = {name: value for name, value in given.items() if value is not None}
    if "speakers" in told:
        session = replace(session, diarization=replace(session.diarization, speakers=told["speakers"]))
    if "words" in told:
        session = replace(session, words=told["words"])
    if "asr" in told:
        asr = replace(asr, engine=told["asr"])
    if "language" in told:
        asr = replace(asr, language=None if told["language"] == "auto" else told["language"])
    if "device" in told:
        asr = replace(asr, device=told["device"])
    changes = {name: told[name] for name in ("model", "labels_from", "voices", "device") if name in told}
    return replace(config, session=session, engine=replace(engine, asr=asr, **changes))


def _refuse(path: Path, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name}: expected an audio or video file with it, got text: {path}")


def _engine(config: Config, stages: Stages) -> Engine:
    """Return the engine of these settings, loaded now or by an earlier call."""
    key = (config.engine, config.session, stages)
    engine = _engines.pop(key, None)
    if engine is None:
        engine = Engine.load(config.engine, config.session, stages, time.perf_counter, _decode)
    _engines[key] = engine
    while len(_engines) > KEPT_ENGINES:
        del _engines[next(iter(_engines))]
    return engine


def _decode(path: Path) -> Iterator[Samples]:
    """Open a recording that is an example of a label."""
    from stream_erc.sources.audio_files import AudioFile

    return AudioFile(path).chunks()


# --- sources --------------------------------------------------------------------------------------


class _Input:
    """The audio of a recognition, which can be ended early.

    Args:
        chunks: 16 kHz.
        live: whether Ctrl-C, while the next chunk is waited for, ends it as well.
    """

    def __init__(self, chunks: Iterable[Samples], *, live: bool = False) -> None:
        self._chunks, self.live, self._ended = chunks, live, False

    def end(self) -> None:
        """Take no more audio."""
        self._ended = True

    def __iter__(self) -> Iterator[Samples]:
        chunks = iter(self._chunks)
        while not self._ended:
            try:
                chunk = next(chunks, None)
            except KeyboardInterrupt:
                if self.live:
                    return
                raise
            if chunk is None:
                return
            yield chunk


def _record(microphone: "Microphone") -> Iterator[Samples]:
    """Yield the microphone's chunks; it is opened for the first one."""
    with microphone:
        yield from microphone


def _recording(
    path: Path,
    config: Config,
    turns: Path | str | Sequence[GivenTurn] | None,
    choice: "ChannelChoice",
    track: str | None,
) -> Recognition:
    """Recognize an audio or video file."""
    from stream_erc.sources.audio_files import AudioFile
    from stream_erc.sources.channels import choose_channels

    given = _given(turns, path.stem)
    audio = AudioFile(path, track=track)
    one = given is not None or config.engine.voices is not None
    channels = choose_channels(audio, "mix" if one and choice == "auto" else choice)
    if one and channels is not None:
        raise ConfigError(
            "channels: expected mix with known turns or voices, got channels to hear separately"
        )
    duration_ms = None if audio.duration_s is None else round(1000 * audio.duration_s)
    source = _Input(audio.chunks(separate=channels is not None))
    return _hear(config, source, path.name, duration_ms, given, channels)


def _samples(
    samples: NDArray[Any],
    config: Config,
    rate: int | None,
    turns: Path | str | Sequence[GivenTurn] | None,
    choice: "ChannelChoice",
) -> Recognition:
    """Recognize samples (N,) or (N, channels)."""
    audio = np.asarray(samples)
    if rate is None:
        raise ConfigError("rate: expected the samples a second of an array, got none")
    if audio.ndim not in (1, 2) or not np.issubdtype(audio.dtype, np.floating):
        wanted = "floats of shape (N,) or (N, channels)"
        raise ConfigError(f"source: expected {wanted}, got {audio.dtype} of shape {audio.shape}")
    count = 1 if audio.ndim == 1 else audio.shape[1]
    channels: tuple[str | None, ...] | None = None
    if choice not in ("auto", "mix"):
        channels = (None,) * count if choice == "separate" else tuple(choice)
        if len(channels) != count:
            raise ConfigError(f"channels: expected a name for each of {count}, got {len(channels)}")
        check_channels(channels)
    source = _Input(_resampled(audio.astype(np.float32, copy=False), rate, separate=channels is not None))
    return _hear(config, source, "samples", len(audio) * 1000 // rate, _given(turns, None), channels)


def _resampled(audio: NDArray[np.float32], rate: int, *, separate: bool) -> Iterator[Samples]:
    """Yield an array at 16 kHz, a tenth of a second at a time, (n,) or (n, channels)."""
    count = 1 if audio.ndim == 1 else audio.shape[1]
    one_by_one = SeparateChannels([Resampler(rate) for _ in range(count)]) if separate else None
    stream = one_by_one or Resampler(rate, count)
    for first in range(0, len(audio), rate // 10):
        yield stream.push(audio[first : first + rate // 10])
    yield stream.flush()


def _given(
    turns: Path | str | Sequence[GivenTurn] | None, recording: str | None
) -> Sequence[GivenTurn] | None:
    """Return known turns; what is odd in their file is logged."""
    if not isinstance(turns, Path | str):
        return turns
    from stream_erc.sources.turn_files import read_turns

    known = read_turns(Path(turns), recording)
    for warning in known.warnings:
        log.warning("%s", warning)
    return known.turns


def _hear(
    config: Config,
    source: _Input,
    name: str,
    duration_ms: int | None = None,
    given: Sequence[GivenTurn] | None = None,
    channels: Sequence[str | None] | None = None,
) -> Recognition:
    from stream_erc.sources.voice_files import known_voices

    voices = known_voices(config.engine.voices, config.session.diarization.encoder)
    engine = _engine(config, Stages.of(given))

    def messages() -> "Iterator[Message]":
        with ExitStack() as stack:
            worker = ThreadWorker(engine) if source.live else InlineWorker(engine)
            stack.callback(worker.close)
            yield from replay_audio(
                engine,
                worker,
                config.session,
                source,
                name=name,
                duration_ms=duration_ms,
                given=given,
                channels=channels,
                voices=voices,
            )

    return Recognition(messages(), end=source.end, live=source.live)


def _text(path: Path, config: Config) -> Recognition:
    """Recognize conversations in text."""
    from stream_erc.sources.turn_files import read_dialogues

    engine = _engine(config, TEXT_ONLY)

    def dialogues() -> "Iterator[TextDialogue]":
        for dialogue in read_dialogues(path):
            for warning in dialogue.warnings:
                log.warning("%s", warning)
            yield dialogue

    return Recognition(replay_text(engine, InlineWorker(engine), config.session, dialogues(), name=path.name))
