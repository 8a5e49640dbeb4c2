"""Facts about containers, and checks of whether a recording is complete.

libav reads a truncated file without an error.
"""

from pathlib import Path

LONGEST_OGG_PAGE = 65_307  # bytes
STREAMED_WAV = 0x7FFF_F000  # sizes from here on mean that the writer could not seek back to fill in the size

WITHOUT_TIMESTAMPS = frozenset("wav w64 flac mp3 aac ac3 eac3 aiff au amr caf".split())
"""libav's names of formats that hold samples and no times: it counts, or guesses, their timestamps."""

SELF_CONTAINED = (
    *("wav w64 flac mp3 aac ac3 eac3 aiff au amr amrnb amrwb caf ogg matroska,webm wv tta ape".split()),
    *("mov,mp4,m4a,3gp,3g2,mj2 avi asf flv mpeg mpegts".split()),
)
"""libav's names of formats that hold all that is played; a playlist would make it open what it names."""


def cut_short(path: Path, container: str) -> str | None:
    """Describe what is missing at the end of a wav or ogg file; return None if nothing is known to be.

    Args:
        path: the file.
        container: libav's name of its format.
    """
    with path.open("rb") as file:
        if container == "wav":
            return _wav_cut(file.read(4_096), path.stat().st_size)
        if container == "ogg":
            file.seek(max(0, path.stat().st_size - LONGEST_OGG_PAGE))
            return _ogg_cut(file.read())
    return None


def is_streamed_wav(head: bytes) -> bool:
    """Return whether a wav file, of which these are the first bytes, was written without knowing its size."""
    size = _wav_data(head)[1] if head[:4] == b"RIFF" else 1
    return size == 0 or size >= STREAMED_WAV


def _wav_cut(head: bytes, file_bytes: int) -> str | None:
    at, size = _wav_data(head)
    if not at or is_streamed_wav(head) or file_bytes - at >= size:
        return None
    return f"{file_bytes - at} of {size} bytes of samples"


def _wav_data(head: bytes) -> tuple[int, int]:
    """Return where the samples of a wav file begin, and their size in its header; (0, 1) if not there."""
    at = 12  # past RIFF, size, WAVE
    while head[:4] == b"RIFF" and at + 8 <= len(head):
        size = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"data":
            return at + 8, size
        at += 8 + size + size % 2
    return 0, 1


def _ogg_cut(tail: bytes) -> str | None:
    at = tail.rfind(b"OggS")
    if at < 0:
        return None
    segments = tail[at + 27 : at + 27 + tail[at + 26]] if len(tail) > at + 26 else b""
    complete = len(tail) > at + 26 and len(segments) == tail[at + 26]
    if complete and len(tail) >= at + 27 + len(segments) + sum(segments):
        return None
    return "a part of its last page"


def declares_duration(path: Path, container: str) -> bool:
    """Return whether the file declares its duration; if not, libav estimates it from the bit rate.

    Args:
        path: the file.
        container: libav's name of its format.
    """
    if container == "mp3":
        return _counts_frames(path)
    return container.split(",")[0] in ("wav", "flac", "ogg", "mov", "matroska")


def _counts_frames(path: Path) -> bool:
    """Return whether the first frame of an MP3 file has a Xing or VBRI header."""
    with path.open("rb") as file:
        head = file.read(10)
        tag_bytes = 0
        if head[:3] == b"ID3" and len(head) == 10:
            tag_bytes = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
        file.seek(tag_bytes)
        frame = file.read(4_096)
    return any(header in frame for header in (b"Xing", b"Info", b"VBRI"))
