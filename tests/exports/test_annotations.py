"""RTTM, TextGrid and EAF, read by pyannote.database, praatio and pympi, which do not write them here."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from exports.made import HARD_NAME, UNUSUAL, expected, talk, turn
from praatio import textgrid
from pyannote.database.util import load_rttm
from pympi.Elan import Eaf

from stream_erc.exports.files import write_export
from stream_erc.sources.turn_files import read_turns

OVERLAPPING = "Anna (2)"
"""The second tier of Anna, two of whose turns overlap."""


def emotion_of(tier: str) -> str:
    return "Anna / emotion (2)" if tier == OVERLAPPING else f"{tier} / emotion"


def test_rttm_holds_who_spoke_when(tmp_path: Path) -> None:
    path = tmp_path / "talk.rttm"
    write_export(talk(UNUSUAL), path)
    (name, annotation), *others = load_rttm(path).items()
    assert name == "my_talk" and others == []
    found = sorted((label, round(s.start, 3), round(s.end, 3)) for s, _, label in annotation.itertracks(True))
    wanted = [
        (str(speaker).replace(" ", "_"), start / 1000, end / 1000)
        for speaker, _, start, end in expected(UNUSUAL, words=False)
        if isinstance(start, int) and isinstance(end, int)
    ]
    assert found == sorted(wanted)
    assert sorted({str(t.speaker) for t in read_turns(path).turns}) == sorted({name for name, _, _ in wanted})


def test_names_that_differ_by_a_space_stay_two_in_rttm(tmp_path: Path) -> None:
    path = tmp_path / "talk.rttm"
    names = ["a b", "a_b", "a\u00a0\u00a0b", "<NA>", "a_b_2"]
    write_export(talk([turn(n, name, "x", n, n + 1) for n, name in enumerate(names)]), path)
    found = [t.speaker for t in read_turns(path).turns]
    assert len(set(found)) == 4 and None not in found, found
    assert (found[1], found[4]) == ("a_b", "a_b_2")


def test_textgrid_has_a_tier_of_words_and_one_of_emotions_for_each_speaker(tmp_path: Path) -> None:
    path = tmp_path / "talk.TextGrid"
    write_export(talk(UNUSUAL), path)
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 60)
    words = [name for name in grid.tierNames if " / " not in name]
    assert words[:3] == ["Anna", OVERLAPPING, HARD_NAME]
    assert set(grid.tierNames) == {*words, *map(emotion_of, words)}
    found = sorted(
        ("Anna" if name == OVERLAPPING else name, text, round(1000 * start), round(1000 * end))
        for name in words
        for start, end, text in grid.getTier(name).entries
    )
    assert found == expected(UNUSUAL, words=True)
    emotions = [e for name in words for e in grid.getTier(emotion_of(name)).entries]
    assert len(emotions) == len(UNUSUAL), "a turn without words still has an emotion"
    assert {label for _, _, label in emotions} == {"joy 0.70", "anger 0.70", "neutral 0.70"}


def test_eaf_has_emotions_that_depend_on_the_words(tmp_path: Path) -> None:
    path = tmp_path / "talk.eaf"
    write_export(talk(UNUSUAL), path)
    file = Eaf(str(path))
    words = [name for name in file.get_tier_names() if " / " not in name]
    assert file.get_parameters_for_tier(OVERLAPPING)["PARTICIPANT"] == "Anna"
    found = []
    for name in words:
        speaker = file.get_parameters_for_tier(name)["PARTICIPANT"]
        for start, end, text in file.get_annotation_data_for_tier(name):
            found.append((speaker, text or None, start, end))
        spans = [(start, end) for start, end, _ in file.get_annotation_data_for_tier(name)]
        for kind, values in (("emotion", {"joy", "anger", "neutral"}), ("confidence", {"0.7"})):
            below = emotion_of(name).replace("emotion", kind)
            dependent = file.get_ref_annotation_data_for_tier(below)
            assert sorted((entry[0], entry[1]) for entry in dependent) == sorted(spans)
            assert {entry[2] for entry in dependent} <= values
            assert file.get_parameters_for_tier(below)["PARENT_REF"] == name
    assert sorted(found, key=str) == sorted(expected(UNUSUAL, words=False), key=str)


def test_eaf_keeps_the_order_that_its_schema_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "talk.eaf"
    write_export(talk(UNUSUAL), path)
    root = ElementTree.parse(path).getroot()
    kinds = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "CONSTRAINT"]
    assert list(dict.fromkeys(child.tag for child in root)) == kinds
    times = [int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")]
    assert times == sorted(times)
    ids = [e.attrib["ANNOTATION_ID"] for e in root.iter() if "ANNOTATION_ID" in e.attrib]
    assert len(ids) == len(set(ids)) == 3 * len(UNUSUAL)
    types = {e.attrib["LINGUISTIC_TYPE_ID"] for e in root.iter("LINGUISTIC_TYPE")}
    assert {tier.attrib["LINGUISTIC_TYPE_REF"] for tier in root.iter("TIER")} == types


@pytest.mark.parametrize("ending", [".TextGrid", ".eaf"])
def test_a_speaker_who_has_the_name_of_a_tier_gets_a_tier_of_their_own(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    names = ["Anna", "Anna (2)", "Anna / emotion"]
    turns = [turn(n, name, name, 0, 900) for n, name in enumerate([*names, "Anna"])]
    write_export(talk(turns), path)
    if ending == ".eaf":
        file = Eaf(str(path))
        tiers = [file.get_parameters_for_tier(name) for name in file.get_tier_names()]
        assert sorted({t["PARTICIPANT"] for t in tiers}) == names and len(tiers) == 12
    else:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
        assert len(set(grid.tierNames)) == 8
