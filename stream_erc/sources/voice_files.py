"""Known voices: a file of voice vectors by name, without audio.

The file belongs to its user: it is JSON, readable by its owner only, and written whole or not at all. A
person is removed from it together with all vectors. Vectors of different encoders mean different things, so
that a file names its encoder, and every other one refuses it.
"""

import datetime
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import platformdirs
from filelock import FileLock
from msgspec import Meta

from stream_erc.config import DEFAULT_VOICES
from stream_erc.events import KnownVoice, Vector, check_voice_name, unit
from stream_erc.exceptions import OutputError, VoicesError

VERSION = 1

LOCK = ".voices.lock"
"""The file that a process locks while it changes a voice file beside it; the lock ends with the process."""

MAX_CLIPS = 16
"""Clips of a voice that are kept, the newest."""

MAX_VOICES = 1_000
"""Voices in a file."""

MAX_FILE_BYTES = 256 * 2**20

DECIMALS = 6  # of the numbers of a vector of unit length


class VoiceClip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A voice as one clip has it.

    Attributes:
        vector: the voice vector (D,), of unit length.
        speech_s: seconds of speech that it was measured on.
        added: the date, ISO 8601.
    """

    vector: tuple[float, ...]
    speech_s: Annotated[float, Meta(ge=0)]
    added: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stream_erc_voices: int  # the version
    encoder: str
    voices: dict[str, Annotated[tuple[VoiceClip, ...], Meta(min_length=1)]]


@dataclass(frozen=True, slots=True)
class Voices:
    """Known voices of one encoder.

    Attributes:
        encoder: the name of the encoder of all vectors.
        clips: name -> its clips, oldest first.
    """

    encoder: str
    clips: Mapping[str, tuple[VoiceClip, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self.clips))

    def select(self, names: Iterable[str]) -> tuple[KnownVoice, ...]:
        """Return the voices of some names, each the mean of its clips.

        Raises:
            VoicesError: there is none of that name.
        """
        return tuple(KnownVoice(name, _mean(self._of(name))) for name in names)

    def _of(self, name: str) -> tuple[VoiceClip, ...]:
        if name not in self.clips:
            raise VoicesError(f"expected a known voice ({_listed(self.names)}), got {name!r}")
        return self.clips[name]


def voices_path(given: str) -> Path:
    """Return the file or folder that a person named; `DEFAULT_VOICES` stands for the user's own file."""
    if given == DEFAULT_VOICES:
        return Path(platformdirs.user_data_dir("stream-erc")) / "voices.json"
    return Path(given).expanduser()


def read_voices(path: Path, encoder: str | None, *, new: bool = False) -> Voices:
    """Read a voice file, or all ``.json`` files of a folder.

    Args:
        path: the file or folder.
        encoder: the name of the encoder that the voices will be compared with; None takes that of the file.
        new: whether a file that does not exist yet counts as one without voices.

    Raises:
        VoicesError: nothing there, not a voice file, one of another encoder, or a name in two files.
    """
    if new and encoder is not None and not path.exists():
        return Voices(encoder)
    if not path.is_dir():
        return _read(path, encoder)
    found: Voices | None = None
    for file in sorted(path.glob("*.json")):
        voices = _read(file, found.encoder if found else encoder)
        twice = sorted(voices.clips.keys() & found.clips.keys()) if found else []
        if twice:
            raise VoicesError(f"{path}: expected each voice in one file, got {twice[0]!r} in two")
        found = Voices(voices.encoder, {**(found.clips if found else {}), **voices.clips})
    if found is None:
        raise VoicesError(f"{path}: expected a folder of voice files (.json), got none")
    return found


def known_voices(given: str | None, encoder: str) -> tuple[KnownVoice, ...]:
    """Return all voices that a person named, none for None; see `voices_path` and `read_voices`."""
    if given is None:
        return ()
    voices = read_voices(voices_path(given), encoder)
    return voices.select(voices.names)


def check_addition(path: Path, encoder: str, name: str) -> None:
    """Refuse what `add_clip` would refuse, before a voice is measured.

    Raises:
        VoicesError: an unusable name, or a file that cannot take the voice.
    """
    check_voice_name(name)
    voices = read_voices(path, encoder, new=True)
    if path.is_dir():
        raise VoicesError(f"{path}: expected a file to add a voice to, got a folder")
    if name not in voices.clips and len(voices.clips) >= MAX_VOICES:
        raise VoicesError(f"{path}: expected at most {MAX_VOICES} voices, got one more: {name!r}")


def add_clip(path: Path, encoder: str, name: str, vector: Vector, speech_s: float) -> Voices:
    """Add a clip to the voice of `name`, which may be new, and return all voices of the file.

    The same vector again changes nothing, so that whoever does not know whether it was written may repeat it.

    Raises:
        VoicesError: see `read_voices`; or an unusable name, a full file, or a folder.
        OutputError: the file cannot be written.
    """
    check_addition(path, encoder, name)
    numbers = tuple(round(float(value), DECIMALS) for value in vector)
    clip = VoiceClip(numbers, round(speech_s, 2), datetime.datetime.now(datetime.UTC).date().isoformat())

    def change(voices: Voices) -> Voices:
        clips = voices.clips.get(name, ())
        lengths = {len(known.vector) for known in clips} | {len(numbers)}
        if len(lengths) > 1:
            raise VoicesError(f"{path}: expected vectors of one length, got {sorted(lengths)} for {name!r}")
        if any(known.vector == numbers for known in clips):
            return voices
        return replace(voices, clips={**voices.clips, name: (*clips, clip)[-MAX_CLIPS:]})

    return _change(path, encoder, change)


def remove_voice(path: Path, name: str) -> Voices:
    """Remove the voice of `name` with all its clips, and return the voices that are left in the file.

    A file without voices is deleted.

    Raises:
        VoicesError: there is none of that name, or the file cannot be read.
        OutputError: the file cannot be written.
    """

    def change(voices: Voices) -> Voices:
        voices.select([name])
        return replace(voices, clips={known: c for known, c in voices.clips.items() if known != name})

    return _change(path, None, change)


def _mean(clips: tuple[VoiceClip, ...]) -> Vector:
    """Return the mean of the clips' vectors, (D,) of unit length."""
    mean = unit(np.mean([clip.vector for clip in clips], axis=0))
    assert mean is not None  # `_read` and `measure_voice` let no other vectors in
    return mean


# --- the file -------------------------------------------------------------------------------------


def _read(path: Path, encoder: str | None) -> Voices:
    """Read a voice file, of `encoder` unless it is None."""
    wanted = f"{path}: expected a voice file"
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise VoicesError(f"{wanted}, got one of {size} bytes")
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError as error:
        raise VoicesError(f"{wanted}, got nothing there: see `stream-erc voices add`") from error
    except OSError as error:
        raise VoicesError(f"{wanted}, got: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise VoicesError(f"{wanted}, got one with: {error}") from error
    if file.stream_erc_voices != VERSION:
        raise VoicesError(f"{wanted} of version {VERSION}, got version {file.stream_erc_voices}")
    if encoder not in (None, file.encoder):
        raise VoicesError(
            f"{path}: expected voices of the speaker encoder {encoder}, got those of {file.encoder}: "
            "name that encoder in the configuration, or add the voices again, to another file"
        )
    lengths = {len(clip.vector) for clips in file.voices.values() for clip in clips}
    if len(lengths) > 1:
        raise VoicesError(f"{path}: expected vectors of one length, got {sorted(lengths)}")
    for name, clips in file.voices.items():
        try:
            check_voice_name(name)
        except VoicesError as error:
            raise VoicesError(f"{path}: {error}") from error
        if unit(np.mean([clip.vector for clip in clips], axis=0)) is None:
            raise VoicesError(f"{path}: expected vectors with a direction, got others for {name!r}")
    return Voices(file.encoder, file.voices)


def _change(path: Path, encoder: str | None, change: Callable[[Voices], Voices]) -> Voices:
    """Read a file, change its voices and write it, while no other process does."""
    if path.is_dir():
        raise VoicesError(f"{path}: expected a file to change, got a folder")
    path = path.resolve()
    if encoder is None:
        _read(path, None)  # refuses a missing file, before its folder is made
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path.parent / LOCK):
            voices = Voices(encoder) if encoder and not path.exists() else _read(path, encoder)
            changed = change(voices)
            if not changed.clips:
                path.unlink(missing_ok=True)
            elif changed is not voices:
                _write(path, changed)
    except OSError as error:
        raise OutputError(f"{path}: expected a voice file that can be written, got: {error}") from error
    return changed


def _write(path: Path, voices: Voices) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    file = _File(VERSION, voices.encoder, {name: voices.clips[name] for name in voices.names})
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as target:
            target.write(msgspec.json.encode(file) + b"\n")
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):  # it has become `path`
            os.unlink(temporary)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none yet"
