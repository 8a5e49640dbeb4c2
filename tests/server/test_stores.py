"""The stores of sessions: their common contract, then the crash safety of each."""

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)
from paths import ROOT
from redis_server import RedisServer

from stream_erc.exceptions import ConfigError, Fenced, SessionGone, StoreError, StreamErcError
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.stores import base, sqlite_file
from stream_erc.server.stores import sqlite as store_sqlite
from stream_erc.server.stores.base import SessionStore, StoredSession
from stream_erc.server.stores.opening import open_store
from stream_erc.server.stores.sqlite import MemoryStore, SqliteStore

OWNER_BITS = base.OWNER_BITS
NOW = float(int(time.time()))  # today: Redis has its own clock
LATER = NOW + 10_000.0
TOKEN = hashlib.sha256(b"token").digest()
PROCESSES = ["sqlite", "redis"]
"""Stores that several processes can share."""


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The argument of `open_store` for the test's store."""
    match request.param:
        case "sqlite":
            return f"sqlite:{tmp_path}/sessions.db"
        case "redis":
            server = request.getfixturevalue("redis_server")
            flush(server.url)
            return str(server.url)
    return str(request.param)


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number the owners 1, 2, 3 ..., without random bits."""
    monkeypatch.setattr(base, "OWNER_BITS", 0)


@pytest.fixture
def store(spec: str) -> Iterator[SessionStore]:
    opened = open_store(spec)
    yield opened
    opened.close()


def flush(url: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushdb()


def save(store: SessionStore, session_id: str, owner: int, first: int, **other: object) -> None:
    """Save one event with the id `first`, and any other fields of the save point."""
    now, expires_at = other.pop("now", NOW), other.pop("expires_at", LATER)
    given = {"header": b"h", "steps": {}, "steps_now": (), "events": [(first, "{}")], **other}
    store.save(session_id, owner, SavePoint(**given), now=now, expires_at=expires_at)  # type: ignore[arg-type]


def create(store: SessionStore, session_id: str = "a", token: bytes = TOKEN) -> int:
    return store.create(session_id, token, b"first", now=NOW, expires_at=LATER)


def claim(
    store: SessionStore, token: bytes = TOKEN, now: float = NOW, expires_at: float = LATER
) -> StoredSession:
    saved = store.claim(token, now=now, expires_at=expires_at)
    assert saved is not None
    return saved


@pytest.mark.parametrize("spec", ["memory", *PROCESSES], indirect=True)
class TestContract:
    def test_a_new_session_is_claimed_as_it_was_created(self, store: SessionStore) -> None:
        assert create(store) == 1
        assert claim(store) == StoredSession("a", 2, b"first", {}, 0, NOW, False)
        assert store.events("a", 0) == []

    def test_what_was_saved_last_is_claimed(self, store: SessionStore) -> None:
        owner = create(store)
        steps = {10: b"ten", 9: b"nine"}
        events = [(1, '{"text": "für 😀"}'), (2, "{}")]
        save(store, "a", owner, 1, header=b"\0\xff", steps=steps, steps_now=[9, 10], events=events)
        steps = {11: b"eleven", 10: b"TEN"}
        save(store, "a", owner, 3, steps=steps, steps_now=[10, 11], now=NOW + 0.125, closed=True)
        saved = claim(store)
        assert saved == StoredSession("a", 2, b"h", {10: b"TEN", 11: b"eleven"}, 3, NOW + 0.125, True)
        assert list(saved.steps) == [10, 11]
        assert store.events("a", 0) == [*events, (3, "{}")]
        assert store.events("a", 2) == [(3, "{}")]
        assert store.events("a", 0, 2) == events and store.events("a", 1, 1) == events[1:]
        assert store.events("a", 3) == store.events("a", 99) == store.events("b", 0) == []

    def test_a_session_is_read_and_left_to_its_owner(self, store: SessionStore) -> None:
        assert store.read(TOKEN, now=NOW) is None
        owner = create(store)
        assert store.read(TOKEN, now=NOW) == StoredSession("a", owner, b"first", {}, 0, NOW, False)
        save(store, "a", owner, 1, steps={1: b"one"}, steps_now=[1])
        assert store.read(TOKEN, now=NOW) == StoredSession("a", owner, b"h", {1: b"one"}, 1, NOW, False)
        assert store.read(TOKEN, now=LATER) is None
        assert store.read(b"other", now=NOW) is None
        save(store, "a", owner, 2)

    def test_a_step_that_is_not_named_any_more_is_deleted(self, store: SessionStore) -> None:
        owner = create(store)
        save(store, "a", owner, 1, steps={0: b"0", 1: b"1", 2: b"2"}, steps_now=[0, 1, 2])
        save(store, "a", owner, 2, steps_now=[0, 2])
        assert claim(store).steps == {0: b"0", 2: b"2"}
        save(store, "a", 2, 3, steps={5: b"5"}, steps_now=[])
        assert claim(store).steps == {}

    def test_a_step_that_is_named_and_not_there_is_refused(self, store: SessionStore) -> None:
        owner = create(store)
        save(store, "a", owner, 1, steps={0: b"0"}, steps_now=[0])
        with pytest.raises(StoreError, match="expected a step of turn 1, got none"):
            save(store, "a", owner, 2, header=b"other", steps={2: b"2"}, steps_now=[0, 1, 2])
        assert claim(store) == StoredSession("a", 2, b"h", {0: b"0"}, 1, NOW, False)

    @pytest.mark.parametrize("numbers", [[1], [2], [4], [3, 3], [3, 5], [4, 3], [0], [-1]])
    def test_events_are_numbered_without_a_gap_and_kept_once(
        self, store: SessionStore, numbers: list[int]
    ) -> None:
        owner = create(store)
        save(store, "a", owner, 1, events=[(1, '"one"'), (2, '"two"')], steps={0: b"0"}, steps_now=[0])
        before = store.events("a", 0)
        with pytest.raises(StoreError, match=r"session a: expected event \d next, got -?\d"):
            events = [(number, '"again"') for number in numbers]
            save(store, "a", owner, 0, header=b"other", steps={1: b"1"}, steps_now=[1], events=events)
        assert store.events("a", 0) == before
        assert claim(store) == StoredSession("a", 2, b"h", {0: b"0"}, 2, NOW, False)

    def test_a_claim_fences_whoever_had_the_session(self, store: SessionStore) -> None:
        old = create(store)
        new = claim(store).owner
        assert new == old + 1
        for write in (
            lambda: save(store, "a", old, 1),
            lambda: store.touch("a", old, expires_at=LATER),
            lambda: store.forget("a", old),
        ):
            with pytest.raises(Fenced, match="session a: expected owner 2, got 1"):
                write()
        save(store, "a", new, 1)
        assert claim(store).last_event_id == 1

    def test_an_owner_from_nowhere_is_fenced(self, store: SessionStore) -> None:
        create(store)
        for owner in (0, -1):
            with pytest.raises(Fenced):
                save(store, "a", owner, 1)

    def test_a_newer_owner_than_is_known_tells_that_the_store_went_back(self, store: SessionStore) -> None:
        create(store)
        for write in (
            lambda: save(store, "a", 2, 1),
            lambda: store.touch("a", 2, expires_at=LATER),
            lambda: store.forget("a", 2),
        ):
            with pytest.raises(StoreError, match="the store has gone back in time: expected owner 2") as told:
                write()
            assert not isinstance(told.value, Fenced)

    def test_a_save_that_does_not_follow_the_last_one_is_refused(self, store: SessionStore) -> None:
        """Also one without events: its header would count events that are not there."""
        owner = create(store)
        save(store, "a", owner, 1, after=0)
        for after in (0, 2):
            with pytest.raises(StoreError, match=f"gone back in time: expected event {after} to be the last"):
                save(store, "a", owner, 0, events=[], after=after)
        save(store, "a", owner, 2, after=1)

    def test_no_two_owners_have_the_same_number(
        self, store: SessionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also if the store went back, and the claim of one was forgotten: both may still be there."""
        monkeypatch.undo()
        owners = set()
        for _ in range(9):
            owners.add(create(store))
            owners.add(owner := claim(store).owner)
            store.forget("a", owner)
        assert len(owners) == 18
        create(store)
        with pytest.raises(Fenced):
            store.touch("a", min(owners), expires_at=LATER)

    def test_an_unknown_session_is_gone(self, store: SessionStore) -> None:
        assert store.claim(TOKEN, now=NOW, expires_at=LATER) is None
        with pytest.raises(SessionGone, match="session a: expected it in the store, got none"):
            save(store, "a", 1, 1)
        with pytest.raises(SessionGone):
            store.touch("a", 1, expires_at=LATER)
        store.forget("a", 1)

    def test_a_forgotten_session_leaves_nothing(self, store: SessionStore) -> None:
        owner = create(store)
        save(store, "a", owner, 1, steps={0: b"0"}, steps_now=[0])
        store.forget("a", owner)
        assert store.claim(TOKEN, now=NOW, expires_at=LATER) is None
        assert store.events("a", 0) == []
        assert create(store) == 1
        assert claim(store) == StoredSession("a", 2, b"first", {}, 0, NOW, False)

    @pytest.mark.parametrize(("session_id", "token"), [("a", b"other"), ("b", TOKEN), ("a", TOKEN)])
    def test_a_session_or_token_is_created_once(
        self, store: SessionStore, session_id: str, token: bytes
    ) -> None:
        owner = create(store)
        save(store, "a", owner, 1)
        with pytest.raises(StoreError, match="expected a new one"):
            create(store, session_id, token)
        assert claim(store).header == b"h"
        assert store.claim(b"other", now=NOW, expires_at=LATER) is None

    def test_sessions_do_not_meet(self, store: SessionStore) -> None:
        one, other = create(store), create(store, "b", b"other")
        save(store, "a", one, 1, steps={0: b"a"}, steps_now=[0])
        save(store, "b", other, 1, steps={0: b"b"}, steps_now=[0], events=[(1, '"b"'), (2, '"b"')])
        store.forget("a", one)
        assert claim(store, b"other") == StoredSession("b", 2, b"h", {0: b"b"}, 2, NOW, False)
        assert store.events("b", 0) == [(1, '"b"'), (2, '"b"')]

    def test_an_expired_session_cannot_be_claimed(self, store: SessionStore) -> None:
        create(store)
        assert store.claim(TOKEN, now=LATER, expires_at=LATER + 1) is None
        assert claim(store, now=LATER - 1).owner == 2

    def test_claim_save_and_touch_renew(self, store: SessionStore) -> None:
        owner = create(store)
        save(store, "a", owner, 1, expires_at=LATER + 10)
        claim(store, now=LATER + 9, expires_at=LATER + 20)
        store.touch("a", 2, expires_at=LATER + 30)
        saved = claim(store, now=LATER + 29)
        assert (saved.owner, saved.saved_at) == (3, NOW)

    def test_a_save_may_shorten_the_life(self, store: SessionStore) -> None:
        """For example that of a closed session."""
        save(store, "a", create(store), 1, expires_at=LATER - 100)
        assert store.claim(TOKEN, now=LATER - 100, expires_at=LATER) is None
        store.touch("a", 1, expires_at=LATER - 200)
        assert store.claim(TOKEN, now=LATER - 200, expires_at=LATER) is None

    def test_sweeping_leaves_what_lives(self, store: SessionStore) -> None:
        create(store)
        assert store.sweep(NOW) == 0
        assert claim(store).owner == 2

    @pytest.mark.parametrize("size", [0, 1, 1_000_000, 5_000_000])
    def test_blobs_of_any_size(self, store: SessionStore, size: int) -> None:
        blob = os.urandom(size)
        save(store, "a", create(store), 1, header=blob, steps={0: blob, 1: blob[::-1]}, steps_now=[0, 1])
        saved = claim(store)
        assert (saved.header, saved.steps) == (blob, {0: blob, 1: blob[::-1]})

    def test_many_events(self, store: SessionStore) -> None:
        owner = create(store)
        lines = [(number, f'{{"n": {number}, "text": "{"x" * 500}"}}') for number in range(1, 20_001)]
        for start in range(0, 20_000, 1000):
            save(store, "a", owner, 0, events=lines[start : start + 1000])
        assert store.events("a", 0) == lines
        assert store.events("a", 19_998) == lines[-2:]

    def test_threads_share_a_store(self, store: SessionStore) -> None:
        """Each thread writes a session of its own, and all claim one more: no owner number is given twice."""
        create(store, "shared", b"shared")

        def work(number: int) -> list[int]:
            session_id, token, owners = f"s{number}", bytes([number]), []
            create(store, session_id, token)
            for turn in range(25):
                steps_now = range(max(0, turn - 2), turn + 1)
                save(store, session_id, 1, turn + 1, steps={turn: b"x" * 999}, steps_now=steps_now)
                owners.append(claim(store, b"shared").owner)
            assert list(claim(store, token).steps) == [22, 23, 24]
            assert len(store.events(session_id, 0)) == 25
            return owners

        with ThreadPoolExecutor(8) as threads:
            owners = [owner for some in threads.map(work, range(8)) for owner in some]
        assert sorted(owners) == list(range(2, 2 + 8 * 25))

    def test_a_closed_store_says_so(self, store: SessionStore) -> None:
        store.ready()
        store.close()
        store.close()
        for call in (store.ready, lambda: create(store), lambda: store.events("a", 0)):
            with pytest.raises(StoreError, match="expected an open store, got a closed one"):
                call()


# --- a model beside every store -------------------------------------------------------------------


class AgainstAModel(RuleBasedStateMachine):
    """A model test: every call goes to a store and to plain dicts, which must give the same answers."""

    open: Callable[[], SessionStore]
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.store = type(self).open()
        self.model: dict[str, dict] = {}
        self.made = 0
        self.now = NOW

    @rule(target=sessions, header=st.binary(max_size=9), lives=st.integers(1, 50))
    def create(self, header: bytes, lives: int) -> str:
        session_id = f"s{self.made}"
        self.made += 1
        expires_at = LATER + self.now - NOW + lives
        token = hashlib.sha256(session_id.encode()).digest()
        assert self.store.create(session_id, token, header, now=self.now, expires_at=expires_at) == 1
        self.model[session_id] = {
            **{"token": token, "owner": 1, "header": header, "steps": {}, "events": []},
            **{"saved_at": self.now, "expires_at": expires_at, "closed": False},
        }
        return session_id

    @rule(session_id=sessions, lives=st.integers(1, 50))
    def claim(self, session_id: str, lives: int) -> None:
        token = hashlib.sha256(session_id.encode()).digest()
        now = LATER + self.now - NOW
        saved = self.store.claim(token, now=now, expires_at=now + lives)
        known = self.model.get(session_id)
        if known is None or known["expires_at"] <= now:
            assert saved is None
            return
        known["owner"] += 1
        known["expires_at"] = now + lives
        assert saved == StoredSession(
            session_id=session_id,
            last_event_id=len(known["events"]),
            **{name: known[name] for name in ("owner", "header", "steps", "saved_at", "closed")},
        )

    @rule(
        session_id=sessions,
        behind=st.sampled_from([0, 0, 0, 1]),
        skipped=st.sampled_from([0, 0, 0, 1, -1]),
        header=st.binary(max_size=9),
        steps=st.dictionaries(st.integers(0, 5), st.binary(max_size=9), max_size=3),
        steps_now=st.sets(st.integers(0, 5), max_size=4),
        lines=st.lists(st.text("aé😀", max_size=3), max_size=3),
        closed=st.booleans(),
    )
    def save(self, session_id, behind, skipped, header, steps, steps_now, lines, closed) -> None:
        known = self.model.get(session_id)
        owner = (known["owner"] if known else 1) - behind
        first = (len(known["events"]) if known else 0) + 1 + skipped
        events = list(enumerate(lines, first))
        expires_at = LATER + self.now - NOW + 5

        def call() -> None:
            self.store.save(
                session_id,
                owner,
                SavePoint(header, steps, steps_now, events, closed),
                now=self.now,
                expires_at=expires_at,
            )

        if known is None or behind:
            with pytest.raises(Fenced if known else SessionGone):
                call()
        elif (events and skipped) or not steps_now <= known["steps"].keys() | steps.keys():
            with pytest.raises(StoreError):
                call()
        else:
            call()
            kept = {turn: blob for turn, blob in {**known["steps"], **steps}.items() if turn in steps_now}
            known.update(header=header, steps=kept, events=[*known["events"], *events], closed=closed)
            known.update(saved_at=self.now, expires_at=expires_at)

    @rule(session_id=sessions, behind=st.sampled_from([0, 0, 1]), lives=st.integers(1, 50))
    def touch(self, session_id: str, behind: int, lives: int) -> None:
        known = self.model.get(session_id)
        owner = (known["owner"] if known else 1) - behind
        expires_at = LATER + self.now - NOW + lives
        if known and not behind:
            self.store.touch(session_id, owner, expires_at=expires_at)
            known["expires_at"] = expires_at
        else:
            with pytest.raises(Fenced if known else SessionGone):
                self.store.touch(session_id, owner, expires_at=expires_at)

    @rule(session_id=consumes(sessions))
    def forget(self, session_id: str) -> None:
        self.store.forget(session_id, self.model.pop(session_id, {"owner": 1})["owner"])

    @rule(seconds=st.integers(0, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        now = LATER + self.now - NOW
        expired = [name for name, known in self.model.items() if known["expires_at"] <= now]
        assert self.store.sweep(now) == len(expired)
        for name in expired:
            del self.model[name]

    @invariant()
    def events_are_the_same(self) -> None:
        for number in range(self.made):
            events = self.model.get(f"s{number}", {"events": []})["events"]
            for after in (0, 1, len(events)):
                assert self.store.events(f"s{number}", after) == events[after:]

    def teardown(self) -> None:
        self.store.close()


@pytest.mark.parametrize("kind", ["memory", *PROCESSES])
def test_every_store_does_what_the_model_does(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    files = iter(range(10**6))

    def open_new() -> SessionStore:
        if kind == "redis":
            server = request.getfixturevalue("redis_server")
            flush(server.url)
            return open_store(server.url)
        return open_store("memory" if kind == "memory" else f"sqlite:{tmp_path}/{next(files)}.db")

    machine = type("Machine", (AgainstAModel,), {"open": staticmethod(open_new)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


# --- processes ------------------------------------------------------------------------------------

SAVER = """
import sys
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.stores.opening import open_store
store = open_store(sys.argv[1])
saved = store.claim(b"token", now=1e9, expires_at=9e9)
print(saved.last_event_id, flush=True)
for n in range(saved.last_event_id + 1, 10**6):
    blob = n.to_bytes(4, "big") * 15_000
    due = SavePoint(blob, {n: blob}, range(max(1, n - 3), n + 1), [(n, str(n))])
    store.save("a", saved.owner, due, now=float(n), expires_at=9e9)
    print(n, flush=True)
"""

CLAIMER = """
import sys
from stream_erc.server.stores.opening import open_store
from stream_erc.exceptions import Fenced
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    owner = store.claim(b"token", now=1e9, expires_at=9e9).owner
    try:
        store.touch("a", owner, expires_at=9e9)
        print(owner, flush=True)
    except Fenced:
        print(owner, "fenced", flush=True)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def check_one_save(store: SessionStore) -> int:
    """Check that the store has exactly one whole save; return its number."""
    saved = claim(store, b"token", now=1e9, expires_at=9e9)
    n = saved.last_event_id
    assert store.events("a", 0) == [(number, str(number)) for number in range(1, n + 1)]
    assert saved.header == n.to_bytes(4, "big") * 15_000
    expected = {turn: turn.to_bytes(4, "big") * 15_000 for turn in range(max(1, n - 3), n + 1)}
    assert (dict(saved.steps), saved.saved_at) == (expected, float(n))
    return n


@pytest.mark.parametrize("spec", PROCESSES, indirect=True)
def test_a_killed_server_leaves_every_save_that_returned(spec: str) -> None:
    with_nothing = open_store(spec)
    with_nothing.create("a", b"token", (0).to_bytes(4, "big") * 15_000, now=0.0, expires_at=9e9)
    with_nothing.close()
    last = 0
    for round_number in range(6):
        process = start(SAVER, spec)
        assert process.stdout is not None and process.stdin is not None
        assert int(process.stdout.readline()) == last
        for _ in range(17 * (round_number + 1)):
            told = int(process.stdout.readline())
        time.sleep(0.001 * round_number)  # at some point within a later save
        os.kill(process.pid, signal.SIGKILL)
        *_, told = [told, *map(int, process.stdout.read().split())]
        process.wait()
        process.stdin.close()
        process.stdout.close()
        store = open_store(spec)
        last = check_one_save(store)
        store.close()
        assert last in (told, told + 1)
    assert last > 300


@pytest.mark.parametrize("spec", PROCESSES, indirect=True)
def test_of_processes_that_claim_at_once_one_has_the_session(spec: str) -> None:
    store = open_store(spec)
    create(store, "a", b"token")
    processes = [start(CLAIMER, spec) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    lines = [line for process in processes for line in process.communicate(timeout=60)[0].splitlines()]
    owners = sorted(int(line.split()[0]) for line in lines)
    assert [owner >> OWNER_BITS for owner in owners] == list(range(1, 121))
    assert str(owners[-1]) in lines  # nobody claimed after the last claim
    with pytest.raises(Fenced):
        save(store, "a", owners[-2], 1)
    save(store, "a", owners[-1], 1)
    store.close()


def let_go(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Let processes that `start` made begin at once, and wait until all have succeeded."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_processes_may_begin_a_file_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from stream_erc.server.stores.opening import open_store; sys.stdin.readline()\n"
        "for n in range(100):\n"
        "    store = open_store(f'sqlite:{sys.argv[1]}/{n}.db')\n"
        "    store.create(sys.argv[2], sys.argv[2].encode(), b'', now=1.0, expires_at=2.0)\n"
        "    store.close()\n"
    )
    processes = [start(code, str(tmp_path), str(number)) for number in range(6)]
    let_go(processes)
    names = {path.name for path in tmp_path.iterdir()}
    # Of two that close at once neither may see itself as the last, and SQLite's log stays.
    assert {name.removesuffix("-wal").removesuffix("-shm") for name in names} == {
        f"{n}.db" for n in range(100)
    }
    for n in range(100):
        store = SqliteStore(tmp_path / f"{n}.db")
        assert store.sweep(3.0) == 6
        store.close()


def test_a_file_that_another_process_makes_first_is_taken(tmp_path: Path) -> None:
    path, other = tmp_path / "sessions.sqlite", tmp_path / "other.sqlite"
    SqliteStore(other).close()

    def prepare(connection: sqlite3.Connection) -> None:
        store_sqlite._prepare("sessions", connection)
        if not path.exists():
            os.link(other, path)

    file = sqlite_file.SqliteFile(path, prepare)
    file.close(file.open())
    assert path.samefile(other) and {one.name for one in tmp_path.iterdir()} == {path.name, other.name}


def test_a_file_that_is_replaced_at_every_opening_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite"
    SqliteStore(path).close()

    def prepare(connection: sqlite3.Connection) -> None:
        shutil.copy(path, tmp_path / "copy")
        os.replace(tmp_path / "copy", path)

    with pytest.raises(StoreError, match="a file that stays in its place"):
        sqlite_file.SqliteFile(path, prepare).open()


def test_where_a_start_of_the_machine_has_no_name_each_server_has_a_clock_of_its_own(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.sqlite")
    assert [store.clock_offset("", offset) for offset in (5.0, 7.0)] == [5.0, 7.0]
    assert [store.clock_offset("first", offset) for offset in (5.0, 7.0)] == [5.0, 5.0]
    store.close()


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "sessions.db").touch()
    store = SqliteStore(tmp_path / "sessions.db")
    create(store)
    store.close()


# --- SQLite ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["memory", *PROCESSES], indirect=True)
def test_sweeping_deletes_what_expired(store: SessionStore) -> None:
    for number in range(5):
        token = bytes([number])
        store.create(f"s{number}", token, b"", now=NOW, expires_at=NOW + number)
        save(store, f"s{number}", 1, 1, steps={0: b"0"}, steps_now=[0], expires_at=NOW + number)
    assert store.sweep(NOW + 2) == 3
    assert store.sweep(NOW + 2) == 0
    assert [len(store.events(f"s{number}", 0)) for number in range(5)] == [0, 0, 0, 1, 1]
    with pytest.raises(SessionGone):
        save(store, "s2", 1, 2)
    assert claim(store, bytes([3])).steps == {0: b"0"}


def test_others_save_while_a_sweep_goes_on(tmp_path: Path) -> None:
    swept, saved = SqliteStore(tmp_path / "sessions.db"), SqliteStore(tmp_path / "sessions.db")
    create(saved)
    for number in range(50):
        swept.create(f"s{number}", bytes([number]), b"x" * 500_000, now=NOW, expires_at=NOW)
    left = [50]
    with ThreadPoolExecutor() as threads:
        sweeping = threads.submit(swept.sweep, NOW)
        while not sweeping.done():
            save(saved, "a", 1, len(left))
            with saved._lend() as connection:
                left += connection.execute("SELECT COUNT(*) - 1 FROM sessions").fetchone()
    assert sweeping.result() == 50
    assert len({*left}) > 5, left
    swept.close()
    saved.close()


def test_a_power_cut_loses_the_end_and_tears_nothing(tmp_path: Path) -> None:
    """The log is cut off anywhere, as if its last pages had never reached the disk."""
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    store.create("a", b"token", (0).to_bytes(4, "big") * 15_000, now=0.0, expires_at=9e9)
    store.close()
    store = SqliteStore(path)
    for n in range(1, 9):  # fewer pages than SQLite checkpoints by itself
        blob = n.to_bytes(4, "big") * 15_000
        steps_now = range(max(1, n - 3), n + 1)
        save(store, "a", 1, 0, header=blob, steps={n: blob}, steps_now=steps_now, events=[(n, str(n))], now=n)
    log = path.with_name("sessions.db-wal").read_bytes()
    found = set()
    for part in range(41):
        cut = tmp_path / f"{part}" / "sessions.db"
        cut.parent.mkdir()
        shutil.copy(path, cut)
        cut.with_name("sessions.db-wal").write_bytes(log[: len(log) * part // 40])
        reopened = SqliteStore(cut)
        found.add(check_one_save(reopened))
        reopened.close()
    store.close()
    assert found == set(range(9))


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "new" / "sessions.db")
        create(store)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["sessions.db", "sessions.db-wal", "sessions.db-shm"], 0o600)


def test_a_link_to_a_file_that_is_not_there_yet_gives_a_private_one_too(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "sessions.db")
    before = os.umask(0)
    try:
        SqliteStore(tmp_path / "link.db").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "sessions.db").stat().st_mode) == 0o600
    assert (tmp_path / "link.db").is_symlink()


def test_what_was_forgotten_is_not_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    secret = b"secret" * 1000
    owner = create(store)
    save(store, "a", owner, 1, header=secret, steps={0: secret}, steps_now=[0], events=[(1, '"secret"')])
    store.close()
    assert b"secret" in path.read_bytes()
    store = SqliteStore(path)
    store.forget("a", 1)
    store.close()
    assert b"secret" not in path.read_bytes()


def test_the_file_stays_as_large_as_what_it_holds(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db")
    owner, blob = create(store), b"x" * 50_000
    for n in range(1, 201):
        save(store, "a", owner, n, header=blob, steps={n: blob}, steps_now=range(max(1, n - 3), n + 1))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 6_000_000  # 20 MB were written
    store.close()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"this is not a database, and long enough not to be taken for an empty one" * 20, "not a database"),
        (b"SQLite format 3\0" + b"\xff" * 4096, ""),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"sessions\.db: expected a store of sessions") as caught:
        SqliteStore(path)
    assert told in str(caught.value)
    assert path.read_bytes() == content


def test_a_file_damaged_within_gives_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    save(store, "a", create(store), 1, header=b"h" * 50_000, steps={0: b"s" * 50_000}, steps_now=[0])
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    store = SqliteStore(path)
    for call in (lambda: claim(store), lambda: create(store, "b", b"b"), lambda: store.events("a", 0)):
        with pytest.raises(StoreError, match="malformed"):
            call()
    store.close()


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE sessions (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="got another program's SQLite file"):
        SqliteStore(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["other.db"]


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    SqliteStore(path).close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {store_sqlite.SCHEMA_VERSION + 1}")
    newer.close()
    with pytest.raises(StoreError, match="expected a store of version 1, got 2, of a newer stream_erc"):
        SqliteStore(path)


def test_a_place_that_cannot_be_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place in ("file/sessions.db", "folder"):
        with pytest.raises(StoreError, match="expected a store of sessions that can be written"):
            SqliteStore(tmp_path / place)


def test_a_folder_that_is_not_writable_is_told(tmp_path: Path) -> None:
    """The check runs in a process of another user: root can write to every folder."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    code = (
        "import os, sys; from pathlib import Path; from stream_erc.server.stores.sqlite import SqliteStore\n"
        "os.chdir(sys.argv[1])\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "SqliteStore(Path('sessions.db'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    last = done.stderr.splitlines()[-1]
    assert "StoreError" in last and "can be written" in last and "Permission denied" in last


@pytest.mark.parametrize("gone", [("",), ("", "-wal", "-shm")])
def test_a_file_that_was_deleted_is_made_anew_with_all_it_held(tmp_path: Path, gone: tuple[str, ...]) -> None:
    path = tmp_path / "sessions.db"
    store, other = SqliteStore(path), SqliteStore(path)
    owner = create(store)
    save(store, "a", owner, 1, steps={0: b"0"}, steps_now=[0])
    for ending in gone:
        Path(f"{path}{ending}").unlink()
    save(store, "a", owner, 2, steps_now=[0])
    save(other, "a", owner, 3, steps_now=[0])
    save(store, "a", owner, 4, steps_now=[0])
    store.close()
    other.close()
    assert [found.name for found in tmp_path.iterdir()] == ["sessions.db"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store = SqliteStore(path)
    assert [number for number, _ in store.events("a", 0)] == [1, 2, 3, 4]
    assert claim(store).steps == {0: b"0"}
    store.close()


def test_a_new_file_does_not_take_the_log_of_a_deleted_one(tmp_path: Path) -> None:
    """A killed server left it."""
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    save(store, "a", create(store), 1, header=b"x" * 100_000)
    log = Path(f"{path}-wal").read_bytes()
    store.close()
    path.unlink()
    Path(f"{path}-wal").write_bytes(log)
    store = SqliteStore(path)
    assert store.events("a", 0) == []
    create(store)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as reopened:
        assert reopened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


DELETED_AGAIN_AND_AGAIN = """
import random, sys, time
from pathlib import Path
from stream_erc.exceptions import StoreError
from stream_erc.server.stores.sqlite import SqliteStore
path, name, chance = Path(sys.argv[1]), sys.argv[2], random.Random(sys.argv[2])
sys.stdin.readline()
store, end = SqliteStore(path), time.monotonic() + 3
for n in range(10**9):
    if time.monotonic() > end:
        break
    try:
        store.create(f"{name}{n}", f"{name}{n}".encode(), b"x" * 9000, now=1.0, expires_at=9e9)
        if chance.random() < 0.1:
            store.close()
            store = SqliteStore(path)
    except StoreError as error:
        assert "malformed" not in str(error) and "disk I/O" not in str(error), error
    if chance.random() < 0.1:
        path.unlink(missing_ok=True)
store.close()
"""


def test_a_file_that_is_deleted_again_and_again_is_never_damaged(tmp_path: Path) -> None:
    """While several processes write, make, open and close it."""
    path = tmp_path / "sessions.db"
    processes = [start(DELETED_AGAIN_AND_AGAIN, str(path), name) for name in "abcd"]
    let_go(processes)
    SqliteStore(path).close()
    with contextlib.closing(sqlite3.connect(path)) as reopened:
        assert reopened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_another_file_in_its_place_is_opened(tmp_path: Path) -> None:
    """The store has gone back; its log is not taken for that of the other file."""
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    owner = create(store)
    save(store, "a", owner, 1, after=0)
    with store._lend() as connection, contextlib.closing(sqlite3.connect(tmp_path / "backup")) as backup:
        connection.backup(backup)
    save(store, "a", owner, 2, after=1)
    (tmp_path / "backup").rename(path)
    with pytest.raises(StoreError, match="gone back in time"):
        save(store, "a", owner, 3, after=2)
    assert store.events("a", 0) == [(1, "{}")]
    save(store, "a", claim(store).owner, 2, after=1)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as reopened:
        assert reopened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert reopened.execute("SELECT event_id FROM events").fetchall() == [(1,), (2,)]


def test_a_file_that_goes_while_it_is_written_has_stored_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    owner = create(store)
    check = store_sqlite.check_save

    def delete(*arguments: object) -> None:
        check(*arguments)  # type: ignore[arg-type]
        path.unlink()

    monkeypatch.setattr(store_sqlite, "check_save", delete)
    with pytest.raises(StoreError, match="expected the open file in its place"):
        save(store, "a", owner, 1)
    monkeypatch.undo()
    assert store.events("a", 0) == [(1, "{}")] and path.exists()  # made anew
    store.close()


def test_a_folder_that_was_closed_is_not_ready() -> None:
    """The check runs in a process of another user: root can read every folder."""
    code = (
        "import os, sys; from pathlib import Path; from stream_erc.server.stores.sqlite import SqliteStore\n"
        "folder = Path(sys.argv[1])\n"
        "if os.getuid() == 0: os.chown(folder, 65534, -1); os.setuid(65534)\n"
        "store = SqliteStore(folder / 'sessions.db'); store.ready(); print('ready')\n"
        "folder.chmod(0)\n"
        "try: store.ready()\n"
        "finally: folder.chmod(0o700)"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, folder],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
    last = done.stderr.splitlines()[-1]
    assert done.stdout == "ready\n", last
    assert "StoreError" in last and "Permission denied" in last


def test_a_disk_without_room_is_not_ready(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db")
    create(store)
    store.ready()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "sessions.db-wal").stat().st_size, hard))
    try:
        with pytest.raises(StoreError, match="can be written"):
            store.ready()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.ready()
    store.close()


def test_another_process_that_never_ends_its_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.1)
    store = SqliteStore(tmp_path / "sessions.db")
    owner = create(store)
    other = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="database is locked"):
        save(store, "a", owner, 1)
    assert store.events("a", 0) == []  # reading goes on
    other.execute("COMMIT")
    other.close()
    save(store, "a", owner, 1)
    store.close()


def test_a_full_disk_saves_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db")
    owner = create(store)
    save(store, "a", owner, 1, steps={0: b"0"}, steps_now=[0])
    with store._lend() as connection:
        connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreError, match="full"):
        save(store, "a", owner, 2, header=b"other", steps={1: b"1" * 500_000}, steps_now=[1])
    assert claim(store) == StoredSession("a", 2, b"h", {0: b"0"}, 1, NOW, False)
    with store._lend() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    save(store, "a", 2, 2, steps={1: b"1" * 500_000}, steps_now=[1])
    store.close()


def test_what_the_caller_raises_leaves_the_store_usable() -> None:
    """A value in the middle of a save cannot be stored."""
    store = MemoryStore()
    owner = create(store)
    with pytest.raises(UnicodeEncodeError):
        save(store, "a", owner, 1, header=b"other", events=[(1, "\ud800")])
    save(store, "a", owner, 1)
    assert claim(store).header == b"h"
    store.close()


# --- Redis ----------------------------------------------------------------------------------------


def test_redis_drops_by_itself_what_nobody_sweeps(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    from stream_erc.server.stores import redis as store_redis

    monkeypatch.setattr(store_redis, "SPARE_S", 0.0)
    flush(redis_server.url)
    store = open_store(redis_server.url)
    soon = time.time() + 0.4
    store.create("a", TOKEN, b"", now=NOW, expires_at=soon)
    save(store, "a", 1, 1, expires_at=soon)
    create(store, "b", b"b")
    time.sleep(soon - time.time() + 0.1)
    with pytest.raises(SessionGone):
        save(store, "a", 1, 2)
    assert store.events("a", 0) == []
    time.sleep(1.0)  # the key of `ready`
    with redis.Redis.from_url(redis_server.url) as client:
        assert set(client.keys()) == {b"stream_erc:session:b", b"stream_erc:token:62"}
    store.close()


@pytest.mark.usefixtures("redis_server")
def test_a_stopped_redis_is_told_and_a_restarted_one_is_used(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        store = open_store(server.url)
        create(store)
        server.stop()
        for call in (store.ready, lambda: save(store, "a", 1, 1), lambda: claim(store)):
            with pytest.raises(StoreError, match="expected a Redis that answers and saves"):
                call()
        server.start()
        store.ready()
        with pytest.raises(SessionGone):  # this Redis has no persistence
            save(store, "a", 1, 1)
        create(store)
        store.close()


class LosesAnswers:
    """A proxy before Redis that cuts the connection instead of passing on the answers of `lost`."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.url, self.lost = f"unix://{folder}/between.sock", 0
        self._server = server.url.removeprefix("unix://")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/between.sock")
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as redis:
            redis.connect(self._server)
            while asked := client.recv(1 << 20):  # short commands, which arrive in one piece
                redis.sendall(asked)
                answer = redis.recv(1 << 20)
                if b"EXEC" in asked:
                    while b"*" not in answer:
                        answer += redis.recv(1 << 20)
                    if self.lost:
                        self.lost -= 1
                        return
                client.sendall(answer)


def test_nothing_is_stored_twice_where_an_answer_of_redis_is_lost(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    flush(redis_server.url)
    between = LosesAnswers(tmp_path, redis_server)
    store = open_store(between.url)
    for lost in (lambda: create(store), lambda: save(store, "a", 1, 1, header=b"saved")):
        between.lost = 1
        with pytest.raises(StoreError):
            lost()
    assert store.events("a", 0) == [(1, "{}")]
    between.lost = 1
    saved = claim(store)
    assert saved == StoredSession("a", 3, b"saved", {}, 1, NOW, False)
    with pytest.raises(Fenced):
        save(store, "a", 2, 2)
    save(store, "a", saved.owner, 2)
    store.close()


def test_a_redis_that_cuts_every_change_off_is_told(tmp_path: Path, redis_server: RedisServer) -> None:
    flush(redis_server.url)
    between = LosesAnswers(tmp_path, redis_server)
    store = open_store(between.url)
    create(store)
    between.lost = 1000
    with pytest.raises(StoreError, match="expected a Redis that answers and saves"):
        store.touch("a", 1, expires_at=LATER)
    assert 0 < between.lost < 1000
    store.close()


def test_a_redis_that_dropped_events_is_not_believed(redis_server: RedisServer) -> None:
    import redis

    flush(redis_server.url)
    store = open_store(redis_server.url)
    save(store, "a", create(store), 1)
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete("stream_erc:events:a")
    with pytest.raises(StoreError, match="expected 1 events, got 0"):
        claim(store)
    store.close()


@pytest.mark.usefixtures("redis_server")
def test_a_redis_that_cannot_write_is_not_ready(tmp_path: Path) -> None:
    import redis

    with RedisServer(tmp_path) as server:
        store = open_store(server.url)
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match="used memory"):
            store.ready()
        store.close()


@pytest.mark.parametrize(
    "url", ["redis://user:hunter2@127.0.0.1:1/0", "redis://:hunter2@127.0.0.1:1?password=hunter2"]
)
def test_no_redis_is_told_without_the_password(url: str) -> None:
    pytest.importorskip("redis")
    with pytest.raises(StoreError, match=r"redis://127\.0\.0\.1:1") as caught:
        open_store(url)
    assert "hunter2" not in str(caught.value)


# --- open_store -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["", "sqlite", "sqlite:", "postgres://x", "Memory", "redis", "/var/lib/x.db"]
)
def test_an_unknown_store_is_told(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"expected memory, sqlite:PATH or redis://.*, got ") as caught:
        open_store(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("me:hunter2@host:x", r"expected redis://.*HOST:PORT/NUMBER, got redis://host:x$"),
        ("me:hunter2/@host", r"expected redis://.*HOST:PORT/NUMBER, got redis://host$"),
        ("me:hunter2@a..b/0", r"expected redis://.*HOST:PORT/NUMBER, got redis://a\.\.b/0$"),
        (
            "me:hunter2@host?hunter2=1",
            r"expected options that redis-py knows, got an unknown one for redis://host$",
        ),
    ],
)
def test_an_url_that_cannot_be_read_is_told_without_the_password(place: str, told: str) -> None:
    pytest.importorskip("redis")
    with pytest.raises(ConfigError, match=told) as caught:
        open_store(f"redis://{place}")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_redis_is_not_needed_where_it_is_not_asked_for() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from stream_erc.server.stores.opening import open_store; open_store('memory').close(); open_store('redis://h')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    last = done.stderr.splitlines()[-1]
    assert "EngineUnavailable: --store redis://: expected the package redis, got" in last


def test_a_store_stands_where_the_command_line_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:sessions/one.db")
    monkeypatch.chdir("/")
    store.ready()
    store.close()
    assert (tmp_path / "sessions" / "one.db").exists()


def test_errors_of_the_store_are_of_the_tree() -> None:
    assert issubclass(StoreError, StreamErcError)
    assert issubclass(Fenced, StoreError) and issubclass(SessionGone, StoreError)


def test_two_memory_stores_share_nothing() -> None:
    one, other = MemoryStore(), MemoryStore()
    create(one)
    assert other.claim(TOKEN, now=NOW, expires_at=LATER) is None
    one.close()
    other.close()


def test_waiting_threads_are_let_go_when_the_store_closes() -> None:
    store = MemoryStore()
    told: list[str] = []

    def ask() -> None:
        try:
            store.events("a", 0)
        except StoreError as error:
            told.append(str(error))

    with store._lend():
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        closing = threading.Thread(target=store.close)
        closing.start()
    for thread in [*threads, closing]:
        thread.join(timeout=10)
        assert not thread.is_alive()
    with pytest.raises(StoreError, match="closed"):
        store.ready()
