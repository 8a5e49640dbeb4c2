"""A pool of objects that are not thread-safe, each lent to one thread at a time."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Lends an idle object, or creates a new one if none is idle.

    It needs no lock: a deque's `append` and `pop` are atomic.

    Args:
        make: creates an object.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._idle: deque[T] = deque()

    @contextmanager
    def lend(self) -> Iterator[T]:
        """Lend an object for a ``with`` block; after an error in the block it is discarded."""
        try:
            lent = self._idle.pop()
        except IndexError:
            lent = self._make()
        yield lent
        self._idle.append(lent)
