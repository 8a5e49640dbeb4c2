"""Sessions in Redis: the store for servers on several machines. The only module that imports redis-py."""

# ruff: noqa: D102 (what a method does stands in SessionStore)

import itertools
import math
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
from stream_erc.server.stores.base import BUSY_TIMEOUT_S, SessionStore, StoredSession, check_owner, check_save

TRIES = 100
"""How often a change is tried: others may be faster, or something cut every answer off."""

_Change: TypeAlias = Callable[[Pipeline], None]
"""Reads through a pipeline, then queues what is to be written; raises to write nothing."""


class RedisStore(SessionStore):
    """Sessions in Redis, for servers on several machines; one Redis, with or without replicas, no cluster.

    A session is a hash (owner, header, steps ...), a list of its events, and the token's key that leads to
    it; all three expire together. Writes are transactions (``WATCH``, ``MULTI``). What a crash of Redis
    loses is a matter of its ``appendfsync``. ``maxmemory-policy`` should be ``noeviction``.

    Where Redis's answer to a change is lost, the change is looked at again: a claim counts once more, a save
    or creation that was carried out gives a StoreError. Nothing is stored twice, and the next claim shows
    what is stored.

    Args:
        url: ``redis://[USER:PASSWORD@]HOST:PORT/NUMBER``, ``rediss://`` or ``unix://``.
        prefix: before every key.

    Raises:
        ConfigError: the URL cannot be read.
        StoreError: Redis does not answer, or does not let us write.
    """

    def __init__(self, url: str, prefix: str = "stream_erc:") -> None:
        scheme, _, rest = url.partition("://")
        # Without user, password and options: this stands in messages and logs.
        self._name = f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
        self._prefix, self._closed = prefix, False
        try:
            self._redis = redis.Redis.from_url(
                url,
                retry=Retry(NoBackoff(), 0),  # tell at once: redis-py's pauses would hold a live session up
                socket_timeout=BUSY_TIMEOUT_S,
                socket_connect_timeout=BUSY_TIMEOUT_S,
            )
            self.ready()
        except ValueError:  # not told as the cause: its text may hold a piece of the password
            raise ConfigError(
                f"--store: expected redis://[USER:PASSWORD@]HOST:PORT/NUMBER, got {self._name}"
            ) from None
        except TypeError:  # the same
            raise ConfigError(
                f"--store: expected options that redis-py knows, got another one for {self._name}"
            ) from None
        except StoreError:
            self.close()
            raise

    def create(
        self, session_id: str, token_hash: bytes, header: bytes, *, now: float, expires_at: float
    ) -> int:
        key, token = self._session(session_id), self._token(token_hash)

        def change(pipe: Pipeline) -> None:
            if pipe.exists(key, token):
                raise StoreError(f"session {session_id}: expected a new one, got one that is there already")
            pipe.multi()
            self._put(pipe, key, header, last_event_id=0, now=now, closed=False)
            pipe.hset(key, mapping={"owner": 1, "token_hash": token_hash})
            pipe.set(token, session_id)
            self._live_until(pipe, session_id, token_hash, expires_at)

        self._change(change, key, token)
        return 1

    def read(self, token_hash: bytes, *, now: float) -> StoredSession | None:
        session_id = self._found(token_hash)
        if session_id is None:
            return None
        with self._told():
            fields = cast("dict[bytes, bytes]", self._redis.hgetall(self._session(session_id)))
        return _read(session_id, fields, now)

    def claim(self, token_hash: bytes, *, now: float, expires_at: float) -> StoredSession | None:
        session_id = self._found(token_hash)
        if session_id is None:
            return None
        key, events = self._session(session_id), self._events(session_id)
        saved: StoredSession | None = None

        def change(pipe: Pipeline) -> None:
            nonlocal saved
            found = _read(session_id, cast("dict[bytes, bytes]", pipe.hgetall(key)), now)
            saved = None if found is None else replace(found, owner=found.owner + 1)
            if saved is None:
                return
            there = pipe.llen(events)
            if there != saved.last_event_id:
                raise StoreError(
                    f"{self._name}: session {session_id}: expected {saved.last_event_id} events, got {there}:"
                    " Redis dropped some; set its maxmemory-policy to noeviction"
                )
            pipe.multi()
            pipe.hset(key, "owner", saved.owner)
            self._live_until(pipe, session_id, token_hash, expires_at)

        self._change(change, key, events)
        return saved

    def save(
        self, session_id: str, owner: int, save_point: SavePoint, *, now: float, expires_at: float
    ) -> None:
        key = self._session(session_id)

        def change(pipe: Pipeline) -> None:
            token_hash, last_event_id = self._owned(pipe, session_id, owner)
            names = cast("list[bytes]", pipe.hkeys(key))
            stored = {int(name[5:]) for name in names if name.startswith(b"step:")}
            check_save(session_id, last_event_id, stored, save_point)
            pipe.multi()
            if dropped := stored.difference(save_point.steps_now):
                pipe.hdel(key, *(f"step:{turn}" for turn in dropped))
            for turn in save_point.steps.keys() & set(save_point.steps_now):
                pipe.hset(key, f"step:{turn}", save_point.steps[turn])
            last = last_event_id + len(save_point.events)
            self._put(pipe, key, save_point.header, last_event_id=last, now=now, closed=save_point.closed)
            if save_point.events:
                pipe.rpush(self._events(session_id), *(line for _, line in save_point.events))
            self._live_until(pipe, session_id, token_hash, expires_at)

        self._change(change, key)

    def touch(self, session_id: str, owner: int, *, expires_at: float) -> None:
        def change(pipe: Pipeline) -> None:
            token_hash, _ = self._owned(pipe, session_id, owner)
            pipe.multi()
            self._live_until(pipe, session_id, token_hash, expires_at)

        self._change(change, self._session(session_id))

    def events(self, session_id: str, after: int, most: int = 2**31) -> list[tuple[int, str]]:
        with self._told():
            lines = cast("list[bytes]", self._redis.lrange(self._events(session_id), after, after + most - 1))
        return [(event_id, line.decode()) for event_id, line in enumerate(lines, after + 1)]

    def forget(self, session_id: str, owner: int) -> None:
        key = self._session(session_id)

        def change(pipe: Pipeline) -> None:
            try:
                token_hash, _ = self._owned(pipe, session_id, owner)
            except SessionGone:
                return
            pipe.multi()
            pipe.delete(key, self._events(session_id), self._token(token_hash))

        self._change(change, key)

    def sweep(self, now: float) -> int:
        return 0  # Redis drops what has expired by itself

    def ready(self) -> None:
        with self._told():  # a write: a replica, a full Redis and one that cannot save answer a ping too
            self._redis.set(f"{self._prefix}ready", b"", px=1000)

    def close(self) -> None:
        self._closed = True
        self._redis.close()

    def _session(self, session_id: str) -> str:
        return f"{self._prefix}session:{session_id}"

    def _events(self, session_id: str) -> str:
        return f"{self._prefix}events:{session_id}"

    def _token(self, token_hash: bytes) -> str:
        return f"{self._prefix}token:{token_hash.hex()}"

    def _found(self, token_hash: bytes) -> str | None:
        """The name of a token's session."""
        with self._told():
            found = cast("bytes | None", self._redis.get(self._token(token_hash)))
        return None if found is None else found.decode()

    def _owned(self, pipe: Pipeline, session_id: str, owner: int) -> tuple[bytes, int]:
        """The session's token hash and its last event's number; raises where `owner` does not have it."""
        fields = pipe.hmget(self._session(session_id), ["owner", "token_hash", "last_event_id"])
        current, token_hash, last_event_id = cast("list[bytes | None]", fields)
        check_owner(session_id, None if current is None else int(current), owner)
        return token_hash or b"", int(last_event_id or 0)

    @staticmethod
    def _put(
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

    def _live_until(self, pipe: Pipeline, session_id: str, token_hash: bytes, expires_at: float) -> None:
        key = self._session(session_id)
        pipe.hset(key, "expires_at", repr(expires_at))
        for name in (key, self._events(session_id), self._token(token_hash)):
            pipe.pexpireat(name, math.ceil(expires_at * 1000))

    def _change(self, change: _Change, *watched: str) -> None:
        """Run `change` as a transaction, again where a watched key was changed or the answer was lost."""
        tries = itertools.count(1)

        def again(pipe: Pipeline) -> None:
            if next(tries) > TRIES:
                raise StoreError(
                    f"{self._name}: expected a Redis that answers and saves,"
                    f" got no change of {watched[0]} through in {TRIES} tries"
                )
            change(pipe)

        with self._told():
            self._redis.transaction(again, *watched)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What redis-py raises as a StoreError."""
        if self._closed:
            raise StoreError(f"{self._name}: expected an open store, got a closed one")
        try:
            yield
        except redis.RedisError as error:
            raise StoreError(
                f"{self._name}: expected a Redis that answers and saves, got: {error}"
            ) from error


def _read(session_id: str, fields: Mapping[bytes, bytes], now: float) -> StoredSession | None:
    """A session of its hash; None where that is empty or has expired."""
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
