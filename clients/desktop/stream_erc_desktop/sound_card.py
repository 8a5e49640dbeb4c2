"""The sound card, through sounddevice, if it and PortAudio are installed."""

from collections.abc import Callable
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
