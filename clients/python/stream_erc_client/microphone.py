"""The microphone, through PortAudio: 16-bit mono as it is heard. Needs `stream-erc-client[microphone]`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from stream_erc_client.errors import AudioError

log = logging.getLogger(__name__)

CHUNK_MS = 40
QUEUE_MS = 10_000  # what a slow reader may be behind
POLL_S = 0.5  # how soon the end of a device is seen


async def heard(
    device: int | str | None, sample_rate_hz: int, library: Any = None
) -> AsyncGenerator[bytes, None]:
    """What the microphone hears, signed 16-bit little-endian mono, in pieces of 40 ms, without end.

    Time counts samples: what a slow reader lets pass comes as silence.

    Args:
        device: index or name as sounddevice takes it; None for the system's own choice.
        sample_rate_hz: that the device is asked for.
        library: the module `sounddevice`, or what stands in for it.

    Raises:
        AudioError: no PortAudio, no such device, or one that went away.
    """
    sound = library if library is not None else _sounddevice()
    loop = asyncio.get_running_loop()
    blocks: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(QUEUE_MS // CHUNK_MS)
    lost_bytes = 0

    def take(block: bytes) -> None:
        nonlocal lost_bytes
        try:
            blocks.put_nowait((lost_bytes, block))
            lost_bytes = 0
        except asyncio.QueueFull:
            lost_bytes += len(block)

    def hear(data: Any, frames: int, when: object, status: object) -> None:  # in PortAudio's thread
        try:
            loop.call_soon_threadsafe(take, bytes(data))
        except RuntimeError:  # the loop was closed while the device was let go
            return

    try:
        stream = sound.RawInputStream(
            device=device,
            samplerate=sample_rate_hz,
            channels=1,
            dtype="int16",
            blocksize=sample_rate_hz * CHUNK_MS // 1000,
            callback=hear,
        )
    except (sound.PortAudioError, ValueError) as error:
        raise AudioError(f"expected a microphone at {sample_rate_hz} Hz, got {error}") from error
    getting: asyncio.Task[tuple[int, bytes]] | None = None
    try:
        stream.start()
        while True:
            getting = getting or asyncio.create_task(blocks.get())
            await asyncio.wait({getting}, timeout=POLL_S)
            if not getting.done():
                if not stream.active:
                    raise AudioError("expected the microphone to go on, got its end")
                continue
            lost, block = getting.result()
            getting = None
            if lost:
                log.warning("microphone: %d ms lost, made silence", lost * 500 // sample_rate_hz)
                yield bytes(lost)
            yield block
    except sound.PortAudioError as error:
        raise AudioError(f"expected a microphone that works, got {error}") from error
    finally:
        stream.close()
        if getting is not None:
            getting.cancel()


def _sounddevice() -> Any:
    """The module, imported only where a microphone is asked for: the import itself opens PortAudio."""
    try:
        import sounddevice
    except ImportError as error:
        raise AudioError(
            "the microphone expected sounddevice: pip install stream-erc-client[microphone]"
        ) from error
    except OSError as error:
        raise AudioError(f"the microphone expected the PortAudio library, got {error}") from error
    return sounddevice
