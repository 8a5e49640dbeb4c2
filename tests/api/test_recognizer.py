"""The library beside the command line: the same turns, and what can go wrong."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paths
import pytest
import soundfile

import stream_erc
from stream_erc.api import recognizer
from stream_erc.api.results import Recognition
from stream_erc.cli.main import main
from stream_erc.events import Samples
from stream_erc.exceptions import EngineUnavailable, StreamErcError
from stream_erc.sources.turn_files import read_turns

SAMPLE = paths.SAMPLE / "conversation"
RECORDING = SAMPLE.with_suffix(".flac")
MOMENTARY = {"speech.started", "speech.stopped", "turn.partial"}


@pytest.fixture(scope="module", autouse=True)
def no_engines_are_left() -> Iterator[None]:
    yield
    recognizer._engines.clear()


@pytest.fixture(scope="module")
def beginning(tmp_path_factory) -> Path:
    """The first seconds of the sample, with four turns."""
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    path = tmp_path_factory.mktemp("recordings") / "talk.wav"
    soundfile.write(path, samples[: 14 * rate], rate)
    return path


def by_the_command_line(folder: Path, *arguments: object) -> list[dict]:
    out = folder / "events.jsonl"
    assert main(["replay", *map(str, arguments), "--out", str(out)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def without_times(messages) -> list[dict]:
    """Return messages without what depends on the clock."""
    return [
        {key: value for key, value in message.items() if key not in ("latency_ms", "seq")}
        for message in json.loads(json.dumps(list(messages)))
        if message["type"] not in MOMENTARY
    ]


def test_a_recording_gives_the_messages_of_the_command_line(beginning, tiny_checkpoint, tmp_path) -> None:
    recognition = stream_erc.recognize(beginning, model=str(tiny_checkpoint), asr="none")
    first = next(iter(recognition))
    assert not recognition.finished and first.number == 0 and first.message["type"] == "turn.final"
    wanted = by_the_command_line(tmp_path, beginning, "--model", tiny_checkpoint, "--asr", "none")
    assert without_times(recognition.messages) == without_times(wanted)
    assert recognition.finished and len(recognition.turns) >= 3
    assert [turn.number for turn in recognition] == [turn.number for turn in recognition.turns]


def test_samples_and_known_turns_give_those_of_the_file(tiny_checkpoint) -> None:
    turns = read_turns(SAMPLE.with_suffix(".json")).turns[:5]
    samples, rate = soundfile.read(RECORDING, dtype="float64")
    from_file = stream_erc.recognize(RECORDING, turns=turns, model=str(tiny_checkpoint))
    from_samples = stream_erc.recognize(samples, rate=rate, turns=turns, model=str(tiny_checkpoint))
    assert [turn.message["emotion"] for turn in from_samples] == [t.message["emotion"] for t in from_file]
    assert [turn.speaker for turn in from_file] == [turn.speaker for turn in turns]


def test_the_engine_is_kept_for_the_next_call(tiny_checkpoint, tmp_path, monkeypatch) -> None:
    loads = []
    load = recognizer.Engine.load
    monkeypatch.setattr(recognizer.Engine, "load", lambda *a, **b: loads.append(a) or load(*a, **b))
    recognizer._engines.clear()
    talk = tmp_path / "talk.jsonl"
    talk.write_text('{"turns": [{"speaker": "A", "text": "hello"}]}\n')
    for _ in range(3):
        assert len(stream_erc.recognize(str(talk), model=str(tiny_checkpoint)).turns) == 1
    assert len(loads) == 1


@pytest.fixture(scope="module")
def talk(tiny_checkpoint, tmp_path_factory) -> Recognition:
    path = tmp_path_factory.mktemp("talk") / "talk.vtt"
    path.write_text(
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Anna>I am <b>so</b> happy & well\n\n"
        "00:02.500 --> 00:04.000\n<v Tom>oh no\n"
    )
    return stream_erc.recognize(path, model=str(tiny_checkpoint))


def test_a_transcript_is_a_conversation(talk) -> None:
    turns = [(turn.speaker, turn.text, turn.start_s, turn.end_s) for turn in talk.turns]
    assert turns == [("Anna", "I am so happy & well", 1.0, 2.0), ("Tom", "oh no", 2.5, 4.0)]
    assert all(abs(sum(turn.probabilities.values()) - 1) < 1e-4 for turn in talk.turns)
    assert all(turn.probabilities[turn.emotion] == turn.confidence for turn in talk.turns)
    assert [one["speaker"] for one in talk.summary] == ["Anna", "Tom"]
    assert "Anna: I am so happy & well" in str(talk.turns[0])


def test_tables_exports_and_notebooks_show_it(talk, tmp_path) -> None:
    table = talk.to_dataframe()
    assert list(table["speaker"]) == ["Anna", "Tom"] and list(table["start_ms"]) == [1000, 2500]
    talk.export(tmp_path / "talk.srt")
    assert [turn.speaker for turn in read_turns(tmp_path / "talk.srt").turns] == ["Anna", "Tom"]
    shown = talk._repr_html_()
    assert shown.count("<tr>") == 3 and "happy &amp; well" in shown and "2.50 s" in shown


def test_a_table_without_pandas_says_what_to_install(talk, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EngineUnavailable, match="pip install pandas"):
        talk.to_dataframe()


def test_a_recognition_that_is_closed_ends_with_the_audio_so_far(beginning, tiny_checkpoint) -> None:
    with stream_erc.recognize(beginning, model=str(tiny_checkpoint), asr="none") as recognition:
        next(iter(recognition))
    closed = recognition.messages[-1]
    assert closed["type"] == "session.closed"
    assert closed["audio_ms"] < 13_000


class FakeMicrophone:
    """Records the beginning of the sample, then is interrupted."""

    chunks: Samples

    def __init__(self, device: int | str | None) -> None:
        assert device == "usb"
        self.open = False

    def __enter__(self) -> "FakeMicrophone":
        self.open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False

    def __iter__(self) -> Iterator[Samples]:
        yield from np.split(self.chunks, 100)
        raise KeyboardInterrupt


def test_ctrl_c_ends_the_microphone_and_keeps_the_turns(beginning, tiny_checkpoint, monkeypatch) -> None:
    FakeMicrophone.chunks = soundfile.read(beginning, dtype="float32")[0][: 12 * 16_000]
    monkeypatch.setattr("stream_erc.sources.microphone.Microphone", FakeMicrophone)
    heard = stream_erc.listen(input_device="usb", model=str(tiny_checkpoint), asr="none")
    assert "<table>" in heard._repr_html_()  # of the turns so far
    assert not heard.finished
    assert [turn.number for turn in heard] == list(range(len(heard.turns)))
    assert heard.turns and heard.messages[-1]["type"] == "session.closed"


def test_odd_lines_of_known_turns_are_logged(tmp_path, tiny_checkpoint, caplog) -> None:
    known = tmp_path / "talk.csv"
    known.write_text("start,end,speaker,text\n0.5,2,Anna,hello\nnever,3,Tom,no\n")
    with caplog.at_level(logging.WARNING):
        turns = stream_erc.recognize(RECORDING, turns=known, model=str(tiny_checkpoint)).turns
    assert [turn.speaker for turn in turns] == ["Anna"]
    assert any("line 3" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("none.wav", {}, "none.wav"),
        (RECORDING, {"rate": 16_000}, "rate: expected samples with it"),
        (np.zeros(100), {}, "rate: expected the samples a second"),
        (np.zeros(100, dtype=np.int16), {"rate": 16_000}, "expected floats of shape"),
        (np.zeros((2, 3, 4)), {"rate": 16_000}, "expected floats of shape"),
        (np.zeros((100, 2)), {"rate": 16_000, "channels": ("a",)}, "expected a name for each of 2, got 1"),
        (RECORDING, {"model": "no-such-model"}, "no-such-model"),
        ("talk.vtt", {"track": "2"}, "track: expected an audio or video file"),
        (RECORDING, {"turns": SAMPLE.with_suffix(".json"), "channels": "separate"}, "expected mix"),
    ],
)
def test_what_cannot_be_recognized_is_said_at_once(source, options, message) -> None:
    with pytest.raises(StreamErcError, match=message):
        stream_erc.recognize(source, **options)


def test_the_client_is_reached_through_connect(monkeypatch) -> None:
    from stream_erc_client import sync

    monkeypatch.setattr(sync, "connect", lambda url, **options: (url, options))
    assert stream_erc.connect("ws://x", token="t") == ("ws://x", {"token": "t"})
    monkeypatch.setitem(sys.modules, "stream_erc_client", None)
    with pytest.raises(EngineUnavailable, match="pip install stream-erc-client"):
        stream_erc.connect("ws://x")


def test_importing_it_imports_nothing_heavy() -> None:
    check = (
        "import sys, stream_erc; print(*(m for m in ('numpy', 'torch', 'av', 'rich') if m in sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""
    assert set(stream_erc.__all__) <= set(dir(stream_erc))
    with pytest.raises(AttributeError, match="recognise"):
        stream_erc.recognise  # noqa: B018
