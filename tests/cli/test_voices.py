"""The command ``stream-erc voices``, with the real encoder and real speech."""

from pathlib import Path

import numpy as np
import platformdirs
import pytest
import soundfile
from paths import SAMPLE

from stream_erc.audio import SAMPLE_RATE
from stream_erc.cli.main import main
from stream_erc.inference.voices import read_voices

FIRST = (0.6, 4.1)  # seconds of the first turn of the sample


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A recording of one speaker, in stereo at another rate."""
    samples, _ = soundfile.read(SAMPLE / "conversation.flac", dtype="float32", stop=5 * SAMPLE_RATE)
    speech = samples[int(FIRST[0] * SAMPLE_RATE) : int(FIRST[1] * SAMPLE_RATE)]
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.stack([np.repeat(speech, 2)] * 2, axis=1), 2 * SAMPLE_RATE)
    return path


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.zeros(3 * SAMPLE_RATE), SAMPLE_RATE)
    return path


def test_add_list_remove(clip: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda name: str(tmp_path / "data" / name))
    path = tmp_path / "data" / "stream-erc" / "voices.json"
    assert main(["voices", "add", "Anna", str(clip)]) == 0
    assert capsys.readouterr().out.startswith("Anna: 1 clip, 3.")
    assert len(read_voices(path, None).clips["Anna"]) == 1
    assert main(["voices", "list"]) == 0
    shown = capsys.readouterr().out
    assert "speaker encoder" in shown and "Anna: 1 clip, 3." in shown and str(path) in shown
    assert main(["voices", "remove", "Ann"]) == 2
    assert "expected a known voice (Anna), got 'Ann'" in capsys.readouterr().err
    assert main(["voices", "remove", "Anna"]) == 0
    assert not path.exists()
    assert main(["voices", "list"]) == 2
    assert "see `stream-erc voices add`" in capsys.readouterr().err


def test_a_file_without_speech_adds_nothing(clip: Path, quiet: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "voices.json"
    assert main(["voices", "add", "Anna", str(clip), str(quiet), "--voices", str(path)]) == 2
    assert f"{quiet}: expected a clip with at least 1 s of speech, got 0.00 s" in capsys.readouterr().err
    assert main(["voices", "add", "Anna", str(tmp_path / "none.wav"), "--voices", str(path)]) == 2
    assert "expected an audio or video file" in capsys.readouterr().err
    assert not path.exists()


def test_voices_of_another_encoder_are_left_alone(clip: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "voices.json"
    path.write_text('{"stream_erc_voices": 1, "encoder": "other", "voices": {}}')
    assert main(["voices", "add", "Anna", str(clip), "--voices", str(path)]) == 2
    error = capsys.readouterr().err
    assert "expected voices of the speaker encoder" in error and "got those of other" in error
