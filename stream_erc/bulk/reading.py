"""Reading one conversation of many: its messages, as a single replay writes them, into its result.

Times that were measured are 0 (`latency_ms`), since results must not depend on when they were made.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stream_erc.bulk.inputs import Unit
from stream_erc.bulk.results import Results, digest_of, digest_of_values
from stream_erc.config import Config
from stream_erc.events import GivenTurn, KnownVoice, Samples
from stream_erc.exceptions import InputError, OutputError, StreamErcError

if TYPE_CHECKING:
    from stream_erc.inference.engine import Engine, Stages
    from stream_erc.protocol.encoding import Message
    from stream_erc.sources.channels import ChannelChoice
    from stream_erc.sources.raw_audio import RawFormat

log = logging.getLogger(__name__)

LIBRARIES = (
    "stream-erc",
    "av",
    "ctranslate2",
    "faster-whisper",
    "kaldi-native-fbank",
    "numpy",
    "onnxruntime",
)
"""Packages whose versions may change what is heard."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of all conversations, as the options of a single replay."""

    out: Path
    config: Config
    turns: Path | None = None
    channels: "ChannelChoice | None" = None
    track: str | None = None
    raw: "RawFormat | None" = None
    format: Literal["jsonl", "parquet"] = "jsonl"

    def digest(self) -> str:
        """Return what stands for these settings, the content of the files they name, and the versions."""
        from stream_erc.sources.voice_files import voices_path

        engine = self.config.engine
        voices = None if engine.voices is None else str(voices_path(engine.voices))
        named = [self.turns, *map(_existing, (engine.model, voices, engine.labels_from))]
        files = [None if path is None else digest_of(path) for path in named]
        versions = [(name, metadata.version(name)) for name in LIBRARIES]
        read = (self.config.session, engine, self.channels, self.track, self.raw, self.format)
        return digest_of_values([*read, *files, *versions])


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a conversation's reading.

    Attributes:
        name: the unit's.
        kind: ``stopped`` if no other conversation could be read or written either.
        reason: of a failure, one line.
    """

    name: str
    kind: Literal["read", "skipped", "failed", "stopped"]
    reason: str = ""


class _Unusable(Exception):
    """Settings or a folder that no conversation can be read with; its cause says which."""


class Reader:
    """Reads conversations one after the other; an engine is loaded for the first that is not done yet.

    Args:
        settings: of all conversations.
        key: their digest.
    """

    def __init__(self, settings: Settings, key: str) -> None:
        self._settings, self._key = settings, key
        self._results = Results(settings.out, "." + settings.format)
        self._engines: dict[Stages, Engine] = {}

    def read(self, unit: Unit) -> Outcome:
        """Read a conversation unless it is done; never raises for what a file or a folder is like."""
        try:
            key = digest_of_values([self._key, unit.path.name, digest_of(unit.path)])
            if self._results.is_done(unit.name, key):
                return Outcome(unit.name, "skipped")
            return self._read(unit, key)
        except _Unusable as error:
            return Outcome(unit.name, "stopped", str(error.__cause__))
        except OSError as error:
            return Outcome(unit.name, "failed", f"{unit.path}: expected a readable file, got: {error}")
        except Exception as error:  # the boundary: one bad file must not end the others
            log.exception("%s could not be read", unit.path)
            return Outcome(unit.name, "failed", f"{unit.path} could not be read: {error!r}")

    def _read(self, unit: Unit, key: str) -> Outcome:
        """Write the result; of a file that breaks off, all before the fault."""
        failure: StreamErcError | None = None
        count = 0

        def messages() -> "Iterator[Message]":
            nonlocal failure, count
            try:
                for message in self._messages(unit.path):
                    count += 1
                    yield message
            except StreamErcError as error:
                failure = error

        def fill(path: Path) -> str | None:
            if self._settings.format == "parquet":
                from stream_erc.exports.files import write_export

                found = list(messages())
                if found:
                    write_export(found, path)
            else:
                from stream_erc.protocol.encoding import to_json

                with path.open("w", encoding="utf-8", newline="\n") as file:
                    file.writelines(to_json(message) + "\n" for message in messages())
            if not count:
                return None
            return key if failure is None else ""

        try:
            self._results.write(unit.name, fill)
        except OutputError as error:
            raise _Unusable from error
        except OSError as error:
            raise _Unusable from self._results.refused(error)
        return Outcome(unit.name, "read") if failure is None else Outcome(unit.name, "failed", str(failure))

    def _messages(self, path: Path) -> "Iterator[Message]":
        """Yield what a single replay of a file writes."""
        from stream_erc.api.replay import replay_audio, replay_text
        from stream_erc.inference.engine import TEXT_ONLY, Stages
        from stream_erc.inference.workers import InlineWorker
        from stream_erc.sources.audio_files import AudioFile
        from stream_erc.sources.channels import choose_channels
        from stream_erc.sources.turn_files import is_text_input, read_dialogues, read_turns

        settings, config = self._settings, self._settings.config
        name = path.name.encode(errors="replace").decode()
        if is_text_input(path):
            for option in ("turns", "channels", "track", "raw"):
                if getattr(settings, option) is not None:
                    raise InputError(f"--{option}: expected an audio or video file with it, got text: {path}")
            engine = self._engine(TEXT_ONLY)
            dialogues = read_dialogues(path)
            yield from replay_text(engine, InlineWorker(engine), config.session, dialogues, name=name)
            return
        given: Sequence[GivenTurn] | None = None
        if settings.turns is not None:
            given = read_turns(settings.turns, path.stem).turns
        audio = AudioFile(path, track=settings.track, raw=settings.raw)
        one = given is not None or config.engine.voices is not None
        channels = choose_channels(audio, settings.channels or ("mix" if one else "auto"))
        if one and channels is not None:
            raise InputError("--channels: expected mix with --turns or --voices, got separate channels")
        engine = self._engine(Stages.of(given))
        yield from replay_audio(
            engine,
            InlineWorker(engine),
            config.session,
            audio.chunks(separate=channels is not None),
            name=name,
            duration_ms=None if audio.duration_s is None else round(1000 * audio.duration_s),
            given=given,
            channels=channels,
            voices=self._voices(),
        )

    def _engine(self, stages: "Stages") -> "Engine":
        """Return the engine of these stages."""
        from stream_erc.inference.engine import Engine

        if stages not in self._engines:
            config = self._settings.config
            try:
                loaded = Engine.load(config.engine, config.session, stages, decode=_decode)
            except StreamErcError as error:
                raise _Unusable from error
            self._engines[stages] = loaded
        return self._engines[stages]

    def _voices(self) -> tuple[KnownVoice, ...]:
        from stream_erc.sources.voice_files import known_voices

        config = self._settings.config
        try:
            return known_voices(config.engine.voices, config.session.diarization.encoder)
        except StreamErcError as error:
            raise _Unusable from error


def _decode(path: Path) -> Iterator[Samples]:
    """Open a recording that is an example of a label."""
    from stream_erc.sources.audio_files import AudioFile

    return AudioFile(path).chunks()


def _existing(name: str | None) -> Path | None:
    """Return a setting's file or folder, None if it names none."""
    return Path(name) if name is not None and Path(name).exists() else None
