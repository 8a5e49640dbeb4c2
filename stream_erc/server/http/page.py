"""The files of the page."""

import mimetypes
from pathlib import Path
from typing import NamedTuple

CONTENT_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".flac": "audio/flac",
    ".wav": "audio/wav",
}


class PageFile(NamedTuple):
    """A file of the page."""

    body: bytes
    content_type: str


def read_page(folder: Path | None, path: str) -> PageFile | None:
    """Read the file that a path of a URL names; return None if there is none, or it is not the page's.

    Args:
        folder: the page's folder; None for no page.
        path: the path, decoded.
    """
    if folder is None or "/." in path:
        return None
    root = folder.resolve()
    try:
        file = (root / (path.lstrip("/") or "index.html")).resolve()
        if not file.is_relative_to(root):
            return None
        body = file.read_bytes()
    except (OSError, ValueError):  # missing, a folder, or an invalid name
        return None
    guessed = CONTENT_TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
    return PageFile(body, guessed or "application/octet-stream")
