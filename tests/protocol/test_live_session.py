"""A live session without a socket: wherever it is cut, each event comes once and is the same."""

import json
import random
import sys
from collections.abc import Callable

import numpy as np
import pytest
from fakes import CONFIG, HashEngine, conversation, drive
from g711 import to_mulaw
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import FakeEngine

from stream_erc.audio import SAMPLE_RATE, to_pcm16
from stream_erc.config import ServerConfig
from stream_erc.core.input_queue import APPENDED_AUDIO_MS, MAX_TURN_MS
from stream_erc.protocol import messages
from stream_erc.protocol.encoding import to_message
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.live_session import MAX_WAITING_BYTES, MAX_WAITING_INPUTS, LiveSession
from stream_erc.protocol.messages import AudioFormat, SessionUpdate, SpeakerRename, TurnAppend, TurnCorrect
from stream_erc.protocol.negotiation import Offer
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.stores.sqlite import MemoryStore

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900), (0.9, 200), (1.1, 900)])
CHUNK = 1600
OFFER = Offer({"hash": FakeEngine(), "other": FakeEngine()}, CONFIG, ServerConfig())  # type: ignore[dict-item]
HEARD = [
    *[("audio", k) for k in range(0, 40)],
    ("input", SpeakerRename(speaker="speaker_1", name="Anna", input_id=1)),
    *[("audio", k) for k in range(40, 55)],
    ("input", TurnCorrect(turn=0, speaker="Tom", input_id=2)),
    ("input", TurnCorrect(turn=99, speaker="Tom", input_id=3)),  # refused: there is no such turn
    *[("audio", k) for k in range(55, 70)],
    ("input", SpeakerRename(speaker="Anna", name="Eva", input_id=4)),
    *[("audio", k) for k in range(70, len(TALK) // CHUNK + 1)],
    ("close", None),
]
APPENDED = [
    ("input", TurnAppend(text="hello", speaker="Anna", input_id=1)),
    ("input", TurnAppend(text="and you", speaker="Tom", audio_start_ms=500, audio_end_ms=1500, input_id=2)),
    ("input", SpeakerRename(speaker="Anna", name="Eva", input_id=3)),
    *[("audio", k) for k in range(0, 30)],
    ("input", TurnAppend(speaker="Tom", audio_start_ms=2000, audio_end_ms=2800, input_id=4)),
    ("input", TurnCorrect(turn=0, speaker="Tom", input_id=5)),
    ("input", TurnAppend(text="", input_id=6)),  # refused: neither words nor a span
    *[("audio", k) for k in range(30, 50)],
    ("input", TurnAppend(text="bye", speaker="Eva", input_id=7)),
    ("close", None),
]


def chunk(number: int) -> bytes:
    return to_pcm16(TALK[number * CHUNK : (number + 1) * CHUNK])


def keep(store: MemoryStore, owner: int, due: SavePoint) -> None:
    store.save("s", owner, due, now=0, expires_at=9)


def sent(live: LiveSession) -> list[dict]:
    """Return the messages that may leave now, as a client reads them."""
    return [to_message(message) for message in live.outgoing()]


class Cut(Exception):
    """The connection or the server has failed."""


class Wire:
    """A client that follows the protocol, and the server's side of each of its connections.

    Args:
        asked: the configuration that the client requests.
        script: what it sends.
        cuts: numbers of operations (frames in, save points stored, messages out) after which all is cut.
    """

    def __init__(self, asked: SessionUpdate, script: list, cuts: list[int]) -> None:
        self.asked, self.script, self.cuts = asked, script, sorted(set(cuts))
        self.store, self.engine = MemoryStore(), HashEngine()
        self.operations = 0
        self.received: list[dict] = []
        self.errors: list[tuple[int, str]] = []

    def operate(self) -> None:
        self.operations += 1
        if self.cuts and self.operations >= self.cuts[0]:
            self.cuts.pop(0)
            raise Cut

    def run(self) -> list[dict]:
        live = LiveSession(OFFER, "s", lambda: "now")
        live.update(self.asked)
        first = live.save_point(always=True)
        owner = self.store.create("s", b"token", first.header, now=0, expires_at=9)
        audio_ms = input_id = 0
        for _ in range(100):
            try:
                self.connection(live, owner, audio_ms, input_id)
                return self.received
            except Cut:
                saved = self.store.claim(b"token", now=0, expires_at=9)
                live = LiveSession(OFFER, "s", lambda: "now", (saved.header, saved.steps))
                owner = saved.owner
                last = self.received[-1]["event_id"] if self.received else 0
                resumed = live.resumed()
                assert resumed.event_id == saved.last_event_id
                audio_ms, input_id = resumed.audio_ms, resumed.input_id
                self.received += [json.loads(line) for _, line in self.store.events("s", last)]
                if saved.closed:
                    return self.received
        raise AssertionError("cut for ever")

    def connection(self, live: LiveSession, owner: int, audio_ms: int, input_id: int) -> None:
        for kind, what in self.script:
            if kind == "audio":
                data, start = chunk(what), what * CHUNK
                missing = audio_ms * SAMPLE_RATE // 1000 - start
                if missing >= CHUNK:
                    continue
                self.operate()
                samples, _ = live.decode(data[2 * max(0, missing) :])
                live.hear(samples)
            elif kind == "input":
                if what.input_id <= input_id:
                    continue
                self.operate()
                live.receive(what)
            else:
                self.operate()
                live.close()
            self.advance(live, owner)

    def advance(self, live: LiveSession, owner: int) -> None:
        live.report(drive(live.session, self.engine))
        while (due := live.save_point()) is not None:
            self.operate()
            keep(self.store, owner, due)
            self.operate()
            live.saved(due)
        for message in sent(live):
            self.operate()
            if message["type"] == "error":
                self.errors.append((message["input_id"], message["code"]))
            if "event_id" in message:
                self.received.append(message)


def plain(received: list[dict]) -> list[dict]:
    return [{k: v for k, v in m.items() if k not in ("seq", "created_at")} for m in received]


UNDISTURBED = {
    "heard": plain(Wire(SessionUpdate(partials=False), HEARD, []).run()),
    "appended": plain(Wire(SessionUpdate(turns="appended"), APPENDED, []).run()),
}
ASKED = {"heard": SessionUpdate(partials=False), "appended": SessionUpdate(turns="appended")}
SCRIPTS = {"heard": HEARD, "appended": APPENDED}


@pytest.mark.parametrize("kind", ["heard", "appended"])
def test_the_undisturbed_run_is_what_it_should_be(kind: str) -> None:
    events = UNDISTURBED[kind]
    assert [m["event_id"] for m in events] == list(range(1, len(events) + 1))
    kinds = [m["type"] for m in events]
    assert kinds[-1] == "session.closed" and kinds.count("speaker.updated") == (2 if kind == "heard" else 1)
    assert "turn.revised" in kinds
    assert events[-1]["turns"] == (6 if kind == "heard" else 4)


@pytest.mark.parametrize("kind", ["heard", "appended"])
def test_a_cut_at_every_single_operation_loses_and_doubles_nothing(kind: str) -> None:
    whole = Wire(ASKED[kind], SCRIPTS[kind], [])
    whole.run()
    for cut in range(1, whole.operations + 1):
        wire = Wire(ASKED[kind], SCRIPTS[kind], [cut])
        assert plain(wire.run()) == UNDISTURBED[kind], cut


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["heard", "appended"]), cuts=st.lists(st.integers(1, 200), min_size=2, max_size=8)
)
def test_many_cuts_lose_and_double_nothing(kind: str, cuts: list[int]) -> None:
    wire = Wire(ASKED[kind], SCRIPTS[kind], cuts)
    assert plain(wire.run()) == UNDISTURBED[kind]
    assert set(wire.errors) <= {(3 if kind == "heard" else 6, "invalid_turn")}


def test_at_other_rates_a_cut_changes_no_more_than_rounding() -> None:
    """With mu-law at 8 kHz the resampler restarts a second earlier, and turns are the same."""
    eight = np.ascontiguousarray(TALK[::2])
    asked = SessionUpdate(audio=AudioFormat(encoding="mulaw", sample_rate_hz=8_000), partials=False)

    def run(cut_at: int | None) -> list[dict]:
        store, engine, received = MemoryStore(), HashEngine(), []
        live = LiveSession(OFFER, "s", lambda: "now")
        live.update(asked)
        owner = store.create("s", b"t", live.save_point(always=True).header, now=0, expires_at=9)
        at = 0

        def advance() -> None:
            live.report(drive(live.session, engine))
            while (due := live.save_point()) is not None:
                keep(store, owner, due)
                live.saved(due)
            received.extend(m for m in sent(live) if "event_id" in m)

        while at < len(eight):
            if cut_at is not None and at >= cut_at:
                cut_at = None
                saved = store.claim(b"t", now=0, expires_at=9)
                live, owner = LiveSession(OFFER, "s", lambda: "now", (saved.header, saved.steps)), saved.owner
                at = live.resumed().audio_ms * 8
                assert at % 8_000 == 0
            live.hear(live.decode(to_mulaw(eight[at : at + 800]))[0])
            at += 800
            advance()
        live.close()
        advance()
        return received

    whole = run(None)
    assert len(whole) == 7
    for cut_at in (9_000, 25_000, 40_000, 60_000):
        again = run(cut_at)
        spans = [[(m["turn"], m["speaker"], m["audio_start_ms"], m["audio_end_ms"]) for m in run[:-1]]
                 for run in (whole, again)]  # fmt: skip
        assert spans[0] == spans[1]
        assert whole[-1]["audio_ms"] == again[-1]["audio_ms"]


def test_an_event_leaves_only_when_it_is_stored() -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    live.hear(live.decode(to_pcm16(TALK[:40_000]))[0])
    live.report(drive(live.session, HashEngine()))
    due = live.save_point()
    assert [number for number, _ in due.events] == [1]
    assert all("event_id" not in message for message in sent(live))
    live.saved(due)
    kinds = [message["type"] for message in sent(live)]
    assert kinds[:2] == ["turn.final", "input.acknowledged"]
    assert live.save_point() is None


def test_silence_is_acknowledged_every_four_seconds() -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    acknowledged = []
    for _ in range(200):
        live.hear(np.zeros(CHUNK, dtype=np.float32))
        live.report(drive(live.session, HashEngine()))
        while (due := live.save_point()) is not None:
            live.saved(due)
        acknowledged += [m["audio_ms"] for m in sent(live) if m["type"] == "input.acknowledged"]
    assert 3 <= len(acknowledged) <= 5 and acknowledged[-1] >= 12_000
    assert all(ms % 32 == 0 for ms in acknowledged)


def test_labels_that_were_asked_for_share_all_the_probability() -> None:
    asked = SessionUpdate(turns="appended", labels=("anger", "joy"))
    all_labels = Wire(SessionUpdate(turns="appended"), APPENDED, []).run()
    for full, part in zip(all_labels, Wire(asked, APPENDED, []).run(), strict=True):
        if "emotion" not in full:
            continue
        before, now = full["emotion"]["probabilities"], part["emotion"]["probabilities"]
        assert list(now) == ["anger", "joy"] and abs(sum(now.values()) - 1) < 2e-6
        assert abs(now["joy"] / now["anger"] - before["joy"] / before["anger"]) < 1e-3
        assert part["emotion"]["label"] == max(now, key=now.__getitem__)


def test_a_session_may_have_a_language_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OFFER.engines["hash"]
    live = LiveSession(OFFER, "s", lambda: "now")
    monkeypatch.setattr(engine, "languages", ("en", "de"))
    assert live.update(SessionUpdate(language="de")).configuration.language == "de"
    assert live.terms.session_config().language == "de"
    assert live.update(SessionUpdate()).configuration.language == "en"
    assert live.terms.session_config().language is None  # the recognizer's own
    monkeypatch.setattr(engine, "languages", ())
    assert live.update(SessionUpdate(language="de")).configuration.language == "de"
    assert live.update(SessionUpdate()).configuration.language is None


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (SessionUpdate(model="nope"), "expected a model of hash, other, got 'nope'"),
        (SessionUpdate(labels=("joy", "glee")), "neutral, joy, anger, got joy, glee"),
        (SessionUpdate(labels=()), "expected some of the labels"),
        (SessionUpdate(labels=("joy", "joy")), "got joy, joy"),
        (SessionUpdate(language="de"), "expected a language of en, got 'de'"),
        (SessionUpdate(protocol=2), "expected protocol 1, got 2"),
        (SessionUpdate(audio=AudioFormat(encoding="opus")), "48000, got 16000"),
        (SessionUpdate(channel_names=("a", "b")), "one for each of 1 channel.s., got 2"),
        (SessionUpdate(audio=AudioFormat(channels=3), channel_names=("a", None)), "3 channel.s., got 2"),
        (SessionUpdate(audio=AudioFormat(channels=2), channel_names=("a", "a")), "got 'a' twice"),
        (SessionUpdate(audio=AudioFormat(channels=2), channel_names=("a", " ")), "1 to 100 characters"),
        (SessionUpdate(audio=AudioFormat(channels=2), turns="appended"), "got turns appended"),
        (
            SessionUpdate(audio=AudioFormat(encoding="opus", sample_rate_hz=48_000, channels=2)),
            "opus with 1 channel, got 2",
        ),
    ],
)
def test_what_is_not_there_is_refused_and_the_session_stays_as_it_was(
    asked: SessionUpdate, told: str
) -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    live.update(SessionUpdate(speakers=2, model="other"))
    with pytest.raises(Refusal, match=told) as refused:
        live.update(asked)
    assert refused.value.code == "invalid_configuration"
    assert (live.terms.configuration().speakers, live.terms.configuration().model) == (2, "other")
    live.hear(live.decode(chunk(0))[0])
    with pytest.raises(Refusal, match="before any audio"):
        live.update(SessionUpdate())


def test_what_cannot_be_used_is_refused_by_its_code() -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    for code, call in [
        ("invalid_audio", lambda: live.decode(b"\x00")),
        ("invalid_audio", lambda: live.decode(bytes(2 * 16_000 * 11))),
        ("invalid_input_id", lambda: live.receive(TurnCorrect(turn=0, speaker="Anna", input_id=9))),
    ]:
        with pytest.raises(Refusal) as refused:
            call()
        assert refused.value.code == code
    for number, (code, message) in enumerate(
        [
            ("invalid_turn", TurnAppend(text="hi", input_id=1)),
            ("invalid_turn", TurnCorrect(turn=0, speaker="Anna", input_id=2)),
            ("invalid_speaker", SpeakerRename(speaker="Anna", name="Eva", input_id=3)),
        ],
        1,
    ):
        live.receive(message)
        live.receive(message)  # the same again is ignored
        live.report(drive(live.session, HashEngine()))
        (told,) = sent(live)
        assert (told["code"], told["input_id"], told["retryable"]) == (code, number, False)
    with pytest.raises(Refusal, match="in all inputs or in none"):
        live.receive(TurnCorrect(turn=0, speaker="Anna"))
    live.close()
    for call in (live.close, lambda: live.decode(chunk(0)), lambda: live.receive(TurnAppend(text="hi"))):
        with pytest.raises(Refusal, match=r"after session\.close"):
            call()


def test_turns_that_wait_for_audio_are_bounded() -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    live.update(SessionUpdate(turns="appended"))
    ahead = TurnAppend(speaker="Anna", audio_start_ms=1_000, audio_end_ms=2_000)
    for _ in range(MAX_WAITING_INPUTS):
        live.receive(ahead)
    with pytest.raises(Refusal, match="at most 1000 inputs"):
        live.receive(ahead)


@pytest.mark.parametrize("letter", ["x", "é", "\u4e00", "\U0001f600"])
def test_inputs_that_wait_for_audio_are_bounded_in_bytes(letter: str) -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    live.update(SessionUpdate(turns="appended"))
    ahead = TurnAppend(text=20_000 * letter, speaker="Anna", audio_start_ms=1_000, audio_end_ms=2_000)
    waiting = 0
    with pytest.raises(Refusal, match="at most 4 MiB of inputs"):
        for _ in range(MAX_WAITING_INPUTS):
            live.receive(ahead)
            waiting += sys.getsizeof(ahead.text)
    assert waiting <= MAX_WAITING_BYTES + sys.getsizeof(ahead.text)
    assert waiting > 0.9 * MAX_WAITING_BYTES


def test_the_speakers_of_a_session_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_erc.core.conversation.MAX_SPEAKERS", 2)
    live = LiveSession(OFFER, "s", lambda: "now")
    live.update(SessionUpdate(turns="appended"))
    for name in ("Anna", "Ben", "Cleo", "Ben"):
        live.receive(TurnAppend(text="so", speaker=name))
    live.receive(TurnCorrect(turn=0, speaker="Dora"))
    live.report(drive(live.session, HashEngine()))
    while (due := live.save_point()) is not None:
        live.saved(due)
    told = [message for message in sent(live) if message["type"] in ("turn.final", "error")]
    refused = ["expected at most 2 speakers in a session, got one more"]
    assert [m.get("speaker") or m["message"] for m in told] == ["Anna", "Ben", *refused, "Ben", *refused]


def test_the_audio_kept_for_a_turn_that_waits_is_bounded() -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    live.update(SessionUpdate(turns="appended", pace="replay"))
    spans = [(0, 120_000), (10_000, 130_001), (10_000, 130_000), (9_999, 20_000), (130_000, 250_001)]
    for start, end in spans:
        live.receive(TurnAppend(text="so", speaker="Anna", audio_start_ms=start, audio_end_ms=end))
    most, told, second = 0, [], np.zeros(SAMPLE_RATE, dtype=np.float32)
    for _ in range(260):
        live.hear(second)
        live.report(drive(live.session, HashEngine()))
        most = max(most, live.session.waiting_audio_bytes)
        while (due := live.save_point()) is not None:
            live.saved(due)
        told += [message for message in sent(live) if message["type"] in ("turn.final", "error")]
    assert [m.get("audio_end_ms") or m["code"] for m in told] == [
        120_000,
        "invalid_turn",
        130_000,
        *2 * ["invalid_turn"],
    ]
    kept = 4 * SAMPLE_RATE * (MAX_TURN_MS - APPENDED_AUDIO_MS) // 1000
    assert 0.9 * kept < most <= kept + second.nbytes
    assert live.session.waiting_audio_bytes < second.nbytes  # nothing waits any more


def test_a_session_is_gone_on_with_only_by_those_who_can() -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    live.update(SessionUpdate(model="other"))
    header = live.save_point(always=True).header
    fewer = Offer({"hash": OFFER.engines["hash"]}, CONFIG, ServerConfig())
    for offer, kept in (
        (fewer, header),
        (OFFER, header[:-3]),
        (OFFER, b""),
        (OFFER, header[:1] + b"\x02" + header[2:]),
    ):
        with pytest.raises(Refusal) as refused:
            LiveSession(offer, "s", lambda: "now", (kept, {}))
        assert refused.value.code == "resume_refused"
    again = LiveSession(OFFER, "s", lambda: "now", (header, {}))
    assert isinstance(again.terms.configuration(), messages.Configuration)


def test_after_the_end_there_is_no_turn_to_end() -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    live.hear(live.decode(chunk(5))[0])
    live.close()
    live.end_turn()
    assert live.received_ms == 100


def test_random_chunks_give_the_same_events() -> None:
    for seed in range(5):
        rng, live, received, at = random.Random(seed), LiveSession(OFFER, "s", lambda: "now"), [], 0
        live.update(SessionUpdate(partials=False))
        while at < len(TALK):
            size = rng.choice([1, 33, 500, 1600, 8000])
            live.hear(live.decode(to_pcm16(TALK[at : at + size]))[0])
            at += size
            live.report(drive(live.session, HashEngine()))
        live.close()
        live.report(drive(live.session, HashEngine()))
        while (due := live.save_point()) is not None:
            live.saved(due)
        received = [m for m in sent(live) if m["type"] == "turn.final"]
        undisturbed = Wire(SessionUpdate(partials=False), [s for s in HEARD if s[0] != "input"], []).run()
        assert [m["emotion"] for m in received] == [m["emotion"] for m in undisturbed[:-1]]


# --- several channels -----------------------------------------------------------------------------

AGENT = conversation([(1.0, 200), (1.4, 200), (0.6, 200)], gap=0.4)
CALLER = conversation([(0.5, 900), (1.5, 300), (0.9, 900)], gap=0.6)
CALL = np.stack([np.pad(AGENT, (0, max(0, len(CALLER) - len(AGENT)))), CALLER[: len(CALLER)]], axis=1)


def call(asked: SessionUpdate, audio: np.ndarray, encode: Callable, cuts: list[int]) -> list[dict]:
    """Send a call in frames, cut after some of them, and return the events."""
    rate = asked.audio.sample_rate_hz
    store, engine, received, at, sent_frames = MemoryStore(), HashEngine(), [], 0, 0
    live = LiveSession(OFFER, "s", lambda: "now")
    live.update(asked)
    owner = store.create("s", b"t", live.save_point(always=True).header, now=0, expires_at=9)

    def advance() -> None:
        live.report(drive(live.session, engine))
        while (due := live.save_point()) is not None:
            keep(store, owner, due)
            live.saved(due)
        received.extend(m for m in sent(live) if "event_id" in m)

    while at < len(audio):
        frame = audio[at : at + rate // 10]
        live.hear(live.decode(encode(frame))[0])
        at, sent_frames = at + len(frame), sent_frames + 1
        if sent_frames in cuts:
            saved = store.claim(b"t", now=0, expires_at=9)
            live, owner = LiveSession(OFFER, "s", lambda: "now", (saved.header, saved.steps)), saved.owner
            at = live.resumed().audio_ms * rate // 1000
        advance()
    live.close()
    advance()
    return plain(received)


@pytest.mark.parametrize("names", [None, ("agent", "caller"), (None, "caller")])
def test_a_call_is_heard_channel_by_channel_over_any_cut(names: tuple[str | None, ...] | None) -> None:
    asked = SessionUpdate(audio=AudioFormat(channels=2), channel_names=names, partials=False)
    whole = call(asked, CALL, to_pcm16, [])
    turns = [m for m in whole if m["type"] == "turn.final"]
    assert sorted({(m["channel"], m["speaker"]) for m in turns if names}) == (
        sorted({0: names[0] or "speaker_1", 1: names[1]}.items()) if names else []
    )
    assert len(turns) == 6 and whole[-1]["audio_ms"] == round(len(CALL) / 16)
    for cut in range(1, len(CALL) // 1600):
        assert call(asked, CALL, to_pcm16, [cut, cut + 7]) == whole, cut


def test_a_telephone_call_is_cut_without_a_trace() -> None:
    asked = SessionUpdate(
        audio=AudioFormat(encoding="mulaw", sample_rate_hz=8_000, channels=2),
        channel_names=("agent", "caller"),
        partials=False,
    )
    audio = np.ascontiguousarray(CALL[::2])
    whole = call(asked, audio, to_mulaw, [])
    assert len(whole) == 7
    assert all(call(asked, audio, to_mulaw, [cut]) == whole for cut in (5, 19, 28, 33, 41))


def test_frames_hold_a_sample_of_each_channel_and_all_of_them_count() -> None:
    live = LiveSession(OFFER, "s", lambda: "now")
    configured = live.update(SessionUpdate(audio=AudioFormat(channels=2), channel_names=("a", None)))
    assert configured.configuration.audio.channels == 2
    assert configured.configuration.channel_names == ("a", None)
    with pytest.raises(Refusal, match="a sample of each of 2 channels in turn, got 3 samples"):
        live.decode(bytes(6))
    samples, duration_ms = live.decode(bytes(2 * 2 * 1600))
    assert samples.shape == (1600, 2) and duration_ms == 100
    with pytest.raises(Refusal, match=r"at most 10000 ms of audio in a frame, got 10000\.12"):
        live.decode(bytes(2 * 2 * (80_000 + 1)))
    live.decode(bytes(2 * 2 * 80_000))
