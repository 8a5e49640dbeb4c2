"""A form with a recording, read as it arrives: the file to a temporary file, the fields to memory."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from stream_erc.server.http.errors import ApiError

PIECE_BYTES = 65_536
MAX_FIELD_BYTES, MAX_FIELDS = 65_536, 64
"""Limits of a form besides its file: bytes of each field, and how many."""

MIN_BYTES_PER_S = 2_000
"""Rate that an upload must have on average, after `idle_timeout_s`: that of speech at 16 kbit/s."""

FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Form:
    """A form that was received.

    Attributes:
        recording: the temporary file.
        fields: name -> all values; a name like ``a[]`` keeps its brackets.
    """

    recording: Path
    fields: Mapping[str, list[str]]


@asynccontextmanager
async def receive_form(
    request: web.BaseRequest, *, max_bytes: int, idle_timeout_s: float
) -> AsyncIterator[Form]:
    """Receive a form; its file is deleted at the end, whatever happens.

    Args:
        request: the request; its client is asked for the body here.
        max_bytes: size limit of the whole body.
        idle_timeout_s: time limit for a pause of the client.

    Raises:
        ApiError: not a form, no file in it, too large, or too slow.
    """
    _check_head(request, max_bytes)
    with TemporaryDirectory(prefix="stream-erc-") as folder:
        recording = Path(folder) / "recording"
        if "100-continue" in request.headers.get("Expect", "").lower():
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        receiving = _Receiving(request, recording, max_bytes, idle_timeout_s)
        yield Form(recording, await receiving.run())


def _check_head(request: web.BaseRequest, max_bytes: int) -> None:
    """Refuse by its head what cannot be received."""
    if request.content_type != FORM:
        got = request.headers.get("Content-Type", "")[:100] or "none"
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected Content-Type {FORM}, got {got}")
    if request.content_length is not None and request.content_length > max_bytes:
        raise _too_large(max_bytes, f"{request.content_length}")


def _too_large(max_bytes: int, got: str) -> ApiError:
    message = f"expected an upload of at most {max_bytes} bytes, got {got}"
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, param="file", code="file_too_large")


class _Receiving:
    """The reading of one form."""

    def __init__(
        self, request: web.BaseRequest, recording: Path, max_bytes: int, idle_timeout_s: float
    ) -> None:
        self._request, self._recording = request, recording
        self._max_bytes, self._idle_s = max_bytes, idle_timeout_s

    async def run(self) -> dict[str, list[str]]:
        """Write the file, and return the other fields.

        Raises:
            ApiError: see `receive_form`.
        """
        reading = asyncio.create_task(self._read())
        try:
            await self._watch(reading)
            return reading.result()
        except (ValueError, AssertionError, RuntimeError, HttpProcessingError) as error:
            message = f"expected a complete {FORM} body, got one with: {error}"
            raise ApiError(HTTPStatus.BAD_REQUEST, message, code="invalid_form") from error
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _watch(self, reading: asyncio.Task[dict[str, list[str]]]) -> None:
        """Wait until the form is read; raise an `ApiError` if its bytes come too slowly, or too many."""
        content, loop = self._request.content, asyncio.get_running_loop()
        began = moved_at = loop.time()
        received = 0
        while not reading.done():
            await asyncio.wait({reading}, timeout=min(1.0, self._idle_s / 4))
            now, before, received = loop.time(), received, content.total_bytes
            if received > before:
                moved_at = now
            if received > self._max_bytes:
                raise _too_large(self._max_bytes, "more")
            if now > min(moved_at + self._idle_s, began + self._idle_s + received / MIN_BYTES_PER_S):
                message = (
                    f"expected at least {MIN_BYTES_PER_S} bytes/s without a pause of {self._idle_s:g} s, "
                    f"got {received} bytes in {now - began:.1f} s"
                )
                raise ApiError(HTTPStatus.REQUEST_TIMEOUT, message, param="file", code="slow_upload")

    async def _read(self) -> dict[str, list[str]]:
        fields: dict[str, list[str]] = {}
        count, found = 0, False
        reader = MultipartReader(self._request.headers, self._request.content)
        while (part := await reader.next()) is not None:
            count += 1
            if not isinstance(part, BodyPartReader) or part.name is None or count > MAX_FIELDS:
                message = f"expected a form of at most {MAX_FIELDS} named fields, got another one"
                raise ApiError(HTTPStatus.BAD_REQUEST, message, code="invalid_form")
            if part.name != "file":
                fields.setdefault(part.name, []).append(await self._field(part))
                continue
            if found:
                raise ApiError(HTTPStatus.BAD_REQUEST, "file: expected one, got more", param="file")
            found = True
            with self._recording.open("wb") as file:
                await self._write(part, file)
        if not found:
            raise ApiError(HTTPStatus.BAD_REQUEST, "file: expected a recording, got none", param="file")
        return fields

    async def _write(self, part: BodyPartReader, file: BinaryIO) -> None:
        """Write the file of a form to the disk, in a thread."""
        written = 0
        while piece := await part.read_chunk(PIECE_BYTES):
            written += len(piece)
            if written > self._max_bytes:
                raise _too_large(self._max_bytes, "more")
            await asyncio.to_thread(file.write, piece)

    async def _field(self, part: BodyPartReader) -> str:
        value = b""
        while piece := await part.read_chunk():
            value += piece
            if len(value) > MAX_FIELD_BYTES:
                message = f"{part.name}: expected at most {MAX_FIELD_BYTES} bytes, got more"
                raise ApiError(HTTPStatus.BAD_REQUEST, message, param=part.name)
        return value.decode("utf-8", "replace")
