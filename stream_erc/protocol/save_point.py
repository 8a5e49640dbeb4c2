"""What has to be stored of a session before more of it can be told."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SavePoint:
    """What a store has to take in, all or nothing.

    Attributes:
        header: the session without its past turns; replaces the one before.
        steps: past turns that are new or changed, by turn index.
        steps_now: the indices of all past turns that belong to it from now on.
        events: (event id, JSON) that are new; the numbers go on from the last ones, beginning with 1.
        closed: the session is over.
        audio_ms, input_id: what the client need not keep any longer.
    """

    header: bytes
    steps: Mapping[int, bytes]
    steps_now: Collection[int]
    events: Sequence[tuple[int, str]]
    closed: bool = False
    audio_ms: int = 0
    input_id: int = 0
