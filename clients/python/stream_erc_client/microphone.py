"""The microphone as 16-bit mono audio, through PortAudio. Needs `stream-erc-client[microphone]`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from stream_erc_client.errors import AudioError

log = logging.getLogger(__name__)

CHUNK_MS = 40
QUEUE_MS = 10_000  # audio that waits for a slow reader; beyond it, samples are lost
POLL_S = 0.5  # interval at which a silent device is checked, and opened again
STALL_S = 2.0  # a device that brings no audio for so long is gone, whatever PortAudio says
RETURN_S = 60.0  # a device that is not back after so long is not waited for


async def record(
    device: int | str | None, sample_rate_hz: int, library: Any = None
) -> AsyncGenerator[bytes, None]:
    """Record signed 16-bit little-endian mono in chunks of 40 ms, without end.

    Time counts samples: audio that a slow reader misses is replaced by silence. A device that vanishes is
    opened again once it is back, with a warning in the log; until then there is silence, so that a turn ends.
    PortAudio itself is not started anew, for that would close the program's other streams: where it knows
    devices by their state at its start, as on macOS, a device does not come back.

    Args:
        device: index or name as in sounddevice; None for the system's default.
        sample_rate_hz: sample rate requested from the device.
        library: the module `sounddevice`, or a stand-in for it.

    Raises:
        AudioError: no PortAudio, no such device, or one that went away and is not back within a minute.
    """
    recorder = _Recorder(device, sample_rate_hz, library if library is not None else _sounddevice())
    next_block: asyncio.Task[tuple[int, bytes]] | None = None
    quiet_s = opened_s = 0.0  # time without audio: since the last block, since the device was last opened
    try:
        recorder.open()
        while True:
            next_block = next_block or asyncio.create_task(recorder.blocks.get())
            await asyncio.wait({next_block}, timeout=POLL_S)
            if next_block.done():
                lost, block = next_block.result()
                next_block, quiet_s, opened_s = None, 0.0, 0.0
                recorder.heard()
                if lost:
                    log.warning("microphone: %d ms lost, replaced by silence", lost * 500 // sample_rate_hz)
                    yield bytes(lost)
                yield block
                continue
            quiet_s, opened_s = quiet_s + POLL_S, opened_s + POLL_S
            gone = recorder.gone or opened_s >= STALL_S
            if gone or recorder.away:
                yield bytes(2 * round((POLL_S if recorder.away else quiet_s) * sample_rate_hz))
            if gone:
                recorder.open_again(quiet_s)
                opened_s = 0.0
    finally:
        recorder.close()
        if next_block is not None:
            next_block.cancel()


class _Recorder:
    """A device that is opened, perhaps several times, and its recorded blocks.

    Attributes:
        blocks: bytes that were lost before a block, and the block.
        away: whether the device has vanished, and has brought no audio since.
    """

    def __init__(self, device: int | str | None, sample_rate_hz: int, sound: Any) -> None:
        self._device, self._rate_hz, self._sound = device, sample_rate_hz, sound
        self._loop = asyncio.get_running_loop()
        self.blocks: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(QUEUE_MS // CHUNK_MS)
        self.away = False
        self._lost_bytes = 0
        self._stream: Any = None

    @property
    def gone(self) -> bool:
        return self._stream is None or not self._stream.active

    def open(self) -> None:
        try:
            self._stream = self._sound.RawInputStream(
                device=self._device,
                samplerate=self._rate_hz,
                channels=1,
                dtype="int16",
                blocksize=self._rate_hz * CHUNK_MS // 1000,
                callback=self._on_audio,
            )
            self._stream.start()
        except (self._sound.PortAudioError, ValueError) as error:
            self.close()
            raise AudioError(
                f"expected a microphone at {self._rate_hz} Hz, got {error}{self._own_rate()}"
            ) from error

    def _own_rate(self) -> str:
        """Say which rate the device has, if it is another one; "" if that is unknown."""
        with suppress(Exception):  # whatever keeps it from opening
            own_hz = round(self._sound.query_devices(self._device, "input")["default_samplerate"])
            if own_hz != self._rate_hz:
                return f"; its own rate is {own_hz} Hz: connect(url, sample_rate_hz={own_hz})"
        return ""

    def open_again(self, quiet_s: float) -> None:
        """Try to open the device again, which has vanished.

        Args:
            quiet_s: time since its last audio.

        Raises:
            AudioError: it has been away for too long.
        """
        if not self.away:
            log.warning("microphone: disconnected; listening goes on when it is back")
            self.away = True
        if quiet_s >= RETURN_S:
            raise AudioError("expected the microphone to keep recording, got its end")
        self.close()
        with suppress(AudioError):
            self.open()

    def heard(self) -> None:
        """Note that it has brought audio."""
        if self.away:
            log.warning("microphone: heard again")
            self.away = False

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _on_audio(self, data: Any, frames: int, when: object, status: object) -> None:  # PortAudio's thread
        with suppress(RuntimeError):  # the loop was closed before the device
            self._loop.call_soon_threadsafe(self._enqueue, bytes(data))

    def _enqueue(self, block: bytes) -> None:
        try:
            self.blocks.put_nowait((self._lost_bytes, block))
            self._lost_bytes = 0
        except asyncio.QueueFull:
            self._lost_bytes += len(block)


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
