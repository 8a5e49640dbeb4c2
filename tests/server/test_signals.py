"""The process: signals, also where asyncio handles none; open files; a stop before the start."""

import asyncio
import signal

import pytest
from fakes import CONFIG
from serving import FakeEngine

from stream_erc.config import Config, ServerConfig
from stream_erc.server import machine, signals
from stream_erc.server.server import Server
from stream_erc.server.stores.sqlite import MemoryStore


class LoopOfWindows:
    """An event loop that handles no signals."""

    def __init__(self):
        self.called = []

    def add_signal_handler(self, *arguments):
        raise NotImplementedError

    remove_signal_handler = add_signal_handler

    def call_soon_threadsafe(self, handler):
        self.called.append(handler)


@pytest.fixture
def handlers():
    before = {signum: signal.getsignal(signum) for signum in signals.SIGNALS}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", signals.SIGNALS)
def test_signals_reach_a_loop_that_handles_none(handlers, signum):
    loop, handler = LoopOfWindows(), object()
    signals.handle_signals(loop, handler, handler)
    signal.raise_signal(signum)
    assert loop.called == [handler]
    signals.restore_signals(loop)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_without_a_limit_all_files_may_be_opened(monkeypatch):
    monkeypatch.setattr(machine, "resource", None)
    assert machine.allow_open_files(10**6) == 10**6


def test_a_server_that_is_stopped_before_it_runs_ends_at_once():
    config = Config(session=CONFIG, server=ServerConfig(port=0))
    server = Server(config, {"hash": FakeEngine()}, MemoryStore())
    server.stop()
    urls = []
    asyncio.run(asyncio.wait_for(server.run(urls.append), 20))
    assert len(urls) == 1
