"""Access to the server: tokens, names and origins under which it is reached, and how many may connect."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from stream_erc.server.limits import network_of
from stream_erc.server.origins import Origins
from stream_erc.server.shared import SharedState

log = logging.getLogger(__name__)

PRIVATE_HOST = "expected a name of this machine in the header Host, such as localhost\n"


class Refused(NamedTuple):
    """The status and the text that refuse a request."""

    status: HTTPStatus
    text: str


NO_TOKEN = Refused(HTTPStatus.UNAUTHORIZED, "expected a valid bearer token\n")
CROWDED = Refused(HTTPStatus.SERVICE_UNAVAILABLE, "expected fewer connections, got one more\n")


class Access:
    """The rules for requests of every kind, applied by their headers.

    Args:
        shared: what the server's connections share.
        max_clients: the number of clients above which those without a token are refused; one address may have
            as large a part of it as of the places.

    Attributes:
        clients: the tasks of those that asked for more than the page and health, until they end, with where
            they come from.
        left: the number of those that have ended.
    """

    def __init__(self, shared: SharedState, max_clients: int) -> None:
        self._shared, self._max_clients = shared, max_clients
        self._config = shared.offer.server
        self._origins = Origins(self._config)
        self._max_of_one = max_clients * shared.places.most_of_one // shared.places.most
        self.clients: dict[asyncio.Task[object], str] = {}
        self.left = 0

    def register(self, peer: str) -> None:
        """Count the current task as a client from an address until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self.clients[task] = network_of(peer)
        task.add_done_callback(self._leave)

    def _leave(self, task: asyncio.Task[object]) -> None:
        self.clients.pop(task, None)
        self.left += 1

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Return whether the headers (names in lower case) carry a valid bearer token."""
        return self._shared.admits(_bearer(headers))

    def allows_origin(self, headers: Mapping[str, str]) -> bool:
        """Return whether the page that asks, if it is one, may do so."""
        origin = headers.get("origin")
        return origin is None or self._origins.allow(origin, headers.get("host", ""))

    def host_refusal(self, headers: Mapping[str, str]) -> Refused | None:
        """Return the refusal of a name that was made to lead to this machine; None for any other."""
        if self._origins.allow_host(headers.get("host", "")):
            return None
        return Refused(HTTPStatus.FORBIDDEN, PRIVATE_HOST)

    def refusal(self, headers: Mapping[str, str], *, needs_token: bool) -> Refused | None:
        """Return the refusal of a client by its headers (names in lower case); None admits it.

        Args:
            headers: those of its request.
            needs_token: whether a token must be in the headers. A WebSocket's may come as its first message.
        """
        if not self.allows_origin(headers):
            return Refused(HTTPStatus.FORBIDDEN, "expected a page of this server, or an allowed Origin\n")
        if self._shared.stopping.is_set():
            return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping\n")
        if self.admits(headers):
            return None
        if self._crowded:
            return CROWDED
        checked = needs_token or "authorization" in headers
        return NO_TOKEN if checked and self._shared.tokens else None

    def operator_refusal(self, headers: Mapping[str, str]) -> Refused | None:
        """Return the refusal of somebody who asks for metrics, at any time; None for an operator."""
        if not self._shared.tokens or self.admits(headers):
            return None
        return CROWDED if self._crowded else NO_TOKEN

    @property
    def _crowded(self) -> bool:
        """Whether there are too many clients, in all or from the address of the current task."""
        task = asyncio.current_task()
        mine = self.clients.get(task) if task is not None else None
        of_one = sum(network == mine for network in self.clients.values())
        return len(self.clients) > self._max_clients or of_one > self._max_of_one

    async def count(self, refused: Refused, headers: Mapping[str, str], peer: str) -> None:
        """Count a refusal in the metrics; delay that of a wrong token, which may have been guessed."""
        self._shared.telemetry.refused.labels(refused.status.value).inc()
        if refused.status is HTTPStatus.UNAUTHORIZED and "authorization" in headers:
            log.warning("wrong token", extra={"peer": peer})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.penalty_s):
                    await self._shared.stopping.wait()


def _bearer(headers: Mapping[str, str]) -> str:
    """Return the bearer token of the header Authorization, "" without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
