import re
import struct
import tracemalloc
import wave
from collections.abc import Callable
from pathlib import Path

import av
import films
import numpy as np
import pytest

from stream_erc.audio import SAMPLE_RATE
from stream_erc.exceptions import AudioError, ConfigError
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.pacing import paced

# --- files ----------------------------------------------------------------------------------------

LAYOUTS = {1: "mono", 2: "stereo", 8: "7.1"}
COMPRESSED = {
    "a.flac": ("flac", 16_000),
    "a.mp3": ("libmp3lame", 44_100),
    "a.ogg": ("libopus", 48_000),
    "a.opus": ("libopus", 48_000),
    "a.m4a": ("aac", 44_100),
    "a.mp4": ("aac", 48_000),
    "a.mka": ("libopus", 48_000),
}


def tone(seconds: float, rate_hz: int, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def write_wav(path: Path, mono: np.ndarray, rate_hz: int = SAMPLE_RATE, channels: int = 1) -> Path:
    pcm = np.repeat((mono * 32_767).astype("<i2")[:, np.newaxis], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm.tobytes())
    return path


def write_float_wav(path: Path, samples: np.ndarray, rate_hz: int = SAMPLE_RATE) -> Path:
    """Write float32 samples (N, channels) unchanged, NaN included."""
    data, channels = samples.astype("<f4").tobytes(), samples.shape[1]
    form = struct.pack("<HHIIHH", 3, channels, rate_hz, rate_hz * channels * 4, channels * 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def encode(
    path: Path, codec: str, rate_hz: int, seconds: float = 3.0, video: bool = False, channels: int = 1
) -> Path:
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10) if video else None
        stream = container.add_stream(codec, rate=rate_hz, layout=LAYOUTS[channels])
        if picture is not None:
            picture.width = picture.height = 32
            for _ in range(20):
                container.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
            container.mux(picture.encode(None))
        whole = av.AudioFrame.from_ndarray(tone(seconds, rate_hz)[np.newaxis], format="flt", layout="mono")
        whole.sample_rate = rate_hz
        size = stream.codec_context.frame_size or 1_024
        fit = av.AudioResampler(stream.codec_context.format.name, LAYOUTS[channels], rate_hz, size)
        for frame in [*fit.resample(whole), *fit.resample(None)]:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path, chunk_ms: int = 100) -> np.ndarray:
    return np.concatenate(list(AudioFile(path).chunks(chunk_ms)))


def read_until_error(path: Path) -> tuple[np.ndarray, str]:
    """Return the samples before the error, and its message."""
    given = [np.zeros(0, np.float32)]
    with pytest.raises(AudioError) as raised:
        for chunk in AudioFile(path).chunks():
            given.append(chunk)
    assert "\n" not in str(raised.value)
    return np.concatenate(given), str(raised.value)


def read_with_warning(path: Path) -> tuple[np.ndarray, str]:
    """Return the samples, and the one warning."""
    said: list[str] = []
    samples = np.concatenate(list(AudioFile(path, warn=said.append).chunks()))
    assert len(said) == 1 and "\n" not in said[0], said
    return samples, said[0]


def loudest_hz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


def test_wav_at_16_khz_comes_as_it_is(tmp_path: Path) -> None:
    mono = tone(0.25, SAMPLE_RATE)
    file = AudioFile(write_wav(tmp_path / "a.wav", mono))
    chunks = list(file.chunks(100))
    assert file.duration_s == 0.25
    assert [len(chunk) for chunk in chunks] == [1_600, 1_600, 800]
    assert all(chunk.dtype == np.float32 for chunk in chunks)
    np.testing.assert_allclose(np.concatenate(chunks), mono, atol=2 / 32_768)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 5, 8])
def test_any_rate_and_channel_count(tmp_path: Path, rate_hz: int, channels: int) -> None:
    path = write_wav(tmp_path / "a.wav", tone(0.4, rate_hz), rate_hz, channels)
    got = read(path)
    assert len(got) == 6_400
    np.testing.assert_allclose(got[1_000:-1_000], tone(0.4, SAMPLE_RATE)[1_000:-1_000], atol=2e-3)


@pytest.mark.parametrize("name", COMPRESSED)
def test_any_container(tmp_path: Path, name: str) -> None:
    codec, rate_hz = COMPRESSED[name]
    got = read(encode(tmp_path / name, codec, rate_hz, video=name.endswith("mp4")))
    assert abs(len(got) / SAMPLE_RATE - 3.0) < 0.15
    assert abs(loudest_hz(got) - 440.0) < 1.0
    assert abs(np.sqrt(np.mean(got[8_000:-8_000] ** 2)) - 0.5 / np.sqrt(2)) < 0.02


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_mulaw"])
def test_any_sample_format(tmp_path: Path, codec: str) -> None:
    got = read(encode(tmp_path / "a.wav", codec, SAMPLE_RATE, seconds=0.5))
    np.testing.assert_allclose(got, tone(0.5, SAMPLE_RATE), atol=0.02)


def test_flac_of_eight_channels(tmp_path: Path) -> None:
    got = read(encode(tmp_path / "a.flac", "flac", 48_000, channels=8))
    assert len(got) == 3 * SAMPLE_RATE


def test_chunk_size_changes_no_sample(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", "libmp3lame", 44_100)
    assert np.array_equal(read(path, 1), read(path, 10_000))


def test_a_file_can_be_read_twice(tmp_path: Path) -> None:
    file = AudioFile(write_wav(tmp_path / "a.wav", tone(0.1, SAMPLE_RATE)))
    assert len(list(file.chunks())) == len(list(file.chunks())) == 1


def test_a_colon_in_the_name_is_no_protocol(tmp_path: Path) -> None:
    assert len(read(write_wav(tmp_path / "http:a%03d.wav", tone(0.1, SAMPLE_RATE)))) == 1_600


def test_three_milliseconds_are_fine(tmp_path: Path) -> None:
    assert len(read(write_wav(tmp_path / "a.wav", tone(0.003, SAMPLE_RATE)))) == 48
    assert len(read(write_wav(tmp_path / "b.wav", tone(0.003, 48_000), 48_000))) == 48


def test_nan_and_overdriven_samples_are_sanitised(tmp_path: Path) -> None:
    dirty = np.full((4_800, 2), 0.25, np.float32)
    dirty[100], dirty[200], dirty[300, 0], dirty[400] = np.nan, np.inf, np.nan, 7.0
    for rate_hz in (SAMPLE_RATE, 48_000):
        got = read(write_float_wav(tmp_path / "a.wav", dirty, rate_hz))
        assert np.isfinite(got).all() and np.abs(got).max() <= 1.0
    exact = read(write_float_wav(tmp_path / "a.wav", dirty))
    assert exact[[99, 100, 200, 300, 400]].tolist() == [0.25, 0.0, 0.0, 0.125, 1.0]


def test_doubles_beyond_float32_are_sanitised(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_f64le", SAMPLE_RATE, seconds=0.1)
    data = bytearray(path.read_bytes())
    data[-8:] = struct.pack("<d", 1e300)
    path.write_bytes(data)
    assert read(path)[-1] == 0.0


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Five minutes would be 19 MB of samples."""
    path = write_wav(tmp_path / "a.wav", np.zeros(16))
    samples_bytes = 5 * 60 * SAMPLE_RATE * 2
    head = bytearray(path.read_bytes()[:44])
    head[4:8], head[40:44] = struct.pack("<I", samples_bytes + 36), struct.pack("<I", samples_bytes)
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(44 + samples_bytes)
    tracemalloc.start()
    try:
        heard = sum(len(chunk) for chunk in AudioFile(path).chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard == 5 * 60 * SAMPLE_RATE
    assert peak < 2_000_000, peak


def _text(path: Path) -> Path:
    path.write_text("00:00 hello there, this is no audio\n" * 200)
    return path


def _image(path: Path) -> Path:
    path = path.with_suffix(".png")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame(32, 32, "rgb24")))
        container.mux(stream.encode(None))
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _random(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).bytes(5_000))
    return path


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda path: path, "expected an audio or video file, got nothing there"),
        (lambda path: path.parent, "expected an audio or video file, got a folder"),
        (lambda path: path.parent / ("x" * 300), "expected a readable file, got File name too long"),
        (lambda path: path.parent / "a\0b", "expected a readable file, got embedded null byte"),
        (lambda path: Path("/dev/null"), "expected an audio or video file, got a device or pipe"),
        (_empty, "expected an audio or video file, got an empty file"),
        (_text, "expected an audio or video file, got invalid data"),
        (_random, "expected an audio or video file, got invalid data"),
        (_image, "expected an audio stream, got video only"),
    ],
)
def test_what_is_no_audio_is_named(tmp_path: Path, make: Callable[[Path], Path], got: str) -> None:
    path = make(tmp_path / "a.wav")
    with pytest.raises(AudioError) as raised:
        AudioFile(path)
    assert got in str(raised.value) and path.name[:100] in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_samples_is_an_error(tmp_path: Path) -> None:
    given, message = read_until_error(write_wav(tmp_path / "a.wav", np.zeros(0)))
    assert len(given) == 0 and "got a stream without samples" in message


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.mka"])
def test_a_truncated_file_gives_what_it_has_and_then_says_so(tmp_path: Path, name: str) -> None:
    codec, rate_hz = COMPRESSED.get(name, ("pcm_s16le", SAMPLE_RATE))
    path = encode(tmp_path / name, codec, rate_hz)
    whole = read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    given, message = read_with_warning(path)
    assert "expected" in message and "got" in message and name in message
    told = re.search(r"(?:read|got) (\d+\.\d{3}) s", message)
    assert told is not None and float(told[1]) == pytest.approx(len(given) / SAMPLE_RATE, abs=0.01)
    assert 0.25 * len(whole) < len(given) < 0.75 * len(whole)
    intact = len(given) - 2_000  # the filter's last output knows of the end
    assert np.array_equal(given[:intact], whole[:intact])


def test_a_corrupt_file_gives_what_came_before_and_then_says_so(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", "aac", 44_100)
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(3)
    middle = len(data) // 2
    data[middle : middle + 3_000] = rng.bytes(3_000)
    path.write_bytes(data)
    given, message = read_with_warning(path)
    assert len(given) > 2.5 * SAMPLE_RATE  # what comes after the damage is heard, too
    assert "expected intact audio" in message


def test_a_wav_from_a_pipe_is_complete(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(0.1, SAMPLE_RATE))
    data = bytearray(path.read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(read(path)) == 1_600


# --- pacing ---------------------------------------------------------------------------------------


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.mark.parametrize(
    ("speed", "wanted"), [(1.0, [100.1, 100.2, 100.25]), (2.0, [100.05, 100.1, 100.125])]
)
def test_a_chunk_comes_once_it_has_been_heard(speed: float, wanted: list[float]) -> None:
    time_, chunks = FakeClock(), [np.zeros(n, np.float32) for n in (1_600, 1_600, 800)]
    came = [time_.now for _ in paced(chunks, speed, time_.clock, time_.sleep)]
    assert came == pytest.approx(wanted)


def test_a_slow_consumer_is_caught_up_with() -> None:
    time_, came = FakeClock(), []
    for _ in paced([np.zeros(1_600, np.float32)] * 4, 1.0, time_.clock, time_.sleep):
        came.append(time_.now)
        time_.now += 0.25 if len(came) == 1 else 0.0
    assert came == pytest.approx([100.1, 100.35, 100.35, 100.4])


def test_no_speed_is_no_waiting() -> None:
    time_ = FakeClock()
    assert len(list(paced([np.zeros(1_600, np.float32)] * 3, None, time_.clock, time_.sleep))) == 3
    assert time_.now == 100.0


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_is_positive(speed: float) -> None:
    with pytest.raises(ConfigError, match="speed: expected max or a positive number"):
        paced([], speed)


# --- films ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [
        ("a.mkv", "ac3", "5.1(side)"),
        ("a.mp4", "aac", "5.1"),
        ("a.mkv", "flac", "7.1"),
        ("a.wav", "pcm_s16le", "5.1"),
        ("a.mka", "libopus", "5.1"),
        ("a.ts", "ac3", "3.0"),
    ],
)
def test_the_dialogue_of_a_film_keeps_its_level(tmp_path: Path, name: str, codec: str, layout: str) -> None:
    """The centre is heard as it is, the low frequencies are not."""
    places = [channel.name for channel in av.AudioLayout(layout).channels]
    samples = np.zeros((3 * 48_000, len(places)), np.float32)
    samples[:, places.index("FC")] = films.tone(3.0)[:, 0]
    if "LFE" in places:
        samples[:, places.index("LFE")] = films.tone(3.0, hz=60.0)[:, 0]
    path = films.write_film(tmp_path / name, films.Sound(samples, codec=codec, layout=layout), picture=None)
    heard = read(path)[8_000:40_000]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)))) * 4 / len(heard)
    hz = np.fft.rfftfreq(len(heard), 1 / SAMPLE_RATE)
    assert spectrum[np.abs(hz - 440) < 2].max() == pytest.approx(0.4, rel=0.05)
    assert spectrum[np.abs(hz - 60) < 2].max() < 0.01
    separate = np.concatenate(list(AudioFile(path).chunks(separate=True)))
    assert separate.shape[1] == len(places)
    assert np.abs(separate[8_000:40_000, places.index("FC")]).max() == pytest.approx(0.4, rel=0.1)


def test_a_playlist_is_read_only_where_it_may_name_other_files(tmp_path):
    write_wav(tmp_path / "heard.wav", tone(1.0, SAMPLE_RATE))
    (tmp_path / "list").write_text("ffconcat version 1.0\nfile heard.wav\n")
    assert sum(len(chunk) for chunk in AudioFile(tmp_path / "list").chunks()) == SAMPLE_RATE
    told = "expected an audio or video file, got one of a format that is not taken here"
    with pytest.raises(AudioError, match=told):
        AudioFile(tmp_path / "list", self_contained=True)


@pytest.mark.parametrize(
    "name", [*COMPRESSED, "a.wav", "a.webm", "a.aiff", "a.au", "a.caf", "a.w64", "a.avi", "a.ts"]
)
def test_usual_formats_hold_all_that_they_play(tmp_path, name):
    codec, rate_hz = COMPRESSED.get(name, ("pcm_s16le", SAMPLE_RATE))
    if name in ("a.aiff", "a.au"):
        codec = "pcm_s16be"
    if name in ("a.webm", "a.ts"):
        codec, rate_hz = "libopus", 48_000
    path = encode(tmp_path / name, codec, rate_hz, seconds=1.0)
    upload = path.rename(tmp_path / "upload")  # uploads have no endings
    assert sum(len(chunk) for chunk in AudioFile(upload, self_contained=True).chunks()) > 0.9 * SAMPLE_RATE
