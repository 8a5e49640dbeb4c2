"""Twilio Media Streams without I/O: messages, their order, and the continuous audio of the tracks.

Every message is JSON text with an ``event``. Numbers are strings. Audio is mu-law at 8 kHz, one byte a
sample, in base64; its ``timestamp`` is the number of milliseconds of the stream before it.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

RATE_HZ = 8_000
SILENCE = b"\xff"
"""The mu-law sample of silence."""

TRACKS = ("inbound", "outbound")

HELD_MESSAGES = 10
"""Messages held back for a missing one before it counts as lost. About 0.2 s of one track."""

TOLERANCE = RATE_HZ * 15 // 1000
"""Jitter of the timestamps in samples (15 ms): a smaller difference is no gap."""

LONGEST_LAG = RATE_HZ // 10
"""How far a track may be behind another one, in samples (0.1 s), before its silence is taken for granted."""

LATEST_START_MS = 1_000
"""Timestamp of the first message up to which the audio begins at 0, whichever message that is."""

LONGEST_HOLE = 60 * RATE_HZ
"""Longest gap that is filled with silence, in samples (a minute)."""


class BadMessage(ValueError):
    """A message that does not conform to the protocol.

    Attributes:
        sequence: its sequence number, if it has one, so that later messages need not wait for it.
    """

    def __init__(self, message: str, sequence: int | None = None) -> None:
        super().__init__(message)
        self.sequence = sequence


@dataclass(frozen=True, slots=True)
class Connected:
    """The first message: the socket is open."""


@dataclass(frozen=True, slots=True)
class Started:
    """The start of a stream: its ids, its tracks, and the custom parameters of the call's markup."""

    sequence: int
    stream_sid: str
    call_sid: str
    tracks: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Media:
    """Audio of one track, in mu-law."""

    sequence: int
    track: str
    timestamp_ms: int
    audio: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """The audio sent to the caller has been played up to this mark."""

    sequence: int
    name: str


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key."""

    sequence: int
    digit: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The stream is over."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The place of an invalid message in the sequence."""

    sequence: int


Sequenced: TypeAlias = Started | Media | Mark | Dtmf | Stopped | Refused
Message: TypeAlias = Connected | Sequenced


def parse(text: str | bytes) -> Message:
    """Parse a message of Twilio's.

    Raises:
        BadMessage: not JSON, an unknown event, or a field that is missing or wrong.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"expected JSON, got {text[:60]!r}") from error
    if not isinstance(message, dict):
        raise BadMessage(f"expected a JSON object, got {text[:60]!r}")
    kind = message.get("event")
    if kind == "connected":
        return Connected()
    if kind not in ("start", "media", "mark", "dtmf", "stop"):
        raise BadMessage(f"expected event connected, start, media, mark, dtmf or stop, got {kind!r:.60}")
    sequence = _integer(message, "sequenceNumber")
    try:
        return _numbered(kind, sequence, message)
    except BadMessage as error:
        raise BadMessage(str(error), sequence) from error


class Sequence:
    """A buffer that puts messages back into the order of their sequence numbers, from the stream's start.

    A missing message counts as lost once `HELD_MESSAGES` later ones have arrived, or the stream has stopped.
    Duplicates, and messages that arrive after they were counted as lost, are dropped.

    Attributes:
        lost: number of lost messages.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._started = False
        self._next: int | None = None  # unknown before the start
        self._held: dict[int, Sequenced] = {}

    def receive(self, message: Sequenced) -> list[Sequenced]:
        """Take a message and return those that are now next in order."""
        if isinstance(message, Started) and not self._started:
            self._started = True
            self._next = message.sequence
            self._held = {k: held for k, held in self._held.items() if k > message.sequence}
        if self._next is None or message.sequence >= self._next:
            self._held.setdefault(message.sequence, message)
        ready = self._in_order()
        stopped = any(isinstance(held, Stopped) for held in self._held.values())
        while len(self._held) > HELD_MESSAGES or (stopped and self._held):
            following = min(self._held)
            self.lost += following - (following if self._next is None else self._next)
            self._next = following
            ready += self._in_order()
        return ready

    def _in_order(self) -> list[Sequenced]:
        ready = []
        while self._next is not None and self._next in self._held:
            ready.append(self._held.pop(self._next))
            self._next += 1
        return ready


class Track:
    """A track's audio as one stream without gaps: a sample's position is its time.

    Args:
        origin_ms: the timestamp at which the stream begins; None for that of the first message.

    Attributes:
        jumps: number of timestamps that jumped by more than `LONGEST_HOLE`; there the audio simply continues.
    """

    def __init__(self, origin_ms: int | None = None) -> None:
        self.jumps = 0
        self._origin = None if origin_ms is None else origin_ms * RATE_HZ // 1000  # in samples
        self._end = 0  # samples so far

    def receive(self, media: Media) -> bytes:
        """Return the audio to append: with silence for a gap, without what overlaps."""
        timestamp = media.timestamp_ms * RATE_HZ // 1000
        if self._origin is None:
            self._origin = timestamp
        gap = timestamp - self._origin - self._end
        if abs(gap) > LONGEST_HOLE:
            self.jumps += 1
            self._origin += gap
        if abs(gap) > LONGEST_HOLE or abs(gap) < TOLERANCE:
            audio = media.audio
        else:
            audio = SILENCE * gap + media.audio if gap > 0 else media.audio[-gap:]
        self._end += len(audio)
        return audio

    def pad(self, samples: int) -> bytes:
        """Return silence to append; audio that comes for this time later is left out."""
        self._end += samples
        return SILENCE * samples


class Tracks:
    """The audio of a call's tracks side by side, by their timestamps: a sample of each track in turn.

    A sample's place is its time in the stream: losses in a track, the first message included, move nothing in
    another one. A track that sends nothing is silent: the others wait for it no longer than `LONGEST_LAG`.

    Args:
        names: the tracks, in the order of their samples.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._tracks: dict[str, Track] = {}
        self._waiting = {name: bytearray() for name in self._names}

    def receive(self, media: Media) -> bytes:
        """Return the audio of all tracks that can be appended."""
        if not self._tracks:
            origin_ms = 0 if media.timestamp_ms <= LATEST_START_MS else media.timestamp_ms
            self._tracks = {name: Track(origin_ms) for name in self._names}
        self._waiting[media.track] += self._tracks[media.track].receive(media)
        ahead = len(self._waiting[media.track])
        return self._ready(0 if len(self._names) == 1 else ahead - LONGEST_LAG)

    def finish(self) -> bytes:
        """Return the rest, with silence at the end of the tracks that are shorter."""
        return self._ready(max(map(len, self._waiting.values())))

    def _ready(self, least: int) -> bytes:
        """Take what all tracks have, and at least `least` samples."""
        count = max(least, min(map(len, self._waiting.values())))
        for name, waiting in self._waiting.items():
            if len(waiting) < count:
                waiting += self._tracks[name].pad(count - len(waiting))
        ready = bytearray(count * len(self._names))
        for place, name in enumerate(self._names):
            ready[place :: len(self._names)] = self._waiting[name][:count]
            del self._waiting[name][:count]
        return bytes(ready)


def _numbered(kind: str, sequence: int, message: Mapping[str, object]) -> Message:
    if kind == "stop":
        return Stopped(sequence)
    body = message.get(kind)
    if not isinstance(body, dict):
        raise BadMessage(f"{kind}: expected an object, got {body!r:.60}")
    match kind:
        case "start":
            return _started(sequence, body)
        case "media":
            track = body.get("track", "inbound")
            if track not in TRACKS:
                raise BadMessage(f"track: expected inbound or outbound, got {track!r:.60}")
            return Media(sequence, track, _integer(body, "timestamp"), _audio(body))
        case "mark":
            return Mark(sequence, _string(body, "name"))
        case _:
            return Dtmf(sequence, _string(body, "digit"))


def _started(sequence: int, body: Mapping[str, object]) -> Started:
    form = body.get("mediaFormat")
    form = form if isinstance(form, dict) else {}
    got = form.get("encoding"), form.get("sampleRate"), form.get("channels")
    if got != ("audio/x-mulaw", RATE_HZ, 1):
        raise BadMessage(f"mediaFormat: expected audio/x-mulaw, {RATE_HZ}, 1, got {got!r:.100}")
    tracks, parameters = body.get("tracks"), body.get("customParameters")
    tracks = tracks if isinstance(tracks, list) else []
    parameters = parameters if isinstance(parameters, dict) else {}
    return Started(
        sequence,
        _string(body, "streamSid"),
        _string(body, "callSid"),
        tuple(track for track in TRACKS if track in tracks) or ("inbound",),
        {str(name): str(value) for name, value in parameters.items()},
    )


def _audio(body: Mapping[str, object]) -> bytes:
    payload = _string(body, "payload")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMessage(f"payload: expected base64, got {payload[:40]!r}: {error}") from error


def _string(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise BadMessage(f"{name}: expected a string, got {value!r:.60}")
    return value


def _integer(body: Mapping[str, object], name: str) -> int:
    value = body.get(name)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadMessage(f"{name}: expected a whole number, got {value!r:.60}")
    return int(text)
