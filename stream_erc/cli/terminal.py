"""A live view of a conversation in the terminal: speakers, words and expressed emotions.

On a terminal, turns scroll by above a live line with partial text and progress. Elsewhere (a pipe, a build
log) there is one plain line per turn, without control codes.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from statistics import median
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from stream_erc.cli.palette import SPEAKER_COLOURS, emotion_styles
from stream_erc.protocol.encoding import Json, Message

NARROW, WIDE = 76, 110  # columns: bars are short below the first, long above the second
PLAIN_S, PLAIN_SHARE = 5.0, 0.02
"""Time between two progress lines where there is no live line: so long, and so much of the whole."""

LIVE_S = 0.1  # shortest time between two redraws for progress alone
STAGES = {
    "endpointing": "waiting for silence",
    "asr": "speech recognition",
    "features": "voice",
    "emotion": "emotion",
}
"""Each stage's field on the wire, and its name here, in the page, the window and the report."""


def clock(ms: int | float) -> str:
    """Format milliseconds as ``mm:ss.s``, or ``h:mm:ss.s`` from one hour on."""
    tenths = int(ms // 100)
    hours, minutes = tenths // 36_000, tenths // 600 % 60
    return (f"{hours}:" if hours else "") + f"{minutes:02}:{tenths // 10 % 60:02}.{tenths % 10}"


class TerminalView:
    """Shows messages as they arrive, and a summary when the context ends.

    Args:
        console: the console, whose width, encoding and clock are used.
        total_ms: length of the recording, None if unknown (a microphone, a text).
        labels: the checkpoint's emotion labels.
    """

    def __init__(self, console: Console, *, total_ms: int | None, labels: Sequence[str]) -> None:
        self._console, self._total_ms = console, total_ms
        self._styles = emotion_styles(labels)
        self._label_width = max((len(label) for label in labels), default=7)
        self._ascii = console.options.ascii_only
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_interactive else None
        )
        self._began = console.get_time()
        self._heard_ms = self._audio_ms = 0
        self._progress_at: float | None = None  # when progress was last shown, on the console's clock
        self._partial: Message | None = None
        self._listening = False
        self._sessions: dict[str, set[str]] = {}  # id -> its speakers
        self._turns: dict[tuple[str, int], Message] = {}  # the last message of each turn
        self._colours: dict[str, str] = {}
        self._whole: list[Message] = []  # the summary of the last session, by speaker

    def __enter__(self) -> Self:
        self._began = self._console.get_time()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._sessions:
            self._summary()

    def show(self, message: Message) -> None:
        """Show one message of the wire protocol; unknown types are ignored."""
        kind, session = message["type"], str(message.get("session_id"))
        if kind == "session.created":
            self._sessions[session] = set()
            self._heading(message)
        elif kind in ("speech.started", "speech.stopped"):
            self._listening = kind == "speech.started"
        elif kind == "turn.partial":
            self._partial = message
        elif kind in ("turn.final", "turn.revised", "turn.failed"):
            self._sessions.setdefault(session, set())
            self._turns[session, _int(message.get("turn"))] = message
            if self._partial is not None and _int(self._partial.get("turn")) <= _int(message.get("turn")):
                self._partial = None
            self._listening = False
            self._failed(message) if kind == "turn.failed" else self._turn(message)
        elif kind == "session.closed":
            self._sessions.setdefault(session, set())
            self._audio_ms += _int(message.get("audio_ms"))
            summary = message.get("summary")
            self._whole = (
                [one for one in summary if isinstance(one, dict)] if isinstance(summary, list) else []
            )
            self._heard_ms, self._partial, self._listening = 0, None, False
        self._refresh()

    def progress(self, audio_ms: int) -> None:
        """Show how much audio has been processed, in milliseconds since the session began."""
        self._heard_ms = audio_ms
        now = self._console.get_time()
        since_s = now - (self._began if self._progress_at is None else self._progress_at)
        if self._live is not None:
            if self._progress_at is not None and since_s < LIVE_S:
                return
            self._refresh()
        else:
            left_s = self._left_s() or 0.0
            if since_s < max(PLAIN_S, PLAIN_SHARE * (now - self._began + left_s)):
                return
            if self._total_ms:
                self._line(f"-- {min(1.0, audio_ms / self._total_ms):.0%} heard, {self._pace()}")
            else:
                self._line(f"-- {self._pace()} heard")
        self._progress_at = now

    # --- lines ------------------------------------------------------------------------------------

    def _heading(self, message: Message) -> None:
        """Print the source, model and recognizer, or the name of each further dialogue."""
        dialogue = message.get("dialogue")
        if len(self._sessions) == 1:
            source = message.get("source")
            parts = [self._clean(source.get("name"))] if isinstance(source, dict) else []
            if self._total_ms:
                parts.append(clock(self._total_ms))
            parts.append(f"model {self._clean(message.get('model'))}")
            if self._total_ms is not None or dialogue is None:
                parts.append(f"speech recognition {self._clean(message.get('asr'))}")
            separator = " | " if self._ascii else " · "
            self._print(Text(separator.join(part for part in parts if part), style="dim"))
        if dialogue is None and len(self._sessions) == 1:
            return
        name = self._clean(dialogue) if dialogue is not None else self._clean(message.get("session_id"))
        self._print(Text(""))
        if self._live is None:
            self._line(f"== {name}")
        else:
            self._print(Rule(Text(name, style="bold"), align="left", style="dim"))

    def _turn(self, message: Message) -> None:
        emotion = message["emotion"]
        assert isinstance(emotion, dict), emotion
        label, confidence = str(emotion["label"]), _float(emotion["confidence"])
        speaker = self._clean(message.get("speaker"))
        self._sessions[str(message.get("session_id"))].add(speaker)
        revised = message["type"] == "turn.revised"
        text = self._clean(message.get("text"))
        translation, overlap = self._translation(message), self._overlap(message)
        unsure = "?" if message.get("speaker_unsure") else ""
        if self._live is None:
            mark = "revised: " if revised else ""
            english = f"  ({translation})" if translation else ""
            also = f"  [{overlap}]" if overlap else ""
            # No wrapping: one turn is one line, whatever the width.
            name = f"{self._clean(label):<{self._label_width}} {confidence:4.0%} {self._bar(confidence, 5)}"
            shown = f"{speaker + unsure:<10}"
            self._line(f"{self._when(message):>7}  {shown}  {name}  {mark}{text}{also}{english}".rstrip())
            return
        style = self._styles.get(label)
        colour = style.dark if style is not None else "default"
        words = Text(text)
        if revised:
            words = Text.assemble(
                (f"{self._revised_sign()}turn {_int(message.get('turn')) + 1} revised  ", "italic dim"), words
            )
        if overlap:
            words.append(f"  {overlap}", "dim")
        if translation:
            words.append(f"\n{translation}", "dim")
        who = Text(speaker, style=f"bold {self._colour(speaker)}")
        if unsure:  # a name that is too long must not push its mark out
            who.truncate(self._speaker_width - 1, overflow="ellipsis")
            who.append(unsure, "dim")
        width = self._console.width
        bar = 4 if width < NARROW else 8 if width < WIDE else 12
        table = self._row()
        table.add_column(width=self._label_width, no_wrap=True, overflow="ellipsis")
        table.add_column(width=bar, no_wrap=True)
        table.add_column(width=4, justify="right", no_wrap=True)
        table.add_row(
            Text(self._when(message), style="dim"),
            who,
            words,
            Text(self._clean(label), style=colour),
            Text(self._bar(confidence, bar), style=colour),
            Text(f"{confidence:.0%}", style="dim"),
        )
        self._print(table)

    def _translation(self, message: Message) -> str:
        """Return a turn's words in English after their language's code, "" if it was not translated."""
        if not message.get("translation"):
            return ""
        words = self._clean(message.get("translation"))
        return f"from {self._clean(message['language'])}: {words}" if message.get("language") else words

    def _overlap(self, message: Message) -> str:
        """Return who else spoke in a turn, and in how much of it, "" for nobody."""
        share, others = _float(message.get("overlap")), message.get("others")
        names = [self._clean(name) for name in others] if isinstance(others, list) else []
        if not names:
            return f"overlap {share:.0%}" if share else ""
        told = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        return f"overlaps {told}" + (f", {share:.0%}" if share else "")

    @property
    def _speaker_width(self) -> int:
        return 9 if self._console.width < NARROW else 12

    def _failed(self, message: Message) -> None:
        what = f"turn {_int(message.get('turn')) + 1} failed: {self._clean(message.get('message'))}"
        if self._live is None:
            self._line(f"{self._when(message):>7}  {what}")
            return
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=9 if (self._total_ms or 0) >= 3_600_000 else 7, no_wrap=True, justify="right")
        table.add_column(ratio=1, overflow="fold")
        table.add_row(Text(self._when(message), style="dim"), Text(what, style="red"))
        self._print(table)

    def _row(self) -> Table:
        """Make a table with the first columns of a turn: time, speaker, words."""
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(width=9 if (self._total_ms or 0) >= 3_600_000 else 7, no_wrap=True, justify="right")
        table.add_column(width=self._speaker_width, no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=1, overflow="fold")
        return table

    # --- the live line ----------------------------------------------------------------------------

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(Group(*self._live_lines()), refresh=True)

    def _live_lines(self) -> list[RenderableType]:
        lines: list[RenderableType] = []
        if self._partial is not None:
            speaker = self._clean(self._partial.get("speaker") or "")
            emotion = self._partial.get("emotion")
            words = Text(self._clean(self._partial.get("text")), style="bright_black", end="")
            if isinstance(emotion, dict):
                words.append(f"  {self._clean(emotion.get('label'))}?", style="italic bright_black")
            row = self._row()
            row.add_row(
                Text(self._when(self._partial), style="dim"), Text(speaker, style="bright_black"), words
            )
            lines.append(row)
        if self._heard_ms:
            lines.append(self._progress_line())
        return lines

    def _progress_line(self) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        if self._total_ms:
            share = min(1.0, self._heard_ms / self._total_ms)
            line.append(self._bar(share, max(8, min(40, self._console.width - 62))), style="cyan")
            line.append(f" {share:4.0%}  {self._pace()}", style="dim")
        else:
            sign = "*" if self._ascii else "●"
            line.append(f"{sign} ", style="red" if self._listening or self._partial is not None else "dim")
            line.append(f"listening {clock(self._heard_ms)}", style="dim")
        return line

    def _pace(self) -> str:
        """Return the time heard, of the whole if that is known, how fast, and the time left."""
        total = f" / {clock(self._total_ms)}" if self._total_ms else ""
        seconds, left_s = self._console.get_time() - self._began, self._left_s()
        pace = f", {self._heard_ms / 1000 / seconds:.1f}x real time" if seconds > 0.05 and total else ""
        left = f", about {clock(1000 * left_s)[:-2]} left" if left_s is not None else ""
        return f"{clock(self._heard_ms)}{total}{pace}{left}"

    def _left_s(self) -> float | None:
        """Return the time to the end at the pace so far, in seconds; None if it is unknown."""
        seconds = self._console.get_time() - self._began
        if not self._total_ms or not self._heard_ms or seconds < 1.0:
            return None
        return seconds * max(0, self._total_ms - self._heard_ms) / self._heard_ms

    # --- the summary ------------------------------------------------------------------------------

    def _summary(self) -> None:
        turns = [turn for turn in self._turns.values() if turn["type"] != "turn.failed"]
        failed = len(self._turns) - len(turns)
        speakers = Counter(self._clean(turn.get("speaker")) for turn in turns)
        emotions = Counter(
            str(emotion["label"]) for turn in turns if isinstance(emotion := turn.get("emotion"), dict)
        )
        parts = [_plural(len(turns), "turn"), _plural(len(speakers), "speaker")]
        if len(self._sessions) > 1:
            parts.insert(0, _plural(len(self._sessions), "dialogue"))
        if audio_ms := self._audio_ms or self._heard_ms:
            parts.append(f"{clock(audio_ms)} of audio")
        head = Text(", ".join(parts), style="bold")
        if failed:
            head.append(f", {failed} failed", style="bold red")
        self._print(Text(""))
        if self._live is not None:
            self._print(Rule(style="dim", characters="-" if self._ascii else "─"))
        self._print(head)
        if len(speakers) > 1:
            self._print(self._tally("speakers", speakers, dict.fromkeys(speakers, "")))
        colours = {label: style.dark for label, style in self._styles.items()}
        if emotions:
            self._print(self._tally("expressed", emotions, colours))
        if len(self._sessions) == 1:
            for one in self._whole:
                self._print(self._speaker(one))
        self._latency(turns)

    def _speaker(self, summary: Message) -> Text:
        """Format the whole of a conversation of one speaker."""
        name = self._clean(summary.get("speaker"))
        share, emotions = summary.get("share"), summary.get("emotions")
        parts = [_plural(_int(summary.get("turns")), "turn")]
        if share is not None:
            spoken = f"{clock(_int(summary.get('speaking_ms')))[:-2]} of speech, {_float(share):.0%} of all"
            parts = [f"{parts[0]}, {spoken}"]
        counts = {
            self._clean(label): _int(totals.get("turns"))
            for label, totals in (emotions.items() if isinstance(emotions, dict) else ())
            if isinstance(totals, dict)
        }
        told = [f"{label} {count}" for label, count in Counter(counts).most_common() if count]
        shifts = summary.get("shifts")
        shifted = (
            sum(_int(s.get("count")) for s in shifts if isinstance(s, dict))
            if isinstance(shifts, list)
            else 0
        )
        parts += [", ".join(told), f"{_plural(shifted, 'shift')} of emotion"]
        if share is not None:
            parts.append(_plural(_int(summary.get("interruptions")), "interruption"))
        line = Text(f"{name:<10}", style=self._colour(name))
        return line.append("" if line.plain.endswith(" ") else " ").append("; ".join(parts), "default")

    def _tally(self, title: str, counts: Counter[str], colours: dict[str, str]) -> Text:
        """Format counts as ``title  name n   name n ...``, the most frequent first."""
        line = Text(f"{title:<10}", style="dim")
        shown = counts.most_common(12)
        for name, count in shown:
            colour = colours.get(name) or (self._colour(name) if title == "speakers" else "default")
            line.append(f"{self._clean(name)}", style=colour).append(f" {count}   ", style="default")
        if len(counts) > len(shown):
            line.append(f"and {len(counts) - len(shown)} more")
        line.rstrip()
        return line

    def _latency(self, turns: list[Message]) -> None:
        rows = [row for turn in turns if isinstance(row := turn.get("latency_ms"), dict)]
        medians = {
            stage: median(_float(row.get(stage)) for row in rows) if rows else 0.0
            for stage in (*STAGES, "total")
        }
        if not medians["total"]:
            return
        stages = ", ".join(
            f"{n} {medians[stage]:.0f}" for stage, n in STAGES.items() if medians[stage] >= 0.5
        )
        since = (
            "from the end of speech to the result"
            if self._audio_ms or self._heard_ms
            else "to the result of a turn"
        )
        line = Text(f"{'latency':<10}", style="dim")
        line.append(
            f"median {medians['total']:.0f} ms {since}" + (f" ({stages})" if stages else ""), "default"
        )
        self._print(line)

    # --- small parts ------------------------------------------------------------------------------

    def _print(self, what: RenderableType) -> None:
        if self._live is None:
            self._console.print(what, highlight=False, soft_wrap=True)
        else:
            self._console.print(what, highlight=False)

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True, highlight=False)

    def _when(self, message: Message) -> str:
        """Return the start time of a turn, or the number of a text-only turn."""
        start = message.get("audio_start_ms")
        return clock(start) if isinstance(start, int) else str(_int(message.get("turn")) + 1)

    def _bar(self, share: float, width: int) -> str:
        full = round(min(1.0, max(0.0, share)) * width)
        return "#" * full + "-" * (width - full) if self._ascii else "━" * full + "╌" * (width - full)

    def _revised_sign(self) -> str:
        return "" if self._ascii else "↻ "

    def _colour(self, speaker: str) -> str:
        return self._colours.setdefault(speaker, SPEAKER_COLOURS[len(self._colours) % len(SPEAKER_COLOURS)])

    def _clean(self, value: Json) -> str:
        """Remove control characters, and replace characters that the console's encoding does not have."""
        text = "" if value is None else str(value)
        safe = "".join(
            " " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _BIDI else c for c in text
        )
        encoding = self._console.encoding
        return safe.encode(encoding, "replace").decode(encoding)


_BIDI = frozenset(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)  # they would reorder the rest of the line


def _int(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _float(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _plural(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"
