"""Objects that one thread may use at a time, lent to whichever thread asks."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Lends an idle object, or a new one where none is idle; there are never more than users at a time.

    It needs no lock: a deque's `append` and `pop` are atomic.

    Args:
        make: makes another object.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._idle: deque[T] = deque()

    @contextmanager
    def lend(self) -> Iterator[T]:
        """An object for the length of a block; one in which an error was raised is not lent again."""
        try:
            lent = self._idle.pop()
        except IndexError:
            lent = self._make()
        yield lent
        self._idle.append(lent)
