"""The sample conversation, which a server offers beside its page, as a source of audio."""

import tempfile
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, build_opener

from stream_erc_desktop.player import Recording
from stream_erc_desktop.sources import SourceError

TIMEOUT_S = 20.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")  # no proxy is used for these


class Sample(Recording):
    """A server's sample conversation.

    Args:
        url: of the server.
        live: whether to read it in real time, as if it were spoken now.
    """

    def __init__(self, url: str, *, live: bool = True) -> None:
        super().__init__(Path("sample.flac"), live=live, choice="mix")
        self.name = "Sample conversation"
        self._url = sample_url(url)

    def open(self) -> None:
        """Download the sample.

        Raises:
            SourceError: the server does not have it, or there is no decoder for it.
        """
        content = _fetched(self._url)
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # Windows opens no file twice
        self.path = Path(self._folder.name) / "sample.flac"
        self.path.write_bytes(content)
        super().open()

    def close(self) -> None:
        """Delete the downloaded file."""
        self._folder.cleanup()


def _fetched(url: str) -> bytes:
    proxies: dict[str, str] | None = {} if urlsplit(url).hostname in LOOPBACK else None
    try:
        with build_opener(ProxyHandler(proxies)).open(url, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read()
            return content
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise SourceError(f"The sample could not be loaded from {url}: {error}") from error


def sample_url(url: str) -> str:
    """Return the address of a server's sample, beside its page."""
    return beside_page(url, "sample.flac")


def beside_page(url: str, name: str) -> str:
    """Return the address of a file that a server offers beside its page."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    folder = parts.path.rstrip("/").removesuffix("/v1/session")
    return urlunsplit((scheme, parts.netloc, f"{folder}/{name}", "", ""))
