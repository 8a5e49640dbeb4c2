"""The Python client: against a stand-in that keeps the protocol, and against the real server."""

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import math
import os
import queue
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import MISSING, fields, is_dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import av
import msgspec
import numpy as np
import pytest
import soundfile
import soxr
import stream_erc_client as erc
import stream_erc_client.__main__ as command_line
from fakes import conversation, silence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paths import ROOT
from serving import Running, real_engine, serve, start
from stream_erc_client import buffer as client_buffer
from stream_erc_client import microphone, sync
from stream_erc_client.audio import WavFile
from stream_erc_client.buffer import Audio, Buffer, packet_samples
from stream_erc_client.connection import Connection
from stream_erc_client.connector import Connector, socket_url
from stream_erc_client.exporting import export
from stream_erc_client.inbox import Inbox
from stream_erc_client.microphone import record
from stream_erc_client.session import Session
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.http11 import Request, Response

from stream_erc.audio import to_pcm16
from stream_erc.protocol import messages
from stream_erc.server import outbox
from stream_erc.server.stores.sqlite import SqliteStore

CLIENT = ROOT / "clients" / "python"

Fields = dict[str, Any]

LIMITS: Fields = {
    "max_message_bytes": 2**20,
    "max_frame_ms": 500,
    "burst_ms": 2_000,
    "idle_timeout_ms": 60_000,
    "retention_ms": 600_000,
    "appended_audio_ms": 60_000,
}
CONFIGURATION: Fields = {
    "audio": {"encoding": "pcm_s16le", "sample_rate_hz": 16_000},
    "turns": "heard",
    "model": "stand-in",
    "labels": ["neutral"],
    "language": None,
    "speakers": None,
    "partials": True,
    "min_silence_ms": 500,
    "pace": "live",
}
TURN = 8_000  # samples: the stand-in hears a turn in every half second


# --- a server that keeps the protocol ------------------------------------------------------------


class Heard:
    """A session of the stand-in, without I/O: the text of a turn is a hash of all that was said before it.

    It is stored at every turn; what came after that is forgotten when the connection is lost.
    """

    def __init__(self, token: str = "secret") -> None:
        self.token = token
        self.audio = bytearray()
        self.inputs: list[tuple[int, str]] = []  # the position at which each came
        self.events: list[Fields] = []
        self.stored = (0, 0)
        self.closed = False
        self.acknowledging = True

    def receive(self, frame: str | bytes) -> list[Fields]:
        """What is said to a frame."""
        told: list[Fields] = []
        if isinstance(frame, bytes):
            assert 0 < len(frame) <= 2 * 16 * LIMITS["max_frame_ms"]
            while frame:
                size = 2 * TURN - len(self.audio) % (2 * TURN)
                self.audio += frame[:size]
                frame = frame[size:]
                if len(self.audio) % (2 * TURN) == 0:
                    told += self._hear()
            return told
        message = json.loads(frame)
        match message.pop("type"):
            case "session.update":
                told.append({"type": "session.updated", "configuration": CONFIGURATION})
            case "session.resume":
                told += self._resume(message)
            case "turn.append" | "turn.correct" | "speaker.rename" | "voice.enrol":
                if message["input_id"] > len(self.inputs):
                    assert message["input_id"] == len(self.inputs) + 1
                    self.inputs.append((len(self.audio) // 2, json.dumps(message)))
            case "input.skip":
                self.audio += bytes(max(0, 32 * message["audio_ms"] - len(self.audio)))
                while len(self.inputs) < message["input_id"]:
                    self.inputs.append((len(self.audio) // 2, "skipped"))
            case "session.close":
                told += [] if self.closed else self._close()
            case "ping":
                told.append({"type": "pong", "id": None})
            case other:
                raise AssertionError(other)
        return told

    def _lose(self) -> None:
        """Go back to what was stored."""
        samples, inputs = self.stored
        del self.audio[2 * samples :], self.inputs[inputs:]

    def _hear(self) -> list[Fields]:
        turn = len(self.events)
        before = self.events[-1]["text"] if self.events else ""
        said = f"{before} {self.inputs}".encode() + self.audio[-2 * TURN :]
        digest = hashlib.sha256(said).hexdigest()
        self._event({"type": "turn.final", **a_turn(turn, digest)})
        self.stored = (len(self.audio) // 2, len(self.inputs))
        told = [self.events[-1]]
        if self.acknowledging:
            samples, inputs = self.stored
            told.append({"type": "input.acknowledged", "audio_ms": samples // 16, "input_id": inputs})
        return told

    def _resume(self, message: Fields) -> list[Fields]:
        assert message["resume_token"] == self.token
        self._lose()
        samples, inputs = self.stored
        resumed = {"type": "session.resumed", "audio_ms": samples // 16, "input_id": inputs}
        resumed |= {"event_id": len(self.events), "configuration": CONFIGURATION, "limits": LIMITS}
        return [resumed, *self.events[message["last_event_id"] :]]

    def _close(self) -> list[Fields]:
        self.closed = True
        self.stored = (len(self.audio) // 2, len(self.inputs))
        totals = {"audio_ms": round(len(self.audio) / 32), "turns": len(self.events), "failed_turns": 0}
        self._event({"type": "session.closed", **totals, "speakers": ["speaker_1"]})
        return [self.events[-1]]

    def _event(self, message: Fields) -> None:
        self.events.append(message | {"event_id": len(self.events) + 1})


def a_turn(turn: int, text: str) -> Fields:
    return {
        "turn": turn,
        "speaker": "speaker_1",
        "audio_start_ms": 500 * turn,
        "audio_end_ms": 500 * turn + 400,
        "text": text,
        "emotion": {"label": "neutral", "confidence": 1.0, "probabilities": {"neutral": 1.0}},
        "latency_ms": {"endpointing": 1.0, "asr": 1, "features": 1.0, "emotion": 1.0, "total": 4.0},
        "revision": 0,
    }


class Talk:
    """One connection of the stand-in."""

    def __init__(self, server: "StandIn", connection: ServerConnection, number: int) -> None:
        self.server, self.socket, self.number = server, connection, number
        self.seq = 0
        self.frames = 0  # of audio

    async def say(self, kind: str, **fields: Any) -> None:
        message = {"type": kind, "session_id": "s", "seq": self.seq, "created_at": "2026-01-01T00:00:00Z"}
        self.seq += 1
        await self.socket.send(json.dumps(message | fields))

    async def fail(self, code: str, close_code: int) -> None:
        await self.say("error", code=code, message="expected this, got that", retryable=False)
        await self.socket.close(close_code)

    async def create(self) -> None:
        created = {"model": "stand-in", "asr": "none", "labels": ["neutral"], "resume_token": "secret"}
        await self.say("session.created", **created, configuration=CONFIGURATION, limits=self.server.limits)

    async def go_on(self) -> None:
        """Keep the protocol until the end, or until this connection's cut."""
        session = self.server.session
        cut = self.server.cuts.get(self.number)
        async for frame in self.socket:
            self.server.frames.append(frame)
            self.frames += isinstance(frame, bytes)
            for message in session.receive(frame):
                fields = dict(message)
                await self.say(fields.pop("type"), **fields)
            if cut is not None and self.frames >= cut:
                self.socket.transport.abort()
                return
            if session.closed:
                return


Script = Callable[[Talk], Awaitable[None]]


class StandIn:
    """Serves one session; a script may do something else with the first connections.

    Args:
        scripts: what to do with connection 1, 2 ...; after them the protocol is kept.
        cuts: connection -> audio frames after which it is aborted.
        refused: HTTP status for each of the first connections.
    """

    def __init__(
        self, *scripts: Script, cuts: dict[int, int] | None = None, refused: tuple[int, ...] = ()
    ) -> None:
        self.scripts, self.cuts = list(scripts), cuts or {}
        self.refused = list(refused)
        self.session = Heard()
        self.limits = dict(LIMITS)
        self.connections = 0
        self.headers: list[str | None] = []
        self.frames: list[str | bytes] = []  # everything that was received, over all connections

    async def handle(self, connection: ServerConnection) -> None:
        self.connections += 1
        talk = Talk(self, connection, self.connections)
        with contextlib.suppress(Exception if connection.transport.is_closing() else ()):
            if self.scripts:
                await self.scripts.pop(0)(talk)
            else:
                await keep_protocol(talk)

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append(request.headers.get("Authorization"))
        assert request.path == "/v1/session"
        return connection.respond(self.refused.pop(0), "no") if self.refused else None  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)  # small: a slow server is felt soon
        listening.bind(("127.0.0.1", 0))
        options: Fields = {"process_request": self.admit, "compression": None, "close_timeout": 0.5}
        async with serve_sockets(self.handle, sock=listening, **options):
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}"


async def keep_protocol(talk: Talk) -> None:
    await talk.create()
    await talk.go_on()


async def until_configured(talk: Talk) -> None:
    """As far as session.updated."""
    await talk.create()
    await talk.socket.recv()
    await talk.say("session.updated", configuration=CONFIGURATION)


def samples(seconds: float) -> bytes:
    """Audio in which no two samples follow each other twice."""
    return b"".join(struct.pack("<h", (i * i) % 65_536 - 32_768) for i in range(round(seconds * 16_000)))


def chunks(audio: bytes, ms: int = 40) -> Iterator[bytes]:
    for at in range(0, len(audio), 32 * ms):
        yield audio[at : at + 32 * ms]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run, and nothing may be left running."""

    async def checked() -> Any:
        result = await asyncio.wait_for(work, 60)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        left = {task for task in left if "stream_erc_client" in str(task.get_coro())}
        assert not left
        return result

    return asyncio.run(checked())


async def converse(
    url: str, audio: bytes, inputs: dict[int, str] | None = None, pause_s: float = 0.0, **options: Any
) -> list[erc.Event]:
    """Send audio, with a turn's text before some of the chunks, close, and give what was told."""
    async with erc.connect(url, **options) as session:

        async def send() -> None:
            for number, chunk in enumerate(chunks(audio)):
                if inputs and number in inputs:
                    await session.append_turn(text=inputs[number])
                await session.send_audio(chunk)
                await asyncio.sleep(pause_s)
            await session.close()

        sending = asyncio.create_task(send())
        try:
            return [event async for event in session]
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, erc.StreamErcClientError):
                await sending


def told(events: list[erc.Event]) -> list[tuple[Any, ...]]:
    """The events that are never lost, without what differs from connection to connection."""
    found: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, erc.TurnFinal):
            found.append((event.event_id, event.turn, event.text))
        elif isinstance(event, erc.SessionClosed):
            found.append((event.event_id, event.audio_ms, event.turns))
    return found


def undisturbed(audio: bytes, inputs: dict[int, str] | None = None) -> list[tuple[Any, ...]]:
    """What a session without an interruption tells."""

    async def once() -> list[erc.Event]:
        async with StandIn().serving() as url:
            return await converse(url, audio, inputs)

    return told(run(once()))


# --- the buffer ----------------------------------------------------------------------------------

PIECES = st.lists(st.one_of(st.integers(1, 90), st.just("input")), max_size=25)


@given(st.data(), PIECES, st.sampled_from(["pcm_s16le", "mulaw", "alaw", "pcm_f32le"]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_over_any_cuts_the_server_gets_exactly_the_stream(
    data: st.DataObject, pieces: list[int | str], encoding: str
) -> None:
    """Audio sample for sample, every input once, at the audio position at which it was said."""
    size = {"pcm_s16le": 2, "mulaw": 1, "alaw": 1, "pcm_f32le": 4}[encoding]
    buffer = Buffer(encoding, 16_000)
    whole, places = bytearray(), []
    heard, inputs = bytearray(), []
    acknowledged = (0, 0)
    pending = list(pieces)
    while pending or buffer.unsent_ms or len(inputs) < len(places):
        action = data.draw(st.sampled_from(["append", "send", "acknowledge", "cut"])) if pending else "send"
        if action == "append":
            piece = pending.pop(0)
            if piece == "input":
                places.append(len(whole) // size)
                assert buffer.append_input({"type": "turn.append"}) == len(places)
            else:
                chunk = bytes((len(whole) + i) % 251 for i in range(int(piece) * size))
                whole += chunk
                buffer.append_audio(chunk)
        elif action == "send":
            frame = buffer.next(data.draw(st.integers(1, 50)))
            if isinstance(frame, bytes):
                assert len(frame) <= 50 * size
                heard += frame
            elif frame is not None:
                inputs.append((len(heard) // size, json.loads(frame)["input_id"]))
        else:
            samples, last = acknowledged
            if action == "cut":  # the server may have gone back behind what it acknowledged
                samples = last = 0
            samples = data.draw(st.integers(samples, len(heard) // size))
            last = data.draw(st.integers(last, len(inputs)))
            if action == "acknowledge":
                buffer.acknowledge(samples, last)
                acknowledged = (samples, last)
            else:
                buffer.rewind(samples, last)
                acknowledged = (samples, last)
                del heard[samples * size :], inputs[last:]
        assert buffer.unacknowledged_ms == (len(whole) // size - acknowledged[0]) / 16
        assert buffer.unsent_ms == (len(whole) - len(heard)) / size / 16
    assert bytes(heard) == bytes(whole)
    assert [input_id for _, input_id in inputs] == list(range(1, len(places) + 1))
    # Where the server kept the audio before an input and not the input, it comes later than it was said.
    assert all(at >= place for (at, _), place in zip(inputs, places, strict=True))


def test_inputs_are_sent_again_where_they_were_said() -> None:
    buffer = Buffer("pcm_s16le", 16_000)
    buffer.append_audio(bytes(range(8)))
    buffer.append_input({"type": "turn.append", "text": "é"})
    buffer.append_audio(bytes(range(8, 16)))
    sent = [buffer.next(100) for _ in range(3)]
    assert sent[1] == '{"type": "turn.append", "text": "é", "input_id": 1}'
    buffer.rewind(2, 0)
    assert [buffer.next(100) for _ in range(4)] == [bytes(range(4, 8)), sent[1], bytes(range(8, 16)), None]
    buffer.rewind(6, 1)
    assert [buffer.next(100) for _ in range(2)] == [bytes(range(12, 16)), None]


def test_audio_counts_its_bytes_whatever_holds_them() -> None:
    audio = np.arange(1_000, dtype="<i2")
    for data in (audio, memoryview(audio), bytearray(audio.tobytes()), audio[::1]):
        buffer = Buffer("pcm_s16le", 16_000)
        buffer.append_audio(data)
        assert buffer.end == 1_000
        assert buffer.next(1_000) == audio.tobytes()


def test_an_hour_in_one_piece_is_cut_without_copying_the_rest_each_time() -> None:
    buffer = Buffer("pcm_s16le", 16_000)
    hour = bytes(2 * 16_000 * 3_600)
    began = time.process_time()
    buffer.append_audio(hour)
    sent = 0
    while frame := buffer.next(8_000):
        sent += len(frame)
    assert sent == len(hour)
    assert time.process_time() - began < 3


def kept_bytes(buffer: Buffer) -> int:
    return sum(len(item.data if isinstance(item, Audio) else item.text) for item in buffer._items)


def test_of_what_is_acknowledged_the_last_part_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_buffer, "KEPT_BYTES", 20_000)
    buffer = Buffer("pcm_s16le", 8_000)
    buffer.append_audio(bytes(160_000))  # 10 s at once
    for _ in range(100):
        buffer.append_audio(bytes(1600))
        buffer.append_input({})
    while buffer.next(8_000):
        pass
    assert kept_bytes(buffer) > 300_000
    for position in range(8_000, buffer.end, 8_000):
        buffer.acknowledge(position, 0)
    assert kept_bytes(buffer) > 130_000  # what follows an input that is not stored is kept with it
    buffer.acknowledge(buffer.end - 30, 100)
    assert buffer.unacknowledged_ms == 30 / 8
    assert 10_000 < kept_bytes(buffer) < 20_000 and not buffer.whole


@pytest.mark.parametrize(("position", "input_id"), [(17, 1), (5, 3)])
def test_a_place_that_was_never_sent_loses_the_session(position: int, input_id: int) -> None:
    buffer = Buffer("pcm_s16le", 16_000)
    buffer.append_audio(bytes(32))
    for _ in range(2):
        buffer.append_input({})
    with pytest.raises(erc.SessionLost, match="expected to resume"):
        buffer.rewind(position, input_id)


def test_what_was_acknowledged_is_sent_again_in_the_same_order() -> None:
    """Also the second time, and where an input was stored later than the audio behind it."""
    buffer = Buffer("pcm_s16le", 16_000)
    buffer.append_audio(b"a" * 32)
    buffer.append_input({"name": "one"})
    buffer.append_audio(b"b" * 64)
    sent = list(iter(lambda: buffer.next(100), None))
    buffer.acknowledge(40, 0)
    assert buffer.rewind(40, 0) == (40, 0)
    assert list(iter(lambda: buffer.next(100), None)) == [sent[1], b"b" * 16]
    buffer.acknowledge(48, 1)
    for _ in range(2):
        assert buffer.rewind(8, 0) == (8, 0)
        assert list(iter(lambda: buffer.next(100), None)) == [b"a" * 16, sent[1], b"b" * 64]


@pytest.mark.parametrize(("rate", "place_s"), [(16_000, 1.6), (44_100, 2.0)])
def test_what_is_forgotten_is_left_out(rate: int, place_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left begins at a whole second, unless the rate is the server's."""
    monkeypatch.setattr(client_buffer, "KEPT_BYTES", 3 * rate)  # 1.5 s
    buffer = Buffer("pcm_s16le", rate)
    buffer.append_input({})
    for _ in range(30):
        buffer.append_audio(bytes(rate // 10 * 2))
    while buffer.next(rate):
        pass
    buffer.acknowledge(buffer.end, 1)
    position, input_id = buffer.rewind(0, 0)
    assert input_id == 1 and abs(position / rate - place_s) < (0.11 if rate == 16_000 else 1e-9)
    assert len(b"".join(iter(lambda: buffer.next(rate), None))) == (buffer.end - position) * 2  # type: ignore[arg-type]


def test_more_than_was_sent_cannot_be_acknowledged() -> None:
    buffer = Buffer("pcm_s16le", 16_000)
    buffer.append_audio(bytes(32))
    with pytest.raises(erc.ProtocolError, match="at most 0 samples"):
        buffer.acknowledge(1, 0)


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (b"\x00", 480),  # SILK, 10 ms
        (b"\x18.", 2_880),  # SILK, 60 ms
        (b"\x68.", 960),  # hybrid, 20 ms
        (b"\x80.", 120),  # CELT, 2.5 ms
        (b"\xf8.", 960),  # CELT, 20 ms
        (b"\xf9.", 1_920),  # two frames
        (b"\xfa.", 1_920),
        (b"\xfb\x06", 5_760),  # six frames: 120 ms
        (b"\xfb\xc3", 2_880),  # variable rate and padding are no part of the count
    ],
)
def test_an_opus_packet_says_how_long_it_is(packet: bytes, samples: int) -> None:
    assert packet_samples(packet) == samples


@pytest.mark.parametrize("packet", [b"", b"\xfb", b"\xfb\x00", b"\xfb\x07"])
def test_what_is_no_opus_packet_is_not_sent(packet: bytes) -> None:
    with pytest.raises(erc.InvalidInput, match="expected an opus packet"):
        Buffer("opus", 48_000).append_audio(packet)


def test_opus_packets_stay_whole() -> None:
    buffer = Buffer("opus", 48_000)
    packets = [b"\xf8" + bytes([n]) * 50 for n in range(100)]  # 20 ms each
    for packet in packets:
        buffer.append_audio(packet)
    assert [buffer.next(1) for _ in range(101)] == [*packets, None]
    buffer.acknowledge(48_000 + 100, 0)  # within packet 50
    assert buffer.unacknowledged_ms == pytest.approx(1_000 - 100 / 48)
    with pytest.raises(erc.SessionLost, match="start of a packet"):
        buffer.rewind(48_000 + 100, 0)
    buffer.rewind(48_000 + 960, 0)
    assert buffer.next(1) == packets[51]


@pytest.mark.parametrize(("encoding", "data"), [("pcm_s16le", b"123"), ("pcm_f32le", b"123456")])
def test_half_a_sample_is_not_sent(encoding: str, data: bytes) -> None:
    buffer = Buffer(encoding, 16_000)
    with pytest.raises(erc.InvalidInput, match="whole samples"):
        buffer.append_audio(data)
    assert buffer.end == 0


# --- the connection, without I/O -----------------------------------------------------------------


def a_connection() -> Connection:
    return Connection({"pace": "live"}, "pcm_s16le", 16_000)


CREATED: Fields = {
    "type": "session.created",
    "model": "m",
    "asr": "a",
    "labels": [],
    "resume_token": "secret",
}
CREATED |= {"configuration": CONFIGURATION, "limits": LIMITS}


def wire(message: Fields, seq: int = 0) -> str:
    return json.dumps({"session_id": "s", "seq": seq} | message)


def configured() -> Connection:
    """A connection whose session is open."""
    connection = a_connection()
    connection.opened()
    connection.receive(wire(CREATED))
    connection.next_frame()
    connection.receive(wire({"type": "session.updated", "configuration": CONFIGURATION}))
    return connection


@given(st.integers(), PIECES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_over_any_cuts_the_events_are_those_of_an_undisturbed_session(
    seed: int, pieces: list[int | str]
) -> None:
    """Frames and messages are lost in flight, in both directions; each event comes once, with equal words."""

    def session(cuts: bool) -> list[tuple[Any, ...]]:
        connection, server, chance = a_connection(), Heard(), random.Random(seed)
        up: list[str | bytes] = []
        down: list[str] = []
        events: list[erc.Event] = []
        pending = list(pieces)
        connection.opened()
        down.append(wire(CREATED))
        for _ in range(10_000):
            may = ["send", "carry up", "carry down", *(["append"] if pending else [])]
            action = chance.choice([*may, "cut"] if pending else may) if cuts else None
            if action in ("append", None) and pending and connection.configuration:
                piece = pending.pop(0)
                if piece == "input":
                    connection.append_turn("well", None, None, None)
                else:
                    connection.append_audio(samples(0.5)[: int(piece) * 400])
                if not pending:
                    connection.close()
            if not pending and not connection.closing and connection.configuration:
                connection.close()
            if action == "cut":
                up.clear()
                down.clear()
                connection.lost(None, "cut")
                connection.opened()
                down.append(wire(CREATED))
            if action in ("send", None) and (frame := connection.next_frame()) is not None:
                up.append(frame)
            if action in ("carry up", None) and up:
                down += [wire(message) for message in server.receive(up.pop(0))]
            if action in ("carry down", None) and down:
                events += connection.receive(down.pop(0))
            if events and isinstance(events[-1], erc.SessionClosed):
                assert connection.mismatch is None
                return told(events)
        raise AssertionError("the session does not end")

    assert session(cuts=True) == session(cuts=False)


def test_an_event_that_came_before_is_dropped() -> None:
    connection = configured()
    event = {"type": "turn.final", "event_id": 1, **a_turn(0, "yes")}
    assert len(connection.receive(wire(event))) == 1
    assert connection.receive(wire(event)) == []


def test_an_unknown_event_counts_too() -> None:
    connection = configured()
    [unknown] = connection.receive(wire({"type": "turn.sung", "event_id": 1, "key": "C"}))
    assert isinstance(unknown, erc.Unknown) and unknown.type == "turn.sung" and unknown.fields["key"] == "C"
    assert connection.receive(wire({"type": "turn.sung", "event_id": 1})) == []


def test_a_missing_event_is_an_error() -> None:
    with pytest.raises(erc.EventsLost, match="expected event 1, got 2"):
        configured().receive(wire({"type": "turn.final", "event_id": 2, **a_turn(1, "yes")}))


def test_the_reason_of_a_close_is_the_error_just_before_it() -> None:
    connection = configured()
    error = {"type": "error", "code": "audio_too_fast", "message": "too fast", "retryable": True}
    connection.receive(wire(error))
    with pytest.raises(erc.InputRefused, match="1008: audio_too_fast: too fast"):
        connection.lost(1008, "")
    connection = configured()
    connection.receive(wire(error))
    connection.receive(wire({"type": "heartbeat", "audio_ms": 0}))
    assert connection.lost(1011, "crashed") == "1011 crashed"


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1011, 1012, 1013, 4408, 4429])
def test_other_closes_are_tried_again(code: int | None) -> None:
    assert "why" in configured().lost(code, "why")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1002, erc.ProtocolError),
        (1008, erc.InputRefused),
        (1009, erc.InputRefused),
        (4404, erc.SessionLost),
        (4409, erc.SessionTakenOver),
    ],
)
def test_some_closes_are_final(code: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{code}: why"):
        configured().lost(code, "why")


@pytest.mark.parametrize(
    "say",
    [
        lambda connection: connection.append_turn(None, "Anna", None, None),
        lambda connection: connection.append_turn("yes", None, 10, None),
        lambda connection: connection.append_turn(None, None, 20, 20),
        lambda connection: connection.append_turn("x" * 20_001, None, None, None),
        lambda connection: connection.append_turn("yes", "", None, None),
        lambda connection: connection.correct_turn(-1, "Anna"),
        lambda connection: connection.rename_speaker("speaker_1", "x" * 101),
        lambda connection: connection.append_turn("half a pair: \ud800", None, None, None),
        lambda connection: connection.rename_speaker("speaker_1", "\udfff"),
        lambda connection: connection.enrol_voice("Anna", None, None, False),
        lambda connection: connection.enrol_voice("Anna", 0, b"", False),
        lambda connection: connection.enrol_voice("Anna", -1, None, False),
        lambda connection: connection.enrol_voice("Anna", None, bytes(3), False),
        lambda connection: connection.enrol_voice("Anna", None, bytes(2 * 16 * 30_001), False),
        lambda connection: connection.enrol_voice("", 0, None, False),
    ],
)
def test_what_the_server_would_not_read_is_not_sent(say: Callable[[Connection], object]) -> None:
    connection = configured()
    with pytest.raises(erc.InvalidInput, match="expected"):
        say(connection)
    assert connection.next_frame() is None
    assert connection.append_turn("yes", None, None, None) == 1  # no id was used up


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"seq": 1}',
        '{"type": "heartbeat", "session_id": "s", "seq": 1}',
        '{"type": "heartbeat", "session_id": "s", "seq": 1, "audio_ms": "5"}',
        '{"type": "heartbeat", "session_id": "s", "seq": true, "audio_ms": 5}',
        '{"type": "session.closed", "session_id": "s", "seq": 1, "event_id": 1, "audio_ms": 1, "turns": 0, '
        '"failed_turns": 0, "speakers": [3]}',
    ],
)
def test_what_is_no_message_is_an_error(text: str) -> None:
    with pytest.raises(erc.ProtocolError, match="expected"):
        erc.parse(text)


def test_a_field_of_a_later_version_is_ignored() -> None:
    message = {"type": "heartbeat", "session_id": "s", "seq": 1, "audio_ms": 5, "mood": "fine"}
    assert erc.parse(json.dumps(message)) == erc.Heartbeat(session_id="s", seq=1, audio_ms=5)


def test_the_secret_stays_out_of_logs() -> None:
    assert "secret" not in repr(erc.parse(wire(CREATED)))


# --- the messages are those of the server --------------------------------------------------------


def kind_of(hint: Any) -> Any:
    """A type of either side as something that can be compared."""
    match hint:
        case msgspec.inspect.Metadata(type=inner):
            return kind_of(inner)
        case msgspec.inspect.IntType():
            return int
        case msgspec.inspect.FloatType():
            return float
        case msgspec.inspect.StrType() | msgspec.inspect.LiteralType():
            return str
        case msgspec.inspect.BoolType():
            return bool
        case msgspec.inspect.NoneType():
            return None
        case msgspec.inspect.UnionType(types=types):
            return frozenset(kind_of(option) for option in types)
        case msgspec.inspect.VarTupleType(item_type=item):
            return ("tuple", kind_of(item))
        case msgspec.inspect.DictType(value_type=value):
            return ("dict", kind_of(value))
        case msgspec.inspect.StructType(cls=cls):
            return cls.__name__
        case _ if hint is type(None):
            return None
        case _ if hint in (int, float, str, bool):
            return hint
        case _ if is_dataclass(hint):
            return hint.__name__
    options = get_args(hint)
    if type(None) in options:
        return frozenset(kind_of(option) for option in options)
    name = hint.__origin__.__name__
    return (name, kind_of(options[0] if name == "tuple" else options[1]))


def structs() -> list[type[msgspec.Struct]]:
    found = list(get_args(messages.FromServer))
    parts = (
        "AudioFormat",
        "Source",
        "ModelInfo",
        "Limits",
        "Configuration",
        "EmotionReading",
        "LatencyParts",
    )
    return found + [getattr(messages, name) for name in parts]


@pytest.mark.parametrize("struct", structs(), ids=lambda struct: struct.__name__)
def test_every_message_of_the_server_has_its_dataclass(struct: type[msgspec.Struct]) -> None:
    from stream_erc_client.parsing import _hints

    own = getattr(erc, struct.__name__)
    tag = struct.__struct_config__.tag
    assert getattr(own, "type", None) == tag
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    theirs, hints = {}, _hints(own)
    defaults = {field.name: field.default for field in fields(own)}
    for field in info.fields:
        kind = kind_of(field.type)
        theirs[field.name] = kind
        absent = (msgspec.UNSET, msgspec.NODEFAULT)
        if not field.required and field.default in absent and not isinstance(kind, frozenset):
            if defaults[field.name] is None:
                theirs[field.name] = frozenset({kind, None})  # absent there is None here
    assert {name: kind_of(hint) for name, hint in hints.items()} == theirs
    is_event = "event_id" in theirs and tag != "session.resumed"  # that one tells of another message's
    assert issubclass(own, erc.SessionEvent) == is_event
    optional = {field.name for field in info.fields if not field.required}
    may_lack = {field.name for field in fields(own) if field.default is not MISSING}
    assert may_lack <= optional
    assert optional <= may_lack | {"encoding", "sample_rate_hz"}  # the server always says them


def test_a_turn_tells_who_else_spoke_and_whether_its_speaker_is_unsure() -> None:
    reading: Fields = {"label": "joy", "confidence": 1.0, "probabilities": {"joy": 1.0}}
    parts: Fields = dict.fromkeys(("endpointing", "asr", "features", "emotion", "total"), 0)
    message: Fields = {"type": "turn.final", "session_id": "s", "seq": 1, "event_id": 1, "turn": 0}
    message |= {"speaker": "Anna", "audio_start_ms": 0, "audio_end_ms": 900, "text": "So.", "revision": 0}
    message |= {"emotion": reading, "latency_ms": parts}
    alone = erc.parse(json.dumps(message))
    assert isinstance(alone, erc.TurnFinal)
    assert (alone.speaker_unsure, alone.overlap, alone.others) == (False, 0.0, ())
    told = erc.parse(json.dumps(message | {"speaker_unsure": True, "overlap": 1, "others": ["Bob"]}))
    assert isinstance(told, erc.TurnFinal)
    assert (told.speaker_unsure, told.overlap, told.others) == (True, 1.0, ("Bob",))
    with pytest.raises(erc.ProtocolError, match=r"turn\.final\.others: expected"):
        erc.parse(json.dumps(message | {"others": "Bob"}))


def test_no_other_message_is_known() -> None:
    from stream_erc_client.parsing import MESSAGES

    assert set(MESSAGES) == {struct.__struct_config__.tag for struct in get_args(messages.FromServer)}


# --- a session on a socket -----------------------------------------------------------------------


def test_a_session_tells_what_it_hears() -> None:
    server = StandIn()

    async def once() -> list[erc.Event]:
        async with server.serving() as url:
            return await converse(url.replace("ws://", "http://"), samples(1.3), token="t0ken")

    events = run(once())
    types = [event.type for event in events]
    assert types[:2] == ["session.created", "session.updated"]
    assert types[-1] == "session.closed"
    assert [turn[:2] for turn in told(events)] == [(1, 0), (2, 1), (3, 1_300)]
    assert server.headers == ["Bearer t0ken"]
    update = json.loads(server.frames[0])
    assert update["type"] == "session.update"
    msgspec.convert(update, messages.FromClient)  # the server knows every field
    assert bytes(server.session.audio) == samples(1.3)


def test_a_session_is_had_as_a_file_while_it_goes_on_and_after_its_end() -> None:
    async def once(url: str) -> tuple[bytes, bytes, str]:
        async with erc.connect(url, pace="replay") as session:
            await session.send_audio(to_pcm16(conversation([(1.0, 200), (0.8, 900)])))
            await session.send_audio(bytes(32_000))
            async for event in session:
                if isinstance(event, erc.TurnFinal):
                    during = await session.export("txt")
                    await session.close(keep=True)
        after = await session.export("csv", name="talk.wav")
        with pytest.raises(erc.ExportRefused) as refused:
            await session.export("docx")
        return during, after, str(refused.value)

    with serve() as running:
        during, after, refused = run(once(running.socket_url))
    assert b"speaker_1" in during and after.decode().count("speaker_") >= 2
    assert refused.startswith("expected one of srt, vtt") and refused.endswith("got docx")
    with pytest.raises(erc.ConnectionFailed):
        run(export(running.socket_url, "x", "srt"))


def test_what_is_asked_for_is_sent() -> None:
    server = StandIn()

    async def once() -> erc.Configuration:
        async with server.serving() as url:
            options: Fields = {
                "turns": "appended",
                "labels": ("joy", "anger"),
                "language": "en",
                "speakers": 2,
            }
            options |= {"model": "m", "partials": False, "min_silence_ms": 300, "pace": "replay"}
            options["voices"] = ["Ben"]
            async with erc.connect(url, **options) as session:
                assert session.id == "s" and session.created.model == "stand-in"
                await session.append_turn(text="So.", speaker="Anna", audio_start_ms=0, audio_end_ms=900)
                await session.correct_turn(0, "Tom")
                await session.rename_speaker("Tom", "Tim")
                await session.enrol_voice("Tim", turn=0, keep=True)
                await session.enrol_voice("Cleo", clip=bytes(4))
                return session.configuration

    assert run(once()).model == "stand-in"
    sent = [msgspec.json.decode(frame, type=messages.FromClient) for frame in server.frames]
    audio = messages.AudioFormat(encoding="pcm_s16le", sample_rate_hz=16_000)
    assert sent == [
        messages.SessionUpdate(
            audio=audio,
            turns="appended",
            model="m",
            labels=("joy", "anger"),
            language="en",
            speakers=2,
            voices=("Ben",),
            partials=False,
            min_silence_ms=300,
            pace="replay",
        ),
        messages.TurnAppend(text="So.", speaker="Anna", audio_start_ms=0, audio_end_ms=900, input_id=1),
        messages.TurnCorrect(turn=0, speaker="Tom", input_id=2),
        messages.SpeakerRename(speaker="Tom", name="Tim", input_id=3),
        messages.VoiceEnrol(name="Tim", turn=0, keep=True, input_id=4),
        messages.VoiceEnrol(name="Cleo", clip="AAAAAA==", input_id=5),
        messages.SessionClose(),
    ]


INPUTS = {0: "first", 7: "then", 30: "and then", 31: "at once", 90: "last"}


@pytest.mark.parametrize("acknowledging", [True, False])
def test_no_event_is_lost_over_cuts_and_none_comes_twice(acknowledging: bool) -> None:
    audio = samples(4)
    server = StandIn(cuts={1: 0, 2: 1, 3: 33, 4: 12, 5: 26, 6: 1})
    server.session.acknowledging = acknowledging

    async def once() -> list[erc.Event]:
        async with server.serving() as url:
            return await converse(url, audio, INPUTS)

    events = run(once())
    assert told(events) == undisturbed(audio, INPUTS)
    assert bytes(server.session.audio) == audio
    assert [text for _, text in server.session.inputs] != []
    kinds = [event.type for event in events]
    assert kinds.count("reconnected") == kinds.count("session.resumed") >= 4
    assert kinds.count("disconnected") >= kinds.count("reconnected")


def test_a_closing_session_is_closed_on_the_next_connection() -> None:
    async def cut_at_close(talk: Talk) -> None:
        await until_configured(talk)
        async for frame in talk.socket:
            if isinstance(frame, str):
                assert json.loads(frame)["type"] == "session.close"
                talk.socket.transport.abort()

    async def once() -> list[erc.Event]:
        async with StandIn(cut_at_close).serving() as url:
            return await converse(url, samples(0.7))

    assert told(run(once())) == undisturbed(samples(0.7))


def test_events_that_come_again_are_told_once() -> None:
    class Repeating(Heard):
        def _resume(self, message: Fields) -> list[Fields]:
            return super()._resume(message | {"last_event_id": 0})

    server = StandIn(cuts={1: 40})
    server.session = Repeating()

    async def once() -> list[erc.Event]:
        async with server.serving() as url:
            return await converse(url, samples(3))

    events = run(once())
    assert any(isinstance(event, erc.Reconnected) for event in events)
    assert told(events) == undisturbed(samples(3))


class GoingBack(Heard):
    """Its store has at most two events after a loss, whatever it acknowledged."""

    acknowledging = True

    def __init__(self) -> None:
        super().__init__()
        self.states: list[tuple[int, int]] = []

    def _hear(self) -> list[Fields]:
        told = super()._hear()
        self.states.append(self.stored)
        return told

    def _lose(self) -> None:
        del self.events[2:], self.states[2:]
        self.stored = self.states[-1] if self.states else (0, 0)
        super()._lose()


async def over_cuts(server: StandIn, seconds: float = 4) -> list[erc.Event]:
    async with server.serving() as url:
        return await converse(url, samples(seconds))


def test_what_a_store_that_went_back_makes_again_is_told_once() -> None:
    server = StandIn(cuts={1: 70, 2: 50})
    server.session = GoingBack()
    events = run(over_cuts(server))
    back = [event.repeated_events for event in events if isinstance(event, erc.Reconnected)]
    assert len(back) == 2 and min(back) > 0
    assert told(events) == undisturbed(samples(4))


def test_what_a_store_that_went_back_makes_otherwise_is_told_again() -> None:
    class Otherwise(GoingBack):
        def _event(self, message: Fields) -> None:
            otherwise = {"text": "otherwise"} if len(self.events) == 3 and self.lost else {}
            super()._event(message | otherwise)

        def _lose(self) -> None:
            self.lost = self.events[2:]
            super()._lose()

        lost: tuple[Fields, ...] | list[Fields] = ()  # on the first connection

    server = StandIn(cuts={1: 70})
    server.session = Otherwise()
    turns = [event for event in run(over_cuts(server)) if isinstance(event, erc.TurnFinal)]
    assert [turn.turn for turn in turns if turn.text == "otherwise"] == [3]
    assert [sum(turn.turn == number for turn in turns) for number in (1, 2, 3)] == [1, 1, 2]


def test_what_nobody_has_any_more_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_buffer, "KEPT_BYTES", 20_000)
    server = StandIn(cuts={1: 70})
    server.session = GoingBack()
    events = run(over_cuts(server))
    (reconnected,) = [event for event in events if isinstance(event, erc.Reconnected)]
    assert reconnected.lost_audio_ms > 500
    assert isinstance(events[-1], erc.SessionClosed) and events[-1].audio_ms == 4_000


def test_a_session_that_the_store_has_as_it_was_created_is_configured_again() -> None:
    async def talk_and_drop(talk: Talk) -> None:
        talk.server.cuts[1] = 70
        await keep_protocol(talk)

    async def as_created(talk: Talk) -> None:
        await talk.create()
        assert json.loads(await talk.socket.recv())["type"] == "session.resume"
        talk.server.session = Heard()
        other = CONFIGURATION | {"pace": "live", "partials": not CONFIGURATION["partials"]}
        fields = {"audio_ms": 0, "input_id": 0, "event_id": 0, "limits": talk.server.limits}
        await talk.say("session.resumed", **fields, configuration=other)
        await talk.go_on()

    server = StandIn(talk_and_drop, as_created)
    events = run(over_cuts(server))
    asked = [frame for frame in server.frames if isinstance(frame, str) and "session.update" in frame]
    assert len(asked) == 2 and asked[0] == asked[1]
    (reconnected,) = [event for event in events if isinstance(event, erc.Reconnected)]
    assert reconnected.repeated_events > 0
    assert told(events) == undisturbed(samples(4))


def test_a_session_that_the_store_has_not_any_more_begins_again() -> None:
    async def refuse(talk: Talk) -> None:
        await talk.create()
        talk.server.session = Heard()
        await talk.fail("resume_refused", 4404)

    async def talk_and_drop(talk: Talk) -> None:
        talk.server.cuts[1] = 70
        await keep_protocol(talk)

    events = run(over_cuts(StandIn(talk_and_drop, refuse)))
    (reconnected,) = [event for event in events if isinstance(event, erc.Reconnected)]
    assert reconnected.repeated_events > 0
    assert told(events) == undisturbed(samples(4))


def fails_with(error: type[Exception], match: str, server: StandIn, **options: Any) -> None:
    """Both the iteration and, later, the other calls say why."""

    async def once() -> None:
        async with server.serving() as url, erc.connect(url, **options) as session:
            with pytest.raises(error, match=match):
                await session.close()
                async for _ in session:
                    pass
            with pytest.raises(error, match=match):
                await session.send_audio(bytes(640))
            assert [event async for event in session] == []

    run(once())


def test_a_gap_ends_the_session() -> None:
    async def skip(talk: Talk) -> None:
        await until_configured(talk)
        await talk.say("turn.final", event_id=2, **a_turn(1, "two"))
        await talk.socket.wait_closed()

    fails_with(erc.EventsLost, "expected event 1, got 2", StandIn(skip))


def test_a_refused_resumption_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drop(talk: Talk) -> None:
        await until_configured(talk)
        talk.socket.transport.abort()

    async def refuse(talk: Talk) -> None:
        await talk.create()
        await talk.fail("resume_refused", 4404)

    monkeypatch.setattr(Buffer, "whole", False)
    fails_with(erc.SessionLost, "expected this, got that", StandIn(drop, refuse))


def test_another_connection_takes_the_session_over() -> None:
    async def lose(talk: Talk) -> None:
        await until_configured(talk)
        await talk.fail("taken_over", 4409)

    fails_with(erc.SessionTakenOver, "taken_over", StandIn(lose))


def test_totals_that_differ_are_an_error_after_the_last_event() -> None:
    class Forgetting(Heard):
        def _close(self) -> list[Fields]:
            [closed] = super()._close()
            return [closed | {"turns": 5}]

    server = StandIn()
    server.session = Forgetting()

    async def once() -> None:
        async with server.serving() as url, erc.connect(url) as session:
            await session.send_audio(samples(0.5))
            await session.close()
            events = []
            with pytest.raises(erc.TotalsMismatch, match="500 ms of audio and 1 turns, got 500 ms and 5"):
                async for event in session:
                    events.append(event)
            assert events[-1].type == "session.closed"

    run(once())


def opening_fails(error: type[Exception], match: str, server: StandIn, **options: Any) -> None:
    async def once() -> None:
        async with server.serving() as url:
            with pytest.raises(error, match=match):
                async with erc.connect(url, **options):
                    pass

    run(once())


def test_a_wrong_token_is_told() -> None:
    async def ask(talk: Talk) -> None:
        await talk.fail("authentication", 1008)

    opening_fails(erc.AuthenticationFailed, "expected this", StandIn(ask), token="wrong")
    opening_fails(erc.AuthenticationFailed, "HTTP 401", StandIn(refused=(401,)))


def test_a_configuration_that_there_is_not_is_told() -> None:
    async def refuse(talk: Talk) -> None:
        await talk.create()
        await talk.socket.recv()
        await talk.say(
            "error", code="invalid_configuration", message="expected a model, got x", retryable=False
        )
        await talk.socket.wait_closed()

    opening_fails(erc.ConfigurationRefused, "expected a model, got x", StandIn(refuse), model="x")


def test_nobody_there_is_told_at_once() -> None:
    async def once() -> None:
        began = time.monotonic()
        with pytest.raises(erc.ConnectionFailed, match="expected a server"):
            async with erc.connect("ws://127.0.0.1:9"):
                pass
        assert time.monotonic() - began < 5

    run(once())
    opening_fails(erc.ConnectionFailed, "HTTP 404", StandIn(refused=(404,)))


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8765",
        "ftp://host",
        "ws://",
        "file.wav",
        "ws://host:99999",
        "ws://host:x",
        "ws://a..b",
        "ws://[::1",
    ],
)
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(erc.InvalidInput, match="expected ws://HOST:PORT"):
        erc.connect(url)


def test_addresses_are_completed() -> None:
    assert socket_url("https://host") == "wss://host/v1/session"
    assert socket_url("ws://host:1/erc/v1/session?x=1") == "ws://host:1/erc/v1/session?x=1"


async def full(talk: Talk) -> None:
    await talk.fail("server_full", 1013)


def test_a_full_server_is_asked_again() -> None:
    server = StandIn(full, full, refused=(503,))

    async def once() -> list[erc.Event]:
        async with server.serving() as url:
            return await converse(url, samples(0.5))

    events = run(once())
    assert [e.attempt for e in events if isinstance(e, erc.Disconnected)] == [1, 2, 3]
    assert told(events) == undisturbed(samples(0.5))


def test_a_server_that_stays_full_is_given_up() -> None:
    server = StandIn(*[full] * 50)
    opening_fails(erc.ConnectionFailed, "within 0.5 s, got 1013 server_full", server, retry_for_s=0.5)
    assert 2 <= server.connections <= 5


def test_a_server_that_goes_away_is_followed() -> None:
    async def leave(talk: Talk) -> None:
        await until_configured(talk)
        for message in [m for _ in range(3) for m in talk.server.session.receive(await talk.socket.recv())]:
            await talk.say(message["type"], **{k: v for k, v in message.items() if k != "type"})
        await talk.say("session.going_away", reason="restart", time_left_ms=50)
        await talk.socket.close(1012)

    async def once() -> list[erc.Event]:
        async with StandIn(leave).serving() as url:
            return await converse(url, samples(1))

    events = run(once())
    assert "session.going_away" in [event.type for event in events]
    assert told(events) == undisturbed(samples(1))


def test_a_silent_server_is_taken_for_gone() -> None:
    async def fall_silent(talk: Talk) -> None:
        await until_configured(talk)
        await talk.socket.wait_closed()

    async def once() -> list[erc.Event]:
        async with StandIn(fall_silent).serving() as url:
            return await converse(url, samples(1), silence_timeout_s=0.2)

    events = run(once())
    assert "the server stopped responding" in [e.reason for e in events if isinstance(e, erc.Disconnected)]
    assert told(events) == undisturbed(samples(1))


def test_a_client_with_nothing_to_send_pings_a_server_that_speaks() -> None:
    """What the server says is no word of ours: it would close the connection as idle."""
    pinged: list[str | bytes] = []

    async def speak(talk: Talk) -> None:
        await until_configured(talk)

        async def listen() -> None:
            async for frame in talk.socket:
                pinged.append(frame)

        listening = asyncio.create_task(listen())
        while not pinged:
            await talk.say("heartbeat", audio_ms=0)
            await asyncio.sleep(0.05)
        await talk.say("session.closed", event_id=1, audio_ms=0, turns=0, failed_turns=0, speakers=[])
        await listening

    server = StandIn(speak)
    server.limits["idle_timeout_ms"] = 400

    async def once() -> None:
        async with server.serving() as url, erc.connect(url) as session:
            assert [event async for event in session]

    run(once())
    assert json.loads(pinged[0]) == {"type": "ping"}


def test_a_slow_reader_slows_the_server_down_and_goes_on_speaking() -> None:
    """The inbox fills, the server's sending stalls, pings and audio go on, and no event is lost."""
    count, sent, said = 3_000, 0, {"ping": 0, "audio": 0}

    async def flood(talk: Talk) -> None:
        nonlocal sent
        await until_configured(talk)

        async def listen() -> None:
            async for frame in talk.socket:
                said["ping" if isinstance(frame, str) else "audio"] += 1

        listening = asyncio.create_task(listen())
        for turn in range(count):
            await talk.say("turn.final", event_id=turn + 1, **a_turn(turn, "x" * 2_000))
            sent += 1
        totals = {"audio_ms": 40, "turns": count, "failed_turns": 0, "speakers": []}
        await talk.say("session.closed", event_id=count + 1, **totals)
        await talk.socket.wait_closed()
        await listening

    server = StandIn(flood)
    server.limits["idle_timeout_ms"] = 400

    async def once() -> None:
        async with server.serving() as url:
            connection, inbox = a_connection(), Inbox(16)
            connector = Connector(
                socket_url(url), connection, inbox, token=None, retry_for_s=5.0, silence_timeout_s=0.3
            )
            async with Session(connection, inbox, connector, pace="live", max_buffer_s=120.0) as session:
                await session.send_audio(bytes(1280))
                await asyncio.sleep(1.5)
                assert sent < count
                assert said["audio"] == 1 and said["ping"] >= 3
                events = [event async for event in session]
        assert [e.event_id for e in events if isinstance(e, erc.TurnFinal)] == list(range(1, count + 1))
        assert server.connections == 1

    run(once())


@pytest.mark.parametrize("broken", ["next_frame", "receive"])
def test_a_mistake_in_the_background_is_raised_and_not_waited_for(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise TypeError("expected a client without mistakes")

    async def once() -> None:
        async with StandIn().serving() as url:
            with pytest.raises(TypeError, match="without mistakes"):
                async with erc.connect(url):
                    pass

    monkeypatch.setattr(Connection, broken, fail)
    run(once())


def test_a_file_that_stops_being_readable_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("expected a disk")

    async def once() -> None:
        async with StandIn().serving() as url, erc.connect(url) as session:
            session.play(write_wav(tmp_path / "a.wav", samples(0.1)))
            with pytest.raises(OSError, match="expected a disk"):
                [event async for event in session]

    monkeypatch.setattr(WavFile, "chunks", fail)
    run(once())


async def wait_until(true: Callable[[], bool]) -> None:
    """Ten seconds at most."""
    for _ in range(1_000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("expected it to become true")


async def lost_for_good(talk: Talk) -> None:
    """One frame of audio, and then nobody takes a connection any more."""
    await until_configured(talk)
    await talk.socket.recv()
    talk.server.scripts = [full] * 1_000
    talk.socket.transport.abort()


def test_live_audio_is_kept_without_a_connection_up_to_a_limit() -> None:
    async def once() -> None:
        async with StandIn(lost_for_good).serving() as url, erc.connect(url, max_buffer_s=3.0) as session:
            await session.send_audio(bytes(1280))
            async for event in session:
                if isinstance(event, erc.Disconnected):
                    break
            for _ in range(74):
                await asyncio.wait_for(session.send_audio(bytes(1280)), 1.0)  # 3.0 s in all
            with pytest.raises(erc.SessionLost, match=r"before 3 s of audio, got 3\.0 s"):
                await session.send_audio(bytes(1280))
            with pytest.raises(erc.SessionLost):
                [event async for event in session]
            assert [event async for event in session] == []

    run(once())


def test_a_replay_waits_for_the_connection() -> None:
    audio = samples(5) * 6

    async def once() -> None:
        server = StandIn(lost_for_good)
        async with server.serving() as url, erc.connect(url, max_buffer_s=0.5, pace="replay") as session:

            async def send() -> None:
                for chunk in chunks(audio):
                    await session.send_audio(chunk)
                await session.close()

            sending = asyncio.create_task(send())
            await wait_until(lambda: server.connections > 3)
            kept_ms = session.unacknowledged_ms
            assert 1_000 < kept_ms < 29_000 and not sending.done()
            await asyncio.sleep(0.2)
            assert session.unacknowledged_ms == kept_ms
            server.scripts.clear()
            events = [event async for event in session]
            await sending
            assert told(events) == await asyncio.to_thread(undisturbed, audio)

    run(once())


def test_inputs_keep_below_the_limit_of_messages() -> None:
    server = StandIn()

    async def once() -> float:
        async with server.serving() as url, erc.connect(url, turns="appended") as session:
            began = time.monotonic()
            for number in range(90):
                await session.append_turn(text=str(number))
            await session.close()
            [event async for event in session]
            return time.monotonic() - began

    assert run(once()) > 1.0
    assert [json.loads(text)["text"] for _, text in server.session.inputs] == [str(n) for n in range(90)]


def test_a_context_that_is_left_early_closes_the_session() -> None:
    server = StandIn()

    async def once() -> None:
        async with server.serving() as url, erc.connect(url) as session:
            await session.send_audio(samples(0.5))

    run(once())
    assert server.session.closed
    assert len(server.session.audio) == 16_000


def test_a_context_that_is_left_by_an_error_closes_the_session_too() -> None:
    server = StandIn()

    async def once() -> None:
        async with server.serving() as url:
            with pytest.raises(ZeroDivisionError):
                async with erc.connect(url) as session:
                    await session.send_audio(samples(0.5))
                    raise ZeroDivisionError

    run(once())
    assert server.session.closed


def test_a_failure_that_nobody_saw_is_raised_at_the_end() -> None:
    async def lose(talk: Talk) -> None:
        await until_configured(talk)
        await talk.fail("audio_too_fast", 1008)

    async def once() -> None:
        async with StandIn(lose).serving() as url:
            with pytest.raises(erc.InputRefused, match="audio_too_fast"):
                async with erc.connect(url):
                    pass

    run(once())


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.05, 0.2])
def test_a_session_can_be_cancelled_anywhere(after_s: float) -> None:
    async def once() -> None:
        async with StandIn(cuts={1: 2}).serving() as url:
            task = asyncio.create_task(converse(url, samples(5), pause_s=0.01))
            await asyncio.sleep(after_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(once())


def test_a_send_that_is_cancelled_was_sent_whole_or_not_at_all() -> None:
    async def read_nothing(talk: Talk) -> None:
        await until_configured(talk)
        talk.socket.transport.pause_reading()
        await asyncio.sleep(1.0)
        talk.socket.transport.resume_reading()
        await talk.go_on()

    server = StandIn(read_nothing)
    audio = samples(2.0)

    async def once() -> int:
        async with server.serving() as url, erc.connect(url) as session:
            cancelled = 0
            for piece in chunks(audio * 200, 2_000):
                try:
                    await asyncio.wait_for(session.send_audio(piece), 0.02)
                except TimeoutError:
                    cancelled += 1
            await session.close()
            [event async for event in session]
            return cancelled

    assert run(once()) > 3
    assert bytes(server.session.audio) == audio * 200


def test_a_session_says_when_it_is_not_open() -> None:
    async def once() -> None:
        async with StandIn().serving() as url:
            session = erc.connect(url)
            with pytest.raises(erc.SessionEnded, match="never opened"):
                await session.send_audio(bytes(2))
            with pytest.raises(erc.SessionEnded, match="async with"):
                _ = session.id
            async with session:
                await session.close()
                with pytest.raises(erc.SessionEnded, match="before close"):
                    await session.append_turn(text="late")
            with pytest.raises(erc.SessionEnded, match="was closed"):
                await session.send_audio(bytes(2))

    run(once())


# --- files, the microphone, the terminal ---------------------------------------------------------


def write_wav(path: Path, frames: bytes, *, rate_hz: int = 16_000, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(frames)
    return path


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", samples(0.1))
    with WavFile(path) as wav:
        assert (wav.sample_rate_hz, wav.duration_ms) == (16_000, 100.0)
        pieces = list(wav.chunks(40))
    assert [len(piece) for piece in pieces] == [1280, 1280, 640]
    assert b"".join(pieces) == samples(0.1)


@pytest.mark.parametrize(
    ("width", "frames"),
    [
        (1, bytes([0, 128, 255])),
        (3, b"".join(value.to_bytes(3, "little", signed=True) for value in (-(2**23), 0, 127 * 2**16))),
        (4, struct.pack("<3i", -(2**31), 0, 127 * 2**24)),
    ],
)
def test_other_widths_become_sixteen_bits(tmp_path: Path, width: int, frames: bytes) -> None:
    with WavFile(write_wav(tmp_path / "a.wav", frames, width=width)) as wav:
        assert b"".join(wav.chunks()) == struct.pack("<3h", -32_768, 0, 127 * 256)


def test_channels_are_mixed(tmp_path: Path) -> None:
    frames = struct.pack("<6h", 100, 300, -32_768, -32_768, 32_767, 32_767)
    with WavFile(write_wav(tmp_path / "a.wav", frames, channels=2)) as wav:
        assert b"".join(wav.chunks()) == struct.pack("<3h", 200, -32_768, 32_767)


def test_channels_can_stay_separate(tmp_path: Path) -> None:
    frames = struct.pack("<6h", 100, 300, -32_768, -32_768, 32_767, 32_767)
    with WavFile(write_wav(tmp_path / "a.wav", frames, channels=2)) as wav:
        assert wav.channels == 2 and b"".join(wav.chunks(separate=True)) == frames


def test_what_is_no_wav_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio at all, but long enough to be read")
    (tmp_path / "empty.wav").write_bytes(b"")
    write_wav(tmp_path / "silent.wav", b"")
    timeless = bytearray(write_wav(tmp_path / "timeless.wav", samples(0.1)).read_bytes())
    timeless[24:28] = bytes(4)  # the sample rate
    (tmp_path / "timeless.wav").write_bytes(timeless)
    for name in ("text.wav", "empty.wav", "silent.wav", "timeless.wav", "nothing.wav", "."):
        with pytest.raises(erc.AudioError, match="expected"):
            WavFile(tmp_path / name)


def test_a_file_is_played_to_its_end(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", samples(1.0))

    async def once(pace: Any) -> tuple[float, list[erc.Event]]:
        async with StandIn().serving() as url, erc.connect(url) as session:
            began = time.monotonic()
            session.play(path, pace=pace)
            events = [event async for event in session]
            return time.monotonic() - began, events

    live_s, events = run(once("live"))
    fast_s, again = run(once("replay"))
    assert told(events) == told(again) == undisturbed(samples(1.0))
    assert live_s > 0.95 and fast_s < live_s


def test_a_file_of_another_rate_or_for_another_encoding_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", samples(0.1), rate_hz=44_100)

    async def once() -> None:
        async with StandIn().serving() as url:
            async with erc.connect(url) as session:
                with pytest.raises(erc.AudioError, match="expected 16000 Hz like the session, got 44100 Hz"):
                    session.play(path)
                with pytest.raises(erc.AudioError, match="expected audio, got No such file"):
                    session.play(tmp_path / "missing.wav")

    run(once())

    async def opus() -> None:
        async with StandIn().serving() as url:
            async with erc.connect(url, audio_encoding="opus", sample_rate_hz=48_000) as session:
                with pytest.raises(erc.InvalidInput, match="expected the encoding pcm_s16le, got opus"):
                    session.play(path)

    run(opus())


class SoundCard:
    """Stands in for the module sounddevice: a thread calls back with what is to be heard.

    Args:
        blocks: of the first stream; `later` are those of the ones after it.
        away: how many times the device cannot be opened after the first stream.
        ends: whether a stream says that it has ended, or just brings nothing any more.
    """

    class PortAudioError(Exception):
        pass

    def __init__(
        self,
        blocks: list[bytes],
        fault: str | None = None,
        pause_s: float = 0.0,
        later: tuple[list[bytes], ...] = (),
        away: float = math.inf,
        ends: bool = True,
    ) -> None:
        self.takes, self.fault, self.pause_s = [blocks, *later], fault, pause_s
        self.away, self.ends = away, ends
        self.asked: Fields = {}
        self.opened = 0
        self.closed = False

    def query_devices(self, device: object, kind: str) -> Fields:
        return {"default_samplerate": 48_000.0}

    def RawInputStream(self, callback: Callable[..., None], **asked: Any) -> Any:  # noqa: N802
        if self.fault == "open":
            raise self.PortAudioError("no such device")
        if self.opened == 1 and self.away:
            self.away -= 1
            raise self.PortAudioError("it is not there")
        blocks = self.takes[self.opened]
        self.opened, self.asked, self.closed = self.opened + 1, asked, False
        stream = SimpleNamespace(active=True)

        def play() -> None:
            for block in blocks:
                callback(memoryview(block), len(block) // 2, None, None)
                time.sleep(self.pause_s)
            stream.active = not self.ends

        thread = threading.Thread(target=play)

        def close() -> None:
            self.closed = True
            thread.join()

        stream.start, stream.close = thread.start, close
        return stream


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the time that is waited for a microphone."""
    for name, value in (("POLL_S", 0.05), ("STALL_S", 0.2), ("RETURN_S", 1.0)):
        monkeypatch.setattr(microphone, name, value)


def test_the_microphone_is_heard_until_it_ends(impatient: None) -> None:
    blocks = list(chunks(samples(0.4)))
    card = SoundCard(blocks)

    async def once() -> list[bytes]:
        found = []
        with pytest.raises(erc.AudioError, match="expected the microphone to keep recording"):
            async for block in record("USB", 16_000, card):
                found.append(block)
        return found

    found = run(once())
    assert found[: len(blocks)] == blocks and not any(b"".join(found[len(blocks) :]))
    assert card.closed
    assert card.asked == {
        "device": "USB",
        "samplerate": 16_000,
        "channels": 1,
        "dtype": "int16",
        "blocksize": 640,
    }


@pytest.mark.parametrize("ends", [True, False], ids=["vanishes", "falls silent"])
def test_a_microphone_that_comes_back_is_heard_again(
    impatient: None, caplog: pytest.LogCaptureFixture, ends: bool
) -> None:
    before, after = list(chunks(samples(0.4))), list(chunks(samples(0.4)))[::-1]
    card = SoundCard(before, later=(after,), away=2, ends=ends)

    async def once() -> list[bytes]:
        found: list[bytes] = []
        async with contextlib.aclosing(record("USB", 16_000, card)) as heard:
            async for block in heard:
                found.append(block)
                if found[-len(after) :] == after and len(found) > len(before):
                    break
        return found

    found = run(once())
    away = found[len(before) : -len(after)]
    assert found[: len(before)] == before and not any(b"".join(away))
    assert len(b"".join(away)) >= 2 * 3 * round(0.05 * 16_000)  # time went on
    assert card.opened == 2 and card.closed
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "microphone: disconnected; listening goes on when it is back",
        "microphone: heard again",
    ]


def test_what_a_slow_reader_lets_pass_is_silence(impatient: None) -> None:
    blocks = [bytes([n % 250 + 1]) * 1280 for n in range(300)]  # 12 s, and 10 may wait

    async def once() -> bytes:
        found = bytearray()
        stream = record(None, 16_000, SoundCard(blocks, pause_s=0.001))
        with contextlib.suppress(erc.AudioError):
            async for block in stream:
                if not found:
                    await asyncio.sleep(0.7)
                found += block
        return bytes(found)

    audio = run(once())
    assert audio[: 1280 * 250] == b"".join(blocks[:250])
    assert set(audio[1280 * 251 :]) <= {0, *b"".join(blocks[251:])}


def test_a_microphone_that_does_not_open_is_told() -> None:
    async def once() -> None:
        told = "expected a microphone at 16000 Hz, got no such device; its own rate is 48000 Hz: connect"
        with pytest.raises(erc.AudioError, match=told):
            await anext(record(None, 16_000, SoundCard([], fault="open")))

    run(once())


def test_the_terminal_prints_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_wav(tmp_path / "a.wav", samples(1.0))

    async def once() -> int:
        async with StandIn().serving() as url:
            return await asyncio.to_thread(command_line.main, [url, str(path), "--fast"])

    assert run(once()) == 0
    out, err = capsys.readouterr()
    assert [line.split("  [")[1] for line in out.splitlines()] == ["neutral 100%]"] * 2
    assert "0:01.0 heard, 2 turns, 1 speakers" in err


def test_the_terminal_obeys_nothing_that_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    said = a_turn(0, "hi\x1b]0;mine\x07\nA: yes") | {"speaker": "\x1b[2J\u202eAnna"}
    event = erc.parse(json.dumps({"type": "turn.final", "session_id": "s", "seq": 1, "event_id": 1, **said}))
    command_line._show(event)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable() and "Anna" in line and "A: yes" in line


def test_the_terminal_hears_the_last_turn_after_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def silence(*_: object) -> AsyncIterator[bytes]:
        while True:
            yield bytes(1280)
            await asyncio.sleep(0.01)

    async def once() -> int:
        server = StandIn()
        async with server.serving() as url:
            words = command_line._parser().parse_args([url, "--microphone"])
            running = asyncio.create_task(command_line._run(words))
            await wait_until(lambda: len(server.session.audio) > 3 * TURN)
            running.cancel()
            return await running

    monkeypatch.setattr("stream_erc_client.session.record", silence)
    assert run(once()) == 0
    assert re.search(r" heard, [1-9]\d* turns, 1 speakers", capsys.readouterr().err)


def test_the_terminal_says_what_went_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["ws://127.0.0.1:9", str(tmp_path / "missing.wav")]) == 1
    path = write_wav(tmp_path / "a.wav", samples(0.1))
    assert command_line.main(["ws://127.0.0.1:9", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "expected audio, got No such file" in lines[0] and "expected a server" in lines[1]
    assert len(lines) == 2


# --- without asyncio -----------------------------------------------------------------------------


@contextlib.contextmanager
def served(server: StandIn) -> Iterator[str]:
    """The stand-in in a thread of its own."""
    ready: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve_until_done() -> None:
        done = asyncio.Event()
        async with server.serving() as url:
            ready.put((url, asyncio.get_running_loop(), done))
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve_until_done(),))
    thread.start()
    url, loop, done = ready.get(timeout=10)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


def test_the_synchronous_session_hears_the_same() -> None:
    audio = samples(1.2)
    with served(StandIn(cuts={1: 15})) as url, sync.connect(url, pace="replay") as session:
        for chunk in chunks(audio):
            session.send_audio(chunk)
        assert session.append_turn(text="x") == 1
        assert session.rename_speaker("speaker_1", "Anna") == 2
        assert session.correct_turn(0, "Anna") == 3
        assert session.enrol_voice("Anna", turn=0) == 4
        session.close()
        events = list(session)
        assert session.id == "s" and session.created.asr == "none"
        assert session.configuration.pace == "live" and session.unacknowledged_ms >= 0
    assert told(events) == undisturbed(audio)
    assert "stream_erc_client" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(erc.SessionEnded, match="with connect"):
        session.send_audio(bytes(2))


def test_the_synchronous_session_plays_and_fails_alike(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", samples(0.6))
    with served(StandIn()) as url, sync.connect(url, pace="replay") as session:
        session.play(path)
        assert [event.type for event in session][-1] == "session.closed"
    with served(StandIn(refused=(401,))) as url, pytest.raises(erc.AuthenticationFailed):
        sync.connect(url).__enter__()
    assert "stream_erc_client" not in [thread.name for thread in threading.enumerate()]


class Stuck:
    """An asynchronous session in which a send never ends."""

    def __init__(self) -> None:
        self.sending = threading.Event()

    async def __aenter__(self) -> "Stuck":
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def send_audio(self, data: bytes) -> None:
        self.sending.set()
        await asyncio.Event().wait()


def test_leaving_the_synchronous_session_lets_go_of_every_thread() -> None:
    stuck, raised = Stuck(), queue.Queue[BaseException]()
    with sync.Session(lambda: stuck) as session:  # type: ignore[arg-type, return-value]

        def send() -> None:
            try:
                session.send_audio(bytes(2))
            except BaseException as error:
                raised.put(error)

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        assert stuck.sending.wait(10)
    assert isinstance(raised.get(timeout=5), erc.SessionEnded)
    sending.join()


def test_the_synchronous_session_has_every_method_of_the_other() -> None:
    public = {name for name in vars(Session) if not name.startswith("_")}
    assert public == {name for name in vars(sync.Session) if not name.startswith("_")}


# --- the real server -----------------------------------------------------------------------------


def load_kill_test() -> ModuleType:
    """scripts/kill_test as a module."""
    loader = SourceFileLoader("kill_test", str(ROOT / "scripts" / "kill_test"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look it up
    loader.exec_module(module)
    return module


kill_test = load_kill_test()
TONES = [(1.2, 300.0), (0.8, 900.0), (1.7, 300.0), (0.6, 900.0), (2.2, 500.0), (0.9, 300.0)] * 2


def spoken(rate_hz: int = 16_000) -> np.ndarray:
    """Voices as the fake engine hears them, at any rate."""
    audio = conversation(TONES)
    return audio if rate_hz == 16_000 else soxr.resample(audio, 16_000, rate_hz).astype(np.float32)


def pcm(audio: np.ndarray) -> bytes:
    return np.round(audio * 32_767).astype("<i2").tobytes()


def lasting(events: list[erc.Event]) -> list[Fields]:
    """The events that are never lost, with all that has to be the same."""
    kept = [dataclasses.asdict(e) | {"type": e.type} for e in events if isinstance(e, erc.SessionEvent)]
    own = ("session_id", "seq", "created_at", "latency_ms")
    return [{name: value for name, value in fields.items() if name not in own} for fields in kept]


async def streamed(url: str, frames: list[bytes], cuts: int = 0, **options: Any) -> list[erc.Event]:
    """Send frames through a proxy that is cut now and then."""
    proxy = kill_test.Proxy(int(url.rpartition(":")[2]))
    through = await proxy.start()
    try:
        async with erc.connect(through, pace="replay", **options) as session:

            async def send() -> None:
                for number, frame in enumerate(frames):
                    await session.send_audio(frame)
                    if cuts and (number + 1) % (len(frames) // (cuts + 1)) == 0:
                        await asyncio.sleep(0.2)
                        proxy.open[-1].drop(tell_server=number % 2 == 0)
                await session.close()

            sending = asyncio.create_task(send())
            events = [event async for event in session]
            await sending
            return events
    finally:
        await proxy.stop()


def test_the_real_server_is_heard_the_same_over_cuts() -> None:
    frames = list(chunks(pcm(spoken())))
    with serve() as running:
        whole = run(streamed(running.url, frames))
        cut = run(streamed(running.url, frames, cuts=5))
    assert len([event for event in whole if event.type == "turn.final"]) == len(TONES)
    assert lasting(cut) == lasting(whole)
    assert [event.type for event in cut].count("reconnected") >= 5


def test_a_call_is_heard_channel_by_channel_over_cuts(tmp_path: Path) -> None:
    agent, caller = spoken(), np.roll(spoken(), 20_000)
    frames = list(chunks(pcm(np.stack([agent, caller], axis=1)), 80))  # 40 ms of both
    path = write_wav(tmp_path / "call.wav", b"".join(frames), channels=2)

    async def played(url: str) -> list[erc.Event]:
        async with erc.connect(url, pace="replay", channels=("agent", "caller")) as session:
            assert session.configuration.channel_names == ("agent", "caller")
            with pytest.raises(erc.InvalidInput, match="expected a session of 1 channel, got 2"):
                session.listen()
            with pytest.raises(erc.AudioError, match="expected 2 channels like the session, got 1"):
                session.play(write_wav(tmp_path / "mono.wav", samples(1)))
            with pytest.raises(erc.InvalidInput, match="whole samples of 4 bytes, got 6"):
                await session.send_audio(bytes(6))
            session.play(path)
            return [event async for event in session]

    with serve() as running:
        whole = run(streamed(running.url, frames, channels=("agent", "caller")))
        cut = run(streamed(running.url, frames, cuts=5, channels=("agent", "caller")))
        file = run(played(running.url))
        unnamed = run(streamed(running.url, frames, channels=2))
    turns = [event for event in whole if event.type == "turn.final"]
    assert {(event.channel, event.speaker) for event in turns} == {(0, "agent"), (1, "caller")}
    assert [event.channel for event in turns].count(0) == len(TONES)
    assert lasting(cut) == lasting(whole) == lasting(file)
    voices = [{e.speaker for e in unnamed if e.type == "turn.final" and e.channel == k} for k in (0, 1)]
    assert len(voices[0]) > 1 and not voices[0] & voices[1]


def test_channels_that_there_are_not_are_told() -> None:
    with pytest.raises(erc.InvalidInput, match="expected 1 or more, and 1 with opus, got 0"):
        erc.connect("ws://127.0.0.1:1", channels=())
    with pytest.raises(erc.InvalidInput, match="1 with opus, got 2"):
        erc.connect("ws://127.0.0.1:1", channels=2, audio_encoding="opus", sample_rate_hz=48_000)


def encoded(encoding: str, rate_hz: int) -> list[bytes]:
    """The same conversation in frames of 40 ms, or packets of 20."""
    audio = spoken(rate_hz)
    if encoding == "opus":
        codec = av.CodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format = rate_hz, "mono", "s16"
        codec.open()
        frame = av.AudioFrame.from_ndarray(
            np.frombuffer(pcm(audio), "<i2")[None], format="s16", layout="mono"
        )
        frame.sample_rate, packets = rate_hz, []
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(960):
            packets += [bytes(packet) for packet in codec.encode(part)]
        return packets
    data = audio.astype("<f4").tobytes() if encoding == "pcm_f32le" else pcm(audio)
    size = (4 if encoding == "pcm_f32le" else 2) * rate_hz // 25
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("encoding", "rate_hz"),
    [("pcm_s16le", 8_000), ("pcm_f32le", 44_100), ("pcm_s16le", 48_000), ("opus", 48_000)],
)
def test_every_encoding_is_sent_again_from_the_right_place(encoding: str, rate_hz: int) -> None:
    frames = encoded(encoding, rate_hz)
    with serve() as running:
        options = {"audio_encoding": encoding, "sample_rate_hz": rate_hz}
        whole = lasting(run(streamed(running.url, frames, **options)))
        cut = lasting(run(streamed(running.url, frames, cuts=3, **options)))
    assert len(whole) == len(TONES) + 1

    def places(events: list[Fields]) -> list[tuple[Any, ...]]:
        names = ("event_id", "type", "turn", "speaker", "audio_start_ms", "audio_end_ms", "audio_ms")
        return [tuple(event.get(name) for name in names) for event in events]

    assert places(cut) == places(whole)  # the words may differ by rounding where audio is resampled


def test_a_voice_is_enrolled_on_the_real_server(tmp_path: Path) -> None:
    talk, path = conversation([(1.2, 200), (1.2, 900)]), tmp_path / "voices.json"

    async def once(url: str, voices: list[str]) -> list[erc.Event]:
        async with erc.connect(url, pace="replay", voices=voices) as session:
            assert session.created.voices == tuple(voices) and session.created.keeps_voices
            assert session.configuration.voices == tuple(voices)
            await session.send_audio(to_pcm16(talk))
            if not voices:
                await session.enrol_voice("Anna", turn=1, keep=True)
                await session.enrol_voice("Ben", clip=to_pcm16(silence(2)))
            await session.close()
            return [event async for event in session]

    async def everybody(url: str) -> erc.Configuration:
        async with erc.connect(url, voices="all") as session:
            return session.configuration

    with serve(voices=path, keep_voices=True) as running:
        assert run(everybody(running.url)).voices == ()
        first, second = run(once(running.url, [])), run(once(running.url, ["Anna"]))
        assert run(everybody(running.url)).voices == ("Anna",)
    enrolled = [event for event in first if isinstance(event, erc.VoiceEnrolled)]
    assert [(event.name, event.turn, event.kept) for event in enrolled] == [("Anna", 1, True)]
    assert [event.code for event in first if isinstance(event, erc.Failed)] == ["invalid_voice"]
    assert [event.speaker for event in second if isinstance(event, erc.TurnFinal)] == ["speaker_1", "Anna"]


def test_turns_that_are_known_are_appended_to_the_real_server() -> None:
    summaries: list[tuple[erc.SpeakerSummary, ...] | None] = []

    async def once(url: str) -> list[erc.Event]:
        async with erc.connect(url, turns="appended") as session:
            for number in range(40):
                await session.append_turn(text=f"turn {number}", speaker=("Anna", "Tom")[number % 2])
            events: list[erc.Event] = []
            assert session.summary() is None
            async for event in session:
                events.append(event)
                if isinstance(event, erc.TurnFinal) and event.turn == 39:
                    assert await session.rename_speaker("Tom", "Tim") == 41
                    assert await session.correct_turn(38, "Tim") == 42
                    assert await session.correct_turn(99, "Tim") == 43
                    await session.close()
            summaries.append(session.summary())
            return events

    with serve() as running:
        events = run(once(running.url))
    finals = [event for event in events if isinstance(event, erc.TurnFinal)]
    assert [event.text for event in finals] == [f"turn {number}" for number in range(40)]
    assert [(e.speaker, e.name) for e in events if isinstance(e, erc.SpeakerUpdated)] == [("Tom", "Tim")]
    assert [(e.turn, e.speaker) for e in events if isinstance(e, erc.TurnRevised)] == [
        (38, "Tim"),
        (39, "Tim"),
    ]
    assert [(e.code, e.input_id) for e in events if isinstance(e, erc.Failed)] == [("invalid_turn", 43)]
    assert isinstance(events[-1], erc.SessionClosed) and events[-1].speakers == ("Anna", "Tim")
    (summary,) = summaries
    assert summary is not None and summary == events[-1].summary
    assert [one.speaker for one in summary] == ["Anna", "Tim"]
    turns = {event.turn: event for event in events if isinstance(event, erc.TurnFinal | erc.TurnRevised)}
    assert sum(one.turns for one in summary) == len(turns)
    for label in turns[0].emotion.probabilities:
        told = sum(one.emotions[label].turns for one in summary)
        assert told == sum(turn.emotion.label == label for turn in turns.values())


def test_a_server_that_is_started_again_goes_on(tmp_path: Path) -> None:
    frames = list(chunks(pcm(spoken())))

    async def once(running: Running) -> list[erc.Event]:
        async with erc.connect(running.url, pace="replay") as session:

            async def send() -> None:
                for number, frame in enumerate(frames):
                    if number == len(frames) // 2:
                        await asyncio.to_thread(running.stop)
                        port = int(running.url.rpartition(":")[2])
                        again.append(await asyncio.to_thread(start, store=SqliteStore(kept), port=port))
                    await session.send_audio(frame)
                await session.close()

            sending = asyncio.create_task(send())
            events = [event async for event in session]
            await sending
            return events

    kept, again = tmp_path / "kept.sqlite", []
    with serve() as running:
        whole = run(streamed(running.url, frames))
    try:
        events = run(once(start(store=SqliteStore(kept))))
    finally:
        for running in again:
            running.stop()
    assert lasting(events) == lasting(whole)
    assert {"session.going_away", "reconnected"} <= {event.type for event in events}


def test_the_real_server_says_what_it_does_not_have() -> None:
    async def once(url: str) -> None:
        for options in ({"model": "x"}, {"labels": ["envy"]}, {"language": "xx"}, {"min_silence_ms": 1}):
            with pytest.raises(erc.ConfigurationRefused, match="expected"):
                async with erc.connect(url, **options):  # type: ignore[arg-type]
                    pass

    with serve() as running:
        run(once(running.url))


def test_live_audio_that_is_too_fast_ends_the_session() -> None:
    async def once(url: str) -> None:
        with pytest.raises(erc.InputRefused, match="audio_too_fast"):
            async with erc.connect(url) as session:
                for chunk in chunks(bytes(32 * 20_000), 500):
                    await session.send_audio(chunk)
                await session.close()
                async for _ in session:
                    pass

    with serve() as running:
        run(once(running.url))


def test_a_token_lets_in(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("right\n")

    async def once(url: str) -> None:
        async with erc.connect(url, token="right") as session:
            assert session.id
        with pytest.raises(erc.AuthenticationFailed):
            async with erc.connect(url, token="wrong"):
                pass

    with serve(token_file=str(tokens)) as running:
        run(once(running.url))


@pytest.fixture(scope="module")
def sample_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first turns of the bundled conversation."""
    audio, rate_hz = soundfile.read(ROOT / "stream_erc" / "sample" / "conversation.flac", dtype="int16")
    folder = tmp_path_factory.mktemp("sample")
    return write_wav(folder / "conversation.wav", audio[: int(rate_hz * 8.9)].tobytes())


@pytest.mark.slow
def test_the_example_of_the_readme_runs(sample_wav: Path) -> None:
    """In real time, in a process of its own, with the real engine."""
    [example] = re.findall(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    with serve({"si-lstm": real_engine()}, idle_timeout_s=300.0) as running:
        assert "ws://127.0.0.1:8765" in example
        code = example.replace("ws://127.0.0.1:8765", running.socket_url)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=sample_wav.parent,
            timeout=400,  # recognizing words takes long where others use the processor too
        )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["0", "1"]
    assert "coffee" in lines[0] and lines[0].endswith("neutral")


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_conversations_survive_whatever_happens_to_servers_stores_and_networks(store: str) -> None:
    """The quick form of scripts/kill_test: real processes and a real store, an engine that hashes."""
    if store == "redis" and shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    command = f"{sys.executable} {ROOT / 'tests' / 'fake_server.py'} {{port}} {{store}}"
    words = ["--moments", "2", "--seconds", "20", "--speed", "10", "--seed", "1", "--together", "3"]
    words += ["--store", store, "--server", command]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "kill_test"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "COLUMNS": "160"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    assert [(row[2].strip(), int(row[3])) for row in rows] == [
        *(("connection", 2), ("network", 2), ("moved", 2), ("server", 1), ("store", 2), ("back", 1)),
        ("all", 10),
    ]
    resumed, differences = int(rows[-1][4]), int(rows[-1][7])
    assert resumed > 0 and differences == 0


def test_the_comparison_of_the_kill_test_finds_what_is_wrong() -> None:
    lines = ["one", "two", "three"]
    assert kill_test.compare(lines, lines, "here") == []
    for told, found in (
        (["one", "two"], "lost:  three"),
        ([*lines, "one"], "twice: one"),
        (["one", "2"], "other: 2"),
    ):
        assert any(found in line for line in kill_test.compare(lines, told, "here"))
    assert kill_test.compare(lines, ["one", "three", "two"], "here")


# --- deleting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
def test_a_session_that_ended_is_resumed_only_if_it_was_kept(
    keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "CLOSE_TIMEOUT_S", 60.0)  # a client that has not answered keeps it, too
    with serve(store=SqliteStore(tmp_path / "sessions.sqlite")) as running:
        with sync.connect(running.socket_url, turns="appended") as session:
            session.append_turn(text="hello", speaker="Anna")
            session.close(keep=keep)
            assert isinstance(list(session)[-1], erc.SessionClosed)
    left = SqliteStore(tmp_path / "sessions.sqlite").events(session.id, 0)  # the server has ended, too
    assert bool(left) is keep


def test_a_session_is_deleted_at_once(tmp_path: Path) -> None:
    with serve(store=SqliteStore(tmp_path / "sessions.sqlite")) as running:
        with sync.connect(running.socket_url, turns="appended") as session:
            session.append_turn(text="hello", speaker="Anna")
            events = iter(session)
            assert any(isinstance(event, erc.TurnFinal) for event in events)
            session.delete()
            assert isinstance(list(events)[-1], erc.SessionDeleted)
            with pytest.raises(erc.SessionEnded):
                session.append_turn(text="more", speaker="Anna")
        assert SqliteStore(tmp_path / "sessions.sqlite").events(session.id, 0) == []
