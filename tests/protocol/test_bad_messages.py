"""Invalid messages: the client is told what was wrong, and no other session is affected.

`MESSAGES` and `FRAMES` are the table: what is sent, as what, and the error or the close code that answers.
"""

import contextlib
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from fakes import CONFIG, HashEngine, conversation, drive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Client, FakeEngine, Fields, Running, converse, serve
from websockets.exceptions import ConnectionClosed

from stream_erc.config import ServerConfig
from stream_erc.protocol.encoding import parse, schema, to_json, to_message
from stream_erc.protocol.errors import ERRORS, Refusal
from stream_erc.protocol.live_session import LiveSession
from stream_erc.protocol.messages import SessionUpdate, SpeakerRename, TurnAppend, TurnCorrect
from stream_erc.protocol.negotiation import Offer

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200)])
OFFER = Offer({"hash": FakeEngine()}, CONFIG, ServerConfig())  # type: ignore[dict-item]
APPENDED = {"turns": "appended", "partials": False}
UPDATE, APPEND, CORRECT, RENAME = "session.update", "turn.append", "turn.correct", "speaker.rename"


def message(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind} | fields)


NOT_MESSAGES = {
    "nothing": "",
    "space": "  \n ",
    "words": "hello",
    "an array": "[]",
    "an array of messages": '[{"type": "ping"}]',
    "a number": "1",
    "a text": '"ping"',
    "null": "null",
    "true": "true",
    "half": '{"type": "ping"',
    "more": '{"type": "ping"} {"type": "ping"}',
    "a byte order mark": '\ufeff{"type": "ping"}',
    "single quotes": "{'type': 'ping'}",
    "a comment": '{"type": "ping" /* really */}',
    "a comma too many": '{"type": "ping",}',
    "NaN": '{"type": "ping", "id": NaN}',
    "Infinity": '{"type": "turn.correct", "turn": Infinity, "speaker": "a"}',
    "deep arrays": "[" * 100_000,
    "deep objects": '{"type":' * 100_000,
    "deep, whole": '{"type": "ping", "id": ' + "[" * 5_000 + "]" * 5_000 + "}",
    "half a surrogate": '{"type": "ping", "id": "\\ud800"}',
    "surrogates the wrong way round": '{"type": "ping", "id": "\\udc00\\ud800"}',
    "a control character": '{"type": "ping", "id": "\x01"}',
    "a wrong escape": '{"type": "ping", "id": "\\x41"}',
    "no type": "{}",
    "type null": '{"type": null}',
    "type 5": '{"type": 5}',
    "type an array": '{"type": ["ping"]}',
    "two types": '{"type": "ping", "type": "session.close"}',
    "unknown type": message("session.destroy"),
    "a server's type": message("turn.final", turn=0),
    "another case": message("Ping"),
    "a space more": message("ping "),
}


def wrong_values() -> Iterator[tuple[str, str]]:
    """Yield, for every field of every message, values of wrong types and out of range."""
    right: dict[str, dict[str, object]] = {
        UPDATE: {},
        "session.resume": {"resume_token": "x", "last_event_id": 0},
        "input.skip": {},
        "session.authenticate": {"token": "x"},
        "session.export": {"resume_token": "x", "format": "srt"},
        APPEND: {"text": "hello"},
        CORRECT: {"turn": 0, "speaker": "Anna"},
        RENAME: {"speaker": "Anna", "name": "Eva"},
        "ping": {},
        "session.close": {},
    }
    numbers: list[object] = ["1", 1.5, True, [1], {}, -1, 2**53 + 1, 10**30, 1e300]
    texts: list[object] = [1, True, ["a"], {"a": 1}, 1.5]
    wrong: dict[tuple[str, str], list[object]] = {
        (UPDATE, "protocol"): ["1", None, 1.5, True],
        (UPDATE, "audio"): [None, "pcm_s16le", [], {"encoding": "mp3"}, {"encoding": None}, {"rate": 1}],
        (UPDATE, "turns"): ["", "given", None, 1, ["heard"]],
        (UPDATE, "model"): [*texts, "", "x" * 101],
        (UPDATE, "labels"): ["joy", 1, {}, [1], [None], [""], ["x" * 101], [["joy"]]],
        (UPDATE, "language"): [*texts, "x" * 17],
        (UPDATE, "speakers"): [*numbers, 0, 17],
        (UPDATE, "partials"): ["yes", 1, 0, None, []],
        (UPDATE, "min_silence_ms"): [*numbers, 99, 5_001],
        (UPDATE, "pace"): ["fast", None, 1, True],
        ("session.resume", "resume_token"): [*texts, "", None, "x" * 4_097],
        ("session.resume", "last_event_id"): [*numbers, None],
        ("input.skip", "audio_ms"): numbers,
        ("input.skip", "input_id"): numbers,
        ("session.authenticate", "token"): [*texts, "", None, "x" * 4_097],
        ("session.export", "resume_token"): [*texts, "", None, "x" * 4_097],
        ("session.export", "format"): [*texts, None, "x" * 101],
        ("session.export", "name"): [*texts, "x" * 101],
        (APPEND, "text"): [*texts, "x" * 20_001],
        (APPEND, "speaker"): [*texts, "", "x" * 101],
        (APPEND, "audio_start_ms"): numbers,
        (APPEND, "audio_end_ms"): numbers,
        (APPEND, "input_id"): numbers,
        (CORRECT, "turn"): [*numbers, None],
        (CORRECT, "speaker"): [*texts, "", None, "x" * 101],
        (CORRECT, "input_id"): numbers,
        (RENAME, "speaker"): [*texts, "", None, "x" * 101],
        (RENAME, "name"): [*texts, "", None, "x" * 101],
        (RENAME, "input_id"): numbers,
        ("ping", "id"): [*texts, "x" * 101],
    }
    for (kind, name), values in wrong.items():
        for value in values:
            yield f"{kind} {name} {str(value)[:20]}", message(kind, **(right[kind] | {name: value}))
    for kind, fields in right.items():
        yield f"{kind} with a field too many", message(kind, **fields, seq=1)
        for name in fields if kind != APPEND else ():
            yield f"{kind} without {name}", message(kind, **{k: v for k, v in fields.items() if k != name})
    for rate in [*numbers, 7_999, 48_001, 0, None]:
        yield f"rate {str(rate)[:20]}", message(UPDATE, audio={"sample_rate_hz": rate})


MALFORMED = NOT_MESSAGES | dict(wrong_values())


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_message_of_the_protocol(text):
    with pytest.raises(Refusal) as caught:
        parse(text)
    assert caught.value.code == "invalid_message"
    assert str(caught.value).startswith("expected ")


@dataclass(frozen=True)
class Wrong:
    """A case: the configuration, the invalid frames, and the code that answers them."""

    code: str
    sent: list[str | bytes]
    before: list[str | bytes] = field(default_factory=list)
    configuration: Fields = field(default_factory=dict)


HELLO = message(APPEND, text="hello", speaker="Anna")
PCM, SILENCE = bytes(3_200), bytes(2 * 16_000)
F32 = {"audio": {"encoding": "pcm_f32le"}}
WRONG = {
    # what is not there
    "a model": Wrong("invalid_configuration", [message(UPDATE, model="gpt")]),
    "a label": Wrong("invalid_configuration", [message(UPDATE, labels=["joy", "envy"])]),
    "a label twice": Wrong("invalid_configuration", [message(UPDATE, labels=["joy", "joy"])]),
    "no labels": Wrong("invalid_configuration", [message(UPDATE, labels=[])]),
    "a language": Wrong("invalid_configuration", [message(UPDATE, language="tlh")]),
    "a later protocol": Wrong("invalid_configuration", [message(UPDATE, protocol=2)]),
    "a huge protocol": Wrong("invalid_configuration", [message(UPDATE, protocol=10**30)]),
    "a negative protocol": Wrong("invalid_configuration", [message(UPDATE, protocol=-1)]),
    "opus at 16 kHz": Wrong("invalid_configuration", [message(UPDATE, audio={"encoding": "opus"})]),
    # audio
    "half a sample": Wrong("invalid_audio", [b"\0"]),
    "half a sample more": Wrong("invalid_audio", [PCM + b"\0"]),
    "part of a float": Wrong("invalid_audio", [bytes(6)], configuration=F32),
    "a frame too long": Wrong("invalid_audio", [bytes(2 * 160_001)]),
    "opus without a byte": Wrong(
        "invalid_audio", [b""], configuration={"audio": {"encoding": "opus", "sample_rate_hz": 48_000}}
    ),
    "opus garbage": Wrong(
        "invalid_audio",
        [b"\xff" * 40],
        configuration={"audio": {"encoding": "opus", "sample_rate_hz": 48_000}},
    ),
    # turns
    "appended where they are heard": Wrong("invalid_turn", [HELLO]),
    "neither words nor a span": Wrong("invalid_turn", [message(APPEND)], configuration=APPENDED),
    "blank words": Wrong("invalid_turn", [message(APPEND, text=" \n\u2003")], configuration=APPENDED),
    "a start alone": Wrong("invalid_turn", [message(APPEND, audio_start_ms=1)], configuration=APPENDED),
    "an end alone": Wrong("invalid_turn", [message(APPEND, audio_end_ms=1)], configuration=APPENDED),
    "an end before the start": Wrong(
        "invalid_turn", [message(APPEND, audio_start_ms=9, audio_end_ms=8)], configuration=APPENDED
    ),
    "no length": Wrong(
        "invalid_turn", [message(APPEND, audio_start_ms=9, audio_end_ms=9)], configuration=APPENDED
    ),
    "a span that is gone": Wrong(
        "invalid_turn",
        [message(APPEND, audio_start_ms=0, audio_end_ms=500)],
        [SILENCE] * 40,
        APPENDED | {"pace": "replay"},
    ),
    "a turn that is not there": Wrong("invalid_turn", [message(CORRECT, turn=1, speaker="A")]),
    "a turn far away": Wrong("invalid_turn", [message(CORRECT, turn=2**53, speaker="A")]),
    # speakers
    "nobody": Wrong("invalid_speaker", [message(RENAME, speaker="Nobody", name="Anna")]),
    "somebody else's name": Wrong(
        "invalid_speaker",
        [message(RENAME, speaker="Anna", name="Eva")],
        [HELLO, message(APPEND, text="hi", speaker="Eva")],
        APPENDED,
    ),
    # order
    "the third input first": Wrong("invalid_input_id", [message(RENAME, speaker="a", name="b", input_id=3)]),
    "an input left out": Wrong(
        "invalid_input_id",
        [message(APPEND, text="hi", input_id=3)],
        [message(APPEND, text="hello", input_id=1)],
        APPENDED,
    ),
    "an update after audio": Wrong("out_of_order", [message(UPDATE)], [PCM]),
    "an update after a turn": Wrong("out_of_order", [message(UPDATE)], [HELLO], APPENDED),
    "resuming later": Wrong(
        "out_of_order", [message("session.resume", resume_token="x", last_event_id=0)], [PCM]
    ),
    "skipping input in a new session": Wrong("out_of_order", [message("input.skip", audio_ms=1)]),
    # what closes
    "an unknown token": Wrong(
        "resume_refused", [message("session.resume", resume_token="x", last_event_id=0)]
    ),
    "twenty times nonsense": Wrong("too_many_errors", ["nonsense"] * 20),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(server: Running) -> list[Fields]:
    return converse(server.socket_url, TALK)


@contextlib.contextmanager
def beside_another(server: Running, undisturbed: list[Fields]) -> Iterator[None]:
    """A second session streams meanwhile; its events are those of an undisturbed one."""
    with Client(server.socket_url) as other:
        other.answer(UPDATE, pace="replay")
        half = len(TALK) // 2
        other.send_audio(TALK[:half], frame=1_600)
        yield
        other.send_audio(TALK[half:], frame=1_600)
        other.send("session.close")
        assert other.code() == 1000
        assert other.events == undisturbed


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_and_changes_nothing(server, undisturbed, wrong):
    close_code, retryable = ERRORS[wrong.code]
    with beside_another(server, undisturbed), Client(server.socket_url) as client:
        if wrong.configuration:
            assert client.answer(UPDATE, **wrong.configuration)["type"] == "session.updated"
        for frame in [*wrong.before, *wrong.sent]:
            client.socket.send(frame)
        if close_code is not None:
            assert client.code() == close_code
        else:
            while len([m for m in client.seen if m["type"] == "error"]) < len(wrong.sent):
                client.receive()
            client.settle()  # the session goes on
        errors = [m for m in client.seen if m["type"] == "error"]
        assert errors[-1]["code"] == wrong.code and errors[-1]["retryable"] == retryable
        assert "\n" not in str(errors[-1]["message"]) and len(str(errors[-1]["message"])) <= 500
        assert close_code is not None or len(errors) == len(wrong.sent)


def test_after_the_end_nothing_is_taken():
    """Pending work keeps the connection open for a while after ``session.close``."""
    with serve({"hash": FakeEngine(analysis_s=1.0)}) as running, Client(running.socket_url) as client:
        client.answer(UPDATE, pace="replay", partials=False)
        client.send_audio(TALK[:26_000])
        client.send("session.close")
        for frame in (PCM, HELLO, message(UPDATE), message("session.close")):
            client.socket.send(frame)
        assert client.code() == 1000
        codes = [m["code"] for m in client.seen if m["type"] == "error"]
        assert codes == ["out_of_order"] * 4
        assert client.events[-1]["turns"] == 1


@pytest.mark.parametrize(
    "sent", [b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b'{"type": "ping", "id": "\xe9"}']
)
def test_a_text_frame_that_is_not_utf_8(server, undisturbed, sent):
    with beside_another(server, undisturbed), Client(server.socket_url) as client:
        client.socket.send(sent, text=True)
        assert client.code() == 1007


def test_an_error_tells_no_more_than_a_line_of_what_was_sent(server):
    with Client(server.socket_url) as client:
        for text in (message("ping", **{"x\n" * 100_000: 1}), message(UPDATE, labels=["envy" * 20] * 5_000)):
            client.socket.send(text)
            error = client.receive()
            assert error["type"] == "error" and "\n" not in str(error["message"])
            assert len(str(error["message"])) <= 500


def test_an_input_that_came_before_is_ignored(server):
    with Client(server.socket_url) as client:
        client.answer(UPDATE, **APPENDED)
        for number in (1, 1, 2, 1, 2, 0):
            client.send(APPEND, text=f"turn {number}", speaker="Anna", input_id=number)
        client.send("session.close")
        assert client.code() == 1000
        assert [e["text"] for e in client.events[:-1]] == ["turn 1", "turn 2"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45])
def test_floats_that_are_no_samples_are_silence_or_full_scale(server, undisturbed, value):
    with beside_another(server, undisturbed), Client(server.socket_url) as client:
        client.answer(UPDATE, pace="replay", **F32)
        client.socket.send(np.full(16_000, value, "<f4").tobytes())
        client.socket.send(TALK.astype("<f4").tobytes()[: 4 * 60_000])
        client.socket.send(np.zeros(16_000, "<f4").tobytes())
        client.send("session.close")
        assert client.code() == 1000
        assert client.events[-1]["audio_ms"] == 1_000 + 3_750 + 1_000


def test_frames_without_audio_are_no_harm(server, undisturbed):
    with beside_another(server, undisturbed), Client(server.socket_url) as client:
        for _ in range(500):
            client.socket.send(b"")
        client.settle()
        client.send("session.close")
        assert client.code() == 1000
        assert client.events[-1]["audio_ms"] == 0


# --- anything at all ------------------------------------------------------------------------------

SCHEMA = schema()
KINDS = [part for name, part in SCHEMA["$defs"].items() if name not in ("FromClient", "FromServer")]  # type: ignore[union-attr]
PROPERTIES = [part.get("properties", {}) for part in KINDS]
WORDS = sorted(
    {name for properties in PROPERTIES for name in properties}
    | {str(properties["type"]["const"]) for properties in PROPERTIES if "const" in properties.get("type", {})}
    | {"heard", "appended", "live", "replay", "pcm_s16le", "opus", "mulaw", "alaw", "hash"}
    | {"joy", "anger", "Anna"}
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 20)
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=8,
)
TYPES = ["session.update", "session.resume", "turn.append", "turn.correct", "speaker.rename", "ping"]
objects = st.builds(
    lambda kind, fields: {"type": kind} | fields,
    st.sampled_from([*TYPES, "session.close", "session.authenticate"]) | values,
    st.dictionaries(st.sampled_from(WORDS), values, max_size=6),
)
likely = st.one_of(
    st.builds(
        lambda **fields: {"type": APPEND} | {k: v for k, v in fields.items() if v is not None},
        text=st.none() | st.sampled_from(["hello", "", " ", "x" * 20_000]),
        speaker=st.none() | st.sampled_from(["Anna", "Eva", "speaker_1"]),
        audio_start_ms=st.none() | st.integers(0, 3_000) | st.just(2**53),
        audio_end_ms=st.none() | st.integers(0, 3_000) | st.just(2**53),
        input_id=st.none() | st.integers(0, 6),
    ),
    st.builds(
        lambda turn, speaker: {"type": CORRECT, "turn": turn, "speaker": speaker},
        st.integers(0, 5) | st.just(2**53),
        st.sampled_from(["Anna", "Eva", "speaker_1", "\0"]),
    ),
    st.builds(
        lambda speaker, name: {"type": RENAME, "speaker": speaker, "name": name},
        st.sampled_from(["Anna", "Eva", "speaker_1"]),
        st.sampled_from(["Anna", "Eva", "speaker_1", "\u202e"]),
    ),
)
texts = (
    st.text(max_size=80)
    | values.map(json.dumps)
    | objects.map(json.dumps)
    | likely.map(json.dumps)
    | objects.flatmap(lambda o: st.integers(0, len(json.dumps(o))).map(lambda cut: json.dumps(o)[:cut]))
)
audio = st.binary(max_size=200) | st.integers(1, 12).map(
    lambda tenths: (8_000 * np.sin(np.arange(1_600 * tenths) / 4)).astype("<i2").tobytes()
) | st.integers(1, 12).map(lambda tenths: bytes(3_200 * tenths))  # fmt: skip
frames = st.lists(likely.map(json.dumps) | audio | texts | st.just(message("session.close")), max_size=25)
configurations = st.sampled_from(
    [{}, APPENDED, F32, APPENDED | {"partials": True}]
    + [{"audio": {"encoding": e, "sample_rate_hz": r}} for e, r in [("mulaw", 8_000), ("opus", 48_000)]]
)


@settings(max_examples=200, deadline=None)
@given(texts)
def test_any_text_is_a_message_or_refused(text):
    try:
        parse(text)
    except Refusal as refusal:
        assert refusal.code == "invalid_message"


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations, frames)
def test_any_order_of_anything_leaves_a_session_that_can_be_closed(configuration, frames):
    """Without a socket: any input gives refusals, events that can be sent and stored, and correct totals."""
    live, engine = LiveSession(OFFER, "s", lambda: "now"), HashEngine()
    live.update(SessionUpdate(**parse_update(configuration)))
    told: list[Fields] = []

    def advance() -> None:
        live.report(drive(live.session, engine))
        while (due := live.save_point()) is not None:
            live.saved(due)
            if due.closed:
                break
        told.extend(map(to_message, live.outgoing()))

    for frame in frames:
        try:
            if isinstance(frame, bytes):
                live.hear(live.decode(frame)[0])
            else:
                match parse(frame):
                    case TurnAppend() | TurnCorrect() | SpeakerRename() as said:
                        live.receive(said)
                    case SessionUpdate() as asked:
                        live.update(asked)
                    case other if other.__class__.__name__ == "SessionClose":
                        live.close()
        except Refusal as refusal:
            assert ERRORS[refusal.code][0] is None
        advance()
    if not live.closing:
        live.close()
        advance()
    events = [m for m in told if "event_id" in m]
    assert [m["event_id"] for m in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "session.closed"
    finals = [m for m in events if m["type"] == "turn.final"]
    assert events[-1]["turns"] == len(finals)
    assert all(to_json(m) for m in told)  # type: ignore[arg-type]


def test_a_turn_whose_audio_never_comes_does_not_hold_the_end_back():
    with serve(idle_timeout_s=1.0) as running, Client(running.socket_url) as client:
        client.answer(UPDATE, **APPENDED)
        client.send(APPEND, audio_start_ms=0, audio_end_ms=2_000)
        client.send("session.close")
        assert client.code() == 1000
        assert [e["type"] for e in client.events] == ["turn.failed", "session.closed"]


def parse_update(configuration: Fields) -> dict[str, object]:
    asked = parse(message(UPDATE, **configuration))
    return {name: getattr(asked, name) for name in asked.__struct_fields__}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(configurations, frames)
def test_anything_over_a_socket_harms_nobody(server, undisturbed, configuration, frames):
    with beside_another(server, undisturbed), Client(server.socket_url) as client:
        client.send(UPDATE, **configuration)
        with contextlib.suppress(ConnectionClosed):
            for frame in frames:
                client.socket.send(frame)
            client.send("session.close")
        assert client.code() in (1000, 1008, 4404)
        assert "internal" not in {m.get("code") for m in client.seen}


def test_anything_that_is_no_websocket_harms_nobody(server, undisturbed):
    import socket

    host, port = server.url.removeprefix("http://").split(":")
    rng = np.random.default_rng(3)
    upgrade = (
        f"GET /v1/session HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    said = [
        b"\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", bytes(5_000),
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5_000, b"\x16\x03\x01\x02\x00", rng.bytes(10_000),
        upgrade + rng.bytes(1_000), upgrade + b"\x82\xff" + struct.pack(">Q", 2**62) + b"1234",
        upgrade + b"\x81\x85\0\0\0\0hello", upgrade + b"\x81\x05hello", upgrade + b"\xf1\x80\0\0\0\0",
    ]  # fmt: skip

    def say(what: bytes) -> None:
        with socket.create_connection((host, int(port)), 10) as bare:
            with contextlib.suppress(OSError):
                bare.sendall(what)
                bare.shutdown(socket.SHUT_WR)
                while bare.recv(65_536):
                    pass

    with beside_another(server, undisturbed):
        threads = [threading.Thread(target=say, args=(what,)) for what in said]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
