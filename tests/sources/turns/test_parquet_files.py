"""Parquet files of turns, as data sets have them; exports are read in tests/exports."""

from pathlib import Path

import pyarrow
import pytest
from pyarrow.parquet import write_table
from transcripts import rows_of

from stream_erc.exceptions import TurnsError
from stream_erc.sources.turn_files import read_dialogues, read_turns


def put(folder: Path, **columns: list[object]) -> Path:
    path = folder / "talk.parquet"
    write_table(pyarrow.table(columns), path)
    return path


def test_columns_have_the_names_and_units_that_tables_have(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        Onset=[0.5, 2.25, None],
        duration=[1.5, 0.75, 1.0],
        Speaker=["Ann", None, "Rob"],
        Utterance=["Hi. [laughs]", "donâ€™t", "lost"],
        Episode=[3, None, 4],
        embedding=[[1.0, 2.0], None, None],
    )
    assert rows_of(path) == [(0.5, 2, "Ann", "Hi."), (2.25, 3, None, "don't")]
    found = read_turns(path)
    assert [turn.extra for turn in found.turns] == [{"Episode": "3"}, {}]
    assert found.warnings == (f"{path}, row 3: expected a start and an end, got no start",)


def test_dialogues_without_times(tmp_path: Path) -> None:
    path = put(tmp_path, dialogue_id=[7, 7, 8], text=["a", "b", "c"])
    found = [(d.dialogue, [turn.text for turn in d.turns]) for d in read_dialogues(path)]
    assert found == [("7", ["a", "b"]), ("8", ["c"])]


def test_what_is_no_table_of_turns(tmp_path: Path) -> None:
    path = put(tmp_path, mood=["x"])
    with pytest.raises(TurnsError, match="expected a column with a text, or a speaker and times, got mood"):
        read_turns(path)
    path.write_bytes(b"no parquet at all")
    with pytest.raises(TurnsError, match="expected a Parquet file, got"):
        read_turns(path)
    with pytest.raises(TurnsError, match="expected a readable file, got"):
        read_turns(tmp_path / "none.parquet")
