"""The sample conversation, which a server has beside its page, as a source of audio."""

import tempfile
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, build_opener

from stream_erc_desktop.player import Recording
from stream_erc_desktop.sources import SourceError

TIMEOUT_S = 20.0
HERE = ("127.0.0.1", "::1", "localhost")  # where no proxy can be meant


class Sample(Recording):
    """The sample of a server.

    Args:
        url: of the server.
        live: in real time, as if it were spoken now.
    """

    def __init__(self, url: str, *, live: bool = True) -> None:
        super().__init__(Path("sample.flac"), live=live)
        self.name = "Sample conversation"
        self._url = sample_url(url)

    def open(self) -> None:
        """Fetch it.

        Raises:
            SourceError: the server does not have it, or nothing here reads it.
        """
        content = _fetched(self._url)
        self._file = tempfile.NamedTemporaryFile(suffix=".flac")
        self._file.write(content)
        self._file.flush()
        self.path = Path(self._file.name)
        super().open()

    def close(self) -> None:
        """Let it go."""
        self._file.close()


def _fetched(url: str) -> bytes:
    proxies: dict[str, str] | None = {} if urlsplit(url).hostname in HERE else None
    try:
        with build_opener(ProxyHandler(proxies)).open(url, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read()
            return content
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise SourceError(f"The sample could not be loaded from {url}: {error}") from error


def sample_url(url: str) -> str:
    """Where the sample of a server is, beside its page."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    folder = parts.path.rstrip("/").removesuffix("/v1/session")
    return urlunsplit((scheme, parts.netloc, f"{folder}/sample.flac", "", ""))
