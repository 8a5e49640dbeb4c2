"""Transcripts of recognizers and services, as they return them."""
# ruff: noqa: E501 - the tables of transcripts

import json
from pathlib import Path

import pytest
from transcripts import Row, read

from stream_erc.sources.turn_files import read_dialogues, read_turns

ANN = (0.5, 1.4, "Speaker 0", "Hello there.")
BOB = (1.5, 1.9, "Speaker 1", "Bye.")


def word(text: str, start: float, end: float, **more: object) -> dict[str, object]:
    return {"word": text.strip(".").lower(), "punctuated_word": text, "start": start, "end": end, **more}


def deepgram(words: list[dict[str, object]], **results: object) -> dict[str, object]:
    channel = {"alternatives": [{"transcript": "...", "confidence": 0.9, "words": words}]}
    return {"metadata": {"duration": 9.5}, "results": {"channels": [channel], **results}}


HEARD = [
    word("Hello", 0.5, 0.9, speaker=0),
    word("there.", 1, 1.4, speaker=0),
    word("Bye.", 1.5, 1.9, speaker=1),
]
UTTERANCES = [
    {"start": 0.5, "end": 1.4, "channel": 0, "transcript": "Hello there.", "words": HEARD[:2], "speaker": 0},
    {
        "start": 1.5,
        "end": 1.9,
        "channel": 0,
        "transcript": "Bye.",
        "words": HEARD[2:],
        "speaker": 1,
        "id": "x",
    },
]
UNNAMED = [{**w, "speaker": None} for w in HEARD]
SEGMENT = {"id": 0, "seek": 0, "tokens": [1, 2], "avg_logprob": -0.3, "no_speech_prob": 0.01}
ALIGNED = [
    {"word": "Hello", "start": 0.5, "end": 0.9, "score": 0.9, "speaker": "SPEAKER_00"},
    {"word": "there.", "start": 1.0, "end": 1.4, "speaker": "SPEAKER_00"},
    {"word": "No", "start": 2.0, "end": 2.3, "speaker": "SPEAKER_01"},
    {"word": "5"},
]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            {"task": "transcribe", "duration": 8.5, "text": "A. B.", "words": [{"word": "A", "start": 0, "end": 1}]}
            | {"segments": [SEGMENT | {"start": 0.0, "end": 3.32, "text": " A."}]},
            [(0, 3.32, None, "A.")],
            id="verbose_json",
        ),
        pytest.param([SEGMENT | {"start": 0, "end": 100, "text": " A."}], [(0, 100, None, "A.")], id="faster-whisper"),
        pytest.param({"turns": [{"start": 0, "end": 100, "text": "A."}]}, [(0, 100, None, "A.")], id="a dialogue"),
        pytest.param(
            {"segments": [{"start": 0.5, "end": 1.4, "text": " A.", "speaker": "SPEAKER_00", "words": []}]},
            [(0.5, 1.4, "SPEAKER_00", "A.")],
            id="whisperx",
        ),
        pytest.param(
            {"segments": [{"start": 0.5, "end": 4.4, "text": " Hello there. No 5", "words": ALIGNED}]},
            [(0.5, 1.4, "SPEAKER_00", "Hello there."), (2, 2.3, "SPEAKER_01", "No 5")],
            id="whisperx, two speakers in a segment",
        ),
        pytest.param(
            {"transcription": [{"timestamps": {"from": "00:00:00,000", "to": "00:00:02,000"}, "text": " A."}
                               | {"offsets": {"from": 0, "to": 2000}}]},
            [(0, 2, None, "A.")],
            id="whisper.cpp",
        ),
        pytest.param(
            {"text": "A. B.", "chunks": [{"timestamp": [0.0, 2.0], "text": " A."}, {"timestamp": [2.5, None], "text": " B."}]},
            [(0, 2, None, "A."), (2.5, 3.5, None, "B.")],
            id="transformers",
        ),
        pytest.param(deepgram(HEARD, utterances=UTTERANCES), [ANN, BOB], id="deepgram's utterances"),
        pytest.param(deepgram(HEARD), [ANN, BOB], id="deepgram's words"),
        pytest.param(deepgram(UNNAMED), [(0.5, 1.9, None, "Hello there. Bye.")], id="deepgram without speakers"),
        pytest.param(
            {"results": {"channels": [*deepgram(UNNAMED[:2])["results"]["channels"], *deepgram(UNNAMED[2:])["results"]["channels"]]}},  # type: ignore[index]
            [(0.5, 1.4, "Channel 0", "Hello there."), (1.5, 1.9, "Channel 1", "Bye.")],
            id="deepgram's channels",
        ),
        pytest.param(
            {"status": "completed", "audio_duration": 281, "words": [], "text": "..."}
            | {"utterances": [{"speaker": "A", "text": "Hi.", "start": 250, "end": 1400, "confidence": 0.9, "words": []},
                              {"speaker": "B", "text": "Yes?", "start": 2000, "end": 2600}]},
            [(0.25, 1.4, "A", "Hi."), (2, 2.6, "B", "Yes?")],
            id="assemblyai",
        ),
        pytest.param(
            {"status": "completed", "utterances": None, "text": "Hi there. Bye."}
            | {"words": [{"text": "Hi", "start": 250, "end": 400, "speaker": None}, {"text": "there.", "start": 420, "end": 700},
                         {"text": "Bye.", "start": 3420, "end": 3700}]},
            [(0.25, 0.7, None, "Hi there."), (3.42, 3.7, None, "Bye.")],
            id="assemblyai without speakers",
        ),
        pytest.param(
            {"result": {"transcription": {"utterances": [{"start": 0.2, "end": 1.4, "speaker": 0, "text": "Hi.", "channel": 0}]}}},
            [(0.2, 1.4, "Speaker 0", "Hi.")],
            id="gladia",
        ),
        pytest.param(
            [{"Speaker": "Ann", "Utterance": "Hi [laughs]", "Begin": "0:01", "Duration": 2}],
            [(1, 3, "Ann", "Hi")],
            id="records with other names",
        ),
    ],
)  # fmt: skip
def test_transcripts(tmp_path: Path, data: object, expected: list[Row]) -> None:
    assert read(tmp_path, "a.json", json.dumps(data)) == (expected, [])


def test_an_odd_segment_costs_no_other(tmp_path: Path) -> None:
    data = {
        "segments": [
            {"start": 1, "end": 1, "text": "a"},
            7,
            {"start": 1, "text": ["b"]},
            {"start": 2, "end": 3, "text": "c"},
        ]
    }
    rows, warnings = read(tmp_path, "a.json", json.dumps(data))
    assert rows == [(2, 3, None, "c")]
    assert warnings == [
        "segment 1: expected 0 <= start < end, got 1 s to 1 s",
        "segment 2: expected an object, got 7",
        "segment 3: expected a string as text, got ['b']",
    ]


LINES = '{"who": "Ann", "text": "Hi", "start": 0.5, "end": 1.5, "emotion": "joy"}\n{oops\n\n{"who": "Bob", "text": "Ho", "start_ms": 2000, "end_ms": 3000}\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_turn_a_line(tmp_path: Path, name: str) -> None:
    content = LINES if name == "a.jsonl" else LINES.replace("{oops\n", "")
    rows, warnings = read(tmp_path, name, content)
    assert rows == [(0.5, 1.5, "Ann", "Hi"), (2, 3, "Bob", "Ho")]
    assert [w[:30] for w in warnings] == (["line 2: column 2: expected JSO"] if name == "a.jsonl" else [])
    assert dict(read_turns(tmp_path / name).turns[0].extra) == {"emotion": "joy"}
    (dialogue,) = read_dialogues(tmp_path / name)
    assert [turn.start for turn in dialogue.turns] == [8_000, 32_000]
    assert len(dialogue.warnings) == len(warnings)


def test_a_faulty_line_leaves_the_other_dialogues(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"dialogue": 1, "turns": [{"text": "a"}, {"text": ""}, 3]}\n{"turns": 7}\n{"dialogue": 2, "turns": [{"text": "caf\xe9", "start": 1}]}\n{"turns": []}\n'
    )
    found = list(read_dialogues(path))
    assert [(d.dialogue, [turn.text for turn in d.turns]) for d in found] == [("1", ["a"]), ("2", ["café"])]
    assert [w.removeprefix(f"{path}, ") for w in found[0].warnings] == [
        "line 1, turn 2: expected a text, got none",
        "line 1, turn 3: expected an object, got 3",
    ]
    assert [w.removeprefix(f"{path}, ") for w in found[1].warnings] == [
        "line 2: expected a list of turns, got 7",
        "line 3: expected UTF-8, got byte 0xe9: such lines are read as Windows-1252",
        "line 4: expected at least one turn, got none",
    ]
