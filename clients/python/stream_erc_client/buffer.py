"""What was said to the server and may have to be said again: audio by position, inputs by id, in one order.

Everything goes through this queue, what is new as well as what is sent again, so that a server gets one
unbroken stream over any number of connections. No I/O; positions are samples since the session's audio began.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stream_erc_client.errors import InvalidInput, ProtocolError, SessionLost

BYTES_PER_SAMPLE: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}
OPUS_RATE_HZ: Final = 48_000


@dataclass(frozen=True)
class Audio:
    """Samples `start` to `end`."""

    start: int
    end: int
    data: memoryview


@dataclass(frozen=True)
class Input:
    """A numbered message."""

    input_id: int
    text: str


class Buffer:
    """The unacknowledged inputs of a session.

    Args:
        encoding: of the audio: `pcm_s16le`, `pcm_f32le`, `mulaw` or `opus`.
        sample_rate_hz: samples a second; 48000 with opus.

    Attributes:
        end: how many samples were appended so far.
        input_id: the id of the last input that was appended, 0 where there was none.
    """

    def __init__(self, encoding: str, sample_rate_hz: int) -> None:
        if encoding != "opus" and encoding not in BYTES_PER_SAMPLE:
            raise InvalidInput(
                f"encoding: expected one of {', '.join(BYTES_PER_SAMPLE)}, opus, got {encoding}"
            )
        if encoding == "opus" and sample_rate_hz != OPUS_RATE_HZ:
            raise InvalidInput(f"opus: expected a sample rate of {OPUS_RATE_HZ} Hz, got {sample_rate_hz}")
        self.encoding, self.sample_rate_hz = encoding, sample_rate_hz
        self.end = 0
        self.input_id = 0
        self._sent: deque[Audio | Input] = deque()  # on this connection
        self._unsent: deque[Audio | Input] = deque()
        self._first = 0  # samples before were acknowledged
        self._first_unsent = 0
        self._acknowledged_input = 0

    @property
    def unacknowledged_ms(self) -> float:
        """How much audio is kept."""
        return (self.end - self._first) * 1000 / self.sample_rate_hz

    @property
    def unsent_ms(self) -> float:
        """How much audio waits to be sent on this connection."""
        return (self.end - self._first_unsent) * 1000 / self.sample_rate_hz

    @property
    def end_ms(self) -> int:
        """How much audio was appended since the session began, as the server counts it."""
        return round(self.end * 1000 / self.sample_rate_hz)

    def append_audio(self, data: bytes) -> None:
        """Take audio: whole samples, or one opus packet; also of what holds bytes, as an array.

        Raises:
            InvalidInput: half a sample, or not an opus packet.
        """
        data = memoryview(data).tobytes()  # whose length is in bytes, and which stays as it is
        if self.encoding == "opus":
            samples = packet_samples(data)
        else:
            size = BYTES_PER_SAMPLE[self.encoding]
            samples, rest = divmod(len(data), size)
            if rest:
                raise InvalidInput(f"expected audio in whole samples of {size} bytes, got {len(data)} bytes")
        if samples:
            self._unsent.append(Audio(self.end, self.end + samples, memoryview(data)))
            self.end += samples

    def append_input(self, fields: Mapping[str, object]) -> int:
        """Take a message, number it, and give its id.

        Raises:
            InvalidInput: a text that UTF-8 cannot say.
        """
        text = as_text({**fields, "input_id": self.input_id + 1})
        self.input_id += 1
        self._unsent.append(Input(self.input_id, text))
        return self.input_id

    def next(self, max_samples: int) -> bytes | str | None:
        """What is to be sent next, None where all was; it stays until it is acknowledged.

        Args:
            max_samples: how long an audio frame may be; opus packets are not cut.
        """
        if not self._unsent:
            return None
        item = self._unsent.popleft()
        if isinstance(item, Audio) and self.encoding != "opus" and item.end - item.start > max_samples:
            cut = item.start + max(1, max_samples)
            self._unsent.appendleft(self._from(item, cut))
            item = Audio(item.start, cut, item.data[: (cut - item.start) * BYTES_PER_SAMPLE[self.encoding]])
        self._sent.append(item)
        if isinstance(item, Input):
            return item.text
        self._first_unsent = item.end
        return bytes(item.data)

    def acknowledge(self, position: int, input_id: int) -> None:
        """Forget the audio before `position` (samples) and the inputs up to `input_id`.

        Raises:
            ProtocolError: more than was sent.
        """
        if position > self._first_unsent or input_id > self.input_id:
            raise ProtocolError(
                f"expected at most {self._first_unsent} samples and {self.input_id} inputs to be "
                f"acknowledged, got {position} and {input_id}"
            )
        self._first = max(self._first, position)
        self._acknowledged_input = max(self._acknowledged_input, input_id)
        self._sent = deque(self._kept(self._sent, self._first, self._acknowledged_input))

    def rewind(self, position: int, input_id: int) -> None:
        """On a new connection: go on at `position` (samples) and after `input_id`.

        Raises:
            SessionLost: a place that was acknowledged before, that was never sent, or within an opus packet.
        """
        if not self._first <= position <= self.end:
            raise SessionLost(
                f"expected to go on between sample {self._first} and {self.end}, got {position}"
            )
        if not self._acknowledged_input <= input_id <= self.input_id:
            first = self._acknowledged_input
            raise SessionLost(f"expected to go on after input {first} to {self.input_id}, got {input_id}")
        kept = list(self._kept(self._sent + self._unsent, position, input_id))
        first = next((item.start for item in kept if isinstance(item, Audio)), position)
        if first != position:
            raise SessionLost(f"expected to go on where a packet begins ({first}), got sample {position}")
        self._sent.clear()
        self._unsent = deque(kept)
        self._first = self._first_unsent = position
        self._acknowledged_input = input_id

    def _kept(self, items: deque[Audio | Input], position: int, input_id: int) -> list[Audio | Input]:
        """What is not before the given places; a chunk of samples is cut, an opus packet is not."""
        kept: list[Audio | Input] = []
        for item in items:
            if isinstance(item, Input):
                if item.input_id > input_id:
                    kept.append(item)
            elif item.end > position:
                kept.append(self._from(item, max(position, item.start)))
        return kept

    def _from(self, audio: Audio, position: int) -> Audio:
        if self.encoding == "opus" or position == audio.start:
            return audio
        at = (position - audio.start) * BYTES_PER_SAMPLE[self.encoding]
        return Audio(position, audio.end, audio.data[at:])


def as_text(message: Mapping[str, object]) -> str:
    """A message as it is sent.

    Raises:
        InvalidInput: a text that UTF-8 cannot say.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"expected text that UTF-8 can say, got {text[error.start]!r}") from error
    return text


def packet_samples(packet: bytes) -> int:
    """How many samples at 48 kHz an opus packet holds, read from its first bytes (RFC 6716, section 3.1).

    Raises:
        InvalidInput: no packet.
    """
    if not packet:
        raise InvalidInput("expected an opus packet, got no bytes")
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:  # SILK
        frame = (480, 960, 1920, 2880)[config % 4]
    elif config < 16:  # hybrid
        frame = (480, 960)[config % 2]
    else:  # CELT
        frame = (120, 240, 480, 960)[config % 4]
    if code == 3 and len(packet) < 2:
        raise InvalidInput("expected an opus packet with its frame count, got one byte")
    frames = (1, 2, 2, packet[1] & 63 if code == 3 else 0)[code]
    if not 0 < frame * frames <= 5760:
        raise InvalidInput(f"expected an opus packet of at most 120 ms, got {frame * frames / 48:g} ms")
    return frame * frames
