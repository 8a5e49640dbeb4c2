"""Audio as a client sends it -> 16 kHz, and from where it has to be sent again after an interruption."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from stream_erc.audio import SAMPLE_RATE, Resampler, from_float32, from_mulaw, from_pcm16
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, ConfigError
from stream_erc.messages import AudioFormat

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
        self._resampler = Resampler(audio.sample_rate_hz)
        self.send_from_ms = send_from_ms(audio, resume_at)
        self._skip = resume_at - self.send_from_ms * SAMPLE_RATE // 1000
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


def send_from_ms(audio: AudioFormat, resume_at: int) -> int:
    """Where the client's audio has to begin so that a session can go on at sample `resume_at`.

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
        scale = np.float32(32_768) if pcm.dtype == np.int16 else np.float32(1)
        return pcm.astype(np.float32) / scale
