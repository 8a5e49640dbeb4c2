"""Audio and inputs that the server has not acknowledged, in the order in which they are sent.

New data and data that is sent again go through the same queue, so that a server receives one unbroken stream
over any number of connections. No I/O; positions are samples since the session's audio began.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stream_erc_client.errors import InvalidInput, ProtocolError, SessionLost

BYTES_PER_SAMPLE: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
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
        encoding: `pcm_s16le`, `pcm_f32le`, `mulaw`, `alaw` or `opus`.
        sample_rate_hz: sample rate of the audio; 48000 with opus.
        channels: the number of channels, whose samples are interleaved; 1 with opus.

    Attributes:
        end: number of samples (of each channel) appended so far.
        input_id: id of the last appended input, 0 if there was none.
    """

    def __init__(self, encoding: str, sample_rate_hz: int, channels: int = 1) -> None:
        if encoding != "opus" and encoding not in BYTES_PER_SAMPLE:
            raise InvalidInput(
                f"encoding: expected one of {', '.join(BYTES_PER_SAMPLE)}, opus, got {encoding}"
            )
        if encoding == "opus" and sample_rate_hz != OPUS_RATE_HZ:
            raise InvalidInput(f"opus: expected a sample rate of {OPUS_RATE_HZ} Hz, got {sample_rate_hz}")
        if channels < 1 or (encoding == "opus" and channels > 1):
            raise InvalidInput(f"channels: expected 1 or more, and 1 with opus, got {channels}")
        self.encoding, self.sample_rate_hz, self.channels = encoding, sample_rate_hz, channels
        self._size = BYTES_PER_SAMPLE.get(encoding, 1) * channels  # of a sample of all channels
        self.end = 0
        self.input_id = 0
        self._sent: deque[Audio | Input] = deque()  # on this connection
        self._unsent: deque[Audio | Input] = deque()
        self._first = 0  # samples before this one were acknowledged
        self._first_unsent = 0
        self._acknowledged_input = 0

    @property
    def unacknowledged_ms(self) -> float:
        """Duration of the unacknowledged audio."""
        return (self.end - self._first) * 1000 / self.sample_rate_hz

    @property
    def unsent_ms(self) -> float:
        """Duration of the audio that waits to be sent on this connection."""
        return (self.end - self._first_unsent) * 1000 / self.sample_rate_hz

    @property
    def end_ms(self) -> int:
        """Duration of all audio appended since the session began, rounded as the server does."""
        return round(self.end * 1000 / self.sample_rate_hz)

    def append_audio(self, data: bytes) -> None:
        """Append audio: whole samples of all channels, or one opus packet; any bytes-like object.

        Raises:
            InvalidInput: half a sample, not a sample of each channel, or not an opus packet.
        """
        data = memoryview(data).tobytes()  # a copy, whose length is in bytes
        if self.encoding == "opus":
            samples = packet_samples(data)
        else:
            samples, rest = divmod(len(data), self._size)
            if rest:
                raise InvalidInput(
                    f"expected audio in whole samples of {self._size} bytes, got {len(data)} bytes"
                )
        if samples:
            self._unsent.append(Audio(self.end, self.end + samples, memoryview(data)))
            self.end += samples

    def append_input(self, fields: Mapping[str, object]) -> int:
        """Append a numbered message and return its id.

        Raises:
            InvalidInput: a text that UTF-8 cannot encode.
        """
        text = as_text({**fields, "input_id": self.input_id + 1})
        self.input_id += 1
        self._unsent.append(Input(self.input_id, text))
        return self.input_id

    def next(self, max_samples: int) -> bytes | str | None:
        """Return the next frame to send, None if there is none; it is kept until it is acknowledged.

        Args:
            max_samples: maximum length of an audio frame; opus packets are not split.
        """
        if not self._unsent:
            return None
        item = self._unsent.popleft()
        if isinstance(item, Audio) and self.encoding != "opus" and item.end - item.start > max_samples:
            cut = item.start + max(1, max_samples)
            self._unsent.appendleft(self._from(item, cut))
            item = Audio(item.start, cut, item.data[: (cut - item.start) * self._size])
        self._sent.append(item)
        if isinstance(item, Input):
            return item.text
        self._first_unsent = item.end
        return bytes(item.data)

    def acknowledge(self, position: int, input_id: int) -> None:
        """Drop the audio before `position` (samples) and the inputs up to `input_id`.

        Raises:
            ProtocolError: the server acknowledges more than was sent.
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
        """Continue at `position` (samples) and after `input_id`, on a new connection.

        Raises:
            SessionLost: the position was acknowledged before, was never sent, or lies within an opus packet.
        """
        if not self._first <= position <= self.end:
            raise SessionLost(
                f"expected to resume between sample {self._first} and {self.end}, got {position}"
            )
        if not self._acknowledged_input <= input_id <= self.input_id:
            first = self._acknowledged_input
            raise SessionLost(f"expected to resume after input {first} to {self.input_id}, got {input_id}")
        kept = list(self._kept(self._sent + self._unsent, position, input_id))
        first = next((item.start for item in kept if isinstance(item, Audio)), position)
        if first != position:
            raise SessionLost(f"expected to resume at the start of a packet ({first}), got sample {position}")
        self._sent.clear()
        self._unsent = deque(kept)
        self._first = self._first_unsent = position
        self._acknowledged_input = input_id

    def _kept(self, items: deque[Audio | Input], position: int, input_id: int) -> list[Audio | Input]:
        """Return the items after the given positions; samples are split there, opus packets are not."""
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
        at = (position - audio.start) * self._size
        return Audio(position, audio.end, audio.data[at:])


def as_text(message: Mapping[str, object]) -> str:
    """Encode a message as JSON.

    Raises:
        InvalidInput: a text that UTF-8 cannot encode.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"expected text that UTF-8 can encode, got {text[error.start]!r}") from error
    return text


def packet_samples(packet: bytes) -> int:
    """Return the number of samples at 48 kHz in an opus packet, from its first bytes (RFC 6716, section 3.1).

    Raises:
        InvalidInput: not an opus packet.
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
