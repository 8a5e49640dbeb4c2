"""The turns of one conversation, as they were read, and how they are said to the language model."""

from stream_erc_agents.prefix import PrefixStyle, prefixed, safe_text, standing_turns, summary
from stream_erc_client import Event, SpeakerUpdated, TurnFinal, TurnRevised


class Readings:
    """What the server told of a conversation, over all its sessions.

    Args:
        style: of the prefix; None leaves texts as they are.
    """

    def __init__(self, style: PrefixStyle | None) -> None:
        self.style = style
        self._events: list[Event] = []

    def hear(self, event: Event) -> None:
        """Remember a turn, its correction, or a name."""
        if isinstance(event, TurnFinal | TurnRevised | SpeakerUpdated):
            self._events.append(event)

    @property
    def turns(self) -> list[TurnFinal | TurnRevised]:
        """The turns read so far, the agent's among them, as they stand now."""
        return standing_turns(self._events)

    def summary(self) -> str:
        """How the conversation has gone: a line for the instructions."""
        return summary(self._events)

    def said(self, text: str, turn: TurnFinal | None) -> str:
        """A text for the prompt, with the reading before it where there is one."""
        if self.style is None:
            return text
        return safe_text(text) if turn is None else prefixed(turn, text, self.style)
