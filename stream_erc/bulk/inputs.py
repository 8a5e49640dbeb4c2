"""The inputs of a bulk replay: files, folders and patterns, one conversation a file."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_erc.bulk.results import KEPT
from stream_erc.exceptions import InputError
from stream_erc.sources.turn_files import is_text_input

RECORDINGS = frozenset(
    ".3gp .aac .ac3 .aif .aiff .amr .au .avi .caf .flac .m4a .m4v .mka .mkv .mov .mp2 .mp3 .mp4 .mpeg .mpg "
    ".oga .ogg .ogv .opus .ts .w64 .wav .wave .webm .wma .wmv".split()
)
"""Endings of what is heard in a folder; files that are named themselves may have any."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A conversation to read.

    Attributes:
        path: its file.
        name: its path below what all inputs have in common, which its result keeps.
    """

    path: Path
    name: str


class Inputs:
    """Files that the words of a command name, as units.

    In a folder these are recordings and files of turns, but for hidden files, folders of results, and
    files of turns beside a recording of the same name.

    Args:
        words: files, folders and patterns (``calls/**/*.wav``).

    Raises:
        InputError: there is no such file.
    """

    def __init__(self, words: Sequence[Path]) -> None:
        self._words = words
        for word in words:
            if not word.exists() and not is_pattern(word):
                raise InputError(f"{word}: expected a file, a folder or a pattern, got nothing there")
        try:
            self._root = os.path.commonpath([_root(word) for word in words])
        except ValueError as error:  # several drives of Windows
            raise InputError(f"expected inputs of one drive, got: {error}") from error

    def __iter__(self) -> Iterator[Unit]:
        for word in self._words:
            for path in _files(word):
                yield Unit(path, os.path.relpath(path, self._root))


def is_pattern(word: Path) -> bool:
    """Return whether a word names files by a pattern."""
    return not word.exists() and glob.has_magic(str(word))


def _root(word: Path) -> str:
    """Return the folder that a word's files keep their paths below, absolute."""
    if is_pattern(word):
        return os.path.abspath(next(folder for folder in word.parents if not glob.has_magic(str(folder))))
    return os.path.abspath(word if word.is_dir() else word.parent)


def _files(word: Path) -> Iterator[Path]:
    if word.is_dir():
        yield from _inside(word)
    elif word.exists():
        yield word
    else:
        found = glob.iglob(str(word), recursive=True)
        yield from (path for path in map(Path, found) if path.is_file() and not _is_result(path))


def _is_result(path: Path) -> bool:
    return any((folder / KEPT).is_dir() for folder in path.parents)


def _inside(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        if KEPT in folders:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        heard = {path.stem for path in files if path.suffix.lower() in RECORDINGS}
        for path in files:
            recording = path.suffix.lower() in RECORDINGS
            if recording or (is_text_input(path) and path.name.split(".")[0] not in heard):
                yield path
