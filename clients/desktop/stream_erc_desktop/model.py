"""The conversation as the window shows it, built from events. No Qt, no clock, no thread."""

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
    SpeakerSummary,
    SpeakerUpdated,
    SpeechStarted,
    SpeechStopped,
    TurnFailed,
    TurnFinal,
    TurnPartial,
    TurnRevised,
    VoiceEnrolled,
    Warned,
)

from stream_erc_desktop.stages import Latencies

PRE_ROLL_MS = 500  # a turn may begin so much before the speech that announced it
MAX_TURNS = 1_000  # shown; earlier ones are in the event file only


class ConnectionState(Enum):
    """The state of the connection to the server."""

    STARTING = "Starting"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"
    RECONNECTING = "Reconnecting"
    FINISHED = "Finished"
    FAILED = "Not connected"


class Tone(Enum):
    """The tone of a notice."""

    GOOD = "good"
    PLAIN = "plain"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Notice:
    """A one-line message to the user."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as it is shown.

    Attributes:
        start_ms, end_ms: its span in the audio; None for a turn without audio.
        partial: whether it is still being spoken, and so provisional.
        failed: why it failed; "" if it did not.
        language: ISO 639-1 code of `text`, if it was recognized.
        translation: `text` in English, "" if it is English or was not translated.
        unsure: whether the voice told little about who spoke.
        overlap: share of the turn in which somebody else spoke as well, 0 to 1.
        others: those whose earlier turns go on into this one.
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
    language: str | None = None
    translation: str = ""
    unsure: bool = False
    overlap: float = 0.0
    others: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        """The speaker in words; where the name is shown, an unsure one has a question mark."""
        return f"probably {self.speaker}" if self.unsure else self.speaker or "Somebody"

    @property
    def overlap_text(self) -> str:
        """The other speakers, and in how much of the turn they spoke; "" for nobody."""
        share = percent(self.overlap) if self.overlap else ""
        if not self.others:
            return f"overlap {share}" if share else ""
        names = " and ".join(filter(None, (", ".join(self.others[:-1]), self.others[-1])))
        return ", ".join(filter(None, (f"overlaps {names}", share)))

    @property
    def sentence(self) -> str:
        """The turn in one sentence, for screen readers."""
        if self.failed:
            return f"Turn {self.index + 1} failed: {self.failed}"
        words = self.text or "no words"
        if self.translation:
            words += f", in English: {self.translation}"
        emotion = "" if self.emotion is None else f", {self.emotion.label} {percent(self.emotion.confidence)}"
        overlap = f", {self.overlap_text}" if self.overlap_text else ""
        return f"{self.who}{' is saying' if self.partial else ''}: {words}{emotion}{overlap}"


@dataclass(frozen=True, slots=True)
class Totals:
    """The server's totals at the end."""

    audio_ms: int | None
    turns: int
    failed_turns: int


@dataclass
class Conversation:
    """The state of one conversation. Events change it only through `apply`.

    Attributes:
        labels: the model's emotion labels, in its order.
        known_voices: the names of the voices that the server knows.
        keeps_voices: whether it keeps voices for later conversations.
        exports: the formats in which it gives the conversation as a file.
        connection, connection_detail: the state of the connection, and more about it.
        notice: the newest message to the user.
        totals: the server's totals; None before the session is closed.
        summary: the server's summary of each speaker, empty before the session is closed.
        latencies: the latencies of the finished turns.
        dropped: number of turns that are no longer kept.
    """

    max_turns: int = MAX_TURNS
    session_id: str = ""
    model: str = ""
    asr: str = ""
    labels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    known_voices: tuple[str, ...] = ()
    keeps_voices: bool = False
    exports: tuple[str, ...] = ()
    connection: ConnectionState = ConnectionState.CONNECTING
    connection_detail: str = ""
    notice: Notice | None = None
    totals: Totals | None = None
    summary: tuple[SpeakerSummary, ...] = ()
    latencies: Latencies = field(default_factory=Latencies)
    dropped: int = 0
    _turns: dict[int, Turn] = field(default_factory=dict)  # by index, in order
    _partials: dict[tuple[int, int], Turn] = field(default_factory=dict)  # by channel and index
    _seen: list[str] = field(default_factory=list)  # all speakers so far, in order of appearance
    _speech: dict[tuple[int, int], int | None] = field(default_factory=dict)  # by channel and start

    # --- what is shown ------------------------------------------------------------------------------

    @property
    def rows(self) -> list[Turn]:
        """The turns in order, with those still being spoken at the end."""
        partials = sorted(self._partials.values(), key=lambda turn: (turn.index, turn.start_ms or 0))
        return [*self._turns.values(), *partials]

    @property
    def turns(self) -> int:
        """Number of finished turns, including failed ones and those no longer kept."""
        return self.dropped + len(self._turns)

    @property
    def speakers(self) -> list[str]:
        """The speakers that have turns, in order of appearance, which a correction does not change."""
        present = {turn.speaker for turn in self.rows}
        return [speaker for speaker in self._seen if speaker in present]

    @property
    def pending_ms(self) -> list[tuple[int, int | None]]:
        """Spans of speech without a finished turn, in order; the end is None while somebody speaks."""
        return sorted(((start, end) for (_, start), end in self._speech.items()), key=lambda span: span[0])

    @property
    def last_turn(self) -> Turn | None:
        """The newest turn that has an emotion, even a provisional one."""
        return next((turn for turn in reversed(self.rows) if turn.emotion is not None), None)

    def turn(self, index: int) -> Turn | None:
        """Return a turn by its index."""
        partials = (turn for turn in self._partials.values() if turn.index == index)
        return self._turns.get(index) or next(partials, None)

    # --- changes ------------------------------------------------------------------------------------

    def starting(self, detail: str) -> None:
        """Show that the server is being started."""
        self.connection, self.connection_detail = ConnectionState.STARTING, detail

    def connecting(self) -> None:
        """Show that a connection is being opened."""
        self.connection, self.connection_detail = ConnectionState.CONNECTING, ""

    def failed(self, reason: str) -> None:
        """Show that the conversation ended because of an error."""
        self.connection, self.connection_detail = ConnectionState.FAILED, reason
        self.notice = Notice(reason, Tone.BAD)
        self._drop_provisional()

    def apply(self, event: object) -> None:
        """Apply an event of the session; ignore unknown ones."""
        match event:
            case SessionCreated() | SessionUpdated():
                self._configure(event)
            case SpeechStarted():
                if event.audio_start_ms is not None:
                    self._speech[event.channel or 0, event.audio_start_ms] = None
            case SpeechStopped():
                if own := [speech for speech in self._speech if speech[0] == (event.channel or 0)]:
                    self._speech[max(own)] = event.audio_end_ms
            case TurnPartial():
                self._speak(event)
            case TurnFinal() | TurnRevised():
                self._finish(event)
            case TurnFailed():
                span = (event.audio_start_ms, event.audio_end_ms)
                known = self._turns.get(event.turn, Turn(event.turn, None, *span, "", None))
                self._keep(replace(known, failed=event.message), event.channel or 0)
            case SpeakerUpdated():
                self._rename(event.speaker, event.name)
            case VoiceEnrolled():
                kept = ", and kept on the server for later conversations" if event.kept else ""
                self.notice = Notice(f"The voice of {event.name} is known from now on{kept}.", Tone.GOOD)
            case SessionClosed():
                self.totals = Totals(event.audio_ms, event.turns, event.failed_turns)
                self.summary = event.summary
                self.connection, self.connection_detail = ConnectionState.FINISHED, ""
                self._drop_provisional()
            case _:
                self._apply_connection(event)

    def _apply_connection(self, event: object) -> None:
        match event:
            case Disconnected():
                self.connection = ConnectionState.RECONNECTING
                self.connection_detail = f"{event.reason}, attempt {event.attempt}"
                self._drop_provisional()
            case Reconnected():
                self.connection, self.connection_detail = ConnectionState.CONNECTED, ""
                missed = event.missed_events
                caught_up = f" {plural(missed, 'event')} came meanwhile." if missed else ""
                if event.lost_audio_ms or event.lost_inputs:
                    inputs, lost_s = plural(event.lost_inputs, "input"), event.lost_audio_ms / 1000
                    lost = f"{lost_s:.0f} s of audio and {inputs}"
                    self.notice = Notice(f"Reconnected; the server lost {lost}.{caught_up}")
                else:
                    self.notice = Notice(f"Reconnected; nothing was lost.{caught_up}", Tone.GOOD)
            case SessionResumed():
                self.connection, self.connection_detail = ConnectionState.CONNECTED, ""
            case SessionGoingAway():
                self.notice = Notice("The server is stopping; the conversation resumes when it is back.")
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
            self.known_voices = tuple(event.voices or ())
            self.keeps_voices = bool(event.keeps_voices)
            self.exports = tuple(event.exports or ())
        if event.configuration:
            self.model, self.labels = event.configuration.model, tuple(event.configuration.labels)
        self.connection, self.connection_detail = ConnectionState.CONNECTED, ""

    def _speak(self, event: TurnPartial) -> None:
        if event.turn in self._turns:  # late: the turn is already finished
            return
        if event.channel is not None:  # where channels are separate, one turn of each is spoken at a time
            self._partials = {at: turn for at, turn in self._partials.items() if at[0] != event.channel}
        span = (event.audio_start_ms, event.audio_end_ms)
        self._see(event.speaker)
        self._partials[event.channel or 0, event.turn] = Turn(
            event.turn, event.speaker, *span, event.text, event.emotion, partial=True
        )
        if event.audio_start_ms is not None:
            self._speech.setdefault((event.channel or 0, event.audio_start_ms), None)

    def _finish(self, event: TurnFinal | TurnRevised) -> None:
        span = (event.audio_start_ms, event.audio_end_ms)
        turn = Turn(
            event.turn,
            event.speaker,
            *span,
            event.text,
            event.emotion,
            event.revision,
            language=event.language,
            translation=event.translation or "",
            unsure=event.speaker_unsure,
            overlap=event.overlap,
            others=event.others,
        )
        self._see(turn.speaker)
        if isinstance(event, TurnFinal):
            self.latencies.add(event.latency_ms)
        self._keep(turn, event.channel or 0)

    def _keep(self, turn: Turn, channel: int) -> None:
        """Put a finished turn in its place, and remove its provisional form."""
        # Of another channel too: its partial turn, which had this index until now, comes again with the next.
        self._partials = {at: one for at, one in self._partials.items() if at[1] != turn.index}
        if turn.start_ms is not None:
            # Speech that began later is another turn's, even if it overlaps this one.
            last_ms = turn.start_ms + PRE_ROLL_MS
            self._speech = {
                at: end for at, end in self._speech.items() if at[0] != channel or at[1] > last_ms
            }
        if turn.index < self.dropped:
            return
        late = turn.index not in self._turns and turn.index < next(reversed(self._turns), 0)
        self._turns[turn.index] = turn
        if late:
            self._turns = dict(sorted(self._turns.items()))
        while len(self._turns) > self.max_turns:
            del self._turns[next(iter(self._turns))]
            self.dropped += 1

    def _see(self, speaker: str | None) -> None:
        if speaker is not None and speaker not in self._seen:
            self._seen.append(speaker)

    def _rename(self, old: str, new: str) -> None:
        self._seen = list(dict.fromkeys(new if speaker == old else speaker for speaker in self._seen))
        self._turns = {at: _renamed(turn, old, new) for at, turn in self._turns.items()}
        self._partials = {at: _renamed(turn, old, new) for at, turn in self._partials.items()}

    def _drop_provisional(self) -> None:
        self._partials.clear()
        self._speech.clear()


def _renamed(turn: Turn, old: str, new: str) -> Turn:
    if old != turn.speaker and old not in turn.others:
        return turn
    speaker = new if turn.speaker == old else turn.speaker
    return replace(
        turn, speaker=speaker, others=tuple(new if other == old else other for other in turn.others)
    )


# --- formatting -------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """Format a share as a percentage."""
    return f"{round(100 * share)}%"


def plural(count: int, one: str) -> str:
    """Format a count with its noun, in singular or plural."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def clock(ms: float, *, tenths: bool = False) -> str:
    """Format a time as ``MM:SS``, with hours if there are any."""
    total = int(ms) // 100
    hours, minutes, seconds = total // 36_000, total // 600 % 60, total // 10 % 60
    text = (f"{hours}:" if hours else "") + f"{minutes:02d}:{seconds:02d}"
    return text + (f".{total % 10}" if tenths else "")
