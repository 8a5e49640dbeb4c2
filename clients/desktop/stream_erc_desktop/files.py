"""The files as which a conversation can be saved: what a person calls them, and their endings. No Qt."""

from collections.abc import Sequence

EVENTS = ("Events (JSONL)", "jsonl")
NAMES = {
    "srt": ("Subtitles (SRT)", "srt"),
    "vtt": ("Subtitles (WebVTT)", "vtt"),
    "csv": ("Table (CSV)", "csv"),
    "tsv": ("Table (TSV)", "tsv"),
    "parquet": ("Table (Parquet)", "parquet"),
    "txt": ("Text", "txt"),
    "md": ("Text (Markdown)", "md"),
    "json": ("Turns (JSON)", "json"),
    "rttm": ("Speakers (RTTM)", "rttm"),
    "textgrid": ("Praat (TextGrid)", "TextGrid"),
    "eaf": ("ELAN (EAF)", "eaf"),
}
"""Format of the server -> its name, and its files' ending."""


def choices(exports: Sequence[str]) -> list[tuple[str, str]]:
    """Return the name and the ending of every file that can be saved, the events first.

    Args:
        exports: the formats that the server gives.
    """
    return [EVENTS, *(NAMES.get(one, (one.upper(), one)) for one in exports)]
