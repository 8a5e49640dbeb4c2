"""Corpora: every layout gives the same dialogues, and what is none of them is refused by name."""

import csv
import gzip
import json
import logging
import math
from pathlib import Path

import pytest
from erc_models.data.datasets import (
    DAILYDIALOG_LABELS,
    DAILYDIALOG_TO_MELD,
    EMORYNLP_LABELS,
    IEMOCAP_LABELS,
    MELD_LABELS,
    Dialogue,
    Utterance,
    label_counts,
    read_jsonl,
    relabel,
    untokenise,
)
from erc_models.data.releases import EMORYNLP_COLUMNS, MELD_COLUMNS, read

from stream_erc.inference.prosody import DESCRIPTORS

MELD_TURNS = [
    ("Ann", "I\x92m s\u00e9rious\x85 \x93no\x94", "anger", 62_004, 63_100),
    ("Ben", "What, me?", "surprise", 63_100, 3_664_012),
]


def write_csv(path: Path, columns: "tuple[str, ...]", rows: "list[tuple]", encoding: str = "utf-8") -> Path:
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def write_jsonl(path: Path, records: "list[dict]") -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(record) for record in records) + "\n\n")
    return path


def meld_jsonl(folder: Path) -> Path:
    names = ("speaker", "text", "emotion", "start_ms", "end_ms")
    turns = [dict(zip(names, turn, strict=True)) for turn in MELD_TURNS]
    return write_jsonl(
        folder / "meld.jsonl.gz", [{"corpus": "meld", "dialogue": "dev_7", "turns": turns, "more": 1}]
    )


def meld_rows() -> "list[tuple]":
    times = [("00:01:02,004", "0:01:03,100"), ("0:01:03,100", "01:01:04,012")]
    rows = [
        (k + 1, text, speaker, emotion.capitalize(), "negative", 7, k, 4, 2, *times[k])
        for k, (speaker, text, emotion, _, _) in enumerate(MELD_TURNS)
    ]
    return rows[::-1]  # the order of rows says nothing


def test_meld_in_both_layouts(tmp_path: Path) -> None:
    found = read(meld_jsonl(tmp_path))
    assert found == read(write_csv(tmp_path / "dev_sent_emo.csv", MELD_COLUMNS, meld_rows()))
    (dialogue,) = found
    assert dialogue.utterances[0] == Utterance("Ann", 'I\'m s\u00e9rious... "no"', "anger", 62_004, 63_100)
    assert label_counts(found) == {"anger": 1, "surprise": 1}
    assert dialogue.speaker_ids() == [0, 1]


def test_a_csv_in_windows_1252(tmp_path: Path) -> None:
    row = (1, "It\u2019s a fianc\u00e9\u2026", "Ann", "joy", "positive", 0, 0, 1, 1, "", "")
    path = write_csv(tmp_path / "train_sent_emo.csv", MELD_COLUMNS, [row], encoding="cp1252")
    assert read(path) == [Dialogue("meld", "train_0", (Utterance("Ann", "It's a fianc\u00e9...", "joy"),))]


def test_emorynlp_in_both_layouts(tmp_path: Path) -> None:
    rows = [
        ("Hey!", "['Ann Lee']", "Joyful", 3, 1, 1, 15),
        ("We're off.", "['Cy', 'Ann Lee']", "Scared", 3, 4, 1, 15),
        ("New scene.", '["O\'Ben"]', "Neutral", 3, 1, 2, 15),
    ]
    turns = [
        {"speaker": "Ann Lee", "text": "Hey!", "emotion": "joyful"},
        {"speaker": "Ann Lee and Cy", "text": "We're off.", "emotion": "scared"},
    ]
    records = [
        {"corpus": "emorynlp", "dialogue": "s01_e15_c03", "turns": turns},
        {
            "corpus": "emorynlp",
            "dialogue": "s02_e15_c03",
            "turns": [{"speaker": "O'Ben", "text": "New scene.", "emotion": "neutral"}],
        },
    ]
    jsonl = read(write_jsonl(tmp_path / "emory.jsonl", records))
    assert jsonl == read(write_csv(tmp_path / "emorynlp_dev_final.csv", EMORYNLP_COLUMNS, rows))


def test_prosody_has_its_order_and_gaps(tmp_path: Path) -> None:
    values = {name: float(k) for k, name in enumerate(DESCRIPTORS) if k != 3} | {DESCRIPTORS[5]: None}
    turns = [{"speaker": "A", "text": "a", "prosody": dict(reversed(values.items()))}]
    turns += [{"speaker": "A", "text": "b", "prosody": None}]
    path = write_jsonl(tmp_path / "p.jsonl", [{"dialogue": 1, "turns": turns}])
    first, second = read_jsonl(path)[0].utterances
    assert first.prosody == pytest.approx((0, 1, 2, math.nan, 4, math.nan, 6, 7), nan_ok=True)
    assert second.prosody is None


def iemocap(folder: Path) -> Path:
    for session, turns in ((1, "Ses01F_impro01"), (2, "Ses02M_script03_2")):
        dialog = folder / f"Session{session}" / "dialog"
        (dialog / "transcriptions").mkdir(parents=True)
        (dialog / "EmoEvaluation" / "Attribute").mkdir(parents=True)
        (dialog / "transcriptions" / f"{turns}.txt").write_text(
            f"{turns}_M000 [007.5000-010.2500]: Do you have your forms?\n"
            f"{turns}_F000 [006.2901-008.2357]: Excuse me.\n"
            f"{turns}_FXX0 [011.0000-012.0000]: [LAUGHTER]\n"
            "M: What?\n"
            f"{turns}_M001 [013.0000-014.0000]: Oh!\n"
        )
        (dialog / "EmoEvaluation" / f"{turns}.txt").write_text(
            "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
            f"[6.2901 - 8.2357]\t{turns}_F000\texc\t[2.5000, 2.5000, 2.5000]\n"
            "C-E2:\tNeutral;\t()\n\n"
            f"[7.5000 - 10.2500]\t{turns}_M000\tfru\t[2.5000, 2.5000, 2.5000]\n"
            f"[13.0000 - 14.0000]\t{turns}_M001\txxx\t[2.5000, 2.5000, 2.5000]\n"
        )
        (dialog / "transcriptions" / f"._{turns}.txt").write_bytes(b"\x00\x05")
    return folder


def test_iemocap(tmp_path: Path) -> None:
    found = read(iemocap(tmp_path))
    assert [d.name for d in found] == ["Ses01F_impro01", "Ses02M_script03_2"]
    assert found[0].utterances == (
        Utterance("Ses01_F", "Excuse me.", "excited", 6_290, 8_236),
        Utterance("Ses01_M", "Do you have your forms?", "frustrated", 7_500, 10_250),
        Utterance("Ses01_F", "[LAUGHTER]", None, 11_000, 12_000),
        Utterance("Ses01_M", "Oh!", None, 13_000, 14_000),
    )
    assert read(tmp_path / "Session2") == found[1:]
    (tmp_path / "Session2" / "dialog" / "EmoEvaluation" / "Ses02M_script03_2.txt").unlink()
    with pytest.raises(ValueError, match=r"Ses02M_script03_2.txt: expected its labels in .*, got no such"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "emotions", "split"),
    [
        ("dialogues_text.txt", "dialogues_emotion.txt", "text"),
        ("dialogues_validation.txt", "dialogues_emotion_validation.txt", "validation"),
    ],
)
def test_dailydialog(tmp_path: Path, text: str, emotions: str, split: str) -> None:
    (tmp_path / text).write_text("I \u2019 m fine , Jim . __eou__ Good ! __eou__\nHi . __eou__\n", "utf-8")
    (tmp_path / emotions).write_text("0 4 \n6\n")
    (tmp_path / text.replace("dialogues_", "dialogues_act_")).write_text("1 1\n1\n")
    found = read(tmp_path)
    turns = (Utterance("A", "I'm fine, Jim.", "no_emotion"), Utterance("B", "Good!", "happiness"))
    assert found == [
        Dialogue("dailydialog", f"{split}_0", turns),
        Dialogue("dailydialog", f"{split}_1", (Utterance("A", "Hi.", "surprise"),)),
    ]
    records = [
        {
            "corpus": "dailydialog",
            "dialogue": f"{split}_0",
            "turns": [
                {"speaker": "A", "text": "I \u2019 m fine , Jim .", "emotion": "no_emotion"},
                {"speaker": "B", "text": "Good !", "emotion": "happiness"},
            ],
        }
    ]
    assert read(write_jsonl(tmp_path / "dev.jsonl.gz", records)) == found[:1]


def test_dailydialog_with_a_misfit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "dialogues_train.txt").write_text("Hi . __eou__ Ho . __eou__\nHi . __eou__\n")
    emotions = tmp_path / "dialogues_emotion_train.txt"
    emotions.write_text("0\n0\n")
    with caplog.at_level(logging.WARNING):
        assert [d.name for d in read(tmp_path)] == ["train_1"]
    assert "skipped lines [1]" in caplog.text
    emotions.write_text("0\n0 0\n")
    with pytest.raises(ValueError, match=r"expected an emotion for each utterance, got other numbers in 2"):
        read(tmp_path)
    emotions.write_text("0 0\n")
    with pytest.raises(ValueError, match="expected a line of emotions for each of 2 dialogues, got 1"):
        read(tmp_path)
    emotions.write_text("0 7\n0\n")
    with pytest.raises(ValueError, match="line 1: expected codes 0 to 6, got '7'"):
        read(tmp_path)


def test_dailydialog_by_melds_names() -> None:
    assert set(DAILYDIALOG_TO_MELD) == set(DAILYDIALOG_LABELS)
    assert set(DAILYDIALOG_TO_MELD.values()) == set(MELD_LABELS)
    turns = (Utterance("A", "a", "happiness", 1, 2), Utterance("B", "b"))
    (found,) = relabel([Dialogue("dailydialog", "x", turns)], DAILYDIALOG_TO_MELD)
    assert found.utterances == (Utterance("A", "a", "joy", 1, 2), Utterance("B", "b"))
    with pytest.raises(ValueError, match=r"dialogue x of dailydialog: expected .* got 'happiness'"):
        relabel([Dialogue("dailydialog", "x", turns)], {"joy": "joy"})


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("Say , Jim . It ' s 5 o ' clock !", "Say, Jim. It's 5 o'clock!"),
        ("I ' Ve been fat.But why ? U.S.A .", "I've been fat. But why? U.S.A."),
        ("You mean ... no ( well ) .", "You mean... no ( well)."),
        ("Already fine, isn't it?", "Already fine, isn't it?"),
    ],
)
def test_untokenised_text(tokens: str, text: str) -> None:
    assert untokenise(tokens) == text


def test_what_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a corpus file or folder, got a path that does not exist"):
        read(tmp_path / "none")
    with pytest.raises(ValueError, match="got an empty folder"):
        read(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected a folder with Session1 .* got readme.txt, train$"):
        read(tmp_path)
    with pytest.raises(
        ValueError, match=r"expected a file .jsonl, .jsonl.gz or .csv, or a folder, got a .txt"
    ):
        read(tmp_path / "readme.txt")
    with pytest.raises(ValueError, match=r"expected the columns of MELD .* got a, b"):
        read(write_csv(tmp_path / "x.csv", ("a", "b"), []))
    with pytest.raises(ValueError, match=r"expected also the columns Emotion, Speaker, Utterance_ID of meld"):
        read(write_csv(tmp_path / "x.csv", ("Dialogue_ID", "Utterance"), []))


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("Emotion", "glee", r"line 2: expected an utterance, got the emotion 'glee' \(one of neutral, joy"),
        ("StartTime", "soon", r"got the time 'soon' \(h:mm:ss,mmm\)"),
        ("Utterance_ID", "x", "got invalid literal"),
    ],
)
def test_errors_in_a_csv(tmp_path: Path, column: str, value: str, told: str) -> None:
    row = list(meld_rows()[1])
    row[MELD_COLUMNS.index(column)] = value
    with pytest.raises(ValueError, match=told):
        read(write_csv(tmp_path / "dev.csv", MELD_COLUMNS, [tuple(row)]))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"dialogue": 1}',
        '{"dialogue": 1, "turns": [{"text": "a"}]}',
        '{"dialogue": 1, "turns": [{"speaker": "A", "text": 5}]}',
        '{"dialogue": 1, "turns": [{"speaker": "A", "text": "a", "start_ms": "soon"}]}',
        '{"dialogue": 1, "turns": [{"speaker": "A", "text": "a", "prosody": {"duration": "long"}}]}',
    ],
)
def test_errors_in_json_lines(tmp_path: Path, line: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"dialogue": 0, "turns": []}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2: expected a dialogue with 'dialogue' and"):
        read(path)


def test_the_corpora_themselves(data_dir: Path) -> None:
    labels = {"meld": MELD_LABELS, "emorynlp": EMORYNLP_LABELS, "dailydialog": DAILYDIALOG_LABELS}
    for corpus, turns in (("meld", 1_109), ("emorynlp", 954), ("dailydialog", 8_069)):
        dialogues = read(data_dir / corpus / "dev.jsonl.gz")
        counts = label_counts(dialogues)
        assert set(counts) == set(labels[corpus])
        assert sum(counts.values()) == turns
        assert {d.corpus for d in dialogues} == {corpus}
    assert len(IEMOCAP_LABELS) == 6
    first = read(data_dir / "meld" / "dev.jsonl.gz")[0].utterances[0]
    assert (first.end_ms or 0) - (first.start_ms or 0) == pytest.approx(
        1000 * (first.prosody or [0])[0], abs=60
    )
