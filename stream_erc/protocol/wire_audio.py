"""Audio as a client sends it -> 16 kHz, and from where it has to be sent again after an interruption."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from stream_erc.audio import SAMPLE_RATE, Resampler, from_float32, from_mulaw, from_pcm16, ms_to_samples
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, ConfigError
from stream_erc.protocol.messages import AudioFormat

OPUS_RATE_HZ = 48_000
WARM_UP_S = 1
"""What a resampler or a codec hears again before the point of resumption, to be in the state it was in."""


class FrameDecoder(Protocol):
    """Binary frames -> samples at the client's rate."""

    def __call__(self, data: bytes) -> Samples:
        """The samples of one frame, (N,)."""


class WireAudio:
    """One session's audio on its way in.

    Args:
        audio: what the client sends.
        resume_at: the sample at 16 kHz that the session needs next.

    Attributes:
        send_from_ms: where the client has to begin to send, for that.
        received_ms: how far it has sent.

    Raises:
        ConfigError: an encoding and a rate that do not go together.
    """

    def __init__(self, audio: AudioFormat, resume_at: int = 0) -> None:
        self._decode, self._rate_hz = _decoder(audio), audio.sample_rate_hz
        self.send_from_ms = send_from_ms(audio, resume_at)
        self._resampler: Resampler | SecondwiseResampler = Resampler(audio.sample_rate_hz)
        if audio.sample_rate_hz != SAMPLE_RATE:
            self._resampler = SecondwiseResampler(audio.sample_rate_hz, self.send_from_ms // 1000)
        self._skip = resume_at - ms_to_samples(self.send_from_ms)
        self._heard = 0

    @property
    def received_ms(self) -> int:
        """The position up to which the client has sent audio."""
        return self.send_from_ms + self._heard * 1000 // self._rate_hz

    def decode(self, data: bytes) -> Samples:
        """The samples of a frame at the client's rate; nothing is taken in yet.

        Raises:
            AudioError: the bytes are not audio of the encoding.
        """
        return self._decode(data)

    def duration_ms(self, samples: Samples) -> float:
        """How long samples at the client's rate last."""
        return 1000 * len(samples) / self._rate_hz

    def push(self, samples: Samples) -> Samples:
        """Take decoded samples in; what is ready at 16 kHz."""
        self._heard += len(samples)
        return self._from_resumption(self._resampler.push(samples))

    def flush(self) -> Samples:
        """End the stream: what the resampler still held."""
        return self._from_resumption(self._resampler.flush())

    def _from_resumption(self, samples: Samples) -> Samples:
        """Leave out what the session has had."""
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        return samples[skipped:]


class SecondwiseResampler:
    """Any rate -> 16 kHz, so that it can begin again at any whole second with the same result, bit for bit.

    A filter's rounding depends on where it began. So each second of the output comes from a stream of its
    own, which began one second before (in the first second, at the beginning).

    Args:
        rate_hz: of the input.
        begin_s: the second at which the input begins; unless 0, its output is rounded otherwise.
    """

    def __init__(self, rate_hz: int, begin_s: int = 0) -> None:
        self._rate_hz = rate_hz
        self._second = begin_s  # of the output
        self._stream = Resampler(rate_hz)
        self._kept: list[Samples] = []  # the input of the stream, which begins at this second:
        self._from = begin_s
        self._missing = SAMPLE_RATE  # of the output's second
        self._warm_up = 0  # output still to be left out

    def push(self, samples: Samples) -> Samples:
        """Feed the next samples, (N,); what is ready, (M,)."""
        self._kept.append(samples)
        return self._from_second(self._stream.push(samples), last=False)

    def flush(self) -> Samples:
        """The rest."""
        return self._from_second(self._stream.flush(), last=True)

    def _from_second(self, ready: Samples, *, last: bool) -> Samples:
        """What is ready, each second from its own stream."""
        given = []
        while True:
            skipped = min(self._warm_up, len(ready))
            self._warm_up -= skipped
            ready = ready[skipped:]
            given.append(ready[: self._missing])
            self._missing -= len(given[-1])
            if self._missing > 0:
                return np.concatenate(given)
            ready = self._next_second()
            if last:
                ready = np.concatenate([ready, self._stream.flush()])

    def _next_second(self) -> Samples:
        """Begin the stream of the next second; what it has ready, from its warm-up on."""
        kept = np.concatenate(self._kept)[(self._second - self._from) * self._rate_hz :]
        self._from, self._second = self._second, self._second + 1
        self._stream, self._kept = Resampler(self._rate_hz), [kept]
        self._missing = self._warm_up = SAMPLE_RATE
        return self._stream.push(kept)


def send_from_ms(audio: AudioFormat, resume_at: int) -> int:
    """Where the client's audio has to begin for a session to go on at sample `resume_at`.

    At 16 kHz it is that sample (the VAD's windows are whole milliseconds). At other rates it is a whole
    second before, where the samples of both rates fall together.
    """
    if audio.sample_rate_hz == SAMPLE_RATE and audio.encoding != "opus":
        return resume_at * 1000 // SAMPLE_RATE
    return 1000 * max(0, resume_at // SAMPLE_RATE - WARM_UP_S)


def _decoder(audio: AudioFormat) -> FrameDecoder:
    decoders: dict[str, Callable[[], FrameDecoder]] = {
        "pcm_s16le": lambda: from_pcm16,
        "pcm_f32le": lambda: from_float32,
        "mulaw": lambda: from_mulaw,
        "opus": _Opus,
    }
    if audio.encoding == "opus" and audio.sample_rate_hz != OPUS_RATE_HZ:
        raise ConfigError(
            f"audio: expected opus with a sample_rate_hz of {OPUS_RATE_HZ}, got {audio.sample_rate_hz}"
        )
    return decoders[audio.encoding]()


class _Opus:
    """Opus packets, one a frame, through FFmpeg's libopus."""

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
        if OPUS_RATE_HZ % len(pcm):  # a whole second, from which audio is sent again, has to begin one
            milliseconds = 1000 * len(pcm) / OPUS_RATE_HZ
            raise AudioError(f"expected opus packets of 2.5, 5, 10, 20 or 40 ms, got one of {milliseconds:g}")
        scale = np.float32(32_768) if pcm.dtype == np.int16 else np.float32(1)
        return pcm.astype(np.float32) / scale
