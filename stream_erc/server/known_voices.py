"""The known voices of a server: read for each client that asks, kept where the operator allows it."""

import logging
from pathlib import Path

from stream_erc.config import Config
from stream_erc.events import VoiceEnrolled
from stream_erc.exceptions import ConfigError, OutputError, VoicesError
from stream_erc.sources.voice_files import Voices, add_clip, read_voices, voices_path

log = logging.getLogger(__name__)


class KnownVoices:
    """The voice file of a server. A change of it, as a voice that was removed, holds at once.

    Args:
        config: names the file, the encoder of its voices, and whether clients may keep voices.

    Raises:
        ConfigError: voices are to be kept, and there is no file for them.
        VoicesError: the file cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._encoder = config.session.diarization.encoder
        self._path = None if config.engine.voices is None else voices_path(config.engine.voices)
        self._keeps = config.server.keep_voices
        self._cached: tuple[object, Voices] | None = None  # the state of the file, and what it holds
        if self._keeps and (self._path is None or self._path.is_dir()):
            got = "none" if self._path is None else f"a folder: {self._path}"
            raise ConfigError(f"server.keep_voices: expected a voice file, --voices FILE, got {got}")
        self._read()

    def read(self) -> Voices:
        """Read the voices; none if the file cannot be used any more."""
        try:
            return self._read()
        except VoicesError as error:
            log.warning("%s", error)
            return Voices(self._encoder)

    def keep(self, voice: VoiceEnrolled) -> bool:
        """Add a voice to the file, and return whether that succeeded; adding it again changes nothing."""
        if self._path is None or not self._keeps:
            return False
        try:
            add_clip(self._path, self._encoder, voice.name, voice.embedding, voice.speech_s)
        except (VoicesError, OutputError) as error:
            log.warning("%s", error)
            return False
        return True

    def _read(self) -> Voices:
        if self._path is None:
            return Voices(self._encoder)
        state = _state(self._path)
        if self._cached is None or self._cached[0] != state:
            self._cached = state, read_voices(self._path, self._encoder, new=self._keeps)
        return self._cached[1]


def _state(path: Path) -> object:
    """Return what changes with a voice file, or with any in a folder; every change makes a new file."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    try:
        stats = [file.stat() for file in files]
    except OSError as error:
        return str(error)
    return [(str(file), s.st_ino, s.st_mtime_ns, s.st_size) for file, s in zip(files, stats, strict=True)]
