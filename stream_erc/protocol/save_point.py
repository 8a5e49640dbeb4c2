"""A session's save point, which is stored before its events are sent."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SavePoint:
    """A change of a stored session, to be stored all or nothing.

    Attributes:
        header: the session without its past turns; it replaces the previous header.
        steps: turn index -> blob, for past turns that are new or changed.
        steps_now: indices of all past turns that the session now has.
        events: new events as (event id, JSON); the ids continue the stored ones and begin with 1.
        after: id of the last event before them; None if the store need not compare it with its own.
        closed: whether the session has ended.
        audio_ms: position up to which the client may forget its audio.
        input_id: last input that the client may forget.
    """

    header: bytes
    steps: Mapping[int, bytes]
    steps_now: Collection[int]
    events: Sequence[tuple[int, str]]
    closed: bool = False
    audio_ms: int = 0
    input_id: int = 0
    after: int | None = None
