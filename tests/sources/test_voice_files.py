"""The file of known voices."""

import json
import multiprocessing
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from stream_erc.events import Vector
from stream_erc.exceptions import OutputError, VoicesError
from stream_erc.sources.voice_files import (
    LOCK,
    MAX_CLIPS,
    add_clip,
    check_addition,
    read_voices,
    remove_voice,
)


def vector(*values: float) -> Vector:
    array = np.array(values, np.float32)
    return array / np.linalg.norm(array)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people" / "voices.json"


# --- the file -------------------------------------------------------------------------------------


def test_a_voice_is_the_mean_of_its_clips(path: Path) -> None:
    add_clip(path, "small", "Anna", vector(1, 0, 0), 2.0)
    add_clip(path, "small", "Anna", vector(0, 1, 0), 3.5)
    add_clip(path, "small", "Ben", vector(0, 0, 1), 1.0)
    voices = read_voices(path, "small")
    assert voices.names == ("Anna", "Ben")
    assert [clip.speech_s for clip in voices.clips["Anna"]] == [2.0, 3.5]
    ben, anna = voices.select(["Ben", "Anna"])
    assert (ben.name, anna.name) == ("Ben", "Anna")
    np.testing.assert_allclose(anna.embedding, vector(1, 1, 0), atol=1e-6)
    assert anna.embedding.dtype == np.float32


def test_the_file_is_its_owners_alone_and_holds_no_leftovers(path: Path) -> None:
    add_clip(path, "small", "Anna", vector(1, 0), 2.0)
    path.chmod(0o644)
    add_clip(path, "small", "Anna", vector(0, 1), 2.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {file.name for file in path.parent.iterdir()} == {path.name, LOCK}


def test_the_same_clip_again_changes_nothing(path: Path) -> None:
    add_clip(path, "small", "Anna", vector(1, 2), 2.0)
    written = path.stat().st_ino
    add_clip(path, "small", "Anna", vector(1, 2), 2.0)
    assert len(read_voices(path, "small").clips["Anna"]) == 1
    assert path.stat().st_ino == written


def test_the_newest_clips_are_kept(path: Path) -> None:
    for angle in range(MAX_CLIPS + 3):
        add_clip(path, "small", "Anna", vector(np.cos(angle), np.sin(angle)), float(angle))
    kept = read_voices(path, "small").clips["Anna"]
    assert [clip.speech_s for clip in kept] == list(range(3, MAX_CLIPS + 3))


def test_a_removed_voice_leaves_nothing(path: Path) -> None:
    add_clip(path, "small", "Anna", vector(1, 0), 2.0)
    add_clip(path, "small", "Ben", vector(0, 1), 2.0)
    assert remove_voice(path, "Anna").names == ("Ben",)
    assert "Anna" not in path.read_text()
    with pytest.raises(VoicesError, match=r"expected a known voice \(Ben\), got 'Anna'"):
        remove_voice(path, "Anna")
    assert remove_voice(path, "Ben").names == ()
    assert [file.name for file in path.parent.iterdir()] == [LOCK]


def test_a_file_of_another_encoder_is_refused(path: Path) -> None:
    add_clip(path, "small", "Anna", vector(1, 0), 2.0)
    before = path.read_bytes()
    for refused in (
        lambda: read_voices(path, "large"),
        lambda: add_clip(path, "large", "Ben", vector(1, 0, 0), 2.0),
    ):
        with pytest.raises(VoicesError, match=r"expected voices of the speaker encoder large, got .* small"):
            refused()
    with pytest.raises(VoicesError, match=r"expected vectors of one length, got \[2, 3\]"):
        add_clip(path, "small", "Anna", vector(1, 0, 0), 2.0)
    assert path.read_bytes() == before
    assert read_voices(path, None).encoder == "small"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "got one with"),
        (b"\xff\xfe", "got one with"),
        (b"[]", "got one with"),
        (b'{"encoder": "small"}', "missing required field `stream_erc_voices`"),
        (b'{"stream_erc_voices": 2, "encoder": "small", "voices": {}}', "of version 1, got version 2"),
    ],
)
def test_another_file_is_refused(path: Path, content: bytes, said: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(VoicesError, match=rf"expected a voice file.*{said}"):
        read_voices(path, "small")
    with pytest.raises(VoicesError, match=said):
        add_clip(path, "small", "Anna", vector(1, 0), 2.0)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("voices", "said"),
    [
        ({"Anna": []}, "length >= 1"),
        ({"Anna": [{"vector": [0, 0], "speech_s": 1, "added": ""}]}, "direction, got others for 'Anna'"),
        ({"Anna": [{"vector": ["x"], "speech_s": 1, "added": ""}]}, "Expected `float`"),
        ({"Anna": [{"vector": [1], "speech_s": -1, "added": ""}]}, ">= 0"),
        ({"": [{"vector": [1], "speech_s": 1, "added": ""}]}, "printable"),
        ({"speaker_3": [{"vector": [1], "speech_s": 1, "added": ""}]}, "no unnamed speaker"),
        (
            {
                "Anna": [{"vector": [1], "speech_s": 1, "added": ""}],
                "Ben": [{"vector": [1, 0], "speech_s": 1, "added": ""}],
            },
            r"one length, got \[1, 2\]",
        ),
    ],
)
def test_unusable_voices_are_refused(path: Path, voices: dict[str, object], said: str) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"stream_erc_voices": 1, "encoder": "small", "voices": voices}))
    with pytest.raises(VoicesError, match=said):
        read_voices(path, "small")


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "two\nlines", "speaker_1", "voice_12"])
def test_an_unusable_name_is_refused(path: Path, name: str) -> None:
    with pytest.raises(VoicesError, match="expected a"):
        check_addition(path, "small", name)
    with pytest.raises(VoicesError, match="expected a"):
        add_clip(path, "small", name, vector(1, 0), 2.0)
    assert not path.exists()


def test_a_folder_holds_a_file_for_each_person(tmp_path: Path) -> None:
    with pytest.raises(VoicesError, match="expected a folder of voice files"):
        read_voices(tmp_path, "small")
    add_clip(tmp_path / "anna.json", "small", "Anna", vector(1, 0), 2.0)
    add_clip(tmp_path / "ben.json", "small", "Ben", vector(0, 1), 2.0)
    (tmp_path / "notes.txt").write_text("no voices")
    assert read_voices(tmp_path, "small").names == ("Anna", "Ben")
    for refused in (
        lambda: add_clip(tmp_path, "small", "Cleo", vector(1, 1), 2.0),
        lambda: remove_voice(tmp_path, "Anna"),
    ):
        with pytest.raises(VoicesError, match=r"expected a file to .*, got a folder"):
            refused()
    add_clip(tmp_path / "again.json", "small", "Ben", vector(0, 1), 2.0)
    with pytest.raises(VoicesError, match="expected each voice in one file, got 'Ben' in two"):
        read_voices(tmp_path, "small")


def test_a_missing_file(path: Path) -> None:
    assert read_voices(path, "small", new=True).names == ()
    for refused in (lambda: read_voices(path, "small"), lambda: remove_voice(path, "Anna")):
        with pytest.raises(VoicesError, match="expected a voice file, got nothing there"):
            refused()
    assert not path.parent.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(path: Path) -> None:
    path.parent.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="expected a voice file that can be written"):
        add_clip(path, "small", "Anna", vector(1, 0), 2.0)


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, VoicesError), match="expected a voice file"):
        add_clip(tmp_path / "file" / "voices.json", "small", "Anna", vector(1, 0), 2.0)


def _add_some(path: Path, name: str) -> None:
    for k in range(10):
        add_clip(path, "small", f"{name} {k}", vector(1, k), 2.0)


def test_two_processes_lose_no_voice(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_add_some, args=(path, name)) for name in ("Anna", "Ben")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(read_voices(path, "small").names) == 20
