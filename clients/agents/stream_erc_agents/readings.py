"""The classified turns of one conversation, and their text for the language model."""

from stream_erc_agents.prefix import PrefixStyle, prefixed, safe_text, standing_turns, summary
from stream_erc_client import Event, SpeakerUpdated, TurnFinal, TurnRevised


class Readings:
    """The readings of a conversation, over all its sessions.

    Args:
        style: of the prefix; None leaves texts unchanged.
    """

    def __init__(self, style: PrefixStyle | None) -> None:
        self.style = style
        self._events: list[Event] = []

    def hear(self, event: Event) -> None:
        """Store a turn, a revised turn, or a speaker's new name; ignore other events."""
        if isinstance(event, TurnFinal | TurnRevised | SpeakerUpdated):
            self._events.append(event)

    @property
    def turns(self) -> list[TurnFinal | TurnRevised]:
        """The turns so far, the agent's included, with all revisions and names applied."""
        return standing_turns(self._events)

    def summary(self) -> str:
        """Summarize the conversation in one line for the instructions."""
        return summary(self._events)

    def said(self, text: str, turn: TurnFinal | None) -> str:
        """Return a text for the prompt, prefixed with the turn's reading if there is one."""
        if self.style is None:
            return text
        return safe_text(text) if turn is None else prefixed(turn, text, self.style)
