"""Which web pages may connect: a browser sends whatever page it shows, and says only where that came from."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from stream_erc.config import ServerConfig


class Origins:
    """The pages of a server's own, and those that are allowed besides.

    A server for this machine alone that asks for no token trusts whoever can reach it. A page from elsewhere
    can, where its name is made to lead to this machine (DNS rebinding), and it would pass for the server's
    own: such a server's own pages are those with a name that leads nowhere else.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._allowed = config.allow_origins
        self._trusting = config.token_file is None and _is_loopback(config.host)

    def allow(self, origin: str, host: str) -> bool:
        """Whether a page may connect.

        Args:
            origin: of the page, as in the header ``Origin``.
            host: what the page calls the server, as in the header ``Host``.
        """
        if origin in self._allowed or "*" in self._allowed:
            return True
        own = host != "" and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
        return own and (not self._trusting or _is_loopback(_name(host)))


def _name(host: str) -> str:
    """Without a port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    """Whether a name or address always leads to the machine itself."""
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
