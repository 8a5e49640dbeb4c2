"""A client's audio, converted to 16 kHz, and the position to send it from after a lost connection."""

import base64
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from stream_erc.audio import (
    SAMPLE_RATE,
    MonoStream,
    Resampler,
    SeparateChannels,
    from_alaw,
    from_float32,
    from_mulaw,
    from_pcm16,
    ms_to_samples,
)
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, ConfigError
from stream_erc.protocol.messages import AudioFormat

OPUS_RATE_HZ = 48_000
WARM_UP_S = 1
"""Audio that a resampler or a codec hears again before the resume point, to regain its state."""


MAX_CLIP_MS = 30_000
"""Length of a clip within a message."""


class FrameDecoder(Protocol):
    """A decoder of binary frames."""

    def __call__(self, data: bytes) -> Samples:
        """Return the samples of one frame at the client's rate, (N,); channels stay interleaved."""


class WireAudio:
    """The decoder and resampler of one session's audio.

    Args:
        audio: the format that the client sends.
        resume_at: the sample, at 16 kHz, that the session needs next.
        separate: whether channels are heard separately; samples are then (N, C), otherwise (N,).

    Attributes:
        send_from_ms: the position from which the client must send audio, to provide that sample.

    Raises:
        ConfigError: the encoding does not support the sample rate.
    """

    def __init__(self, audio: AudioFormat, resume_at: int = 0, *, separate: bool = False) -> None:
        self._decode, self._rate_hz = _decoder(audio), audio.sample_rate_hz
        self._channels = audio.channels if separate else None
        self.send_from_ms = send_from_ms(audio, resume_at)
        streams = [_resampler(self._rate_hz, self.send_from_ms // 1000) for _ in range(audio.channels)]
        self._resampler: MonoStream = SeparateChannels(streams) if separate else streams[0]
        self._skip = resume_at - ms_to_samples(self.send_from_ms)
        self._heard = 0

    @property
    def received_ms(self) -> int:
        """The position up to which the client has sent audio, in milliseconds."""
        return self.send_from_ms + self._heard * 1000 // self._rate_hz

    def decode(self, data: bytes) -> Samples:
        """Return a frame's samples at the client's rate, (N,) or (N, C), without taking them in.

        Raises:
            AudioError: the bytes are not audio of the encoding, or not a sample of every channel.
        """
        samples = self._decode(data)
        if self._channels is None:
            return samples
        if len(samples) % self._channels:
            raise AudioError(
                f"expected a sample of each of {self._channels} channels in turn, got {len(samples)} samples"
            )
        return samples.reshape(-1, self._channels)

    def duration_ms(self, samples: Samples) -> float:
        """Return the duration of samples at the client's rate."""
        return 1000 * len(samples) / self._rate_hz

    def silence(self, duration_ms: int) -> Iterator[Samples]:
        """Yield silence at the client's rate, (N,) or (N, C), a second at a time."""
        left = duration_ms * self._rate_hz // 1000
        while left > 0:
            length = min(left, self._rate_hz)
            left -= length
            yield np.zeros(length if self._channels is None else (length, self._channels), dtype=np.float32)

    def push(self, samples: Samples) -> Samples:
        """Take decoded samples in, (N,) or (N, C); return what is ready at 16 kHz, (M,) or (M, C)."""
        self._heard += len(samples)
        return self._from_resume_point(self._resampler.push(samples))

    def flush(self) -> Samples:
        """End the stream; return what the resampler still held."""
        return self._from_resume_point(self._resampler.flush())

    def _from_resume_point(self, samples: Samples) -> Samples:
        """Leave out the samples before the resume point."""
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        return samples[skipped:]


def _resampler(rate_hz: int, begin_s: int) -> MonoStream:
    return Resampler(rate_hz) if rate_hz == SAMPLE_RATE else RestartableResampler(rate_hz, begin_s)


class RestartableResampler:
    """A resampler to 16 kHz that can restart at any whole second with the same output, bit for bit.

    A filter's rounding depends on its starting point. So each second of output has a stream of its own, which
    begins one second earlier (for the first second, at the beginning).

    Args:
        rate_hz: sample rate of the input.
        begin_s: the second at which the input begins; unless it is 0, that second's output is rounded
            differently.
    """

    def __init__(self, rate_hz: int, begin_s: int = 0) -> None:
        self._rate_hz = rate_hz
        self._second = begin_s  # of the output
        self._stream = Resampler(rate_hz)
        self._input: list[Samples] = []  # of the stream, beginning at second `_input_begin_s`
        self._input_begin_s = begin_s
        self._missing = SAMPLE_RATE  # samples still missing from the output's second
        self._warm_up = 0  # samples of output still to be left out

    def push(self, samples: Samples) -> Samples:
        """Feed the next samples, (N,); return what is ready, (M,)."""
        self._input.append(samples)
        return self._by_seconds(self._stream.push(samples), last=False)

    def flush(self) -> Samples:
        """End the stream; return the rest."""
        return self._by_seconds(self._stream.flush(), last=True)

    def _by_seconds(self, ready: Samples, *, last: bool) -> Samples:
        """Return what is ready, each second of it from its own stream."""
        parts = []
        while True:
            skipped = min(self._warm_up, len(ready))
            self._warm_up -= skipped
            ready = ready[skipped:]
            parts.append(ready[: self._missing])
            self._missing -= len(parts[-1])
            if self._missing > 0:
                return np.concatenate(parts)
            ready = self._next_second()
            if last:
                ready = np.concatenate([ready, self._stream.flush()])

    def _next_second(self) -> Samples:
        """Begin the stream of the next second; return what it has ready, its warm-up included."""
        kept = np.concatenate(self._input)[(self._second - self._input_begin_s) * self._rate_hz :]
        self._input_begin_s, self._second = self._second, self._second + 1
        self._stream, self._input = Resampler(self._rate_hz), [kept]
        self._missing = self._warm_up = SAMPLE_RATE
        return self._stream.push(kept)


def send_from_ms(audio: AudioFormat, resume_at: int) -> int:
    """Return the position from which a client must send audio for a session to resume at sample `resume_at`.

    At 16 kHz it is that sample (the VAD's windows are whole milliseconds). At other rates it is a whole
    second before, where samples of both rates coincide.
    """
    if audio.sample_rate_hz == SAMPLE_RATE and audio.encoding != "opus":
        return resume_at * 1000 // SAMPLE_RATE
    return 1000 * max(0, resume_at // SAMPLE_RATE - WARM_UP_S)


def _decoder(audio: AudioFormat) -> FrameDecoder:
    """Return the decoder of an audio format."""
    decoders: dict[str, Callable[[], FrameDecoder]] = {
        "pcm_s16le": lambda: from_pcm16,
        "pcm_f32le": lambda: from_float32,
        "mulaw": lambda: from_mulaw,
        "alaw": lambda: from_alaw,
        "opus": _Opus,
    }
    if audio.encoding == "opus" and audio.sample_rate_hz != OPUS_RATE_HZ:
        raise ConfigError(
            f"audio: expected opus with a sample_rate_hz of {OPUS_RATE_HZ}, got {audio.sample_rate_hz}"
        )
    return decoders[audio.encoding]()


class _Opus:
    """A decoder of Opus packets, one per frame, by FFmpeg's libopus."""

    def __init__(self) -> None:
        import av

        self._codec: av.AudioCodecContext = av.CodecContext.create("libopus", "r")
        self._codec.sample_rate, self._codec.layout = OPUS_RATE_HZ, "mono"

    def __call__(self, data: bytes) -> Samples:
        import av

        try:
            frames = self._codec.decode(av.Packet(data)) if data else []
        except av.error.FFmpegError as error:
            raise AudioError(f"expected an opus packet, got {len(data)} bytes: {error.strerror}") from error
        parts = [frame.to_ndarray() for frame in frames]
        if not parts:
            raise AudioError(f"expected an opus packet, got {len(data)} bytes without audio")
        pcm = np.concatenate([part.reshape(-1) for part in parts])
        if OPUS_RATE_HZ % len(pcm):  # audio is sent again from a whole second: a packet must begin there
            milliseconds = 1000 * len(pcm) / OPUS_RATE_HZ
            raise AudioError(f"expected opus packets of 2.5, 5, 10, 20 or 40 ms, got one of {milliseconds:g}")
        scale = np.float32(32_768) if pcm.dtype == np.int16 else np.float32(1)
        return pcm.astype(np.float32) / scale


def decode_clip(text: str) -> Samples:
    """Decode a clip within a message, base64 of 16-bit samples at 16 kHz; return them as float32 (N,).

    Raises:
        AudioError: it is not base64, half a sample, or too long.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise AudioError(f"expected a clip in base64, got one with: {error}") from error
    samples = from_pcm16(data)
    length_ms = len(samples) * 1000 / SAMPLE_RATE
    if length_ms > MAX_CLIP_MS:
        raise AudioError(f"expected a clip of at most {MAX_CLIP_MS} ms, got {length_ms:.0f} ms")
    return samples
