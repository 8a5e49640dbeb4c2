"""Mutated messages on several connections at once: a good session beside them is as if it were alone."""

import contextlib
import json
import logging
import random
from concurrent.futures import ThreadPoolExecutor

from fakes import conversation
from serving import Client, converse, serve
from websockets.exceptions import ConnectionClosed

from stream_erc.protocol.errors import ERRORS

SEED, STRANGERS, FRAMES = 13, 4, 30
TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.9, 500)])

VALID = [
    json.dumps(message)
    for message in (
        {"type": "session.authenticate", "token": "secret"},
        {"type": "session.update", "turns": "appended", "partials": False},
        {
            "type": "session.update",
            "audio": {"encoding": "alaw", "sample_rate_hz": 8_000},
            "labels": ["joy"],
        },
        {"type": "session.update", "audio": {"channels": 2}, "min_silence_ms": 300, "pace": "replay"},
        {"type": "session.resume", "resume_token": "s_0123456789abcdef.secret", "last_event_id": 3},
        {"type": "session.export", "resume_token": "s_0123456789abcdef.secret", "format": "srt"},
        {"type": "turn.append", "text": "I do not know.", "speaker": "Anna", "input_id": 1},
        {"type": "turn.append", "audio_start_ms": 100, "audio_end_ms": 900},
        {"type": "turn.correct", "turn": 0, "speaker": "Eva"},
        {"type": "speaker.rename", "speaker": "speaker_1", "name": "Eva"},
        {"type": "voice.enrol", "name": "Eva", "turn": 0},
        {"type": "voice.enrol", "name": "Eva", "clip": "AAAAAAAA"},
        {"type": "ping", "id": "a"},
        {"type": "session.close", "keep": True},
        {"type": "session.delete"},
    )
]
PIECES = [
    *'"{}[],:\\\0\n0-. ',
    *"1e999 null true NaN \\ud800 \u202e".split(),
    '"type":',
    "9" * 30,
    "x" * 5_000,
]


def mutated(rng: random.Random) -> str | bytes:
    """Return audio, or a message with up to three changes."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.choice([1, 320, 3_200, 3_201, 32_000]))
    text = rng.choice(VALID)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(text) + 1)
        match rng.randrange(4):
            case 0:
                text = text[:at]
            case 1:
                text = text[:at] + rng.choice(PIECES) + text[at:]
            case 2:
                text = text[:at] + text[at + rng.randrange(1, 9) :]
            case 3:
                other = rng.choice(VALID)
                text = text[:at] + other[rng.randrange(len(other)) :]
    return text


class Stranger:
    """A client that sends mutated messages, and comes again when it is thrown out.

    Attributes:
        codes: the errors that it was told, and the codes with which it was closed.
    """

    def __init__(self, url: str, seed: str) -> None:
        self._url, self._rng = url, random.Random(seed)
        self._client = Client(url)
        self.codes: set[object] = set()

    def send(self, count: int) -> None:
        """Send some frames, and read what has been answered meanwhile."""
        for _ in range(count):
            try:
                self._client.socket.send(mutated(self._rng))
            except ConnectionClosed:
                self.codes.add(self._client.code())
                self.leave()
                self._client = Client(self._url)
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            while True:
                self._client.receive(0)

    def leave(self) -> None:
        """Note the errors, and close."""
        self.codes |= {m["code"] for m in self._client.seen if m["type"] == "error"}
        self._client.vanish()


def test_a_session_beside_mutated_messages_is_as_if_it_were_alone(caplog):
    with serve() as running, ThreadPoolExecutor(STRANGERS) as threads:
        alone = converse(running.socket_url, TALK)
        strangers = [Stranger(running.socket_url, f"{SEED} {k}") for k in range(STRANGERS)]
        with Client(running.socket_url) as good:
            good.answer("session.update", pace="replay")
            for at in range(0, len(TALK), 4_000):
                sending = [threads.submit(stranger.send, FRAMES) for stranger in strangers]
                good.send_audio(TALK[at : at + 4_000])
                for sent in sending:
                    sent.result()
            good.send("session.close")
            assert good.code() == 1000
        for stranger in strangers:
            stranger.leave()
    assert good.events == alone
    told = set().union(*(stranger.codes for stranger in strangers))
    assert told >= {"invalid_message", "invalid_audio"}
    assert not told - {1000, *ERRORS, *(code for code, _ in ERRORS.values())}
    assert "internal" not in told
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
