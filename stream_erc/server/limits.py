"""Limits of what clients can take: audio and messages by the clock, memory by a budget, places by address."""

import asyncio
import ipaddress
from collections.abc import Hashable
from dataclasses import dataclass

from stream_erc.server.machine import usable_cores

MAX_BACKLOG_MS = 300_000.0
"""Audio that may arrive at once after a stalled network or a busy server has held it back."""


@dataclass(slots=True)
class Bucket:
    """A token bucket: arrivals must not exceed the initial `level` plus `rate` times the elapsed seconds.

    Attributes:
        rate: tokens added per second.
        burst: the level at which the bucket is full and no longer gains tokens.
        at: time of the last update, seconds.
        level: tokens available.
    """

    rate: float
    burst: float
    at: float
    level: float

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> "Bucket":
        """Return a full bucket."""
        return cls(rate, burst, now, burst)

    @classmethod
    def of_live_audio(cls, burst_ms: float, now: float) -> "Bucket":
        """Return a bucket of milliseconds of live audio, at most `burst_ms` ahead of the clock.

        Audio that was held back is behind the clock, so it may arrive at once.
        """
        return cls(1000.0, burst_ms + MAX_BACKLOG_MS, now, burst_ms)

    def take(self, amount: float, now: float) -> bool:
        """Take `amount` if it is available; return whether it was."""
        self.level = max(self.level, min(self.burst, self.level + self.rate * max(0.0, now - self.at)))
        self.at = now
        if amount > self.level:
            return False
        self.level -= amount
        return True

    def owe(self, amount: float, now: float) -> float:
        """Take `amount` in any case; return the seconds until all that was taken is paid back."""
        self.take(0.0, now)
        self.level -= amount
        return max(0.0, -self.level / self.rate)

    def grant(self, amount: float) -> None:
        """Add `amount`, even beyond `burst`."""
        self.level += amount


MAX_WAITING_BYTES = 32 * 2**20
"""Size of all that waits in a server, above which it reads only from sessions with less than their share."""


class Budget:
    """The bytes that may wait in a server, for all its sessions together.

    What waits has at most twice its size: the rest, and the share of each session.

    Args:
        total: the bytes.
        places: the number of sessions that may be there.

    Attributes:
        share: the bytes that every session may always have.
        used: the bytes that wait.
    """

    def __init__(self, total: int, places: int) -> None:
        self.total, self.share, self.used = total, total // places, 0
        self._freed = asyncio.Event()

    def change(self, by: int) -> None:
        """Count bytes that wait from now on, or no longer, where negative."""
        self.used += by
        if by < 0:
            self._freed.set()

    async def wait(self) -> None:
        """Wait until something waits no longer."""
        self._freed.clear()
        await self._freed.wait()


class Account:
    """The part of a budget that one session takes.

    Args:
        budget: the server's.

    Attributes:
        held: its bytes that wait.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget, self.held = budget, 0

    @property
    def over(self) -> bool:
        """Whether the session should let no more wait, since the budget is used up and it has its share."""
        return self.held > self._budget.share and self._budget.used > self._budget.total

    def change(self, by: int) -> None:
        """Count bytes that wait from now on, or no longer, where negative."""
        self.held += by
        self._budget.change(by)

    async def wait_for_room(self) -> None:
        """Wait until more may wait."""
        while self.over:
            await self._budget.wait()

    def close(self) -> None:
        """Free all that the session had."""
        self.change(-self.held)


LISTENING_PER_CORE, TRANSCRIBING_PER_CORE = 8, 2
"""Sessions with speech 40% of the time that a core holds, without and with a recognizer (docs/figures.md)."""

SHARE_OF_ONE = 0.75
"""The part of the places that one address may have, where others could want them."""


class Places:
    """The places of a server: a session or a recording takes one, and an address only some of them.

    Args:
        most: how many there are.
        most_of_one: how many one address may have; None for all.
    """

    def __init__(self, most: int, most_of_one: int | None = None) -> None:
        self.most, self.most_of_one = most, min(most, most_of_one or most)
        self._networks: dict[Hashable, str] = {}  # who has a place -> from where

    @property
    def full(self) -> bool:
        """Whether all are taken."""
        return len(self._networks) >= self.most

    def crowds(self, peer: str) -> bool:
        """Return whether an address has as many as it may have."""
        network = network_of(peer)
        taken = sum(network == other for other in self._networks.values())
        return taken >= self.most_of_one < self.most

    def near(self, who: Hashable, peer: str) -> bool:
        """Return whether a place was taken from an address."""
        return self._networks.get(who) == network_of(peer)

    def take(self, who: Hashable, peer: str) -> None:
        """Take a place, whether or not it is free; who has one already only moves."""
        self._networks[who] = network_of(peer)

    def leave(self, who: Hashable) -> None:
        """Free a place, if it is taken."""
        self._networks.pop(who, None)


def places_of(most: int | None, most_of_one: int | None, *, transcribes: bool, local: bool) -> Places:
    """Return the places of a server.

    Args:
        most: how many there are; None for as many as this machine can listen to.
        most_of_one: how many one address may have; None for three quarters, or all on a local server.
        transcribes: whether a recognizer hears the sessions.
        local: whether the server listens on this machine alone: all its clients have one address, or come
            through a proxy, which sees to that.
    """
    per_core = TRANSCRIBING_PER_CORE if transcribes else LISTENING_PER_CORE
    most = most or max(per_core, int(per_core * usable_cores()))
    return Places(most, most_of_one or (most if local else int(-(-most * SHARE_OF_ONE // 1))))


def network_of(peer: str) -> str:
    """Return what counts as one address: an IPv4 address, or the first 64 bits of an IPv6 one."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
