"""Token buckets: never more than the burst, and no token lost or given twice."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_erc.server.limits import MAX_BACKLOG_MS, Account, Bucket, Budget

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
