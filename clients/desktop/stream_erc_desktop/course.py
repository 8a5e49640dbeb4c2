"""The course of a conversation: what is heard, how far it is, and what of it would be lost. No Qt."""

from enum import Enum

from stream_erc_client import SessionClosed, TurnFinal, TurnRevised

from stream_erc_desktop.model import Conversation, Turn
from stream_erc_desktop.outline import Outline
from stream_erc_desktop.player import Recording
from stream_erc_desktop.sources import Source


class Phase(Enum):
    """From the first connection to the end."""

    WAITING = "nothing is heard yet"
    HEARING = "a source is heard"
    OPEN = "the source has ended, corrections are welcome"
    FINISHING = "the last turns are awaited"
    OVER = "closed"


class Course:
    """One conversation from its first connection to its end; another one begins with a new `Course`.

    Attributes:
        conversation: what the server told.
        source, outline: what is heard, None before; and its waveform.
        selected: the index of the turn that the user looks at; None for the newest.
        unsaved: whether there are turns that no file has.
    """

    def __init__(self) -> None:
        self.conversation, self.outline = Conversation(), Outline()
        self.phase = Phase.WAITING
        self.source: Source | None = None
        self.selected: int | None = None
        self.unsaved = False

    @property
    def recording(self) -> Recording | None:
        """The file that is heard, if it is one."""
        return self.source if isinstance(self.source, Recording) else None

    @property
    def would_be_lost(self) -> bool:
        """Whether ending it loses words: a recording can be heard again, what was spoken cannot."""
        return self.unsaved and self.source is not None and self.recording is None

    @property
    def turn(self) -> Turn | None:
        """The turn to be looked at."""
        chosen = None if self.selected is None else self.conversation.turn(self.selected)
        return chosen or self.conversation.last_turn

    def start(self, source: Source) -> None:
        """A source is heard from now on."""
        self.source, self.outline = source, Outline(source.sample_rate_hz)
        self.phase = Phase.HEARING

    def take(self, event: object) -> None:
        """Take in one event of the session."""
        self.conversation.apply(event)
        if isinstance(event, TurnFinal | TurnRevised):
            self.unsaved = True
        if isinstance(event, SessionClosed):
            self.phase = Phase.OVER

    def fail(self, reason: str) -> None:
        """It cannot go on."""
        self.conversation.failed(reason)
        self.phase = Phase.OVER
