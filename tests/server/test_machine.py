"""What the server does about its process: memory of what has left, and of what stays."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
from serving import Client, eventually, serve

from stream_erc.protocol.live_session import LiveSession
from stream_erc.server import machine, server


class Circle:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.myself = self


@pytest.fixture(autouse=True)
def by_hand() -> Iterator[None]:
    """Let nobody else look for garbage."""
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.parametrize("free", [machine.return_freed_memory, machine.keep_loaded])
def test_what_only_refers_to_itself_is_freed(free: Callable[[], None]) -> None:
    circle = Circle()
    left = weakref.ref(circle)
    del circle
    assert left() is not None
    free()
    assert left() is None


def test_a_session_is_freed_when_its_client_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TIDY_INTERVAL_S", 0.05)
    sessions: list[weakref.ref[LiveSession]] = []
    made = LiveSession.__init__

    def make(self: LiveSession, *arguments: object, **options: object) -> None:
        made(self, *arguments, **options)  # type: ignore[arg-type]
        sessions.append(weakref.ref(self))

    monkeypatch.setattr(LiveSession, "__init__", make)
    with serve() as running:
        with Client(running.socket_url) as client:
            client.send("session.close")
            client.until("session.closed")
        assert eventually(lambda: sessions != [] and all(one() is None for one in sessions))


def test_what_is_loaded_is_set_aside_when_the_engines_are_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TIDY_INTERVAL_S", 0.05)
    assert gc.get_freeze_count() == 0
    with serve():
        assert eventually(lambda: gc.get_freeze_count() > 10_000)
