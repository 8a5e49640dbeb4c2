"""Token buckets: never more than the burst, and no token lost or given twice."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from stream_erc.config import ServerConfig, SessionConfig
from stream_erc.core import conversation, input_queue
from stream_erc.inference import workers
from stream_erc.protocol import live_session
from stream_erc.server import connection, inbox, limits, machine, outbox, websocket
from stream_erc.server.http import front, uploads
from stream_erc.server.limits import MAX_BACKLOG_MS, Account, Bucket, Budget, network_of, places_of

times = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 500)), max_size=40)


def test_a_burst_and_then_the_rate():
    bucket = Bucket.full(rate=10, burst=5, now=0.0)
    assert [bucket.take(1, 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(1, 0.1) and not bucket.take(1, 0.1)
    assert [bucket.take(1, 1000.0) for _ in range(6)] == [True] * 5 + [False]  # no more is put by


def test_what_is_refused_takes_nothing():
    bucket = Bucket.full(rate=1, burst=5, now=0.0)
    assert not bucket.take(6, 0.0)
    assert bucket.take(5, 0.0)


def test_a_clock_that_goes_back_gives_nothing():
    bucket = Bucket.full(rate=1, burst=5, now=10.0)
    assert bucket.take(5, 10.0)
    assert not bucket.take(1, 3.0)
    assert not bucket.take(4.5, 7.0)


def test_what_is_owed_is_paid_back_in_time():
    bucket = Bucket.full(rate=10, burst=20, now=0.0)
    assert [bucket.owe(amount, 0.0) for amount in (15, 15, 20)] == [0.0, 1.0, 3.0]
    assert bucket.owe(0, 2.0) == 1.0 and bucket.owe(10, 4.0) == 0.0 and bucket.owe(1, 4.0) > 0.0


def test_what_is_granted_comes_on_top_and_is_used_up():
    bucket = Bucket.full(rate=1, burst=5, now=0.0)
    bucket.grant(100)
    assert bucket.take(0, 50.0) and bucket.level == 105  # as much as before: time adds up to the burst only
    assert bucket.take(105, 50.0) and not bucket.take(1, 50.0)
    assert bucket.take(5, 60.0) and not bucket.take(1, 60.0)


@given(times)
def test_no_stretch_of_time_takes_more_than_its_share(steps):
    """From any moment on, at most the burst plus the rate times the elapsed time is taken."""
    bucket, now, taken = Bucket.full(rate=7, burst=50, now=0.0), 0.0, [(0.0, 0.0)]
    for pause, amount in steps:
        now += pause
        if bucket.take(amount, now):
            taken.append((now, amount))
    for k, (since, _) in enumerate(taken):
        total = sum(amount for _, amount in taken[k:])
        assert total <= 50 + 7 * (now - since) + 1e-6


@given(times)
def test_live_audio_is_never_further_ahead_of_the_clock_than_the_burst(steps):
    bucket, now, position = Bucket.of_live_audio(10_000, 0.0), 0.0, 0.0
    for pause, amount in steps:
        now += pause / 10
        if bucket.take(20 * amount, now):
            position += 20 * amount
    assert position <= 1000 * now + 10_000 + 1e-6


@pytest.mark.parametrize("stall_s", [5.0, 60.0, 299.0])
def test_live_audio_that_was_held_back_may_come_at_once(stall_s):
    bucket = Bucket.of_live_audio(10_000, 0.0)
    assert all(bucket.take(100, 0.1 * k) for k in range(1, 600))
    assert bucket.take(1000 * stall_s, 60.0 + stall_s)


def test_a_long_silence_does_not_open_the_door():
    bucket = Bucket.of_live_audio(10_000, 0.0)
    assert not bucket.take(MAX_BACKLOG_MS + 10_001, 86_400.0)
    assert bucket.take(MAX_BACKLOG_MS + 10_000, 86_400.0)


def test_a_session_may_take_all_that_is_free_and_always_has_its_share():
    budget = Budget(1000, 4)
    large, small = Account(budget), Account(budget)
    large.change(1001)
    small.change(250)
    assert large.over and not small.over
    small.change(1)
    assert small.over
    large.change(-252)
    assert not large.over and not small.over
    large.close()
    small.close()
    assert budget.used == 0


def test_who_waits_for_room_goes_on_when_another_session_frees_it():
    async def run() -> None:
        budget = Budget(1000, 4)
        large, other = Account(budget), Account(budget)
        large.change(800)
        other.change(300)
        waiting = asyncio.create_task(large.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        other.change(-50)  # still too much
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        other.close()
        await waiting

    asyncio.run(run())


@pytest.mark.parametrize(
    ("quota", "transcribes", "places"),
    [
        ("max 100000", False, 16),
        ("max 100000", True, 4),
        ("150000 100000", True, 3),
        ("50000 100000", True, 2),
        ("?", True, 4),
    ],
)
def test_there_are_as_many_places_as_the_machine_can_listen_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, transcribes: bool, places: int
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(machine, "CPU_QUOTA", tmp_path / "cpu.max")
    machine.CPU_QUOTA.write_text(quota)
    assert places_of(None, None, transcribes=transcribes, local=True).most == places
    assert places_of(50, None, transcribes=transcribes, local=True).most == 50


@pytest.mark.parametrize(
    ("most", "given", "local", "of_one"),
    [
        (16, None, False, 12),
        (1, None, False, 1),
        (3, None, False, 3),
        (16, None, True, 16),
        (16, 5, True, 5),
        (4, 9, False, 4),
    ],
)
def test_one_address_may_have_three_quarters_of_the_places(
    most: int, given: int | None, local: bool, of_one: int
) -> None:
    assert places_of(most, given, transcribes=False, local=local).most_of_one == of_one


def test_an_address_is_what_a_client_cannot_choose() -> None:
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") != network_of("192.0.2.2")
    assert (
        network_of("2001:db8:0:1::1") == network_of("2001:db8:0:1:ffff::2") != network_of("2001:db8:0:2::1")
    )
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of("?") == "?"


def test_the_table_of_bounds_tells_the_constants() -> None:
    table = (
        (ROOT / "docs" / "architecture.md").read_text().split("## What a client can make a server hold")[1]
    )
    told = {
        "`MAX_HEAD_BYTES` = 64 KiB": front.MAX_HEAD_BYTES == 64 * 1024,
        "`MAX_UNREAD_FRAMES` = 0": websocket.MAX_UNREAD_FRAMES == 0,
        "`FIRST_MESSAGE_BYTES` = 64 KiB": websocket.FIRST_MESSAGE_BYTES == 64 * 1024,
        "`MAX_INBOX_ITEMS` = 1,024": inbox.MAX_INBOX_ITEMS == 1024,
        "`TEXTS_AT_ONCE` = 256 Ki": connection.TEXTS_AT_ONCE == 256 * 1024,
        "`TEXTS_PER_S` = 16 Ki": connection.TEXTS_PER_S == 16 * 1024,
        "64 (`MAX_QUEUED_INPUTS`)": input_queue.MAX_QUEUED_INPUTS == 64,
        "1,000 (`MAX_WAITING_INPUTS`)": live_session.MAX_WAITING_INPUTS == 1_000,
        "2 MiB (`MAX_QUEUED_BYTES`)": input_queue.MAX_QUEUED_BYTES == 2 * 2**20,
        "`live_session.MAX_WAITING_BYTES` = 4 MiB": live_session.MAX_WAITING_BYTES == 4 * 2**20,
        "`MAX_TURN_MS` = 120 s": input_queue.MAX_TURN_MS == 120_000,
        "`MAX_WAITING_SAMPLES` = 30 s": workers.MAX_WAITING_SAMPLES == 30 * 16_000,
        "`MAX_SPEAKERS` = 256": conversation.MAX_SPEAKERS == 256,
        "`rewind_turns` = 32": SessionConfig().rewind_turns == 32,
        "`MAX_UNREAD_MESSAGES` = 256": outbox.MAX_UNREAD_MESSAGES == 256,
        "`MAX_UNREAD_BYTES` = 1 MiB": outbox.MAX_UNREAD_BYTES == 2**20,
        "`MAX_EVENTS_BYTES` = 16 MiB": live_session.MAX_EVENTS_BYTES == 16 * 2**20,
        "`MAX_FIELDS` = 64": uploads.MAX_FIELDS == 64,
        "`MAX_FIELD_BYTES` = 64 KiB": uploads.MAX_FIELD_BYTES == 64 * 1024,
        "2 MiB (`max_message_bytes`)": ServerConfig().max_message_bytes == 2 * 2**20,
        "100 MiB each (`max_upload_bytes`)": ServerConfig().max_upload_bytes == 100 * 2**20,
        "`limits.MAX_WAITING_BYTES` = 32 MiB": limits.MAX_WAITING_BYTES == 32 * 2**20,
    }
    assert {words: words in table and true for words, true in told.items()} == dict.fromkeys(told, True)
