"""The session without asyncio: `connect`, ``with`` and ``for``, on a background thread.

::

    with stream_erc_client.sync.connect("ws://127.0.0.1:8765") as session:
        session.play("conversation.wav")
        for event in session:
            print(event)

All methods may be called from any thread: one may send while another iterates.
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
from stream_erc_client.events import Configuration, Event, SessionCreated, SpeakerSummary
from stream_erc_client.session import Pace

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """A conversation; `stream_erc_client.session.Session` documents its methods and what they raise.

    Args:
        make: makes the asynchronous session.
    """

    def __init__(self, make: Callable[[], asynchronous.Session]) -> None:
        self._session = make()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exit_lock = threading.Lock()  # calls submitted while holding it come before the end

    @property
    def id(self) -> str:
        """The session's id on the server."""
        return self._session.id

    @property
    def created(self) -> SessionCreated:
        """The server's first message, with what it offers."""
        return self._session.created

    @property
    def configuration(self) -> Configuration:
        """The session's configuration."""
        return self._session.configuration

    @property
    def unacknowledged_ms(self) -> float:
        """Duration of the audio kept because the server may ask for it again."""
        return self._session.unacknowledged_ms

    def __enter__(self) -> Session:
        """Connect and configure."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stream_erc_client", daemon=True)
        self._thread.start()
        try:
            self._run(self._session.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session if `close` was not called, and wait a limited time for its end."""
        try:
            self._run(self._session.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """Return the next event, until `SessionClosed`."""
        try:
            return self._run(self._session.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def send_audio(self, data: bytes) -> None:
        """Send audio: whole samples, or one opus packet."""
        self._run(self._session.send_audio(data))

    def append_turn(
        self,
        *,
        text: str | None = None,
        speaker: str | None = None,
        audio_start_ms: int | None = None,
        audio_end_ms: int | None = None,
    ) -> int:
        """Append the next turn and return the input id."""
        return self._run(
            self._session.append_turn(
                text=text, speaker=speaker, audio_start_ms=audio_start_ms, audio_end_ms=audio_end_ms
            )
        )

    def correct_turn(self, turn: int, speaker: str) -> int:
        """Correct the speaker of a turn and return the input id."""
        return self._run(self._session.correct_turn(turn, speaker))

    def rename_speaker(self, speaker: str, name: str) -> int:
        """Rename a speaker and return the input id."""
        return self._run(self._session.rename_speaker(speaker, name))

    def enrol_voice(
        self, name: str, *, turn: int | None = None, clip: bytes | None = None, keep: bool = False
    ) -> int:
        """Make a voice known by its name and return the input id."""
        return self._run(self._session.enrol_voice(name, turn=turn, clip=clip, keep=keep))

    def close(self, *, keep: bool = False) -> None:
        """End the input; the iteration continues until `SessionClosed`."""
        self._run(self._session.close(keep=keep))

    def delete(self) -> None:
        """End the session at once and delete it on the server."""
        self._run(self._session.delete())

    def summary(self) -> tuple[SpeakerSummary, ...] | None:
        """Return the whole of the conversation by speaker: the server's, once `SessionClosed` has come."""
        return self._session.summary()

    def export(self, file_format: str, *, name: str | None = None) -> bytes:
        """Return the turns so far as a file in one of the formats of `created.exports`."""
        return self._run(self._session.export(file_format, name=name))

    def play(self, path: Path | str, *, pace: Pace | None = None, keep: bool = False) -> None:
        """Send a recording in the background, then close."""

        async def start() -> None:
            self._session.play(path, pace=pace, keep=keep)

        self._run(start())

    def listen(self, device: int | str | None = None) -> None:
        """Send the microphone's audio in the background, until `close`."""

        async def start() -> None:
            self._session.listen(device)

        self._run(start())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the session's thread, and wait for it.

        Raises:
            SessionEnded: the session is not open, or was closed meanwhile.
        """
        with self._exit_lock:
            if self._loop is None:
                work.close()
                raise SessionEnded("expected an open session: use `with connect(...) as session`")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise SessionEnded("expected an open session, got one that was closed meanwhile") from None
        except BaseException:
            future.cancel()  # the wait was interrupted, for example by Ctrl-C
            raise

    def _stop(self) -> None:
        with self._exit_lock:
            assert self._loop is not None
            loop, self._loop = self._loop, None
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


async def _cancel_others() -> None:
    """Cancel the other tasks of this loop: another thread may be waiting for them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _synchronous(connect: Callable[P, asynchronous.Session]) -> Callable[P, Session]:
    """Return `connect` with the same arguments, for the session of this module."""

    def make(*args: P.args, **kwargs: P.kwargs) -> Session:
        return Session(lambda: connect(*args, **kwargs))

    make.__doc__ = connect.__doc__
    return make


connect = _synchronous(asynchronous.connect)
