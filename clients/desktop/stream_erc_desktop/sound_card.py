"""The sound card, through sounddevice where it and PortAudio are present."""

from collections.abc import Callable
from typing import Any, Protocol

from stream_erc_desktop.sources import SourceError


class SoundLibrary(Protocol):
    """What is used of the module `sounddevice`; a test gives its own."""

    PortAudioError: type[Exception]
    RawInputStream: Callable[..., Any]
    RawOutputStream: Callable[..., Any]
    query_devices: Callable[..., Any]


def sound_library(purpose: str) -> SoundLibrary:
    """The module, imported only where it is asked for: the import itself opens PortAudio.

    Raises:
        SourceError: it is not here, and what to do; `purpose` begins the sentence.
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
    except Exception as error:  # its own PortAudioError, which has no name before the import succeeds
        raise SourceError(f"The sound system does not work: {error}") from error
    library: SoundLibrary = sounddevice
    return library
