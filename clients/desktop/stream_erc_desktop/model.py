"""The conversation as the window knows it: events in, what is to be shown out. No Qt, no clock, no thread."""

from dataclasses import dataclass, field, replace
from enum import Enum

from stream_erc_client import (
    Disconnected,
    EmotionReading,
    Failed,
    Reconnected,
    SessionClosed,
    SessionCreated,
    SessionGoingAway,
    SessionResumed,
    SessionUpdated,
    SpeakerUpdated,
    SpeechStarted,
    SpeechStopped,
    TurnFailed,
    TurnFinal,
    TurnPartial,
    TurnRevised,
    Warned,
)

from stream_erc_desktop.stages import Latencies

MAX_TURNS = 1_000  # shown; the earlier ones are in the file of events


class Link(Enum):
    """How the window stands with the server."""

    STARTING = "Starting"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"
    RECONNECTING = "Reconnecting"
    FINISHED = "Finished"
    FAILED = "Not connected"


class Tone(Enum):
    """How much a notice matters."""

    GOOD = "good"
    PLAIN = "plain"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Notice:
    """One line that the user should read."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as it is shown.

    Attributes:
        start_ms, end_ms: where it lies in the audio; None for a turn without audio.
        partial: it is still being spoken; what it says is provisional.
        failed: why it could not be read; "" where it could.
    """

    index: int
    speaker: str | None
    start_ms: int | None
    end_ms: int | None
    text: str
    emotion: EmotionReading | None
    revision: int = 0
    partial: bool = False
    failed: str = ""

    @property
    def said(self) -> str:
        """The turn in one sentence, for those who do not see it."""
        who = self.speaker or "Somebody"
        if self.failed:
            return f"Turn {self.index + 1} could not be read: {self.failed}"
        words = self.text or "no words"
        feeling = "" if self.emotion is None else f", {self.emotion.label} {percent(self.emotion.confidence)}"
        return f"{who}{' is saying' if self.partial else ''}: {words}{feeling}"


@dataclass(frozen=True, slots=True)
class Totals:
    """What the server counted at the end."""

    audio_ms: int | None
    turns: int
    failed_turns: int


@dataclass
class Conversation:
    """What is known of one conversation. `apply` is its only way to change by events.

    Attributes:
        labels: the emotions that the model tells apart, in its order.
        link, link_detail: how the window stands with the server.
        notice: the newest line that the user should read.
        totals: once the session is closed.
        latencies: how long finished turns took.
        dropped: how many turns are no longer kept.
    """

    max_turns: int = MAX_TURNS
    session_id: str = ""
    model: str = ""
    asr: str = ""
    labels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    link: Link = Link.CONNECTING
    link_detail: str = ""
    notice: Notice | None = None
    totals: Totals | None = None
    latencies: Latencies = field(default_factory=Latencies)
    dropped: int = 0
    _turns: dict[int, Turn] = field(default_factory=dict)  # by index, in order
    _partials: dict[int, Turn] = field(default_factory=dict)
    _speech: dict[int, int | None] = field(default_factory=dict)  # see `pending_ms`

    # --- what is shown ------------------------------------------------------------------------------

    @property
    def rows(self) -> list[Turn]:
        """The turns in order, those that are being spoken at the end."""
        return [*self._turns.values(), *(self._partials[index] for index in sorted(self._partials))]

    @property
    def turns(self) -> int:
        """How many turns are finished, failed ones and those no longer kept included."""
        return self.dropped + len(self._turns)

    @property
    def speakers(self) -> list[str]:
        """Who speaks, in the order of their first turns."""
        return list(dict.fromkeys(turn.speaker for turn in self.rows if turn.speaker is not None))

    @property
    def pending_ms(self) -> list[tuple[int, int | None]]:
        """Speech that no finished turn covers yet, from and to, in order; None while somebody speaks."""
        return sorted(self._speech.items())

    @property
    def last_turn(self) -> Turn | None:
        """The newest turn that has an emotion, be it provisional."""
        return next((turn for turn in reversed(self.rows) if turn.emotion is not None), None)

    def turn(self, index: int) -> Turn | None:
        """A turn by its index."""
        return self._turns.get(index) or self._partials.get(index)

    # --- what happens -------------------------------------------------------------------------------

    def starting(self, detail: str) -> None:
        """There is no server yet."""
        self.link, self.link_detail = Link.STARTING, detail

    def connecting(self) -> None:
        """The server is asked for a connection."""
        self.link, self.link_detail = Link.CONNECTING, ""

    def failed(self, reason: str) -> None:
        """The conversation cannot go on."""
        self.link, self.link_detail = Link.FAILED, reason
        self.notice = Notice(reason, Tone.BAD)
        self._forget_what_is_spoken()

    def apply(self, event: object) -> None:
        """Take in one event of the session; unknown ones are passed over."""
        match event:
            case SessionCreated() | SessionUpdated():
                self._configure(event)
            case SpeechStarted():
                if event.audio_start_ms is not None:
                    self._speech[event.audio_start_ms] = None
            case SpeechStopped():
                if self._speech:
                    self._speech[max(self._speech)] = event.audio_end_ms
            case TurnPartial():
                self._speak(event)
            case TurnFinal() | TurnRevised():
                self._finish(event)
            case TurnFailed():
                span = (event.audio_start_ms, event.audio_end_ms)
                known = self._turns.get(event.turn, Turn(event.turn, None, *span, "", None))
                self._keep(replace(known, failed=event.message))
            case SpeakerUpdated():
                self._rename(event.speaker, event.name)
            case SessionClosed():
                self.totals = Totals(event.audio_ms, event.turns, event.failed_turns)
                self.link, self.link_detail = Link.FINISHED, ""
                self._forget_what_is_spoken()
            case _:
                self._connection(event)

    def _connection(self, event: object) -> None:
        match event:
            case Disconnected():
                self.link = Link.RECONNECTING
                self.link_detail = f"{event.reason}, attempt {event.attempt}"
                self._forget_what_is_spoken()
            case Reconnected():
                self.link, self.link_detail = Link.CONNECTED, ""
                missed = event.missed_events
                caught_up = f" {plural(missed, 'event')} came meanwhile." if missed else ""
                self.notice = Notice(f"Connected again; nothing was lost.{caught_up}", Tone.GOOD)
            case SessionResumed():
                self.link, self.link_detail = Link.CONNECTED, ""
            case SessionGoingAway():
                self.notice = Notice("The server stops for a moment; the conversation goes on after it.")
            case Warned():
                self.notice = Notice(event.message)
            case Failed():
                self.notice = Notice(event.message, Tone.BAD)

    def _configure(self, event: SessionCreated | SessionUpdated) -> None:
        if isinstance(event, SessionCreated):
            self.session_id, self.asr = event.session_id, event.asr
            self.model, self.labels = event.model, tuple(event.labels)
            self.models = tuple(model.name for model in event.models or ())
            self.languages = tuple(event.languages or ())
        if event.configuration:
            self.model, self.labels = event.configuration.model, tuple(event.configuration.labels)
        self.link, self.link_detail = Link.CONNECTED, ""

    def _speak(self, event: TurnPartial) -> None:
        if event.turn in self._turns:  # late: the finished turn came first
            return
        span = (event.audio_start_ms, event.audio_end_ms)
        self._partials[event.turn] = Turn(
            event.turn, event.speaker, *span, event.text, event.emotion, partial=True
        )
        if event.audio_start_ms is not None:
            self._speech.setdefault(event.audio_start_ms, None)

    def _finish(self, event: TurnFinal | TurnRevised) -> None:
        span = (event.audio_start_ms, event.audio_end_ms)
        turn = Turn(event.turn, event.speaker, *span, event.text, event.emotion, event.revision)
        if isinstance(event, TurnFinal):
            self.latencies.add(event.latency_ms)
        self._keep(turn)

    def _keep(self, turn: Turn) -> None:
        """Put a finished turn in its place; what was said of it before is over."""
        self._partials.pop(turn.index, None)
        if turn.end_ms is not None:
            end_ms = turn.end_ms
            self._speech = {start: end for start, end in self._speech.items() if start >= end_ms}
        if turn.index < self.dropped:
            return
        late = turn.index not in self._turns and turn.index < next(reversed(self._turns), 0)
        self._turns[turn.index] = turn
        if late:
            self._turns = dict(sorted(self._turns.items()))
        while len(self._turns) > self.max_turns:
            del self._turns[next(iter(self._turns))]
            self.dropped += 1

    def _rename(self, old: str, new: str) -> None:
        for turns in (self._turns, self._partials):
            for index, turn in turns.items():
                if turn.speaker == old:
                    turns[index] = replace(turn, speaker=new)

    def _forget_what_is_spoken(self) -> None:
        self._partials.clear()
        self._speech.clear()


# --- words ------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share in words."""
    return f"{round(100 * share)}%"


def plural(count: int, one: str) -> str:
    """So many of them."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def clock(ms: float, *, tenths: bool = False) -> str:
    """A time as ``MM:SS``, with hours where there are some."""
    total = int(ms) // 100
    hours, minutes, seconds = total // 36_000, total // 600 % 60, total // 10 % 60
    text = (f"{hours}:" if hours else "") + f"{minutes:02d}:{seconds:02d}"
    return text + (f".{total % 10}" if tenths else "")
