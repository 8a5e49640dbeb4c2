"""Bad input: a one-line error with what was expected and got, exit code 2, and the output so far is kept."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from films import Sound, write_film
from paths import SAMPLE

from stream_erc.audio import SAMPLE_RATE
from stream_erc.cli.arguments import parse
from stream_erc.cli.main import main
from stream_erc.exceptions import AudioError
from stream_erc.sources.audio_files import AudioFile

HEADER = "start,end,speaker,text\n"
TURN = "SPEAKER x 1 {} {} <NA> <NA> Anna <NA> <NA>\n"


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """Two turns of the sample, 0.6 s to 4.05 s and 4.75 s to 8.24 s."""
    samples, rate_hz = soundfile.read(SAMPLE / "conversation.flac", dtype="float32", stop=9 * SAMPLE_RATE)
    assert rate_hz == SAMPLE_RATE
    return samples


@dataclass(frozen=True)
class Ended:
    """The result of a run of the command line."""

    code: int
    out: str
    error: str
    messages: list[dict]

    @property
    def turns(self) -> list[dict]:
        return [message for message in self.messages if message["type"] == "turn.final"]


@pytest.fixture
def replay(tmp_path, tiny_checkpoint, capsys) -> Callable[..., Ended]:
    """A function that runs `stream-erc replay` without recognizer and with random weights."""

    def run(*words: object, model: object = tiny_checkpoint, events: Path | None = None) -> Ended:
        events = events or tmp_path / "events.jsonl"
        argv = ["replay", "--out", str(events), "--model", str(model), "--asr", "none", *map(str, words)]
        code = main(argv)
        lines = events.read_text().splitlines() if events.is_file() else []
        shown = capsys.readouterr()
        return Ended(code, shown.out, shown.err, [json.loads(line) for line in lines])

    return run


def refused(ended: Ended, *said: str) -> None:
    """Assert exit code 2 and a one-line error that contains `said`."""
    assert ended.code == 2, ended
    assert ended.error.startswith("stream-erc: ") and ended.error.count("\n") == 1, ended.error
    for words in said or ("expected",):
        assert words in ended.error, ended.error


def warned(ended: Ended, *said: str) -> None:
    """Assert that a run ended well, with a warning that contains `said`."""
    assert ended.code == 0, ended
    assert ended.error.startswith("stream-erc: ") and ended.error.count("\n") == 1, ended.error
    assert all(words in ended.error for words in said), ended.error


def whole(ended: Ended) -> None:
    """Assert that a run ended without an error."""
    assert (ended.code, ended.error) == (0, ""), ended
    assert ended.messages[-1]["type"] == "session.closed"


# --- files that are no audio ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.wav", b"", "an empty file"),
        ("words.wav", b"these are words, not sounds\n" * 40, "expected an audio or video file"),
        ("noise.mp3", bytes(range(256)) * 64, "expected an audio or video file"),
        ("head.wav", b"RIFF\x24\x00\x00\x00WAVE", "expected an"),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(64), "expected an"),
    ],
    ids=["empty", "words", "bytes", "head only", "picture"],
)
def test_not_audio(replay, tmp_path, name, content, said) -> None:
    (tmp_path / name).write_bytes(content)
    ended = replay(tmp_path / name)
    refused(ended, name, said)
    assert ended.messages == []


def test_nothing_there_and_a_folder(replay, tmp_path) -> None:
    refused(replay(tmp_path / "gone.wav"), "gone.wav", "got nothing there")
    refused(replay(tmp_path), "expected a recording or a conversation in text, got none")


# --- audio that breaks off ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
def test_truncated_keeps_the_turns_before_the_fault(replay, tmp_path, talk, kind) -> None:
    complete = tmp_path / f"complete.{kind}"
    soundfile.write(complete, talk, SAMPLE_RATE)
    data = complete.read_bytes()
    (tmp_path / f"cut.{kind}").write_bytes(data[: len(data) * 7 // 10])
    report = tmp_path / "report.html"
    ended = replay(tmp_path / f"cut.{kind}", "--report", report)
    warned(ended, f"cut.{kind}: expected")
    assert ended.turns[0]["audio_end_ms"] < 4_500
    assert ended.messages[-1]["type"] == "session.closed"
    assert 5_000 < ended.messages[-1]["audio_ms"] < 8_000
    assert "speaker_1" in report.read_text()


def test_truncated_with_given_turns(replay, tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: len(data) * 7 // 10])
    (tmp_path / "a.rttm").write_text(TURN.format(0.6, 3.4) + TURN.format(4.7, 1.2) + TURN.format(8.1, 0.4))
    ended = replay(tmp_path / "a.wav", "--turns", tmp_path / "a.rttm")
    assert (ended.code, ended.error.count("\n")) == (2, 2)
    assert "a.wav: expected a complete file" in ended.error
    assert "expected turns within the audio" in ended.error
    assert [turn["turn"] for turn in ended.turns] == [0, 1]
    assert ended.messages[-1]["failed_turns"] == 1


# --- audio that is odd, but audio -----------------------------------------------------------------


def test_silence_has_no_turns(replay, tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(4 * SAMPLE_RATE), SAMPLE_RATE)
    ended = replay(tmp_path / "a.wav", "--report", tmp_path / "r.html")
    refused(ended, "a.wav: expected speech, found none in 4.000 s")
    assert [m["type"] for m in ended.messages] == ["session.created", "session.closed"]
    assert ended.messages[-1]["audio_ms"] == 4_000
    assert (tmp_path / "r.html").is_file()


def test_noise_has_no_turns(replay, tmp_path) -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=4 * SAMPLE_RATE)
    soundfile.write(tmp_path / "a.flac", noise, SAMPLE_RATE)
    ended = replay(tmp_path / "a.flac")
    refused(ended, "a.flac: expected speech, found none")
    assert ended.turns == []


def test_three_milliseconds(replay, tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.wav", talk[16_000:16_048], SAMPLE_RATE)
    ended = replay(tmp_path / "a.wav")
    refused(ended, "a.wav: expected speech, found none in 0.003 s")
    assert (ended.turns, ended.messages[-1]["audio_ms"]) == ([], 3)


def eight_channels(talk: np.ndarray) -> tuple[np.ndarray, int]:
    return np.repeat(talk[:, np.newaxis], 8, axis=1), SAMPLE_RATE


def at_192_khz(talk: np.ndarray) -> tuple[np.ndarray, int]:
    return np.repeat(talk, 12), 12 * SAMPLE_RATE


def with_nan(talk: np.ndarray) -> tuple[np.ndarray, int]:
    broken = talk.copy()
    broken[1_000:100_000:997] = np.nan
    broken[1_500:100_000:9_970] = np.inf
    return broken, SAMPLE_RATE


def clipped(talk: np.ndarray) -> tuple[np.ndarray, int]:
    return np.clip(talk * 50, -1, 1), SAMPLE_RATE


def beyond_full_scale(talk: np.ndarray) -> tuple[np.ndarray, int]:
    return talk * 20, SAMPLE_RATE


@pytest.mark.parametrize("made", [eight_channels, at_192_khz, with_nan, clipped, beyond_full_scale])
def test_odd_audio_is_heard(replay, tmp_path, talk, made) -> None:
    samples, rate_hz = made(talk)
    soundfile.write(tmp_path / "a.wav", samples, rate_hz, subtype="FLOAT")
    ended = replay(tmp_path / "a.wav")
    whole(ended)
    assert len(ended.turns) >= 2
    for turn in ended.turns:
        assert sum(turn["emotion"]["probabilities"].values()) == pytest.approx(1, abs=1e-4)


# --- given turns ----------------------------------------------------------------------------------


def with_turns(
    replay: Callable[..., Ended], folder: Path, talk: np.ndarray, name: str, content: str
) -> Ended:
    soundfile.write(folder / "a.wav", talk, SAMPLE_RATE)
    (folder / name).write_text(content, encoding="utf-8")
    return replay(folder / "a.wav", "--turns", folder / name)


def test_rttm_past_the_end_keeps_the_turns_before(replay, tmp_path, talk) -> None:
    rttm = TURN.format(0.6, 3.4) + TURN.format(4.7, 90) + TURN.format(300, 2)
    ended = with_turns(replay, tmp_path, talk, "a.rttm", rttm)
    refused(ended, "turn 3 begins at 300.00 s", "ends at 9.00 s")
    assert [turn["turn"] for turn in ended.turns] == [0, 1]
    assert [m["turn"] for m in ended.messages if m["type"] == "turn.failed"] == [2]


def test_overlapping_turns(replay, tmp_path, talk) -> None:
    csv = HEADER + "1,8,Anna,one\n2,3,Tom,two\n2,3,Anna,three\n2.5,2.51,Tom,four\n"
    ended = with_turns(replay, tmp_path, talk, "a.csv", csv)
    whole(ended)
    assert [turn["text"] for turn in ended.turns] == ["one", "two", "three", "four"]
    assert [turn["speaker"] for turn in ended.turns] == ["Anna", "Tom", "Anna", "Tom"]


def test_turns_of_another_recording(replay, tmp_path, talk) -> None:
    rttm = TURN.format(0.6, 3.4) + TURN.format(1, 2).replace(" x ", " y ")
    refused(with_turns(replay, tmp_path, talk, "a.rttm", rttm), "a.rttm", "turns of a", "x, y")
    ended = with_turns(replay, tmp_path, talk, "a.rttm", rttm.replace(" y ", " a "))
    whole(ended)
    assert [turn["audio_start_ms"] for turn in ended.turns] == [1_000]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "mood,finish,who\n1,2,Anna\n", "mood"),
        ("a.csv", HEADER + "one,2,Anna,hello\n", "expected a time as start"),
        ("a.csv", HEADER + "2,1,Anna,hello\n", "start < end"),
        ("a.csv", "", "an empty file"),
        ("a.json", '{"turns": [{"speaker": "Anna"}]}', "start"),
        ("a.json", "[{", "a.json"),
        ("a.rttm", "SPEAKER x 1 0.6\n", "SPEAKER FILE CHANNEL"),
        ("a.rttm", TURN.format("nan", 1), "expected a number"),
        ("a.srt", "these are words\n", "a.srt"),
        ("a.docx", "words", "expected .rttm"),
    ],
)
def test_turns_that_cannot_be_read(replay, tmp_path, talk, name, content, said) -> None:
    ended = with_turns(replay, tmp_path, talk, name, content)
    refused(ended, name, said)
    assert ended.messages == []


def test_turns_in_another_encoding(replay, tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    (tmp_path / "a.csv").write_bytes((HEADER + "1,2,José,olé\n").encode("latin-1"))
    ended = replay(tmp_path / "a.wav", "--turns", tmp_path / "a.csv")
    assert (ended.code, ended.error.count("\n")) == (0, 1)
    assert "a.csv, line 2: expected UTF-8, got byte 0xe9" in ended.error
    assert [(turn["speaker"], turn["text"]) for turn in ended.turns] == [("José", "olé")]


def test_odd_lines_are_told_and_cost_no_other(replay, tmp_path, talk) -> None:
    odd = "".join(f"{k},{k},Anna,empty\n" for k in range(30))
    ended = with_turns(replay, tmp_path, talk, "a.csv", HEADER + "1,2,Anna,one\n" + odd + "3,4,Tom,two\n")
    assert (ended.code, [turn["text"] for turn in ended.turns]) == (0, ["one", "two"])
    told = ended.error.splitlines()
    assert len(told) == 21
    assert told[0].endswith("a.csv, line 3: expected 0 <= start < end, got 0 s to 0 s")
    assert told[-1] == "stream-erc: and 10 more of the kind"


# --- text dialogues -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "at least one dialogue"),
        ("a.jsonl", b'{"turns": []}\n', "at least one turn"),
        ("a.jsonl", b'{"turns": [{"speaker": "Anna"}]}\n', "expected a text"),
        ("a.jsonl", b"not json\n", "line 1"),
        ("a.csv", b"who,mood\nAnna,hello\n", "who, mood"),
        ("a.rttm", TURN.format(1, 2).encode(), "expected a text"),
        ("a.json", b"[", "a.json"),
    ],
)
def test_dialogues_that_cannot_be_read(replay, tmp_path, name, content, said) -> None:
    (tmp_path / name).write_bytes(content)
    ended = replay(tmp_path / name)
    refused(ended, name, said)
    assert ended.messages == []


def test_a_transcript_is_a_conversation_with_times(replay, tmp_path) -> None:
    cues = "WEBVTT\n\n00:01.000 --> 00:02.000\nAnna (she/her): hello\n\nodd\nlines\n"
    (tmp_path / "a.vtt").write_text(cues + "\n00:03.000 --> 00:04.000\nTom: hi\n")
    ended = replay(tmp_path / "a.vtt", "--report", tmp_path / "r.html")
    assert (ended.code, ended.error.count("\n")) == (0, 1)
    assert "a.vtt, line 6: expected a cue" in ended.error
    said = [(m["speaker"], m["text"], m["audio_start_ms"], m["audio_end_ms"]) for m in ended.turns]
    assert said == [("Anna (she/her)", "hello", 1_000, 2_000), ("Tom", "hi", 3_000, 4_000)]
    assert "she/her" in (tmp_path / "r.html").read_text()


def test_dialogues_beside_a_bad_line_are_kept(replay, tmp_path) -> None:
    good = '{"dialogue": "one", "turns": [{"speaker": "Anna", "text": "hello"}]}\n'
    (tmp_path / "a.jsonl").write_text(good + "{}\n" + good)
    ended = replay(tmp_path / "a.jsonl", "--report", tmp_path / "r.html")
    assert (ended.code, ended.error.count("\n")) == (0, 1)
    assert "a.jsonl, line 2: expected" in ended.error
    assert [turn["dialogue"] for turn in ended.turns] == ["one", "one"]
    assert "hello" in (tmp_path / "r.html").read_text()


def test_turns_and_speed_go_with_audio_only(replay, tmp_path) -> None:
    (tmp_path / "a.csv").write_text("speaker,text\nAnna,hello\n")
    refused(replay(tmp_path / "a.csv", "--turns", SAMPLE / "conversation.json"), "--turns", "audio", "a.csv")
    refused(replay(tmp_path / "a.csv", "--speed", "1"), "--speed", "audio", "a.csv")


# --- checkpoints and configuration ----------------------------------------------------------------


def test_no_such_checkpoint(replay, tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    ended = replay(tmp_path / "a.wav", model="si-lsmt")
    refused(ended, "expected a checkpoint", "'si-lsmt'")
    assert ended.messages == []
    refused(replay(tmp_path / "a.wav", model=tmp_path), "config.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names_sha256": "0" * 64}, "names_sha256"),
        ({"opensmile": "1.0.0"}, "opensmile 1.0.0"),
        ({"dim": 89}, "dim 89"),
        ({"sample_rate_hz": 8_000}, "sample_rate_hz 8000"),
        ({"set": "IS09"}, "IS09"),
    ],
)
def test_checkpoint_of_other_features(replay, tmp_path, tiny_checkpoint, talk, change, said) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["features"]["acoustic"] |= change
    (other / "config.json").write_text(json.dumps(config))
    ended = replay(tmp_path / "a.wav", model=other)
    refused(ended, said)
    assert ended.messages == []


def test_damaged_checkpoint(replay, tmp_path, tiny_checkpoint) -> None:
    (tmp_path / "a.csv").write_text("speaker,text\nAnna,hello\n")
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    refused(replay(tmp_path / "a.csv", model=other), "other")
    (other / "config.json").write_text("{")
    refused(replay(tmp_path / "a.csv", model=other), "config.json")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[session]\npartial = true\n", "session.partials"),
        ("[session.endpointing]\nmin_silence_ms = 'long'\n", "expected int"),
        ("session", "expected TOML"),
        ("[engine]\nmax_batch = 0\n", "engine.max_batch: expected 1 or more, got 0"),
        ("[session]\nrewind_turns = -1\n", "session.rewind_turns: expected 0 or more, got -1"),
        ("[session]\npartial_interval_ms = 0\n", "session.partial_interval_ms: expected 32 or more, got 0"),
    ],
)
def test_configuration(replay, tmp_path, toml, said) -> None:
    (tmp_path / "a.csv").write_text("speaker,text\nAnna,hello\n")
    (tmp_path / "c.toml").write_text(toml)
    refused(replay(tmp_path / "a.csv", "--config", tmp_path / "c.toml"), said)
    refused(replay(tmp_path / "a.csv", "--config", tmp_path / "none.toml"), "none.toml")


# --- places that cannot be written ----------------------------------------------------------------


def test_unwritable_places_are_found_before_the_work(replay, tmp_path) -> None:
    (tmp_path / "a.csv").write_text("speaker,text\nAnna,hello\n")
    words = [tmp_path / "a.csv"]
    below_a_file = tmp_path / "a.csv" / "b"
    unloadable = tmp_path / "no checkpoint"  # if it were checked first, its absence would be reported
    refused(replay(*words, events=tmp_path, model=unloadable), f"--out {tmp_path}", "a folder")
    refused(replay(*words, events=below_a_file, model=unloadable), "--out", "a.csv/b")
    refused(replay(*words, "--report", tmp_path, model=unloadable), f"--report {tmp_path}", "a folder")
    refused(replay(*words, "--report", below_a_file, model=unloadable), "--report", "a.csv/b")
    assert (tmp_path / "a.csv").read_text() == "speaker,text\nAnna,hello\n"


def test_exports_that_cannot_be_written_are_found_before_the_work(replay, tmp_path, talk) -> None:
    (tmp_path / "a.csv").write_text("speaker,text\nAnna,hello\n")
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    unloadable = tmp_path / "no checkpoint"
    for words, said in (
        (
            ["a.csv", "--export", tmp_path / "b.srt"],
            "b.srt: expected turns with times in .srt, got text alone",
        ),
        (["a.csv", "--export", tmp_path / "b.doc"], "b.doc: expected .srt, .vtt,"),
        (["a.wav", "--export", tmp_path / "b"], "got no ending"),
        (["a.wav", "--export", tmp_path], f"--export {tmp_path}"),
        (["a.csv", "--export", tmp_path / "a.csv"], "which is read"),
        (["a.wav", "--export", tmp_path / "b.md", "--export", tmp_path / "b.md"], "which --export writes"),
    ):
        refused(replay(tmp_path / words[0], *words[1:], model=unloadable), said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.wav"]


def test_exports_are_written_even_after_an_error(replay, tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    (tmp_path / "a.csv").write_text(HEADER + "1,2,Anna,hello\n99,100,Tom,late\n")
    (tmp_path / "taken").write_text("")
    files = [tmp_path / "b.srt", tmp_path / "b.eaf"]
    words = [word for path in files for word in ("--export", path)]
    ended = replay(tmp_path / "a.wav", "--turns", tmp_path / "a.csv", *words)
    refused(ended, "turn 2 begins at")
    assert all("hello" in path.read_text() and "late" not in path.read_text() for path in files)


def test_what_is_read_is_never_overwritten(replay, tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    (tmp_path / "a.csv").write_text(HEADER + "1,2,Anna,hello\n")
    before = {path: path.read_bytes() for path in (tmp_path / "a.wav", tmp_path / "a.csv")}
    words = [tmp_path / "a.wav", "--turns", tmp_path / "a.csv"]
    for taken in ("a.wav", "link.wav", "a.csv"):
        ended = replay(*words, "--report", tmp_path / taken)
        refused(ended, f"--report {tmp_path / taken}", "which is read")
    refused(replay(*words, "--out", tmp_path / "sub" / ".." / "a.wav"), "--out", "which is read")
    refused(replay(*words, "--report", tmp_path / "events.jsonl"), "which --out writes")
    assert {path: path.read_bytes() for path in before} == before


def test_an_older_file_outlives_a_run_that_never_began(replay, tmp_path) -> None:
    (tmp_path / "events.jsonl").write_text('{"type": "older"}\n')
    (tmp_path / "a.csv").write_text("speaker,text\nAnna,hello\n")
    assert replay(tmp_path / "a.csv", model="none").messages == [{"type": "older"}]
    assert replay(tmp_path / "a.csv").messages[0]["type"] == "session.created"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_full_disk(replay, tmp_path) -> None:
    (tmp_path / "a.csv").write_text("speaker,text\nAnna,hello\n")
    ended = replay(tmp_path / "a.csv", "--report", tmp_path / "r.html", events=Path("/dev/full"))
    refused(ended, "--out /dev/full", "No space left")
    assert (tmp_path / "r.html").is_file()


def test_a_file_that_goes_away_while_it_is_heard(tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    chunks = AudioFile(tmp_path / "a.wav").chunks()
    next(chunks)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(AudioError, match="expected the file to stay, got No such file"):
        list(chunks)


def test_a_name_that_is_no_unicode(replay, tmp_path, talk) -> None:
    path = tmp_path / "a\udcff.wav"
    try:
        soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
        (tmp_path / "a.wav").rename(path)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes Unicode names only")
    ended = replay(path, "--report", tmp_path / "r.html")
    whole(ended)
    assert ended.messages[0]["source"]["name"] == "a?.wav"


# --- channels -------------------------------------------------------------------------------------


@pytest.fixture
def call(talk, tmp_path) -> Path:
    """A call whose second side overlaps the first: its turns are the same, 1.5 s later."""
    other = np.pad(talk[:-24_000], (24_000, 0))
    soundfile.write(tmp_path / "call.wav", np.stack([talk, other], axis=1), SAMPLE_RATE)
    return tmp_path / "call.wav"


@pytest.mark.parametrize("names", ["agent", "agent,caller,other"])
def test_more_or_fewer_names_than_channels(replay, call, names) -> None:
    refused(replay(call, "--channels", names), "a name for each of 2 channel(s), got", names.split(",")[0])


@pytest.mark.parametrize("names", ["agent,agent", "agent,", ",", "a," + "b" * 101])
def test_names_that_cannot_be_used(call, names, capsys) -> None:
    assert main(["replay", str(call), "--channels", names]) == 2
    error = capsys.readouterr().err
    assert "--channels: expected" in error and error.count("\n") == 1


def test_ten_channels(replay, talk, tmp_path) -> None:
    path = tmp_path / "ten.wav"
    soundfile.write(path, np.repeat(talk[:, np.newaxis], 10, axis=1), SAMPLE_RATE)
    refused(replay(path, "--channels", "separate"), "expected 1 to 8 to hear separately, got 10")
    mixed = replay(path)
    whole(mixed)
    assert len(mixed.turns) >= 2 and "channel" not in mixed.turns[0]


def test_separate_channels_with_known_turns(replay, call, tmp_path) -> None:
    turns = tmp_path / "call.rttm"
    turns.write_text(TURN.format(0.6, 3.4))
    refused(replay(call, "--turns", turns, "--channels", "separate"), "expected mix with --turns")
    whole(replay(call, "--turns", turns))


def test_separate_channels_with_known_voices(replay, call) -> None:
    refused(replay(call, "--voices", "default", "--channels", "separate"), "expected mix with --voices")


def test_a_text_has_no_channels(replay, tmp_path) -> None:
    text = tmp_path / "a.jsonl"
    text.write_text('{"dialogue": "a", "turns": [{"speaker": "b", "text": "c"}]}\n')
    refused(replay(text, "--channels", "mix"), "--channels: expected an audio or video file with it")


def test_a_call_is_heard_channel_by_channel_and_that_is_said(replay, call) -> None:
    named, auto = replay(call, "--channels", "agent,caller"), replay(call)
    whole(named)
    assert {(turn["channel"], turn["speaker"]) for turn in named.turns} == {(0, "agent"), (1, "caller")}
    assert named.messages[0]["source"]["channels"] == ["agent", "caller"]
    assert auto.code == 0 and "different speech and are heard separately" in auto.error
    assert auto.messages[0]["source"]["channels"] == [None, None]
    assert [turn["channel"] for turn in auto.turns] == [turn["channel"] for turn in named.turns]
    mixed = replay(call, "--channels", "mix")
    assert "channels" not in mixed.messages[0]["source"] and len(mixed.turns) < len(named.turns)


def test_the_same_speech_in_two_channels_is_heard_once_even_in_opposite_phase(replay, talk, tmp_path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([talk, -talk], axis=1), SAMPLE_RATE)
    heard = replay(path)
    assert heard.code == 0 and "the same speech and are heard as one" in heard.error
    soundfile.write(path, talk, SAMPLE_RATE)
    ends = [[turn["audio_end_ms"] for turn in turns] for turns in (heard.turns, replay(path).turns)]
    assert ends[0] == ends[1] and len(ends[0]) >= 2


# --- tracks, raw samples, standard input ----------------------------------------------------------


@pytest.fixture
def dubbed(tmp_path, talk) -> Path:
    """A film of two tracks: the second one speaks, and is the default."""
    speech = np.repeat(talk, 3)[:, np.newaxis]
    sounds = (
        Sound(0 * speech, metadata={"language": "eng"}, default=False),
        Sound(speech, metadata={"language": "fra", "title": "Doublage"}),
    )
    return write_film(tmp_path / "film.mkv", *sounds)


def test_the_run_says_which_of_several_tracks_it_heard(replay, dubbed) -> None:
    ended = replay(dubbed)
    warned(ended, "hears track 2 (fra, Doublage, aac, 1 ch) of 2")
    assert ended.turns
    assert len(replay(dubbed, "--track", "fr").turns) == len(replay(dubbed, "--track", "2").turns) > 0
    silent = replay(dubbed, "--track", "1")
    assert silent.code == 2 and "expected speech" in silent.error


def test_a_track_that_is_not_there(replay, dubbed) -> None:
    refused(replay(dubbed, "--track", "de"), "--track: expected one of 1 (eng, aac, 1 ch), 2 (fra", "got de")


def test_raw_samples(replay, tmp_path, talk) -> None:
    (tmp_path / "call.raw").write_bytes((talk * 32_767).astype("<i2").tobytes())
    report = tmp_path / "r.html"
    ended = replay(tmp_path / "call.raw", "--raw", "s16le:16000", "--report", report)
    whole(ended)
    assert len(ended.turns) >= 2
    assert "audio/mpeg" in report.read_text()
    with pytest.raises(SystemExit):
        parse(["replay", "x", "--raw", "s16le"])


@pytest.mark.parametrize(("option", "value"), [("--track", "2"), ("--raw", "s16le:16000")])
def test_text_has_neither_tracks_nor_samples(replay, tmp_path, option, value) -> None:
    (tmp_path / "a.jsonl").write_text('{"speaker": "Anna", "text": "Hello."}\n')
    refused(replay(tmp_path / "a.jsonl", option, value), f"{option}: expected an audio or video file with it")


def piped(tmp_path: Path, data: bytes, *words: object, model: Path) -> tuple[int, str, list[dict]]:
    """Run the command line with standard input."""
    events = tmp_path / "piped.jsonl"
    command = [sys.executable, "-m", "stream_erc", "replay", "-", "--model", model, "--asr", "none"]
    done = subprocess.run(
        [*map(str, command), "--out", str(events), *map(str, words)],
        input=data,
        capture_output=True,
        check=False,
    )
    lines = events.read_text().splitlines() if events.is_file() else []
    return done.returncode, done.stderr.decode(), [json.loads(line) for line in lines]


@pytest.mark.parametrize("kind", ["wav", "mp3", "ogg", "s16le"])
def test_standard_input_is_heard_as_a_file(replay, tmp_path, talk, tiny_checkpoint, kind) -> None:
    path = tmp_path / f"a.{kind}"
    raw = ["--raw", "s16le:16000"] if kind == "s16le" else []
    if raw:
        path.write_bytes((talk * 32_767).astype("<i2").tobytes())
    else:
        soundfile.write(path, talk, SAMPLE_RATE)
    code, error, messages = piped(tmp_path, path.read_bytes(), *raw, model=tiny_checkpoint)
    assert (code, error) == (0, "")
    assert messages[0]["source"]["name"] == "standard input"
    turns = [(m["audio_start_ms"], m["audio_end_ms"]) for m in messages if m["type"] == "turn.final"]
    file = replay(path, *raw).turns
    assert turns == [(turn["audio_start_ms"], turn["audio_end_ms"]) for turn in file]
    assert len(turns) >= 2


def test_an_empty_standard_input(tmp_path, tiny_checkpoint) -> None:
    code, error, messages = piped(tmp_path, b"", model=tiny_checkpoint)
    assert (code, error) == (2, "stream-erc: standard input: expected audio, got nothing\n")
    assert messages == []


def test_ctrl_c_ends_an_open_standard_input(tmp_path, talk, tiny_checkpoint) -> None:
    """Turns come while the pipe is open, and what was heard is kept."""
    events = tmp_path / "e.jsonl"
    command = [sys.executable, "-m", "stream_erc", "replay", "-", "--raw", "s16le:16000", "--asr", "none"]
    command += ["--model", str(tiny_checkpoint), "--out", str(events)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write((talk * 32_767).astype("<i2").tobytes())
        process.stdin.flush()
        deadline = time.monotonic() + 100
        while not (events.is_file() and "turn.final" in events.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # until it waits for more
        process.send_signal(signal.SIGINT)
        error = process.stderr.read()
    assert (process.returncode, error) == (130, b"")
    assert json.loads(events.read_text().splitlines()[-1])["type"] == "session.closed"
