"""The course of a conversation: its source, its phase, and what is unsaved. No Qt."""

from enum import Enum

from stream_erc_client import SessionClosed, TurnFinal, TurnRevised

from stream_erc_desktop.model import Conversation, Turn
from stream_erc_desktop.outline import Outline
from stream_erc_desktop.player import Recording
from stream_erc_desktop.sources import Source


class Phase(Enum):
    """The phase of a conversation, from the first connection to the end."""

    WAITING = "no source yet"
    HEARING = "a source is being heard"
    OPEN = "the source has ended, corrections are possible"
    FINISHING = "waiting for the last turns"
    OVER = "closed"


class Course:
    """One conversation from its first connection to its end; the next one gets a new `Course`.

    Attributes:
        conversation: the state from the server's events.
        source, outline: the source, None before it starts; and its waveform.
        selected: index of the selected turn; None for the newest.
        unsaved: whether there are turns that are in no file.
    """

    def __init__(self) -> None:
        self.conversation, self.outline = Conversation(), Outline()
        self.phase = Phase.WAITING
        self.source: Source | None = None
        self.selected: int | None = None
        self.unsaved = False

    @property
    def recording(self) -> Recording | None:
        """The source, if it is a recording."""
        return self.source if isinstance(self.source, Recording) else None

    @property
    def would_be_lost(self) -> bool:
        """Whether closing loses unsaved speech; a recording can be heard again."""
        return self.unsaved and self.source is not None and self.recording is None

    @property
    def turn(self) -> Turn | None:
        """The selected turn, or else the newest."""
        chosen = None if self.selected is None else self.conversation.turn(self.selected)
        return chosen or self.conversation.last_turn

    def start(self, source: Source) -> None:
        """Begin to hear a source."""
        self.source, self.outline = source, Outline(source.sample_rate_hz)
        self.phase = Phase.HEARING

    def take(self, event: object) -> None:
        """Apply an event of the session."""
        self.conversation.apply(event)
        if isinstance(event, TurnFinal | TurnRevised):
            self.unsaved = True
        if isinstance(event, SessionClosed):
            self.phase = Phase.OVER

    def fail(self, reason: str) -> None:
        """End the conversation because of an error."""
        self.conversation.failed(reason)
        self.phase = Phase.OVER
