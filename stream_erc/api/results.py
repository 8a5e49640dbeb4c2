"""The results of a recognition: turns as they come, and the conversation in the end."""

import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from stream_erc.exceptions import EngineUnavailable
from stream_erc.exports.conversations import Conversation, FinalTurn, Message, final_turns, fold

if TYPE_CHECKING:
    import pandas

MOMENTARY = frozenset({"speech.started", "speech.stopped", "turn.partial"})
"""Messages that say nothing about the conversation in the end; they are not kept."""


@dataclass(frozen=True, slots=True)
class RecognizedTurn:
    """A turn of a conversation, and the emotion that it expressed.

    Attributes:
        number: 0-based position in the conversation.
        speaker: the name, ``speaker_1`` ... by order of appearance unless it is known.
        text: what was said, possibly empty.
        start_s, end_s: seconds since the recording began; None for text without times.
        emotion: the most probable label.
        confidence: its probability.
        probabilities: label -> probability, in the checkpoint's order; they sum to 1.
        message: the message of `docs/protocol.md` that it was made from, with all further fields: words,
            language, translation, overlap ...
    """

    number: int
    speaker: str
    text: str
    start_s: float | None
    end_s: float | None
    emotion: str
    confidence: float
    probabilities: Mapping[str, float]
    message: Message

    def __str__(self) -> str:
        start = "" if self.start_s is None else f"{self.start_s:7.2f} s  "
        return f"{start}{self.speaker}: {self.text}  [{self.emotion} {self.confidence:.0%}]"


class Recognition:
    """A conversation that is being recognized.

    Iterating does the work and gives each turn as soon as it is known. Later voices may show that another
    speaker spoke an earlier turn: `turns` has all of them as they are in the end. All other properties and
    methods do the rest of the work first, so with the microphone call `close` before.

    Args:
        messages: the messages of its sessions, in order; the work is done while they are taken.
        end: ends the input early, None if it cannot be ended.
        live: whether it goes on until it is closed.
    """

    def __init__(
        self, messages: Iterator[Message], *, end: Callable[[], None] | None = None, live: bool = False
    ) -> None:
        self._coming, self._end, self._live = messages, end, live
        self._messages: list[Message] = []
        self._finished = False

    def __iter__(self) -> Iterator[RecognizedTurn]:
        """Yield the turns as they come; those in the end, if it is finished."""
        if self._finished:
            yield from self.turns
            return
        seen = 0
        while seen < len(self._messages) or self._take():
            message = self._messages[seen]
            seen += 1
            if message["type"] == "turn.final":
                yield from map(_turn, final_turns(fold([message])[0]))

    @property
    def finished(self) -> bool:
        """Whether all work is done."""
        return self._finished

    @property
    def turns(self) -> list[RecognizedTurn]:
        """All turns in the end, with the speakers' last names."""
        return [_turn(turn) for conversation in self.conversations for turn in final_turns(conversation)]

    @property
    def conversations(self) -> list[Conversation]:
        """The conversations in the end: one, or each dialogue of a text file."""
        return fold(self.messages)

    @property
    def messages(self) -> list[Message]:
        """All messages but momentary ones, as ``stream-erc replay --out`` writes them."""
        while self._take():
            pass
        return list(self._messages)

    @property
    def summary(self) -> list[Message]:
        """The whole of the conversation by speaker, as `docs/protocol.md` defines it."""
        return [dict(one) for conversation in self.conversations for one in conversation.summary]

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return a pandas table with a row for each turn and the columns of a CSV export.

        Raises:
            EngineUnavailable: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise EngineUnavailable("to_dataframe expected pandas: pip install pandas") from error
        from stream_erc.exports.tables import table

        columns, rows = table(self.conversations)
        return pandas.DataFrame(rows, columns=columns)

    def export(self, path: Path | str) -> None:
        """Write the conversation as the path's ending says: ``.srt``, ``.csv``, ``.TextGrid`` ...

        Raises:
            OutputError: an unknown ending, or the file cannot be written.
            EngineUnavailable: the format's library is not installed.
        """
        from stream_erc.exports.files import write_export

        write_export(self.messages, Path(path))

    def close(self) -> None:
        """End the input early; the turns so far are finished."""
        if self._end is not None:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        turns = sum(message["type"] == "turn.final" for message in self._messages)
        return f"<Recognition: {turns} turns{'' if self._finished else ' so far'}>"

    def _repr_html_(self) -> str:
        """Return the turns as a table, for notebooks; of a live recognition those so far."""
        if not self._live:
            self.messages  # noqa: B018  # finishes the work
        turns = [_turn(t) for conversation in fold(self._messages) for t in final_turns(conversation)]
        return _table(turns)

    def _take(self) -> bool:
        """Take the next message; return whether there was one."""
        if self._finished:
            return False
        for message in self._coming:
            if message["type"] not in MOMENTARY:
                self._messages.append(message)
                return True
        self._finished = True
        return False


def _turn(turn: FinalTurn) -> RecognizedTurn:
    start, end = turn.start_ms, turn.end_ms
    return RecognizedTurn(
        turn.number,
        turn.speaker,
        turn.text,
        None if start is None else start / 1000,
        None if end is None else end / 1000,
        turn.emotion,
        turn.confidence,
        turn.probabilities,
        turn.message,
    )


def _table(turns: list[RecognizedTurn]) -> str:
    """Return turns as an HTML table."""
    timed = any(turn.start_s is not None for turn in turns)
    head = [*(["start"] if timed else []), "speaker", "text", "emotion", "confidence"]
    rows = ["".join(f"<th style='text-align:left'>{name}</th>" for name in head)]
    for turn in turns:
        cells: list[Any] = [turn.speaker, turn.text, turn.emotion, f"{turn.confidence:.0%}"]
        if timed:
            cells.insert(0, "" if turn.start_s is None else f"{turn.start_s:.2f} s")
        rows.append("".join(f"<td style='text-align:left'>{html.escape(str(cell))}</td>" for cell in cells))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
