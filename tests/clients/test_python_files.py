"""The recordings that the Python client plays: WAV of any kind by itself, other formats through PyAV."""

import builtins
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stream_erc_client as erc
from films import Sound, heard_spans, near, tone, write_film
from g711 import to_alaw, to_mulaw
from stream_erc_client.audio import WavFile
from stream_erc_client.media import MediaFile, open_audio

WAVE = tone(0.2, 16_000)[:, 0]
FLOAT_GUID = struct.pack("<H", 3) + bytes.fromhex("000000001000800000aa00389b71")


def write_wav(
    path: Path,
    data: bytes,
    tag: int,
    bits: int,
    channels: int = 1,
    rate_hz: int = 16_000,
    *,
    extension: bytes = b"",
) -> Path:
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits) + extension
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"LIST" + struct.pack("<I", 3) + b"abc\0"  # of odd length, and no sample
    body += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def extensible(tag: int, bits: int) -> bytes:
    return struct.pack("<HHI", 22, bits, 4) + struct.pack("<H", tag) + FLOAT_GUID[2:]


def integers(bits: int) -> bytes:
    width = bits // 8
    return b"".join(int(v).to_bytes(width, "little", signed=True) for v in np.rint(WAVE * 2.0 ** (bits - 1)))


def read(path: Path, **how: Any) -> np.ndarray:
    with WavFile(path) as wav:
        return np.frombuffer(b"".join(wav.chunks(**how)), "<i2") / 32_768


@pytest.mark.parametrize(
    ("tag", "bits", "data", "error"),
    [
        (1, 8, (np.rint(WAVE * 127) + 128).astype("u1").tobytes(), 0.02),
        (1, 16, integers(16), 1e-4),
        (1, 24, integers(24), 1e-4),
        (1, 32, integers(32), 1e-4),
        (3, 32, WAVE.astype("<f4").tobytes(), 1e-4),
        (3, 64, WAVE.astype("<f8").tobytes(), 1e-4),
        (6, 8, to_alaw(WAVE), 0.02),
        (7, 8, to_mulaw(WAVE), 0.02),
    ],
)
@pytest.mark.parametrize("extended", [False, True])
def test_wav_files_of_every_kind(
    tmp_path: Path, tag: int, bits: int, data: bytes, error: float, extended: bool
) -> None:
    extension = extensible(tag, bits) if extended else b""
    path = write_wav(tmp_path / "a.wav", data, 0xFFFE if extended else tag, bits, extension=extension)
    with WavFile(path) as wav:
        assert (wav.sample_rate_hz, wav.channels, wav.duration_ms) == (16_000, 1, 200.0)
    np.testing.assert_allclose(read(path), WAVE, atol=error)


def test_floats_beyond_full_scale_and_no_numbers(tmp_path: Path) -> None:
    values = np.array([2.0, -2.0, np.nan, np.inf, 0.5], "<f4")
    path = write_wav(tmp_path / "a.wav", values.tobytes(), 3, 32)
    assert (read(path) * 32_768).tolist() == [32_767, -32_768, 0, 0, 16_384]


def test_channels_of_floats(tmp_path: Path) -> None:
    both = np.stack([WAVE, 0 * WAVE], axis=1).astype("<f4")
    path = write_wav(tmp_path / "a.wav", both.tobytes(), 3, 32, channels=2)
    np.testing.assert_allclose(read(path), WAVE / 2, atol=1e-4)
    np.testing.assert_allclose(read(path, separate=True).reshape(-1, 2), both, atol=1e-4)


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_size_that_was_not_known(tmp_path: Path, size: int) -> None:
    path = write_wav(tmp_path / "a.wav", integers(16), 1, 16)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    np.testing.assert_allclose(read(path), WAVE, atol=1e-4)


@pytest.mark.parametrize(("tag", "bits"), [(2, 4), (0x55, 0), (1, 64), (3, 16), (6, 16)])
def test_another_kind_is_named(tmp_path: Path, tag: int, bits: int) -> None:
    path = write_wav(tmp_path / "a.wav", bytes(100), tag, bits)
    with pytest.raises(erc.AudioError, match=f"got format {tag} of {bits} bits"):
        WavFile(path)


# --- other formats --------------------------------------------------------------------------------


def play(path: Path, rate_hz: int | None = 16_000, **how: Any) -> np.ndarray:
    with open_audio(path, rate_hz) as audio:
        return np.frombuffer(b"".join(audio.chunks(**how)), "<i2") / 32_768


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp3", "libmp3lame"),
        ("a.webm", "libopus"),
        ("a.m4a", "aac"),
        ("a.flac", "flac"),
        ("a.ogg", "libopus"),
    ],
)
def test_other_formats_through_pyav(tmp_path: Path, name: str, codec: str) -> None:
    path = write_film(tmp_path / name, Sound(tone(2.0), codec=codec), picture=None)
    with open_audio(path) as audio:
        assert isinstance(audio, MediaFile)
    got = play(path)
    assert near(heard_spans(got), [(0.0, 2.0)])
    assert np.sqrt(np.mean(got[4_000:28_000] ** 2)) == pytest.approx(0.4 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_times_are_those_of_the_film(tmp_path: Path, name: str) -> None:
    sound = Sound(tone(3.0), shift=lambda at: 2.0 if at < 1.5 else 5.5)
    path = write_film(tmp_path / name, sound, picture="mpeg2video" if name.endswith("ts") else "mpeg4")
    assert near(heard_spans(play(path)), [(2.0, 3.5), (7.0, 8.5)])


def test_packets_that_come_again_are_left_out(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mka", Sound(tone(3.0), codec="libopus", twice=(1.0, 2.0)), picture=None)
    assert near(heard_spans(play(path)), [(0.0, 3.0)], by=0.1)


def test_the_dialogue_of_a_film_keeps_its_level(tmp_path: Path) -> None:
    samples = np.zeros((2 * 48_000, 6), np.float32)
    samples[:, 2] = tone(2.0)[:, 0]
    path = write_film(tmp_path / "a.mkv", Sound(samples, codec="ac3", layout="5.1(side)"))
    assert np.abs(play(path)[8_000:24_000]).max() == pytest.approx(0.4, rel=0.05)
    assert play(path, separate=True).reshape(-1, 6)[8_000:24_000, 2].max() == pytest.approx(0.4, rel=0.05)


def test_a_film_has_a_rate_of_its_own(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp3", Sound(tone(1.0, 44_100), 44_100, "libmp3lame"), picture=None)
    with open_audio(path) as audio:
        assert audio.sample_rate_hz == 44_100


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_film(tmp_path / "a.mp3", Sound(tone(1.0), codec="libmp3lame"), picture=None)
    plain = builtins.__import__

    def without_pyav(name: str, *how: Any, **more: Any) -> Any:
        if name == "av":
            raise ImportError("no av")
        return plain(name, *how, **more)

    monkeypatch.setattr(builtins, "__import__", without_pyav)
    with pytest.raises(erc.AudioError, match=r"pip install 'stream-erc-client\[formats\]'"):
        open_audio(path)
    with open_audio(write_wav(tmp_path / "a.wav", integers(24), 1, 24)) as wav:
        assert isinstance(wav, WavFile)


@pytest.mark.parametrize("name", ["text.mp3", "gone.mp3", "silent.mkv"])
def test_what_cannot_be_played_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.mp3").write_text("no audio at all\n" * 100)
    write_film(tmp_path / "silent.mkv", seconds=1.0)
    with pytest.raises(erc.AudioError, match=f"{name}: expected"):
        open_audio(tmp_path / name)
