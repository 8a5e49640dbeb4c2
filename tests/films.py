"""Films and recordings with the timestamps that a test asks for, made with PyAV."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

Spans = Sequence[tuple[float, float]]

Shift = Callable[[float], float | None]
"""The time of a packet, counted from the first sample -> seconds by which it comes later; None drops it."""


@dataclass(frozen=True)
class Sound:
    """An audio track: samples (N, C), and when they are heard."""

    samples: np.ndarray
    rate_hz: int = 48_000
    codec: str = "aac"
    layout: str = "mono"
    shift: Shift = lambda at: 0.0
    metadata: dict[str, str] = field(default_factory=dict)
    default: bool = True
    twice: tuple[float, float] | None = None  # packets of this time come again, with the same timestamps


def tone(seconds: float, rate_hz: int = 48_000, hz: float = 440.0, channels: int = 1) -> np.ndarray:
    wave = 0.4 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.repeat(wave.astype(np.float32)[:, np.newaxis], channels, axis=1)


def write_film(
    path: Path, *sounds: Sound, picture: str | None = "mpeg4", picture_at_s: float = 0.0, seconds: float = 8.0
) -> Path:
    """Write a film whose picture begins at a time, or only sounds."""
    with av.open(str(path), "w") as container:
        packets = []
        if picture is not None:
            video = container.add_stream(picture, rate=10)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
        streams = [_add(container, sound) for sound in sounds]
        if picture is not None:
            for number in range(round(seconds * 10)):
                frame = av.VideoFrame(32, 32, "yuv420p")
                frame.pts, frame.time_base = number + round(10 * picture_at_s), Fraction(1, 10)
                packets += video.encode(frame)
            packets += video.encode(None)
        for sound, stream in zip(sounds, streams, strict=True):
            packets += _encode(sound, stream)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            container.mux(packet)
    return path


def _add(container: av.container.OutputContainer, sound: Sound) -> av.AudioStream:
    stream = container.add_stream(sound.codec, rate=sound.rate_hz, layout=sound.layout)
    stream.metadata.update(sound.metadata)
    stream.disposition = av.stream.Disposition.default if sound.default else av.stream.Disposition(0)
    return stream


def _encode(sound: Sound, stream: av.AudioStream) -> list[av.Packet]:
    packed = np.ascontiguousarray(sound.samples.reshape(1, -1))
    whole = av.AudioFrame.from_ndarray(packed, format="flt", layout=sound.layout)
    whole.sample_rate = sound.rate_hz
    size = stream.codec_context.frame_size or 1_024
    fit = av.AudioResampler(stream.codec_context.format.name, sound.layout, sound.rate_hz, size)
    packets, count = [], 0
    for frame in [*fit.resample(whole), *fit.resample(None)]:
        frame.pts, frame.time_base = count, Fraction(1, sound.rate_hz)
        count += frame.samples
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return [again for packet in packets for again in _moved(packet, sound)]


def _moved(packet: av.Packet, sound: Sound) -> list[av.Packet]:
    at = float(packet.pts * packet.time_base)
    later = sound.shift(at)
    if later is None:
        return []
    ticks = round(later / packet.time_base)
    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
    if sound.twice is None or not sound.twice[0] <= at < sound.twice[1]:
        return [packet]
    again = av.Packet(bytes(packet))
    again.pts, again.dts, again.time_base = packet.pts, packet.dts, packet.time_base
    again.stream, again.duration = packet.stream, packet.duration
    return [packet, again]


def heard_spans(samples: np.ndarray, rate_hz: int = 16_000) -> list[tuple[float, float]]:
    """Return when a tone is heard, in seconds, breaks of less than 50 ms left out."""
    loud = np.flatnonzero(np.abs(samples) > 0.05)
    breaks = np.flatnonzero(np.diff(loud) > rate_hz // 20)
    starts, ends = [loud[0], *loud[breaks + 1]], [*loud[breaks], loud[-1]]
    return [(float(a) / rate_hz, float(b) / rate_hz) for a, b in zip(starts, ends, strict=True)]


def near(spans: Spans, wanted: Spans, by: float = 0.05) -> bool:
    """Return whether spans are those wanted, within `by` seconds."""
    return np.shape(spans) == np.shape(wanted) and np.allclose(spans, wanted, rtol=0, atol=by)
