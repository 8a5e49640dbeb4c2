"""A store in Redis, for servers on several machines. No other module imports redis-py."""

# ruff: noqa: D102 (SessionStore documents the methods)

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias, cast

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from stream_erc.exceptions import ConfigError, SessionGone, StoreError
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.stores.base import (
    SessionStore,
    StoredSession,
    check_owner,
    check_save,
    next_owner,
)

MAX_ATTEMPTS = 100
"""Number of attempts at a change, which fail when another client is faster or the answer is lost."""

ANSWER_TIMEOUT_S = 2.0
"""Time limit for a response of Redis."""

SPARE_S = 3 * 3600.0
"""Time for which Redis keeps a session beyond its expiry: a step of its clock drops none that lives."""

_Change: TypeAlias = Callable[[Pipeline], None]
"""A function that reads through a pipeline and then queues its writes; it raises to write nothing."""


class RedisStore(SessionStore):
    """A store in one Redis, with or without replicas but not a cluster, for servers on several machines.

    A session is a hash (owner, header, steps ...), a list of its events, and a key that maps its token to it;
    all three expire together: `sweep` drops them in time, Redis by itself `SPARE_S` later. Writes are
    transactions (``WATCH``, ``MULTI``). Redis's ``appendfsync`` decides what a crash of Redis loses.
    ``maxmemory-policy`` should be ``noeviction``.

    If Redis's answer to a change is lost, the change is tried again: a claim raises the owner number once
    more, and a save or creation that had succeeded raises a StoreError. Nothing is stored twice, and the next
    claim returns what is stored.

    Args:
        url: ``redis://[USER:PASSWORD@]HOST:PORT/NUMBER``, ``rediss://`` or ``unix://``.
        prefix: prefix of every key.

    Raises:
        ConfigError: the URL is invalid.
        StoreError: Redis does not answer, or refuses to write.
    """

    def __init__(self, url: str, prefix: str = "stream_erc:") -> None:
        scheme, _, rest = url.partition("://")
        # Messages and logs show this name: it leaves out user, password and options.
        self._name = f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
        self._prefix, self._closed = prefix, False
        try:
            self._redis = redis.Redis.from_url(
                url,
                retry=Retry(NoBackoff(), 0),  # fail at once: redis-py's pauses would delay a live session
                socket_timeout=ANSWER_TIMEOUT_S,
                socket_connect_timeout=ANSWER_TIMEOUT_S,
            )
            self.ready()
            self._offset = self.clock_offset("", 0.0)
        except ValueError:  # not chained: its text may hold a part of the password
            raise ConfigError(
                f"--store: expected redis://[USER:PASSWORD@]HOST:PORT/NUMBER, got {self._name}"
            ) from None
        except TypeError:  # likewise
            raise ConfigError(
                f"--store: expected options that redis-py knows, got an unknown one for {self._name}"
            ) from None
        except StoreError:
            self.close()
            raise

    def create(
        self, session_id: str, token_hash: bytes, header: bytes, *, now: float, expires_at: float
    ) -> int:
        key, token_key, owner = self._session_key(session_id), self._token_key(token_hash), next_owner()

        def change(pipe: Pipeline) -> None:
            if pipe.exists(key, token_key):
                raise StoreError(f"session {session_id}: expected a new one, got one that exists already")
            pipe.multi()
            self._put_header(pipe, key, header, last_event_id=0, now=now, closed=False)
            pipe.hset(key, mapping={"owner": owner, "token_hash": token_hash})
            pipe.set(token_key, session_id)
            self._set_expiry(pipe, session_id, token_hash, expires_at)

        self._change(change, key, token_key)
        return owner

    def read(self, token_hash: bytes, *, now: float) -> StoredSession | None:
        session_id = self._session_id_of(token_hash)
        if session_id is None:
            return None
        with self._store_errors():
            fields = cast("dict[bytes, bytes]", self._redis.hgetall(self._session_key(session_id)))
        return _stored_session(session_id, fields, now)

    def claim(self, token_hash: bytes, *, now: float, expires_at: float) -> StoredSession | None:
        session_id = self._session_id_of(token_hash)
        if session_id is None:
            return None
        key, events = self._session_key(session_id), self._events_key(session_id)
        saved: StoredSession | None = None

        def change(pipe: Pipeline) -> None:
            nonlocal saved
            found = _stored_session(session_id, cast("dict[bytes, bytes]", pipe.hgetall(key)), now)
            saved = None if found is None else replace(found, owner=next_owner(found.owner))
            if saved is None:
                return
            count = pipe.llen(events)
            if count != saved.last_event_id:
                raise StoreError(
                    f"{self._name}: session {session_id}: expected {saved.last_event_id} events, got {count}:"
                    " Redis dropped some; set its maxmemory-policy to noeviction"
                )
            pipe.multi()
            pipe.hset(key, "owner", saved.owner)
            self._set_expiry(pipe, session_id, token_hash, expires_at)

        self._change(change, key, events)
        return saved

    def save(
        self, session_id: str, owner: int, save_point: SavePoint, *, now: float, expires_at: float
    ) -> None:
        key = self._session_key(session_id)

        def change(pipe: Pipeline) -> None:
            # 1. Fence: only the latest owner may write. The watched key fails the transaction after a claim.
            token_hash, last_event_id = self._fence(pipe, session_id, owner)
            # 2. Check the whole save point before anything is written.
            names = cast("list[bytes]", pipe.hkeys(key))
            stored = {int(name[5:]) for name in names if name.startswith(b"step:")}
            check_save(session_id, last_event_id, stored, save_point)
            # 3. Queue the writes; the transaction makes them all or nothing.
            pipe.multi()
            if dropped := stored.difference(save_point.steps_now):
                pipe.hdel(key, *(f"step:{turn}" for turn in dropped))
            for turn in save_point.steps.keys() & set(save_point.steps_now):
                pipe.hset(key, f"step:{turn}", save_point.steps[turn])
            last = last_event_id + len(save_point.events)
            self._put_header(
                pipe, key, save_point.header, last_event_id=last, now=now, closed=save_point.closed
            )
            if save_point.events:
                pipe.rpush(self._events_key(session_id), *(line for _, line in save_point.events))
            self._set_expiry(pipe, session_id, token_hash, expires_at)

        self._change(change, key)

    def touch(self, session_id: str, owner: int, *, expires_at: float) -> None:
        def change(pipe: Pipeline) -> None:
            token_hash, _ = self._fence(pipe, session_id, owner)
            pipe.multi()
            self._set_expiry(pipe, session_id, token_hash, expires_at)

        self._change(change, self._session_key(session_id))

    def events(self, session_id: str, after: int, limit: int = 2**31) -> list[tuple[int, str]]:
        with self._store_errors():
            lines = cast(
                "list[bytes]", self._redis.lrange(self._events_key(session_id), after, after + limit - 1)
            )
        return [(event_id, line.decode()) for event_id, line in enumerate(lines, after + 1)]

    def forget(self, session_id: str, owner: int) -> None:
        key = self._session_key(session_id)

        def change(pipe: Pipeline) -> None:
            try:
                token_hash, _ = self._fence(pipe, session_id, owner)
            except SessionGone:
                return
            pipe.multi()
            pipe.delete(key, self._events_key(session_id), self._token_key(token_hash))

        self._change(change, key)

    def sweep(self, now: float) -> int:
        names = f"{self._session_key('')}*"
        with self._store_errors():
            keys = [cast("bytes", key) for key in self._redis.scan_iter(names, count=1000)]
        return sum(self._sweep_one(key.decode().removeprefix(names[:-1]), now) for key in keys)

    def _sweep_one(self, session_id: str, now: float) -> bool:
        """Delete a session if it has expired; return whether it had."""
        key, swept = self._session_key(session_id), False

        def change(pipe: Pipeline) -> None:
            nonlocal swept
            expires_at, token_hash = cast("list[bytes | None]", pipe.hmget(key, ["expires_at", "token_hash"]))
            swept = expires_at is not None and float(expires_at) <= now
            if swept:
                pipe.multi()
                pipe.delete(key, self._events_key(session_id), self._token_key(token_hash or b""))

        self._change(change, key)
        return swept

    def clock_offset(self, boot: str, offset: float) -> float:
        with self._store_errors():
            seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6 - time.monotonic()

    def ready(self) -> None:
        with self._store_errors():
            # A write: a replica, a full Redis and one that cannot save also answer a ping.
            self._redis.set(f"{self._prefix}ready", b"", px=1000)

    def close(self) -> None:
        self._closed = True
        self._redis.close()

    def _session_key(self, session_id: str) -> str:
        return f"{self._prefix}session:{session_id}"

    def _events_key(self, session_id: str) -> str:
        return f"{self._prefix}events:{session_id}"

    def _token_key(self, token_hash: bytes) -> str:
        return f"{self._prefix}token:{token_hash.hex()}"

    def _session_id_of(self, token_hash: bytes) -> str | None:
        """Return the id of a token's session, None if the token is unknown."""
        with self._store_errors():
            found = cast("bytes | None", self._redis.get(self._token_key(token_hash)))
        return None if found is None else found.decode()

    def _fence(self, pipe: Pipeline, session_id: str, owner: int) -> tuple[bytes, int]:
        """Raise if `owner` is not the session's owner; return its token hash and last event id."""
        fields = pipe.hmget(self._session_key(session_id), ["owner", "token_hash", "last_event_id"])
        current, token_hash, last_event_id = cast("list[bytes | None]", fields)
        check_owner(session_id, None if current is None else int(current), owner)
        return token_hash or b"", int(last_event_id or 0)

    @staticmethod
    def _put_header(
        pipe: Pipeline, key: str, header: bytes, *, last_event_id: int, now: float, closed: bool
    ) -> None:
        pipe.hset(
            key,
            mapping={
                "header": header,
                "last_event_id": last_event_id,
                "saved_at": repr(now),
                "closed": int(closed),
            },
        )

    def _set_expiry(self, pipe: Pipeline, session_id: str, token_hash: bytes, expires_at: float) -> None:
        key = self._session_key(session_id)
        pipe.hset(key, "expires_at", repr(expires_at))
        lives_s = (
            max(0.0, expires_at - self._offset - time.monotonic()) + SPARE_S
        )  # in spite of Redis's clock
        for name in (key, self._events_key(session_id), self._token_key(token_hash)):
            pipe.pexpire(name, math.ceil(lives_s * 1000))

    def _change(self, change: _Change, *watched: str) -> None:
        """Run `change` as a transaction; retry if a watched key has changed or the answer was lost."""
        attempts = itertools.count(1)

        def attempt(pipe: Pipeline) -> None:
            if next(attempts) > MAX_ATTEMPTS:
                raise StoreError(
                    f"{self._name}: expected a Redis that answers and saves,"
                    f" got no change of {watched[0]} through in {MAX_ATTEMPTS} attempts"
                )
            change(pipe)

        with self._store_errors():
            self._redis.transaction(attempt, *watched)

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Turn errors of redis-py into a StoreError."""
        if self._closed:
            raise StoreError(f"{self._name}: expected an open store, got a closed one")
        try:
            yield
        except redis.RedisError as error:
            raise StoreError(
                f"{self._name}: expected a Redis that answers and saves, got: {error}"
            ) from error


def _stored_session(session_id: str, fields: Mapping[bytes, bytes], now: float) -> StoredSession | None:
    """Return the session of its hash; None if that is empty or has expired."""
    if not fields or float(fields[b"expires_at"]) <= now:
        return None
    steps = {int(name[5:]): blob for name, blob in fields.items() if name.startswith(b"step:")}
    return StoredSession(
        session_id=session_id,
        owner=int(fields[b"owner"]),
        header=fields[b"header"],
        steps=dict(sorted(steps.items())),
        last_event_id=int(fields[b"last_event_id"]),
        saved_at=float(fields[b"saved_at"]),
        closed=bool(int(fields[b"closed"])),
    )
