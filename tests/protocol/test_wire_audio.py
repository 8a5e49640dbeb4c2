import fractions

import av
import numpy as np
import pytest
from g711 import to_alaw, to_mulaw

from stream_erc.audio import SAMPLE_RATE, to_pcm16
from stream_erc.exceptions import AudioError, ConfigError
from stream_erc.protocol.messages import AudioFormat
from stream_erc.protocol.wire_audio import OPUS_RATE_HZ, WireAudio, send_from_ms


def tone(rate_hz: int, seconds: float = 3.0) -> np.ndarray:
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


ENCODERS = {
    "pcm_s16le": to_pcm16,
    "pcm_f32le": lambda x: x.astype("<f4").tobytes(),
    "mulaw": to_mulaw,
    "alaw": to_alaw,
}


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_every_encoding_and_rate_becomes_the_same_tone(encoding: str, rate_hz: int) -> None:
    wire = WireAudio(AudioFormat(encoding=encoding, sample_rate_hz=rate_hz))  # type: ignore[arg-type]
    heard = wire.push(wire.decode(ENCODERS[encoding](tone(rate_hz))))
    heard = np.concatenate([heard, wire.flush()])
    assert abs(len(heard) - 3 * SAMPLE_RATE) <= 1 and wire.received_ms == 3_000
    middle = slice(SAMPLE_RATE, 2 * SAMPLE_RATE)
    assert np.abs(heard[middle] - tone(SAMPLE_RATE)[middle]).max() < (
        0.02 if encoding.endswith("law") else 0.002
    )


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_audio_sent_again_joins_where_it_broke_off(rate_hz: int) -> None:
    audio, whole = AudioFormat(sample_rate_hz=rate_hz), WireAudio(AudioFormat(sample_rate_hz=rate_hz))
    rng = np.random.default_rng(0)
    pcm = to_pcm16(rng.uniform(-0.3, 0.3, 6 * rate_hz).astype(np.float32))
    parts = [pcm[k : k + 2_222] for k in range(0, len(pcm), 2_222)]
    expected = np.concatenate([*(whole.push(whole.decode(part)) for part in parts), whole.flush()])
    assert len(expected) == 6 * SAMPLE_RATE
    for resume_at in (0, 512 * 7, 512 * 90, 512 * 125):
        again = WireAudio(audio, resume_at)
        begin = again.send_from_ms * rate_hz // 1000
        assert again.send_from_ms * rate_hz % 1000 == 0
        assert again.send_from_ms == send_from_ms(audio, resume_at)
        rest = np.concatenate([again.push(again.decode(pcm[2 * begin :])), again.flush()])
        assert len(rest) == len(expected) - resume_at
        difference = np.abs(rest - expected[resume_at:]).max()
        assert difference == 0
        assert again.received_ms == 6_000


def packets(seconds: float, frame_ms: int = 20) -> list[bytes]:
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = OPUS_RATE_HZ, "mono", "s16"
    codec.time_base = fractions.Fraction(1, OPUS_RATE_HZ)
    codec.options = {"frame_duration": str(frame_ms)}
    size = OPUS_RATE_HZ * frame_ms // 1000
    made, pcm = [], (tone(OPUS_RATE_HZ, seconds) * 32_767).astype(np.int16)
    for start in range(0, len(pcm), size):
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis, start : start + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = OPUS_RATE_HZ, start, codec.time_base
        made += [bytes(packet) for packet in codec.encode(frame)]
    return made


def test_opus_packets_are_audio() -> None:
    wire = WireAudio(AudioFormat(encoding="opus", sample_rate_hz=OPUS_RATE_HZ))
    heard = np.concatenate([wire.push(wire.decode(packet)) for packet in packets(2.0)])
    assert wire.received_ms == 2_000
    spectrum = np.abs(np.fft.rfft(heard[8_000:24_000]))
    assert abs(int(spectrum.argmax()) - 440) <= 1 and 0.2 < np.abs(heard).max() < 0.4
    for wrong in (b"", b"\xff" * 4):
        with pytest.raises(AudioError, match=rf"opus packet, got {len(wrong)} bytes"):
            wire.decode(wrong)
    assert len(wire.decode(packets(0.02)[0])) == 960
    with pytest.raises(AudioError, match=r"2\.5, 5, 10, 20 or 40 ms, got one of 60"):
        wire.decode(packets(0.06, frame_ms=60)[0])


def test_what_does_not_go_together_is_named() -> None:
    with pytest.raises(ConfigError, match="opus with a sample_rate_hz of 48000, got 16000"):
        WireAudio(AudioFormat(encoding="opus"))
    wire = WireAudio(AudioFormat(encoding="pcm_f32le"))
    with pytest.raises(AudioError, match="divisible by 4, got 3 bytes"):
        wire.decode(b"abc")
    loud = np.array([np.nan, np.inf, 7.0, -7.0], dtype="<f4")
    assert wire.push(wire.decode(loud.tobytes())).tolist() == [0.0, 0.0, 1.0, -1.0]
