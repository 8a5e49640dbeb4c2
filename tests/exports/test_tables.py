"""Tables, read by duckdb and by csv.DictReader."""

import csv
import json
from pathlib import Path

import duckdb
import pytest
from exports.made import HARD_NAME, LABELS, UNUSUAL, talk, turn

from stream_erc.exports.files import write_export

WORDS = [{"text": "Hi.", "audio_start_ms": 10, "audio_end_ms": 300, "probability": 0.9}]


def read(path: Path) -> list[dict[str, object]]:
    """Read a table with duckdb."""
    found = duckdb.sql(f"select * from '{path}'")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_cells_hold_names_and_texts_as_they_are(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    write_export(talk(UNUSUAL), path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if ending == ".tsv" else ",", strict=True))
    assert [(row["speaker"].strip(), row["text"].strip()) for row in rows] == [
        (m["speaker"], m["text"]) for m in UNUSUAL
    ]
    assert rows[1]["speaker"] == HARD_NAME and "\n\n1\n" in rows[6]["text"]
    assert {(row["probability_joy"], row["confidence"]) for row in rows} == {("0.7", "0.7"), ("0.15", "0.7")}
    for row in rows:
        assert not any(str(cell).startswith(tuple("=+-@")) for cell in row.values()), row


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_has_a_column_for_each_label(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    turns = [
        turn(0, "Anna", "Hi.", 0, 900, language="de", translation="Hello.", words=WORDS, channel=1),
        turn(1, "Tom", "", 900, 1_800, overlap=0.25, others=["Anna", "Bo"], speaker_unsure=True),
    ]
    write_export(talk(turns), path)
    first, second = read(path)
    words = first.pop("words", None)
    second.pop("words", None)
    assert list(first) == [
        "turn", "start_ms", "end_ms", "speaker", "text", "emotion", "confidence",
        *(f"probability_{label}" for label in LABELS),
        "language", "translation", "speaker_unsure", "overlap", "others", "channel",
    ]  # fmt: skip
    assert (first["turn"], first["start_ms"], first["end_ms"], first["speaker"]) == (0, 0, 900, "Anna")
    assert (first["probability_joy"], first["probability_anger"]) == (0.7, 0.15)
    assert (first["translation"], first["channel"]) == ("Hello.", 1)
    assert (second["overlap"], second["others"], second["speaker_unsure"]) == (0.25, "Anna; Bo", True)
    if ending == ".parquet":
        assert words == [{"text": "Hi.", "start_ms": 10, "end_ms": 300, "probability": 0.9}]
        assert (second["text"], second["language"]) == ("", None)


def test_parquet_holds_names_and_texts_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "talk.parquet"
    write_export(talk(UNUSUAL), path)
    assert [(row["speaker"], row["text"]) for row in read(path)] == [
        (m["speaker"], m["text"]) for m in UNUSUAL
    ]


def test_json_holds_everything(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    write_export(talk([turn(0, "Anna", "Hi.", 0, 900, words=WORDS, others=["Tom"])]), path)
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert whole["labels"] == list(LABELS) and whole["source"] == "my talk.flac"
    (made,) = whole["turns"]
    assert made["probabilities"] == {"neutral": 0.15, "joy": 0.7, "anger": 0.15}
    assert made["words"] == [{"text": "Hi.", "start_ms": 10, "end_ms": 300, "probability": 0.9}]
    assert made["others"] == ["Tom"] and "translation" not in made
