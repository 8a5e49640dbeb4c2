"""The sound that this computer plays, on Linux: monitors of PulseAudio, which PipeWire has too, as sources.

PortAudio lists no monitors: `pactl` finds them and `parec` records them. Both come with pulseaudio-utils.
"""

import asyncio
import json
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from stream_erc_desktop.recorder import DEVICE_TIMEOUT_S, Microphone, Recorder
from stream_erc_desktop.sources import BLOCK_MS, SAMPLE_RATE_HZ, SourceError, silent

LIST_S = 5.0  # time limit for the list of monitors
AGAIN_S = 0.5  # between two attempts to record a monitor that has ended
RETURN_S = 10.0  # after this long without a monitor that had been there, it is gone
HELD_MS = 400  # of a monitor that runs ahead of the microphone; beyond it, the oldest audio is dropped
LONGEST_HELD_MS = HELD_MS + round(1_000 * DEVICE_TIMEOUT_S)  # while the microphone brings nothing
PAIR = ("You", "Computer")


@dataclass(frozen=True, slots=True)
class Monitor:
    """An output of the computer, by the sound that it plays.

    Attributes:
        source: its name for `parec`.
        name: its name for a person.
    """

    source: str
    name: str
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A microphone and a monitor, as two channels."""

    microphone: Microphone
    monitor: Monitor
    name: str = "Microphone and what this computer plays"
    is_default: bool = False


Input = Microphone | Monitor | Pair
"""What can be chosen to be heard."""


def monitor_name(description: str) -> str:
    """Return a name that a person understands, of "Monitor of Built-in Audio"."""
    return f"What this computer plays ({description.removeprefix('Monitor of ')})"


def find_monitors() -> list[Monitor]:
    """Return the monitors, that of the default output first; none without PulseAudio's programs or server."""
    if shutil.which("pactl") is None or shutil.which("parec") is None:
        return []
    try:
        sources = json.loads(_pactl("list", "sources"))
        default = json.loads(_pactl("info")).get("default_sink_name")
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError):
        return []
    found = [
        (source["name"] == f"{default}.monitor", source)
        for source in sources
        if isinstance(source, dict) and str(source.get("name")).endswith(".monitor")
    ]
    found.sort(key=lambda one: not one[0])
    return [Monitor(str(s["name"]), monitor_name(str(s.get("description") or s["name"]))) for _, s in found]


def _pactl(*words: str) -> str:
    done = subprocess.run(
        ["pactl", "--format=json", *words], capture_output=True, text=True, timeout=LIST_S, check=True
    )
    return done.stdout


class MonitorRecorder:
    """A monitor as a source, until `stop`."""

    live = True
    duration_ms: int | None = None
    channels: tuple[str | None, ...] | None = None

    def __init__(self, monitor: Monitor, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self.monitor, self.name, self.sample_rate_hz = monitor, monitor.name, sample_rate_hz
        self.tell: Callable[[str], None] = silent
        self._stopped = False
        self._process: Process | None = None

    def open(self) -> None:
        """Check that it can be recorded.

        Raises:
            SourceError: the program that records it is missing.
        """
        if shutil.which("parec") is None:
            raise SourceError(f"{self.name}: expected the program parec, got none (pulseaudio-utils)")

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio as it is played; a monitor that has ended is recorded again once it is back.

        Raises:
            SourceError: it did not come back.
        """
        size = 2 * (self.sample_rate_hz * BLOCK_MS // 1_000)
        loop = asyncio.get_running_loop()
        lost_at: float | None = None
        try:
            while not self._stopped:
                await self._end()
                self._process = process = await self._start()
                assert process.stdout is not None
                with suppress(asyncio.IncompleteReadError):
                    while not self._stopped:
                        block = await process.stdout.readexactly(size)
                        if lost_at is not None:
                            lost_at = None
                            self.tell(f"{self.name} is heard again.")
                        yield block
                if self._stopped:
                    return
                if lost_at is None:
                    lost_at = loop.time()
                    self.tell(f"{self.name} was interrupted; listening goes on when it is back.")
                elif loop.time() - lost_at > RETURN_S:
                    raise SourceError(f"{self.name} can no longer be recorded")
                await asyncio.sleep(AGAIN_S)
        finally:
            await self._end()

    async def _end(self) -> None:
        """End the program that records, and wait for its end."""
        process = self._process
        self.close()
        if process is not None:
            await process.wait()

    async def _start(self) -> Process:
        options = [f"--device={self.monitor.source}", "--format=s16le", "--channels=1", "--raw"]
        options += [f"--rate={self.sample_rate_hz}", f"--latency-msec={BLOCK_MS}"]
        try:
            return await asyncio.create_subprocess_exec("parec", *options, stdout=PIPE, stderr=DEVNULL)
        except OSError as error:
            raise SourceError(f"{self.name} cannot be recorded: {error.strerror or error}") from error

    def pause(self, paused: bool) -> None:
        """Do nothing: push to talk is for a microphone."""

    def stop(self) -> None:
        """Stop recording."""
        self._stopped = True
        self.close()

    def close(self) -> None:
        """End the program that records."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()


class PairRecorder:
    """A microphone and a monitor as a source of two channels, on the microphone's clock."""

    live = True
    duration_ms: int | None = None
    channels: tuple[str | None, ...] | None = PAIR

    def __init__(self, microphone: Recorder, monitor: Monitor) -> None:
        self.microphone, self._monitor = microphone, MonitorRecorder(monitor)
        self.name = Pair(microphone.microphone, monitor).name
        self._held = bytearray()
        self._failed: SourceError | None = None

    @property
    def tell(self) -> Callable[[str], None]:
        """Called with what the user should know."""
        return self.microphone.tell

    @tell.setter
    def tell(self, tell: Callable[[str], None]) -> None:
        self.microphone.tell = self._monitor.tell = tell

    @property
    def sample_rate_hz(self) -> int:
        """The microphone's rate, at which the monitor is recorded too."""
        return self.microphone.sample_rate_hz

    @property
    def talking(self) -> bool:
        """Whether the microphone is heard."""
        return self.microphone.talking

    def open(self) -> None:
        """Open both.

        Raises:
            SourceError: one of them cannot be opened.
        """
        self.microphone.open()
        self._monitor.sample_rate_hz = self.sample_rate_hz
        try:
            self._monitor.open()
        except SourceError:
            self.microphone.close()
            raise

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the samples of both in turn.

        Raises:
            SourceError: one of them is gone.
        """
        listening = asyncio.create_task(self._listen())
        try:
            async with aclosing(self.microphone.blocks()) as blocks:
                async for block in blocks:
                    if self._failed is not None:
                        raise self._failed
                    yield interleave(block, self._take(len(block)))
        finally:
            self._monitor.stop()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        most = 2 * (self.sample_rate_hz * LONGEST_HELD_MS // 1_000)
        try:
            async with aclosing(self._monitor.blocks()) as blocks:
                async for block in blocks:
                    self._held += block
                    del self._held[: max(0, len(self._held) - most)]
        except SourceError as error:
            self._failed = error

    def _take(self, size: int) -> bytes:
        """Return so many bytes of the monitor, with silence for what it lacks."""
        most = 2 * (self.sample_rate_hz * HELD_MS // 1_000)
        if len(self._held) - size > most:  # its clock is faster
            del self._held[: len(self._held) - size - most // 2]
        piece = bytes(self._held[:size])
        del self._held[:size]
        return piece + bytes(size - len(piece))

    def pause(self, paused: bool) -> None:
        """Send silence instead of the microphone's audio, or stop doing so."""
        self.microphone.pause(paused)

    def stop(self) -> None:
        """Stop recording."""
        self.microphone.stop()

    def close(self) -> None:
        """Close both."""
        self.microphone.close()
        self._monitor.stop()


def interleave(first: bytes, second: bytes) -> bytes:
    """Return the samples of two channels in turn, 16 bits."""
    out = bytearray(2 * len(first))
    out[0::4], out[1::4] = first[0::2], first[1::2]
    out[2::4], out[3::4] = second[0::2], second[1::2]
    return bytes(out)
