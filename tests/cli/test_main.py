"""The command line as a user sees it; test_bad_input.py tests bad input."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import paths
import pytest
import soundfile

from stream_erc.audio import SAMPLE_RATE
from stream_erc.cli.arguments import parse, read_config
from stream_erc.cli.main import main
from stream_erc.cli.outputs import EventsFile, check_outputs
from stream_erc.config import Config
from stream_erc.exceptions import OutputError
from stream_erc.sources.turn_files import read_turns

SAMPLE = paths.SAMPLE / "conversation"
DIALOGUES = [
    {"dialogue": "one", "turns": [{"speaker": "Anna", "text": "hello"}, {"text": "who is there?"}]},
    {"dialogue": 2, "turns": [{"speaker": "Tom", "text": "i am so happy"}], "source": "made up"},
]


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """One turn of the sample, and the beginning of the next."""
    return soundfile.read(SAMPLE.with_suffix(".flac"), dtype="float32", stop=5 * SAMPLE_RATE)[0]


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def start(*words: object, **options) -> subprocess.Popen:
    """Start a process that Ctrl-C reaches even if the tests run in the background."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "stream_erc", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


# --- words ----------------------------------------------------------------------------------------


def test_version_and_help(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stream-erc {metadata.version('stream-erc')}\n"
    assert main(["replay", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--turns", "--out", "--report", "--speed", "--model", "--asr", "--speakers", "--device"):
        assert option in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["play"], "invalid choice: 'play'"),
        (["replay"], "INPUT"),
        (["replay", "a.wav", "--speed", "0"], "expected max or a number above 0, got '0'"),
        (["replay", "a.wav", "--speed", "fast"], "expected max or a number above 0, got 'fast'"),
        (["replay", "a.wav", "--speed", "nan"], "expected max or a number above 0, got 'nan'"),
        (["replay", "a.wav", "--speakers", "0"], "expected a whole number of 1 or more, got '0'"),
        (["replay", "a.wav", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["replay", "a.wav", "--colour"], "--colour"),
    ],
)
def test_mistakes_in_the_words_are_one_line(words, said, capsys) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert said in shown.err and shown.err.startswith("stream-erc") and "--help" in shown.err


def test_options_override_the_configuration_file(tmp_path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[session]\npartials = true\n[engine]\nmodel = 'a'\n[engine.asr]\nengine = 'none'\n")
    words = ["replay", "x.wav", "--config", str(path)]
    config = read_config(parse([*words, "--model", "b", "--language", "auto"]), partials=False)
    assert (config.session.partials, config.engine.model) == (True, "b")
    assert (config.engine.asr.engine, config.engine.asr.language) == ("none", None)
    config = read_config(parse([*words, "--no-partials", "--asr", "auto", "--device", "cpu"]), partials=True)
    assert (config.session.partials, config.engine.model, config.engine.asr.engine) == (False, "a", "auto")
    assert config.engine.device == config.engine.asr.device == "cpu"
    config = read_config(parse(["replay", "x.wav", "--speakers", "2"]), partials=True)
    assert (config.session.partials, config.session.diarization.speakers) == (True, 2)
    assert read_config(parse(["replay", "x.wav"]), partials=False) == Config()


@pytest.mark.parametrize(
    ("asr", "said"),
    [(["bogus"], "got 'bogus'"), (["pocketsphinx", "--language", "de"], "English only")],
)
def test_a_recognizer_that_cannot_be_used(tiny_checkpoint, tmp_path, talk, capsys, asr, said) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    assert main(["replay", str(tmp_path / "a.wav"), "--model", str(tiny_checkpoint), "--asr", *asr]) == 2
    assert said in capsys.readouterr().err


# --- replay ---------------------------------------------------------------------------------------


def test_what_is_given_needs_no_recognizer(tiny_checkpoint, tmp_path, talk, capsys) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    (tmp_path / "a.srt").write_text("1\n00:00:00,600 --> 00:00:04,052\nAnna: Good morning, Tom.\n")
    words = ["--turns", tmp_path / "a.srt", "--model", tiny_checkpoint, "--asr", "faster-whisper:/no"]
    code = main(["replay", str(tmp_path / "a.wav"), *map(str, words), "--out", str(tmp_path / "new" / "e")])
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    created, final, closed = read(tmp_path / "new" / "e")
    assert created["asr"] == "given"
    assert created["source"] == {"name": "a.wav", "duration_ms": 5_000}
    assert (final["speaker"], final["text"]) == ("Anna", "Good morning, Tom.")
    assert (final["audio_start_ms"], final["audio_end_ms"]) == (600, 4_052)
    assert closed["audio_ms"] == 5_000
    assert "Good morning, Tom." in shown.out and final["emotion"]["label"] in shown.out


def test_several_text_dialogues(tiny_checkpoint, tmp_path, capsys) -> None:
    path, events, report = tmp_path / "talk.jsonl", tmp_path / "e.jsonl", tmp_path / "new" / "r.html"
    path.write_text("".join(json.dumps(dialogue) + "\n" for dialogue in DIALOGUES))
    words = ["--out", events, "--report", report, "--model", tiny_checkpoint]
    assert main(["replay", str(path), *map(str, words)]) == 0
    assert capsys.readouterr().err == ""
    finals = [m for m in read(events) if m["type"] == "turn.final"]
    assert [(m["session_id"], m["dialogue"], m["turn"], m["speaker"]) for m in finals] == [
        ("session-1", "one", 0, "Anna"),
        ("session-1", "one", 1, "speaker_1"),
        ("session-2", "2", 0, "Tom"),
    ]
    assert all(m["audio_start_ms"] is None and m["audio_end_ms"] is None for m in finals)
    assert "who is there?" in report.read_text(encoding="utf-8")


def test_many_speakers_and_no_speaker_at_all(tiny_checkpoint, tmp_path) -> None:
    path, events = tmp_path / "talk.csv", tmp_path / "e.jsonl"
    path.write_text("speaker,text\n" + "".join(f"person {i},hello\n" for i in range(40)) + ",oh no\n")
    assert main(["replay", str(path), "--out", str(events), "--model", str(tiny_checkpoint)]) == 0
    closed = read(events)[-1]
    assert (closed["turns"], len(closed["speakers"]), closed["speakers"][-1]) == (41, 41, "speaker_1")


def test_partials_show_turns_while_they_are_spoken(tiny_checkpoint, tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.ogg", talk, SAMPLE_RATE)
    events = tmp_path / "e.jsonl"
    words = [tmp_path / "a.ogg", "--partials", "--asr", "pocketsphinx", "--model", tiny_checkpoint]
    assert main(["replay", *map(str, words), "--out", str(events)]) == 0
    messages = read(events)
    assert "time" in next(m for m in messages if m["type"] == "turn.partial")["text"]
    final = next(m for m in messages if m["type"] == "turn.final")
    assert final["text"].endswith("have you got time for a cup of coffee")
    assert final["latency_ms"]["asr"] > 0


def test_a_live_replay_takes_its_time(tiny_checkpoint, tmp_path, talk) -> None:
    soundfile.write(tmp_path / "a.ogg", talk, SAMPLE_RATE)
    events = tmp_path / "e.jsonl"
    words = [tmp_path / "a.ogg", "--speed", 2, "--asr", "none", "--model", tiny_checkpoint]
    began = time.monotonic()
    assert main(["replay", *map(str, words), "--out", str(events)]) == 0
    assert time.monotonic() - began >= 2.5
    final = next(m for m in read(events) if m["type"] == "turn.final")
    assert final["latency_ms"]["total"] >= final["latency_ms"]["endpointing"] > 0


def test_a_process_of_its_own_says_nothing_but_its_own_words(tiny_checkpoint, tmp_path, talk) -> None:
    """A truncated file and a fallback, about which libraries would print warnings."""
    soundfile.write(tmp_path / "a.mp3", talk, SAMPLE_RATE)
    data = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(data[: len(data) * 9 // 10])
    events = tmp_path / "e.jsonl"
    words = ["--model", tiny_checkpoint, "--asr", "none", "--speakers", 2, "--out", events]
    process = start("replay", tmp_path / "a.mp3", *words)
    shown, error = process.communicate(timeout=120)
    assert process.returncode == 0
    assert error.startswith(b"stream-erc: ") and error.count(b"\n") == 1, error
    assert b"a.mp3" in error and b"Traceback" not in shown
    heard = [m for m in read(events) if m["type"] == "turn.final"]
    assert len(heard) == 2 and heard[0]["audio_end_ms"] < 4_241  # the second turn begins, and breaks off


def test_ctrl_c_keeps_what_was_heard(tiny_checkpoint, tmp_path) -> None:
    events, report = tmp_path / "e.jsonl", tmp_path / "r.html"
    words = ["--turns", SAMPLE.with_suffix(".rttm"), "--asr", "none", "--model", tiny_checkpoint]
    words += ["--out", events, "--report", report, "--speed", 4]
    process = start("replay", SAMPLE.with_suffix(".flac"), *words)
    deadline = time.monotonic() + 100
    while not (events.is_file() and "turn.final" in events.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=100)
    assert (process.returncode, error) == (130, b"")
    messages = read(events)
    assert messages[-1]["type"] == "session.closed"
    assert 4_000 < messages[-1]["audio_ms"] < 60_000
    assert 1 <= messages[-1]["turns"] < 16
    assert "Anna" in report.read_text(encoding="utf-8")


def test_files_are_written_even_where_nobody_reads_the_terminal(tiny_checkpoint, tmp_path) -> None:
    path, events = tmp_path / "talk.jsonl", tmp_path / "e.jsonl"
    path.write_text(json.dumps(DIALOGUES[1]) + "\n")
    process = start("replay", path, "--out", events, "--model", tiny_checkpoint)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=100), error) == (0, b"")
    assert [m["type"] for m in read(events)] == ["session.created", "turn.final", "session.closed"]


def test_exports_say_which_turns_they_cannot_hold_and_are_read_back(
    tiny_checkpoint, tmp_path, talk, capsys
) -> None:
    soundfile.write(tmp_path / "a.wav", talk, SAMPLE_RATE)
    table = "start,end,speaker,text,emotion,Scene\n0.5,2,Anna,=hello [laughs],joy,=7\n2,4,Tom,,,\n"
    (tmp_path / "turns.csv").write_text(table)
    words_alone, *others = [
        tmp_path / f"out.{ending}" for ending in "srt JSON TextGrid eaf csv parquet txt".split()
    ]
    files = [words_alone, *others]
    words = ["--turns", tmp_path / "turns.csv", "--asr", "none", "--model", tiny_checkpoint]
    words += [word for path in files for word in ("--export", path)]
    assert main(["replay", *map(str, (tmp_path / "a.wav", *words))]) == 0
    assert capsys.readouterr().err == f"stream-erc: {files[0]}: left out 1 turn without words\n"
    given = read_turns(tmp_path / "turns.csv").turns
    assert read_turns(words_alone).turns == given[:1] and {read_turns(path).turns for path in others} == {
        given
    }
    with (tmp_path / "out.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["given: emotion"], first["Scene"], second["Scene"]) == ("joy", " =7", "")
    assert 0 < float(first["probability_joy"]) < 1 and first["emotion"] != ""
    extra = [{"emotion": "joy", "Scene": "=7"}, {}]
    for ending in ("JSON", "csv", "parquet"):
        assert [turn.extra for turn in read_turns(tmp_path / f"out.{ending}").turns] == extra


# --- the microphone, models, devices --------------------------------------------------------------


class PortAudioError(Exception):
    """The fake's exception."""


class FakeStream:
    """A stream that plays a recording, presses Ctrl-C, and continues with silence until it is closed."""

    spoken = np.zeros(0, dtype=np.float32)
    active = True

    def __init__(self, *, callback, blocksize: int, **_: object) -> None:
        self._callback, self._size = callback, blocksize
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._speak)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _speak(self) -> None:
        flags = types.SimpleNamespace(input_overflow=False)
        for at in range(0, len(self.spoken), self._size):
            block = np.zeros(self._size, dtype=np.float32)
            block[: len(self.spoken) - at] = self.spoken[at : at + self._size]
            self._callback(memoryview(block.tobytes()), self._size, None, flags)
            time.sleep(0.005)
        time.sleep(0.3)  # until it has been taken from the queue
        os.kill(os.getpid(), signal.SIGINT)
        self._closed.wait(20)


@pytest.fixture
def sound_card(monkeypatch, talk) -> None:
    """A sound library with one microphone, which replaces the module `sounddevice`."""
    library = types.ModuleType("sounddevice")
    device = {"index": 3, "name": "Mic", "max_input_channels": 1, "default_samplerate": 16_000.0}

    class Stream(FakeStream):
        spoken = talk

    library.PortAudioError = PortAudioError  # type: ignore[attr-defined]
    library.RawInputStream = Stream  # type: ignore[attr-defined]
    library.query_devices = (  # type: ignore[attr-defined]
        lambda device_index=None, kind=None: device if kind or device_index is not None else [device]
    )
    library.check_input_settings = lambda **_: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", library)


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is not signal.default_int_handler, reason="Ctrl-C is ignored here"
)
def test_listen_until_ctrl_c(sound_card, tiny_checkpoint, tmp_path, capsys) -> None:
    events, report = tmp_path / "e.jsonl", tmp_path / "r.html"
    words = ["--out", events, "--report", report, "--asr", "none", "--model", tiny_checkpoint]
    words += ["--export", tmp_path / "e.rttm"]
    assert main(["listen", "--input-device", "mic", *map(str, words)]) == 0
    assert capsys.readouterr().err == ""
    messages = read(events)
    assert messages[0]["source"] == {"name": "microphone", "duration_ms": None}
    assert [m["type"] for m in messages].count("turn.final") >= 1
    assert messages[-1]["type"] == "session.closed"
    assert report.is_file() and "SPEAKER microphone 1 " in (tmp_path / "e.rttm").read_text()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_devices(sound_card, capsys) -> None:
    assert main(["devices"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith("compute: cpu (")
    assert "microphone 3: Mic, 1 channels, 16000 Hz (default)" in shown.out


def test_without_a_sound_system(monkeypatch, capsys, tiny_checkpoint) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # as if it were not installed
    assert main(["devices"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out.startswith("compute: cpu")
    assert shown.out.splitlines()[-1].startswith("microphones: none: ")
    assert main(["listen", "--model", str(tiny_checkpoint)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pip install sounddevice" in error


def test_models(capsys) -> None:
    assert main(["models"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and ("no checkpoints" in shown.out or "si-lstm" in shown.out)


# --- places that are written ----------------------------------------------------------------------


def test_each_message_is_on_the_disk_at_once(tmp_path) -> None:
    path = tmp_path / "e.jsonl"
    with EventsFile(path) as events:
        assert not path.exists()
        for count in (1, 2):
            events.write({"type": "turn.final", "text": "olé"})
            assert read(path) == [{"type": "turn.final", "text": "olé"}] * count


def test_no_events_file_is_fine() -> None:
    with EventsFile(None) as events:
        events.write({"type": "turn.final"})


def test_checking_outputs_touches_nothing(tmp_path) -> None:
    (tmp_path / "kept").write_text("kept")
    check_outputs([("--out", tmp_path / "kept"), ("--report", tmp_path / "a" / "b")], [None])
    assert (tmp_path / "kept").read_text() == "kept"
    assert list((tmp_path / "a").iterdir()) == []
    check_outputs([("--out", Path(os.devnull)), ("--report", Path(os.devnull))], [])
    with pytest.raises(OutputError, match="--out"):
        check_outputs([("--out", tmp_path / "a\0b")], [])
