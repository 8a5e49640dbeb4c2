"""Tables with a row for each turn: CSV, TSV and Parquet, with a column for each label; and JSON.

Spreadsheets take a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula and run it. In CSV and
TSV such a text is written after a space, which makes it a text to them, and which readers of turns strip.

Further columns that were given with the turns come after those of the export. One that has the name of such
a column is named ``given: NAME``.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence

from stream_erc.exceptions import EngineUnavailable
from stream_erc.exports.conversations import Conversation, FinalTurn, final_turns, one_line, plain

FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001
"""Beginnings of a cell that spreadsheets run, those of full width included."""

_OPTIONAL = ("language", "translation", "speaker_unsure", "overlap", "others", "channel")
"""Fields of a turn that become a column where any turn has them."""

_OWN = frozenset((*_OPTIONAL, *"dialogue turn start_ms end_ms speaker text emotion confidence words".split()))
_GIVEN = "given: "


def csv_table(conversations: Sequence[Conversation]) -> Iterator[str]:
    """Yield the lines of a CSV table."""
    return _separated(conversations, ",")


def tsv_table(conversations: Sequence[Conversation]) -> Iterator[str]:
    """Yield the lines of a table with tabs."""
    return _separated(conversations, "\t")


def json_file(conversations: Sequence[Conversation]) -> Iterator[str]:
    """Yield a JSON file: one conversation, or ``{"dialogues": [...]}`` of several."""
    found = [_object(conversation) for conversation in conversations]
    whole = found[0] if len(found) == 1 else {"dialogues": found}
    yield json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def parquet(conversations: Sequence[Conversation]) -> bytes:
    """Return a Parquet file.

    Raises:
        EngineUnavailable: pyarrow is not installed.
    """
    check_parquet()
    import pyarrow
    from pyarrow.parquet import write_table

    rows = list(_rows(conversations))
    for (_, turn), row in zip(_turns(conversations), rows, strict=True):
        row["words"] = _words(turn)
    kinds = {
        "turn": pyarrow.int64(),
        "start_ms": pyarrow.int64(),
        "end_ms": pyarrow.int64(),
        "channel": pyarrow.int64(),
        "confidence": pyarrow.float64(),
        "overlap": pyarrow.float64(),
        "speaker_unsure": pyarrow.bool_(),
        "words": pyarrow.list_(
            pyarrow.struct(
                {
                    "text": pyarrow.string(),
                    "start_ms": pyarrow.int64(),
                    "end_ms": pyarrow.int64(),
                    "probability": pyarrow.float64(),
                }
            )
        ),
    }
    columns = [*_columns(conversations), "words"]
    table = pyarrow.table(
        {
            column: pyarrow.array(
                [row.get(column) for row in rows],
                kinds.get(column, pyarrow.float64() if _is_probability(column) else pyarrow.string()),
            )
            for column in columns
        }
    )
    buffer = io.BytesIO()
    write_table(table, buffer)
    return buffer.getvalue()


def check_parquet() -> None:
    """Refuse to go on without the library that writes Parquet.

    Raises:
        EngineUnavailable: it is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise EngineUnavailable('.parquet: expected pyarrow: pip install "stream-erc[parquet]"') from error


def table(conversations: Sequence[Conversation]) -> tuple[list[str], list[dict[str, object]]]:
    """Return the columns of a table, and a row for each turn: column -> value, where there is one."""
    return _columns(conversations), list(_rows(conversations))


# --- rows -----------------------------------------------------------------------------------------


def _turns(conversations: Sequence[Conversation]) -> Iterator[tuple[Conversation, FinalTurn]]:
    for conversation in conversations:
        for turn in final_turns(conversation):
            yield conversation, turn


def _columns(conversations: Sequence[Conversation]) -> list[str]:
    """Return the columns that these conversations need, in order."""
    turns = [turn for _, turn in _turns(conversations)]
    labels = dict.fromkeys(label for conversation in conversations for label in conversation.labels)
    return [
        *(["dialogue"] if any(c.dialogue is not None for c in conversations) else []),
        "turn",
        *(["start_ms", "end_ms"] if any(turn.start_ms is not None for turn in turns) else []),
        "speaker",
        "text",
        "emotion",
        "confidence",
        *map(_probability, labels),
        *(name for name in _OPTIONAL if any(turn.message.get(name) is not None for turn in turns)),
        *dict.fromkeys(_given(name) for turn in turns for name in turn.extra),
    ]


def _rows(conversations: Sequence[Conversation]) -> Iterator[dict[str, object]]:
    """Yield a row for each turn: column -> value, None or absent where there is none."""
    for conversation, turn in _turns(conversations):
        row: dict[str, object] = {
            "dialogue": conversation.dialogue,
            "turn": turn.number,
            "start_ms": turn.start_ms,
            "end_ms": turn.end_ms,
            "speaker": turn.speaker,
            "text": turn.text,
            "emotion": turn.emotion,
            "confidence": turn.confidence,
        }
        row |= {_probability(label): p for label, p in turn.probabilities.items()}
        row |= {name: _cell(turn.message.get(name)) for name in _OPTIONAL}
        row |= {_given(name): value for name, value in turn.extra.items()}
        yield row


def _given(name: str) -> str:
    """Return the column of a further value: its name, unless that would be taken for one of the export's."""
    like_ours = name.lower() in _OWN or name.lower().startswith(_probability(""))
    return f"{_GIVEN}{name}" if like_ours or name.startswith(_GIVEN) else name


def _probability(label: str) -> str:
    return f"probability_{one_line(label)}"


def _is_probability(column: str) -> bool:
    return column.startswith("probability_")


def _cell(value: object) -> object:
    """Return a field's value as a cell: names in a list are separated by semicolons."""
    if isinstance(value, list | tuple):
        return "; ".join(map(one_line, value))
    return plain(value) if isinstance(value, str) else value


def _words(turn: FinalTurn) -> list[dict[str, object]] | None:
    """Return the words with their times, None if the turn has none."""
    words = turn.message.get("words")
    if not isinstance(words, list | tuple):
        return None
    return [
        {
            "text": plain(word.get("text")),
            "start_ms": word.get("audio_start_ms"),
            "end_ms": word.get("audio_end_ms"),
            "probability": word.get("probability"),
        }
        for word in words
        if isinstance(word, Mapping)
    ]


# --- CSV, JSON ------------------------------------------------------------------------------------


def _separated(conversations: Sequence[Conversation], delimiter: str) -> Iterator[str]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    columns = _columns(conversations)
    writer.writerow(map(_guarded, columns))
    for row in _rows(conversations):
        yield _taken(buffer)
        writer.writerow(_guarded(row.get(column)) for column in columns)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def _guarded(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f" {value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _object(conversation: Conversation) -> dict[str, object]:
    """Return a conversation as an object of JSON, without the fields that have no value."""
    created = conversation.created or {}
    turns = []
    for turn in final_turns(conversation):
        fields: dict[str, object] = {
            "turn": turn.number,
            "start_ms": turn.start_ms,
            "end_ms": turn.end_ms,
            "speaker": turn.speaker,
            "text": turn.text,
            "emotion": turn.emotion,
            "confidence": turn.confidence,
            "probabilities": dict(turn.probabilities),
            **{name: turn.message.get(name) for name in _OPTIONAL},
            "words": _words(turn),
            "extra": dict(turn.extra) or None,
        }
        turns.append({name: value for name, value in fields.items() if value is not None})
    whole = {
        "dialogue": conversation.dialogue,
        "source": conversation.source,
        "model": created.get("model"),
        "asr": created.get("asr"),
        "labels": conversation.labels,
        "duration_ms": conversation.duration_ms or None,
        "summary": conversation.summary or None,
    }
    return {**{name: value for name, value in whole.items() if value is not None}, "turns": turns}
