"""Audio and inputs that the server may ask for again, in the order in which they are sent.

That is what it has not acknowledged, and the last part of what it has, for its store may go back in time. New
data and data that is sent again go through the same queue, so that a server receives one unbroken stream over
any number of connections. No I/O; positions are samples since the session's audio began.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stream_erc_client.errors import InvalidInput, ProtocolError, SessionLost

BYTES_PER_SAMPLE: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
OPUS_RATE_HZ: Final = 48_000
KEPT_BYTES: Final = 4 * 2**20  # sent data up to which what was acknowledged is kept: two minutes at 16 kHz
ITEM_BYTES: Final = 200  # added for each of its parts


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
    """The inputs of a session that may have to be sent again.

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
        self._items: deque[Audio | Input] = deque()  # all that is kept
        self._bytes = 0  # its size
        self._unsent: deque[Audio | Input] = deque()  # the part to send on this connection
        self._first = 0  # samples before this one were acknowledged
        self._first_unsent = 0
        self._acknowledged_input = 0
        self._forgotten, self._forgotten_input = 0, 0  # samples before, and inputs up to, are not kept

    @property
    def unacknowledged_ms(self) -> float:
        """Duration of the unacknowledged audio."""
        return (self.end - self._first) * 1000 / self.sample_rate_hz

    @property
    def whole(self) -> bool:
        """Whether everything since the session began is kept."""
        return self._forgotten == self._forgotten_input == 0

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
        if not samples:
            return
        whole = self.encoding == "opus"
        step = (
            len(data) if whole else self.sample_rate_hz * self._size
        )  # pieces that are forgotten one by one
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            end = self.end + (samples if whole else len(piece) // self._size)
            self._append(Audio(self.end, end, memoryview(piece)))
            self.end = end

    def append_input(self, fields: Mapping[str, object]) -> int:
        """Append a numbered message and return its id.

        Raises:
            InvalidInput: a text that UTF-8 cannot encode.
        """
        text = as_text({**fields, "input_id": self.input_id + 1})
        self.input_id += 1
        self._append(Input(self.input_id, text))
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
        if isinstance(item, Input):
            return item.text
        self._first_unsent = item.end
        return bytes(item.data)

    def acknowledge(self, position: int, input_id: int) -> None:
        """Count the audio before `position` (samples) and the inputs up to `input_id` as stored.

        The earliest of them are forgotten where more than `KEPT_BYTES` are kept.

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
        while self._bytes > KEPT_BYTES and self._is_stored(self._items[0]):
            item = self._items.popleft()
            self._bytes -= _size(item)
            if isinstance(item, Audio):
                self._forgotten = item.end
            else:
                self._forgotten_input = item.input_id

    def rewind(self, position: int, input_id: int) -> tuple[int, int]:
        """Continue at `position` (samples) and after `input_id`, or where what is kept begins.

        Returns:
            Where it continues: the position, and the input after which it does.

        Raises:
            SessionLost: the position was never sent, or lies within an opus packet.
        """
        if position > self.end:
            raise SessionLost(f"expected to resume at sample {self.end} at most, got {position}")
        if input_id > self.input_id:
            raise SessionLost(f"expected to resume after input {self.input_id} at most, got {input_id}")
        input_id = max(input_id, self._forgotten_input)
        if position < self._forgotten:
            position = self._first_kept()
        kept = self._kept(self._items, position, input_id)
        first = next((item.start for item in kept if isinstance(item, Audio)), position)
        if first != position:
            raise SessionLost(f"expected to resume at the start of a packet ({first}), got sample {position}")
        self._unsent = deque(kept)
        self._first = self._first_unsent = position
        self._acknowledged_input = input_id
        return position, input_id

    def _append(self, item: Audio | Input) -> None:
        self._items.append(item)
        self._unsent.append(item)
        self._bytes += _size(item)

    def _is_stored(self, item: Audio | Input) -> bool:
        if isinstance(item, Audio):
            return item.end <= self._first
        return item.input_id <= self._acknowledged_input

    def _first_kept(self) -> int:
        """Return the first sample that is kept, at a whole second unless the rate is 16 kHz.

        A server's positions are such; opus packets end there, too.
        """
        step = 16 if self.sample_rate_hz == 16_000 else self.sample_rate_hz
        return min(self.end, -(-self._forgotten // step) * step)

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


def _size(item: Audio | Input) -> int:
    return ITEM_BYTES + (len(item.data) if isinstance(item, Audio) else len(item.text))


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
