"""A report of a conversation: one self-contained HTML page with its audio, words and expressed emotions.

The page makes no network request (its Content-Security-Policy forbids any) and works from a file. Its look
and behaviour are in `assets/`; this module collects the messages, encodes the audio and writes the file.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import cast

import av
import numpy as np

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.cli.palette import emotion_styles
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, OutputError
from stream_erc.exports.conversations import Conversation, fold
from stream_erc.exports.files import replacing
from stream_erc.protocol.encoding import Json, Message
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.raw_audio import RawFormat

MAX_AUDIO_BYTES = 20_000_000
BIT_RATES = (48_000, 32_000, 24_000, 16_000)  # bit/s of mono MP3 at 16 kHz; the highest that fits is used
PEAK_BLOCK = 160  # samples (10 ms) of the finest waveform
MAX_PEAKS = 16_384  # most blocks; a longer recording gets coarser ones


@dataclass(frozen=True, slots=True)
class ReportAudio:
    """The recording that a report plays.

    Attributes:
        path: an audio or video file, decoded as a stream.
        max_bytes: the largest encoded audio; above it, the report has only the waveform, and says so.
        track, raw: as in `AudioFile`.
    """

    path: Path
    max_bytes: int = MAX_AUDIO_BYTES
    track: str | None = None
    raw: RawFormat | None = None


def write_report(
    messages: Iterable[Message], path: Path, *, title: str, audio: ReportAudio | None = None
) -> None:
    """Write the report of one or more sessions.

    Args:
        messages: the sessions' messages, in order; partial turns are ignored.
        path: the HTML file. It is replaced atomically: a failure leaves an existing file unchanged.
        title: the page's title.
        audio: the recording. If it cannot be read or is too long, the page says so and omits it.

    Raises:
        OutputError: the file cannot be written.
    """
    sessions = fold(messages)
    styles = emotion_styles(_labels(sessions))
    clip = None if audio is None else _encode(audio, _heard_ms(sessions))
    data: Message = {
        "title": title,
        "emotions": [
            {"label": s.label, "code": s.code, "face": s.face, "light": s.light, "dark": s.dark}
            for s in styles.values()
        ],
        "sessions": list(map(_session, sessions)),
        "audio": None if clip is None else clip.described(),
    }
    _replace(path, _page(title, data, b"" if clip is None else clip.mp3))


# --- messages -------------------------------------------------------------------------------------


def _labels(sessions: Iterable[Conversation]) -> list[str]:
    """Return all emotion labels, in the checkpoint's order."""
    return list(dict.fromkeys(label for session in sessions for label in session.labels))


def _session(session: Conversation) -> Message:
    """Return a conversation as the page reads it."""
    return cast(
        Message,
        {"id": session.id, "created": session.created, "turns": session.turns, "closed": session.closed},
    )


def _heard_ms(sessions: Iterable[Conversation]) -> int:
    """Return how far the longest session's audio was heard: to its end, or else to its last turn's end."""
    heard: list[object] = []
    for session in sessions:
        heard += [turn.get("audio_end_ms") for turn in session.turns]
        heard.append((session.closed or {}).get("audio_ms"))
    return max((ms for ms in heard if isinstance(ms, int)), default=0)


# --- audio ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Clip:
    """The audio of a report.

    Attributes:
        mp3: the encoded audio, empty if it is left out.
        note: why it is left out, or what is wrong with it, or "".
        peaks: lowest and highest sample of each block, (N, 2) int8, loudest at 127.
    """

    mp3: bytes
    note: str
    duration_ms: int
    peaks: "np.ndarray[tuple[int, ...], np.dtype[np.int8]]"

    def described(self) -> Json:
        return {
            "mime": "audio/mpeg",
            "note": self.note,
            "duration_ms": self.duration_ms,
            "peaks": base64.b64encode(self.peaks.tobytes()).decode("ascii"),
        }


class _Peaks:
    """The waveform of an audio stream, in bounded memory: when full, it merges neighbouring blocks."""

    def __init__(self) -> None:
        self._block = PEAK_BLOCK
        self._rest = np.zeros(0, np.float32)
        self._range = np.zeros((0, 2), np.float32)

    def push(self, chunk: Samples) -> None:
        pending = np.concatenate((self._rest, chunk))
        whole = len(pending) // self._block * self._block
        blocks = pending[:whole].reshape(-1, self._block)
        self._rest = pending[whole:]
        self._range = np.concatenate((self._range, np.stack((blocks.min(1), blocks.max(1)), 1)))
        while len(self._range) > MAX_PEAKS:
            if len(self._range) % 2:  # the last block waits for its neighbour
                self._range = np.concatenate((self._range, self._range[-1:]))
            low, high = self._range[:, 0].reshape(-1, 2), self._range[:, 1].reshape(-1, 2)
            self._range = np.stack((low.min(1), high.max(1)), 1)
            self._block *= 2

    def quantised(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.int8]]":
        """Return the blocks' ranges as int8, (N, 2), scaled so that the loudest sample is 127."""
        loudest = float(np.abs(self._range).max(initial=0.0))
        return np.round(self._range * (127.0 / max(loudest, 1e-4))).clip(-127, 127).astype(np.int8)


class _Mp3:
    """An MP3 encoder that gives up if its output exceeds a limit. Every browser plays MP3."""

    def __init__(self, bit_rate: int, max_bytes: int) -> None:
        self._buffer, self._max_bytes = BytesIO(), max_bytes
        self._container = av.open(self._buffer, "w", format="mp3")
        self._stream = self._container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono")
        self._stream.bit_rate = bit_rate
        self._samples = 0
        self.fits = True

    def push(self, chunk: Samples) -> None:
        if not self.fits or not len(chunk):
            return
        pcm = np.round(chunk * 32_767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16p", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, self._samples
        self._samples += len(chunk)
        self._container.mux(self._stream.encode(frame))
        self.fits = self._buffer.tell() <= self._max_bytes

    def close(self) -> bytes:
        """Finish encoding; return the file, or nothing if it did not fit."""
        if self._samples:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._buffer.getvalue() if self.fits and self._samples else b""


def _encode(audio: ReportAudio, heard_ms: int) -> _Clip:
    """Decode what was heard of a recording once, into MP3 and waveform; keep everything before a fault."""
    peaks, samples, note, mp3 = _Peaks(), 0, "", b""
    left = ms_to_samples(heard_ms)
    encoder: _Mp3 | None = None
    said: list[str] = []
    try:
        source = AudioFile(audio.path, track=audio.track, raw=audio.raw, warn=said.append)
        room = audio.max_bytes * 8_000 / max(1, heard_ms)
        bit_rate = next((rate for rate in BIT_RATES if rate <= room * 0.99), None)
        if "libmp3lame" not in av.codecs_available:
            note = "The audio is left out: this installation has no MP3 encoder."
        elif bit_rate is not None:
            encoder = _Mp3(bit_rate, audio.max_bytes)
        for decoded in source.chunks(1_000):
            chunk = decoded[: left - samples]
            peaks.push(chunk)
            samples += len(chunk)
            if encoder is not None:
                encoder.push(chunk)
            if samples >= left:
                break
    except AudioError as error:
        said.append(str(error))
    if said:
        note = f"The recording could not be read to its end: {said[0]}"
    if encoder is not None:
        mp3 = encoder.close()
    if not mp3 and not note:
        size = f"{audio.max_bytes / 1e6:.0f} MB"
        note = f"The audio is left out: {samples / SAMPLE_RATE / 60:.0f} minutes do not fit into {size}."
    return _Clip(mp3, note, round(samples * 1000 / SAMPLE_RATE), peaks.quantised())


# --- the page -------------------------------------------------------------------------------------


def _page(title: str, data: Message, mp3: bytes) -> Iterator[str]:
    """Yield the page piece by piece."""
    assets = resources.files("stream_erc.cli") / "assets"
    template, style, script = (
        (assets / name).read_text(encoding="utf-8") for name in ("report.html", "report.css", "report.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    values = {"title": html.escape(title.encode(errors="replace").decode()), "style": style, "script": script}
    values |= {"script_hash": f"sha256-{digest}", "data": _embedded(data)}
    for piece in re.split(r"(\{\{\w+\}\})", template):
        name = piece[2:-2] if piece.startswith("{{") else None
        if name == "audio":
            for at in range(0, len(mp3), 3 << 20):
                yield base64.b64encode(mp3[at : at + (3 << 20)]).decode("ascii")
        else:
            yield piece if name is None else values[name]


def _embedded(data: Json) -> str:
    """Encode JSON as ASCII that cannot close the enclosing script element."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _replace(path: Path, pieces: Iterator[str]) -> None:
    """Write a temporary file, then replace `path` with it."""
    try:
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as out:
            out.writelines(pieces)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"report {path}: expected a place that can be written, got: {reason}") from error
