"""Origin and Host checks: a browser sends requests for any page, and names only that page's origin."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from stream_erc.config import ServerConfig


class Origins:
    """The origins of pages that may connect: the server's own, and those that its configuration allows.

    A loopback server without tokens trusts every local client. A malicious page could reach it through DNS
    rebinding with a matching Origin, so only own Origins whose host is loopback are accepted.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._allowed = config.allow_origins
        self._loopback_only = config.token_file is None and is_loopback(config.host)

    def allow(self, origin: str, host: str) -> bool:
        """Return whether a page may connect.

        Args:
            origin: the header ``Origin``: where the page came from.
            host: the header ``Host``: the name under which the page reached the server.
        """
        if origin in self._allowed or "*" in self._allowed:
            return True
        own = host != "" and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
        return own and (not self._loopback_only or is_loopback(_hostname(host)))

    def allow_host(self, host: str) -> bool:
        """Return whether the server may be reached under a name: the header ``Host``, empty if it is missing.

        A page that was rebound to this machine always names its own host. A proxy's name is allowed with its
        origin.
        """
        if not self._loopback_only or host == "" or "*" in self._allowed:
            return True
        named = {f"http://{host}".lower(), f"https://{host}".lower()}
        return is_loopback(_hostname(host)) or any(origin.lower() in named for origin in self._allowed)


def _hostname(host: str) -> str:
    """Return the host without its port; empty if it is invalid."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Return whether a name or address always leads to the machine itself."""
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
