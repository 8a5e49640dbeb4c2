"""The wait of a batch for more turns, by a clock that stands still unless a test moves it."""

import queue
from types import SimpleNamespace

import pytest

from stream_erc.inference.emotion.batch_wait import BatchWait
from stream_erc.inference.work_queues import gather


def under_load(share, seconds=10.0, batch_s=0.002, most_s=0.004):
    """A wait after batches that took `share` of some seconds, and the time in the end."""
    wait, now = BatchWait(most_s), 0.0
    while now < seconds:
        wait.ran(now, now + batch_s)
        now += batch_s / share
    return wait, now


@pytest.mark.parametrize("share", [0.01, 0.2, 0.4])
def test_no_batch_waits_while_the_device_is_mostly_idle(share):
    wait, now = under_load(share)
    assert wait.wait_s(now) == 0.0


def test_the_wait_grows_with_load_up_to_its_bound():
    waits = [wait.wait_s(now) for wait, now in map(under_load, (0.6, 0.75, 0.9, 1.0))]
    assert waits == sorted(waits) and waits[0] > 0
    assert waits[-1] == pytest.approx(0.004, rel=0.01)
    assert waits[1] == pytest.approx(0.002, rel=0.1)


def test_after_a_rest_nobody_waits():
    wait, now = under_load(1.0)
    assert wait.wait_s(now + 0.1) > 0.002
    assert wait.wait_s(now + 0.6) == wait.wait_s(now + 60) == 0.0


def test_one_long_batch_is_load_and_a_bound_of_zero_never_waits():
    wait = BatchWait(0.004)
    wait.ran(5.0, 9.0)
    assert wait.wait_s(9.0) == pytest.approx(0.004)
    wait, now = under_load(1.0, most_s=0.0)
    assert wait.wait_s(now) == 0.0


def turn(time):
    """A turn that came at `time`; at `Arrivals.stop`, what ends a thread."""
    return SimpleNamespace(at=time, work=None if time == Arrivals.stop else "work")


class Arrivals:
    """A queue whose turns come at given times, with the clock that waiting for them moves."""

    def __init__(self, *times):
        self.times, self.now, self.returned = list(times), 0.0, []

    def clock(self):
        return self.now

    def get(self, timeout):
        if not self.times or self.times[0] > self.now + timeout:
            self.now += timeout
            raise queue.Empty
        self.now = max(self.now, self.times[0])
        return self.take()

    def get_nowait(self):
        if not self.times or self.times[0] > self.now:
            raise queue.Empty
        return self.take()

    def take(self):
        time = self.times.pop(0)
        return turn(time)

    def put(self, item):
        self.returned.append(item)

    stop = -1.0


@pytest.mark.parametrize(
    ("until", "most", "taken", "ended"),
    [
        (0.0, 8, ["first", 0.0, 0.0], 0.0),
        (0.004, 8, ["first", 0.0, 0.0, 0.003], 0.004),
        (0.004, 3, ["first", 0.0, 0.0], 0.0),
        (0.006, 8, ["first", 0.0, 0.0, 0.003, 0.005], 0.006),
        (0.006, 1, ["first"], 0.0),
    ],
)
def test_a_batch_takes_what_is_there_and_what_comes_in_time(until, most, taken, ended):
    arrivals = Arrivals(0.0, 0.0, 0.003, 0.005)
    batch = gather(turn("first"), arrivals, most, until, arrivals.clock)
    assert [one.at for one in batch] == taken
    assert arrivals.now == pytest.approx(ended)


def test_a_stop_ends_the_batch_and_is_found_again():
    arrivals = Arrivals(0.0, Arrivals.stop, 0.0)
    batch = gather(turn("first"), arrivals, 8, 1.0, arrivals.clock)
    assert [one.at for one in batch] == ["first", 0.0]
    assert [one.at for one in arrivals.returned] == [Arrivals.stop]
