"""The same without asyncio: `connect`, ``with`` and ``for``, on a thread of its own.

::

    with stream_erc_client.sync.connect("ws://127.0.0.1:8765") as session:
        session.play("conversation.wav")
        for event in session:
            print(event)

All methods may be called from any thread, as sending from one while another iterates.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from stream_erc_client import session as asynchronous
from stream_erc_client.errors import SessionEnded
from stream_erc_client.events import Configuration, Event, SessionCreated
from stream_erc_client.session import Pace

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """A conversation; what its methods do and raise is told in `stream_erc_client.session.Session`.

    Args:
        make: gives the asynchronous session.
    """

    def __init__(self, make: Callable[[], asynchronous.Session]) -> None:
        self._session = make()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving = threading.Lock()  # what is begun while it is held is begun before the end

    @property
    def id(self) -> str:
        """The session's name on the server."""
        return self._session.id

    @property
    def created(self) -> SessionCreated:
        """What the server has."""
        return self._session.created

    @property
    def configuration(self) -> Configuration:
        """How the conversation is heard."""
        return self._session.configuration

    @property
    def unacknowledged_ms(self) -> float:
        """How much audio is kept, since the server may ask for it again."""
        return self._session.unacknowledged_ms

    def __enter__(self) -> Session:
        """Connect and configure."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stream_erc_client", daemon=True)
        self._thread.start()
        try:
            self._do(self._session.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session where `close` was not called, and wait a bounded time for its end."""
        try:
            self._do(self._session.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """The next event, until `SessionClosed`."""
        try:
            return self._do(self._session.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def send_audio(self, data: bytes) -> None:
        """Send audio: whole samples, or one opus packet."""
        self._do(self._session.send_audio(data))

    def append_turn(
        self,
        *,
        text: str | None = None,
        speaker: str | None = None,
        audio_start_ms: int | None = None,
        audio_end_ms: int | None = None,
    ) -> int:
        """Say the next turn; gives the input's id."""
        return self._do(
            self._session.append_turn(
                text=text, speaker=speaker, audio_start_ms=audio_start_ms, audio_end_ms=audio_end_ms
            )
        )

    def correct_turn(self, turn: int, speaker: str) -> int:
        """Say who really spoke a turn; gives the input's id."""
        return self._do(self._session.correct_turn(turn, speaker))

    def rename_speaker(self, speaker: str, name: str) -> int:
        """Give a speaker another name; gives the input's id."""
        return self._do(self._session.rename_speaker(speaker, name))

    def close(self) -> None:
        """Say that no more comes; the iteration goes on until `SessionClosed`."""
        self._do(self._session.close())

    def play(self, path: Path | str, *, pace: Pace | None = None) -> None:
        """Send a WAV file in the background, then close."""

        async def start() -> None:
            self._session.play(path, pace=pace)

        self._do(start())

    def listen(self, device: int | str | None = None) -> None:
        """Send what the microphone hears, in the background, until `close`."""

        async def start() -> None:
            self._session.listen(device)

        self._do(start())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it on the session's thread, and wait.

        Raises:
            SessionEnded: the session is not open, or was left meanwhile.
        """
        with self._leaving:
            if self._loop is None:
                work.close()
                raise SessionEnded("expected an open session: use `with connect(...) as session`")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise SessionEnded("expected an open session, got one that was left meanwhile") from None
        except BaseException:
            future.cancel()  # where the wait was interrupted, as by Ctrl-C
            raise

    def _stop(self) -> None:
        with self._leaving:
            assert self._loop is not None
            loop, self._loop = self._loop, None
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


async def _cancel_others() -> None:
    """End what still goes on in this loop: somebody on another thread may wait for it."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _like(connect: Callable[P, asynchronous.Session]) -> Callable[P, Session]:
    """The same arguments, another session."""

    def make(*args: P.args, **kwargs: P.kwargs) -> Session:
        return Session(lambda: connect(*args, **kwargs))

    make.__doc__ = connect.__doc__
    return make


connect = _like(asynchronous.connect)
