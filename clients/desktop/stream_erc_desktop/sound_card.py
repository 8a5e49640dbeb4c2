"""The sound card, through sounddevice, if it and PortAudio are installed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from stream_erc_desktop.sources import SourceError


class SoundLibrary(Protocol):
    """The part of the module `sounddevice` that is used; tests pass a stand-in."""

    PortAudioError: type[Exception]
    RawInputStream: Callable[..., Any]
    RawOutputStream: Callable[..., Any]
    query_devices: Callable[..., Any]


def sound_library(purpose: str) -> SoundLibrary:
    """Import sounddevice, only when it is needed: the import itself opens PortAudio.

    Args:
        purpose: what needs it; begins the error message.

    Raises:
        SourceError: it cannot be imported, with what to install.
    """
    try:
        import sounddevice
    except ImportError:
        raise SourceError(f"{purpose} needs the package sounddevice: pip install sounddevice") from None
    except OSError as error:
        raise SourceError(
            f"{purpose} needs the PortAudio library: {error} "
            "(Debian: apt install libportaudio2, macOS: brew install portaudio)"
        ) from error
    except Exception as error:  # sounddevice's PortAudioError, which cannot be named before the import
        raise SourceError(f"The sound system does not work: {error}") from error
    library: SoundLibrary = sounddevice
    return library


class Streams:
    """The open streams of this process: while there is one, PortAudio must not look for devices again."""

    def __init__(self) -> None:
        self._lock, self._open = threading.Lock(), 0

    def opened(self) -> None:
        """Count a stream that was opened."""
        with self._lock:
            self._open += 1

    def closed(self) -> None:
        """Count a stream that was closed."""
        with self._lock:
            self._open -= 1

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Count a stream while the context is open."""
        self.opened()
        try:
            yield
        finally:
            self.closed()

    def look_again(self, sound: SoundLibrary) -> None:
        """Have PortAudio look for devices again, if no stream is open; else it lists those of its start."""
        with self._lock:
            if self._open:
                return
            with suppress(sound.PortAudioError):
                for name in ("_terminate", "_initialize"):  # sounddevice has no public names for these
                    getattr(sound, name, lambda: None)()


STREAMS = Streams()
