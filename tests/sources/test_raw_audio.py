from pathlib import Path

import numpy as np
import pytest
from films import tone
from g711 import to_alaw, to_mulaw

from stream_erc.exceptions import ConfigError
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.raw_audio import ENCODINGS, RawFormat

WAVE = tone(0.5, 16_000)[:, 0]


def raw(encoding: str, samples: np.ndarray) -> bytes:
    if encoding == "s24le":
        return b"".join(int(v).to_bytes(3, "little", signed=True) for v in np.rint(samples * 2**23))
    kinds = {"u8": "u1", "s16le": "<i2", "s16be": ">i2", "s32le": "<i4", "f32le": "<f4", "f64le": "<f8"}
    kind = np.dtype(kinds[encoding])
    if kind.kind == "f":
        return samples.astype(kind).tobytes()
    scaled = np.rint(samples.astype(np.float64) * 2.0 ** (8 * kind.itemsize - 1))
    return (scaled + (128 if kind.kind == "u" else 0)).astype(kind).tobytes()


def read(path: Path, form: str, **how: bool) -> np.ndarray:
    return np.concatenate(list(AudioFile(path, raw=RawFormat.parse(form)).chunks(**how)))


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in ("mulaw", "alaw")])
def test_raw_samples(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.raw").write_bytes(raw(encoding, WAVE))
    got = read(tmp_path / "a.raw", f"{encoding}:16000")
    np.testing.assert_allclose(got, WAVE, atol=0.01 if encoding == "u8" else 1e-4)


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_raw_telephone_audio(tmp_path: Path, encoding: str) -> None:
    wave = tone(1.0, 8_000)[:, 0]
    data = to_mulaw(wave) if encoding == "mulaw" else to_alaw(wave)
    (tmp_path / "call").write_bytes(data)
    got = read(tmp_path / "call", f"{encoding}:8000")
    assert len(got) == 16_000
    np.testing.assert_allclose(got[2_000:-2_000], tone(1.0, 16_000)[2_000:-2_000, 0], atol=0.02)


def test_channels_of_raw_samples(tmp_path: Path) -> None:
    both = np.stack([WAVE, 0 * WAVE], axis=1)
    (tmp_path / "a.raw").write_bytes(raw("s16le", both))
    np.testing.assert_allclose(read(tmp_path / "a.raw", "s16le:16000:2"), WAVE / 2, atol=1e-4)
    np.testing.assert_allclose(read(tmp_path / "a.raw", "s16le:16000:2", separate=True), both, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected ENCODING:RATE or"),
        ("s16le", "expected ENCODING:RATE or"),
        ("s16le:x", "got s16le:x"),
        ("s16le:16000:2:3", "expected ENCODING:RATE or"),
        ("s16le:-5", "expected ENCODING:RATE or"),
        ("mp3:16000", "expected one of mulaw, alaw, u8"),
        (":16000", "got nothing"),
        ("s16le:10", "expected a rate of 1000 to 768000 Hz, got 10"),
        ("s16le:16000:0", "expected 1 to 64 channels, got 0"),
    ],
)
def test_another_form_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        RawFormat.parse(text)
    assert said in str(raised.value)
