"""The microphone as 16-bit mono audio, through PortAudio. Needs `stream-erc-client[microphone]`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from stream_erc_client.errors import AudioError

log = logging.getLogger(__name__)

CHUNK_MS = 40
QUEUE_MS = 10_000  # audio that waits for a slow reader; beyond it, samples are lost
POLL_S = 0.5  # interval at which a silent device is checked


async def record(
    device: int | str | None, sample_rate_hz: int, library: Any = None
) -> AsyncGenerator[bytes, None]:
    """Record signed 16-bit little-endian mono in chunks of 40 ms, without end.

    Time counts samples: audio that a slow reader misses is replaced by silence.

    Args:
        device: index or name as in sounddevice; None for the system's default.
        sample_rate_hz: sample rate requested from the device.
        library: the module `sounddevice`, or a stand-in for it.

    Raises:
        AudioError: no PortAudio, no such device, or one that went away.
    """
    sound = library if library is not None else _sounddevice()
    loop = asyncio.get_running_loop()
    blocks: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(QUEUE_MS // CHUNK_MS)
    lost_bytes = 0

    def enqueue(block: bytes) -> None:
        nonlocal lost_bytes
        try:
            blocks.put_nowait((lost_bytes, block))
            lost_bytes = 0
        except asyncio.QueueFull:
            lost_bytes += len(block)

    def on_audio(data: Any, frames: int, when: object, status: object) -> None:  # in PortAudio's thread
        try:
            loop.call_soon_threadsafe(enqueue, bytes(data))
        except RuntimeError:  # the loop was closed before the device
            return

    try:
        stream = sound.RawInputStream(
            device=device,
            samplerate=sample_rate_hz,
            channels=1,
            dtype="int16",
            blocksize=sample_rate_hz * CHUNK_MS // 1000,
            callback=on_audio,
        )
    except (sound.PortAudioError, ValueError) as error:
        raise AudioError(f"expected a microphone at {sample_rate_hz} Hz, got {error}") from error
    next_block: asyncio.Task[tuple[int, bytes]] | None = None
    try:
        stream.start()
        while True:
            next_block = next_block or asyncio.create_task(blocks.get())
            await asyncio.wait({next_block}, timeout=POLL_S)
            if not next_block.done():
                if not stream.active:
                    raise AudioError("expected the microphone to keep recording, got its end")
                continue
            lost, block = next_block.result()
            next_block = None
            if lost:
                log.warning("microphone: %d ms lost, replaced by silence", lost * 500 // sample_rate_hz)
                yield bytes(lost)
            yield block
    except sound.PortAudioError as error:
        raise AudioError(f"expected a working microphone, got {error}") from error
    finally:
        stream.close()
        if next_block is not None:
            next_block.cancel()


def _sounddevice() -> Any:
    """Import sounddevice, only when a microphone is needed: the import itself opens PortAudio."""
    try:
        import sounddevice
    except ImportError as error:
        raise AudioError(
            "the microphone expected sounddevice: pip install stream-erc-client[microphone]"
        ) from error
    except OSError as error:
        raise AudioError(f"the microphone expected the PortAudio library, got {error}") from error
    return sounddevice
