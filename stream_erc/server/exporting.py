"""A stored session as a file: the formats of exports, over the wire."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import UNSET

from stream_erc.exceptions import EngineUnavailable, OutputError
from stream_erc.exports.files import FORMATS, write_export
from stream_erc.protocol import messages
from stream_erc.protocol.encoding import Message, to_message
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.live_session import LiveSession
from stream_erc.server.claim import Claim
from stream_erc.server.sealing import Seal
from stream_erc.server.shared import SAVE_S, SharedState

REST, MAX_REST_S = 4, 2.0
"""Rest between two exports, in times that the one before took, and at most: sessions go first."""


def export_formats() -> tuple[str, ...]:
    """Return the formats whose libraries are installed, as their endings without the dot."""
    found = []
    for ending, kind in FORMATS.items():
        try:
            kind.check()
        except EngineUnavailable:
            continue
        found.append(ending.removeprefix("."))
    return tuple(found)


async def export_session(
    shared: SharedState, request: messages.SessionExport, now: Callable[[], str]
) -> messages.SessionExported:
    """Return a stored session as a file, without claiming it.

    Args:
        shared: what the server's connections share.
        request: names the session and the format.
        now: returns the time as ISO 8601.

    Raises:
        Refusal: ``invalid_export`` for a format that cannot be had, ``resume_refused`` for an unknown token.
    """
    known = export_formats()
    if request.format not in known:
        raise Refusal("invalid_export", f"expected one of {', '.join(known)}, got {request.format}")
    async with shared.exporting:
        await asyncio.sleep(max(0.0, shared.exports_from - time.monotonic()))
        began = time.monotonic()
        try:
            return await _exported(shared, request, now)
        finally:
            ended = time.monotonic()
            shared.exports_from = ended + min(MAX_REST_S, REST * (ended - began))


async def _exported(
    shared: SharedState, request: messages.SessionExport, now: Callable[[], str]
) -> messages.SessionExported:
    """Return a stored session as a file in a known format."""
    stored = await Claim.look_up(shared, request.resume_token)
    live = LiveSession(shared.offer, stored.session_id, now, (stored.header, stored.steps))
    events = await shared.call_store(partial(shared.store.events, stored.session_id, 0), SAVE_S)
    seal = Seal(stored.session_id, request.resume_token)
    created = to_message(_described(live, request.name))
    content, left_out = await asyncio.to_thread(_file, created, seal, events, request.format)
    return messages.SessionExported(
        **live.encoder.envelope(),
        format=request.format,
        content=content,
        left_out=left_out,
    )


def _described(live: LiveSession, name: str | None) -> messages.SessionCreated:
    """Return the ``session.created`` of a session as a file has it."""
    configuration = live.terms.configuration()
    return messages.SessionCreated(
        **live.encoder.envelope(),
        model=configuration.model,
        asr=live.terms.engine.asr_name,
        labels=configuration.labels,
        source=UNSET if name is None else messages.Source(name=name, duration_ms=None),
    )


def _file(
    created: Message, seal: Seal, events: Sequence[tuple[int, str]], format_name: str
) -> tuple[str, int]:
    """Write a session to a file; return it in base64, and the number of turns that it cannot hold.

    Raises:
        Refusal: ``invalid_export``.
    """
    with TemporaryDirectory(prefix="stream-erc-") as folder:
        path = Path(folder) / f"conversation.{format_name}"
        try:
            opened = (json.loads(seal.opened_event(number, line)) for number, line in events)
            left_out = write_export([created, *opened], path)
        except OutputError as error:
            raise Refusal("invalid_export", str(error).replace(str(path), format_name)) from error
        return base64.b64encode(path.read_bytes()).decode("ascii"), left_out
