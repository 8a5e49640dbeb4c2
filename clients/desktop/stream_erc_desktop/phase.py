"""What a conversation does, as far as the window cares."""

from enum import Enum


class Phase(Enum):
    """From the first connection to the end."""

    WAITING = "nothing is heard yet"
    HEARING = "a source is heard"
    OPEN = "the source has ended, corrections are welcome"
    FINISHING = "the last turns are awaited"
    OVER = "closed"
