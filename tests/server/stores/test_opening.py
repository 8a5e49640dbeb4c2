"""The store that a command line names."""

import sys
from pathlib import Path

import pytest

from stream_erc.exceptions import ConfigError, EngineUnavailable
from stream_erc.server.stores.opening import open_store
from stream_erc.server.stores.sqlite import MemoryStore, SqliteStore


def test_a_name_opens_its_store(tmp_path: Path) -> None:
    for name, kind in (("memory", MemoryStore), (f"sqlite:{tmp_path / 'sessions'}", SqliteStore)):
        store = open_store(name)
        assert type(store) is kind
        store.close()


@pytest.mark.parametrize("name", ["", "sqlite:", "postgres://here", "Memory"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected memory, sqlite:PATH or redis://"):
        open_store(name)


def test_redis_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "stream_erc.server.stores.redis", raising=False)
    with pytest.raises(EngineUnavailable, match="expected the package redis"):
        open_store("redis://127.0.0.1")
