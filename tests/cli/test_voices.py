"""The command ``stream-erc voices``, with the real encoder and real speech."""

import json
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import soundfile
from paths import CORPORA, SAMPLE

from stream_erc.audio import SAMPLE_RATE
from stream_erc.cli.arguments import parse, read_config
from stream_erc.cli.main import main
from stream_erc.sources.voice_files import read_voices

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
    assert capsys.readouterr().out.startswith("Anna: 1 clip, ")
    assert len(read_voices(path, None).clips["Anna"]) == 1
    assert main(["voices", "list"]) == 0
    shown = capsys.readouterr().out
    assert "speaker encoder" in shown and "Anna: 1 clip, " in shown and str(path) in shown
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


# --- known voices in conversations ----------------------------------------------------------------

KNOWN, STRANGER = "Actor_01", "Actor_02"
"""A man and a woman of the corpus."""


@pytest.mark.skipif(not (CORPORA / "ravdess").is_dir(), reason="needs the clips of RAVDESS")
def test_a_known_voice_is_named_in_a_dialogue_and_a_stranger_is_not(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    clips = {
        actor: sorted((CORPORA / "ravdess" / actor).glob("03-01-0[12]-*.flac")) for actor in (KNOWN, STRANGER)
    }
    voices, talk, events = (tmp_path / name for name in ("voices.json", "talk.wav", "events.jsonl"))
    learned = [str(clip) for clip in clips[KNOWN][:4]]
    assert main(["voices", "add", "Anton", *learned, "--voices", str(voices)]) == 0
    said = [
        soundfile.read(clips[actor][k], dtype="float32") for k in (5, 6, 7) for actor in (KNOWN, STRANGER)
    ]
    rate_hz = said[0][1]
    pause = np.zeros(rate_hz // 2, np.float32)
    soundfile.write(talk, np.concatenate([part for samples, _ in said for part in (samples, pause)]), rate_hz)
    options = ["--model", str(tiny_checkpoint), "--asr", "none", "--out", str(events)]
    assert main(["replay", str(talk), "--voices", str(voices), *options]) == 0
    messages = [json.loads(line) for line in events.read_text().splitlines()]
    turns = {m["turn"]: m["speaker"] for m in messages if m["type"] in ("turn.final", "turn.revised")}
    assert turns == dict(enumerate(["Anton", "speaker_1"] * 3))
    assert messages[-1]["speakers"] == ["Anton", "speaker_1"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("none.json", "expected a voice file, got nothing there"),
        ("other.json", "expected voices of the speaker encoder"),
    ],
)
def test_replay_refuses_other_voice_files_at_once(clip: Path, tmp_path: Path, capsys, given, said) -> None:
    (tmp_path / "other.json").write_text('{"stream_erc_voices": 1, "encoder": "other", "voices": {}}')
    assert main(["replay", str(clip), "--voices", str(tmp_path / given)]) == 2
    assert said in capsys.readouterr().err


def test_voices_need_speakers_to_tell_apart(clip: Path, tmp_path: Path, capsys, tiny_checkpoint) -> None:
    voices, turns, text = (tmp_path / name for name in ("voices.json", "turns.csv", "chat.csv"))
    assert main(["voices", "add", "Anna", str(clip), "--voices", str(voices)]) == 0
    turns.write_text("start,end,speaker,text\n0,2,Tom,hello\n")
    text.write_text("speaker,text\nTom,hello\n")
    options = ["--voices", str(voices), "--model", str(tiny_checkpoint)]
    assert main(["replay", str(clip), "--turns", str(turns), *options]) == 2
    assert "expected turns whose speakers are to be told apart" in capsys.readouterr().err
    assert main(["replay", str(text), *options]) == 2
    assert "--voices: expected an audio or video file with it, got text" in capsys.readouterr().err


def test_voices_are_read_from_the_configuration_too(tmp_path: Path) -> None:
    file = tmp_path / "stream_erc.toml"
    file.write_text('[engine]\nvoices = "here.json"\n[server]\nkeep_voices = true\n')
    config = read_config(parse(["serve", "--config", str(file)]), partials=True)
    assert (config.engine.voices, config.server.keep_voices) == ("here.json", True)
    given = read_config(parse(["serve", "--voices", "default", "--keep-voices"]), partials=True)
    assert (given.engine.voices, given.server.keep_voices) == ("default", True)
    assert read_config(parse(["listen"]), partials=True).engine.voices is None
