"""``POST /v1/audio/transcriptions``: a form with a recording in, a transcript out."""

import json
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from stream_erc.exceptions import AudioError, ConfigError
from stream_erc.exports.conversations import Conversation, final_turns, fold
from stream_erc.inference.workers import lower_priority
from stream_erc.protocol.encoding import Message
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import SessionUpdate
from stream_erc.protocol.negotiation import SessionTerms
from stream_erc.server.http.errors import ApiError
from stream_erc.server.http.models import choose_model
from stream_erc.server.http.recordings import CutOff, Hearing, hearing
from stream_erc.server.http.transcripts import FORMS, Transcript, diarized_segment, done
from stream_erc.server.http.uploads import receive_form
from stream_erc.server.shared import SharedState

log = logging.getLogger(__name__)

MAX_THREADS = 2
"""Number of recordings that are heard at the same time; more wait for their turn."""

GRANULARITIES = ("segment", "word")
EVENTS = "text/event-stream; charset=utf-8"
STOPPING = "the server is stopping"


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a transcription, by the fields of its form.

    Attributes:
        terms: the configuration of the session.
        form: one of `FORMS`.
        stream: whether events are sent as they come.
    """

    terms: SessionTerms
    form: str
    stream: bool


@dataclass(slots=True)
class _Heard:
    """The messages of a recording so far, and what was wrong with it."""

    recording: Path
    messages: list[Message] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, problem: str) -> None:
        """Note a problem, without the name of the temporary file."""
        self.warnings.append(_without(problem, self.recording))

    @property
    def conversation(self) -> Conversation:
        (conversation,) = fold(self.messages)
        return conversation


class Transcriptions:
    """Answers requests for transcriptions.

    Args:
        shared: what the server's connections share.
    """

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        most = min(MAX_THREADS, shared.places.most)
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="recording", initializer=lower_priority)

    def close(self) -> None:
        """Wait until every recording has ended, whose requests have."""
        self._threads.shutdown()

    async def answer(self, request: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
        """Answer one request, whose client was admitted.

        Args:
            request: the request.
            headers: for an answer that begins here.

        Raises:
            ApiError: it cannot be answered.
        """
        config = self._shared.offer.server
        try:
            with self._shared.recording(request.remote or "?"):
                async with receive_form(
                    request, max_bytes=config.max_upload_bytes, idle_timeout_s=config.idle_timeout_s
                ) as form:
                    wanted = read_fields(form.fields, self._shared)
                    return await self._transcribe(request, wanted, form.recording, headers)
        except Refusal as full:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, str(full), code=full.code) from full
        except CutOff as error:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, STOPPING, code="stopping") from error

    async def _transcribe(
        self, request: web.BaseRequest, wanted: Request, recording: Path, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Hear a recording and answer with its transcript."""
        shared, name = self._shared, f"r_{secrets.token_hex(8)}"
        model = wanted.terms.requested.model or ""
        count = shared.telemetry.audio.inc
        run = Hearing(wanted.terms, shared.workers[model], name, count)
        heard = _Heard(recording)
        log.info("recording begun", extra={"session": name, "peer": request.remote})
        try:
            async with hearing(shared, self._threads, run, recording, heard.warn) as messages:
                if wanted.stream:
                    heard.messages.append(await anext(messages))  # an error can still have a status
                    response = web.StreamResponse(headers={**headers, "Content-Type": EVENTS})
                    await response.prepare(request)
                    await self._stream(response, wanted, heard, messages)
                    return response
                async for message in messages:
                    heard.messages.append(message)
            transcript = self._transcript(wanted, heard)
        except AudioError as error:
            raise _unreadable(error, recording) from error
        finally:
            log.info("recording ended", extra={"session": name})
        form = FORMS[wanted.form]
        body = form.write(transcript).encode("utf-8", "replace")
        return web.Response(body=body, headers={"Content-Type": f"{form.content_type}; charset=utf-8"})

    def _transcript(self, wanted: Request, heard: _Heard) -> Transcript:
        """Return the transcript of a recording that was heard to its end; count its turns.

        Raises:
            ApiError: there were turns, and none could be analysed.
        """
        conversation = heard.conversation
        turns = len(final_turns(conversation))
        failed = len(conversation.turns) - turns
        self._shared.telemetry.turns.labels("final").inc(turns)
        self._shared.telemetry.turns.labels("failed").inc(failed)
        if failed and not turns:
            message = f"expected turns that can be analysed, got {failed} that cannot"
            raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message)
        if failed:
            heard.warnings.append(f"{failed} of {turns + failed} turns could not be analysed")
        language = wanted.terms.configuration().language or ""
        return Transcript(conversation, language, tuple(heard.warnings))

    async def _stream(
        self, response: web.StreamResponse, wanted: Request, heard: _Heard, messages: AsyncIterator[Message]
    ) -> None:
        """Send each turn as it comes, then the whole; an error after the first event is an event, too."""
        try:
            said = False
            async for message in messages:
                heard.messages.append(message)
                if message["type"] == "turn.final":
                    for event in _events_of(message, wanted.form, first=not said):
                        said = True
                        await _send(response, event)
            await _send(response, done(self._transcript(wanted, heard)))
        except ConnectionError:  # the client has left
            raise
        except Exception as error:  # the boundary: the client is owed an end
            await _send(response, _as_api_error(error, heard.recording).fields(), name="error")


def read_fields(fields: Mapping[str, Sequence[str]], shared: SharedState) -> Request:
    """Check the fields of a form; those that are not known are ignored.

    Raises:
        ApiError: a field has a value that is not served.
    """
    engines = shared.offer.engines
    if not _one(fields, "model"):
        known = ", ".join(engines)
        raise ApiError(HTTPStatus.BAD_REQUEST, f"model: expected one of {known}, got none", param="model")
    model = choose_model(engines, _one(fields, "model"))
    form = _choice(fields, "response_format", tuple(FORMS), "json")
    stream = _choice(fields, "stream", ("true", "false"), "false") == "true"
    granularities = fields.get("timestamp_granularities[]", fields.get("timestamp_granularities", ()))
    for given in granularities:
        if given not in GRANULARITIES:
            raise _unexpected("timestamp_granularities[]", GRANULARITIES, given)
    update = SessionUpdate(
        model=model, language=_one(fields, "language") or None, words="word" in granularities, partials=False
    )
    try:
        terms = SessionTerms(shared.offer, update)
    except ConfigError as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, f"language: {error}", param="language") from error
    return Request(terms, form, stream)


def _one(fields: Mapping[str, Sequence[str]], name: str) -> str:
    """Return the last value of a field, "" if it is missing."""
    return (fields.get(name) or [""])[-1].strip()


def _choice(fields: Mapping[str, Sequence[str]], name: str, choices: Sequence[str], default: str) -> str:
    given = _one(fields, name).lower() or default
    if given not in choices:
        raise _unexpected(name, choices, given)
    return given


def _unexpected(name: str, choices: Sequence[str], given: str) -> ApiError:
    message = f"{name}: expected one of {', '.join(choices)}, got {given[:100]!r}"
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=name)


def _unreadable(error: AudioError, recording: Path) -> ApiError:
    message = _without(str(error), recording)
    return ApiError(HTTPStatus.BAD_REQUEST, message, param="file", code="invalid_audio")


def _as_api_error(error: Exception, recording: Path) -> ApiError:
    match error:
        case ApiError():
            return error
        case AudioError():
            return _unreadable(error, recording)
        case CutOff():
            return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, STOPPING, code="stopping")
        case _:
            log.error("a transcription failed", exc_info=error)
            return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "expected no error of the server, got one")


def _without(problem: str, recording: Path) -> str:
    """Return a message without the name of the temporary file."""
    return problem.removeprefix(f"{recording}: ")


def _events_of(message: Message, form: str, *, first: bool) -> list[Message]:
    """Return the events of a turn: its text and, for a diarized transcript, its segment."""
    (conversation,) = fold([message])
    events: list[Message] = []
    for turn in final_turns(conversation):
        if not turn.line:
            continue
        delta: Message = {"type": "transcript.text.delta", "delta": turn.line if first else f" {turn.line}"}
        if form == "diarized_json":
            segment = diarized_segment(turn)
            delta["segment_id"] = segment["id"]
            events += [delta, segment]
        else:
            events.append(delta)
    return events


async def _send(response: web.StreamResponse, event: Message, name: str | None = None) -> None:
    """Send one server-sent event."""
    kind = "" if name is None else f"event: {name}\n"
    await response.write(
        f"{kind}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode("utf-8", "replace")
    )
