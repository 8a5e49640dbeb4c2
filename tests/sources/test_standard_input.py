import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from films import Sound, tone, write_film

from stream_erc.exceptions import AudioError, ProtocolMisuse
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.channels import choose_channels
from stream_erc.sources.raw_audio import RawFormat
from stream_erc.sources.standard_input import StandardInput


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        try:
            os.close(end)
        except OSError:
            pass


def feed(writing: int, data: bytes, piece: int = 1 << 30, every_s: float = 0.0) -> threading.Thread:
    """Write to a pipe from another thread, in pieces, and close it."""

    def run() -> None:
        for first in range(0, len(data), piece):
            os.write(writing, data[first : first + piece])
            time.sleep(every_s)
        os.close(writing)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", "pcm_s16le"),
        ("a.mp3", "libmp3lame"),
        ("a.ogg", "libopus"),
        ("a.webm", "libopus"),
        ("a.flac", "flac"),
        ("a.mka", "aac"),
        ("a.ts", "aac"),
    ],
)
def test_what_can_be_streamed_is_read_as_from_a_file(
    tmp_path: Path, pipe: tuple[int, int], name: str, codec: str
) -> None:
    path = write_film(tmp_path / name, Sound(tone(2.0), codec=codec), picture=None)
    file = np.concatenate(list(AudioFile(path).chunks()))
    thread, said = feed(pipe[1], path.read_bytes(), 3_000), []
    streamed = AudioFile("-", pipe=StandardInput(pipe[0]), warn=said.append)
    heard = np.concatenate(list(streamed.chunks()))
    if name == "a.mp3":  # its padding is known from the size of the file
        assert 0 <= len(heard) - len(file) < 500
        heard, file = heard[:31_000], file[:31_000]
    assert np.array_equal(heard, file)
    assert said == []
    thread.join()


def test_audio_is_decoded_as_it_arrives(pipe: tuple[int, int]) -> None:
    data = (tone(4.0, 16_000) * 32_767).astype("<i2").tobytes()
    began = time.monotonic()
    feed(pipe[1], data, 3_200, 0.1)  # in real time
    audio = AudioFile("-", raw=RawFormat("s16le", 16_000), pipe=StandardInput(pipe[0]))
    came = [time.monotonic() - began for _ in audio.chunks(100)]
    assert len(came) == 40
    assert came[0] < 1.5 and came[20] < 3.5, came


def test_a_header_without_a_size_is_no_warning(tmp_path: Path, pipe: tuple[int, int]) -> None:
    path = write_film(tmp_path / "a.wav", Sound(tone(1.0), codec="pcm_s16le"), picture=None)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\x7f"
    feed(pipe[1], bytes(data))
    said: list[str] = []
    audio = AudioFile("-", pipe=StandardInput(pipe[0]), warn=said.append)
    assert audio.duration_s is None
    assert sum(map(len, audio.chunks())) == 16_000
    assert said == []


def test_nothing_is_an_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    with pytest.raises(AudioError, match=r"^standard input: expected audio, got nothing$"):
        StandardInput(pipe[0])


@pytest.mark.parametrize("data", [b"no audio at all\n" * 500, b"x"])
def test_what_is_no_audio_is_named(pipe: tuple[int, int], data: bytes) -> None:
    feed(pipe[1], data)
    with pytest.raises(AudioError, match="standard input: expected audio that can be read as it arrives"):
        AudioFile("-", pipe=StandardInput(pipe[0]))


def test_a_film_whose_index_is_at_its_end_cannot_be_streamed(tmp_path: Path, pipe: tuple[int, int]) -> None:
    path = write_film(tmp_path / "a.mp4", Sound(tone(1.0)))
    thread = feed(pipe[1], path.read_bytes(), 3_000)
    with pytest.raises(AudioError, match="expected audio that can be read as it arrives"):
        np.concatenate(list(AudioFile("-", pipe=StandardInput(pipe[0])).chunks()))
    while os.read(pipe[0], 65_536):
        pass
    thread.join()


def test_a_pipe_is_read_once_and_not_looked_at_first(tmp_path: Path, pipe: tuple[int, int]) -> None:
    stereo = Sound(tone(1.0, channels=2), codec="pcm_s16le", layout="stereo")
    path = write_film(tmp_path / "a.wav", stereo, picture=None)
    feed(pipe[1], path.read_bytes(), 3_000)
    audio = AudioFile("-", pipe=StandardInput(pipe[0]))
    assert choose_channels(audio, "auto") is None
    assert choose_channels(audio, "separate") == (None, None)
    assert sum(map(len, audio.chunks())) == 16_000
    with pytest.raises(ProtocolMisuse, match="expected to be read once"):
        list(audio.chunks())
