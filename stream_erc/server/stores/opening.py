"""Opening of the store that a command line names."""

from pathlib import Path

from stream_erc.exceptions import ConfigError, EngineUnavailable
from stream_erc.server.stores.base import SessionStore

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def open_store(spec: str) -> SessionStore:
    """Open the store that a command line names.

    Args:
        spec: ``memory``, ``sqlite:PATH`` or a URL that begins with ``redis://``, ``rediss://`` (TLS) or
            ``unix://`` (a socket's path).

    Raises:
        ConfigError: `spec` is none of these.
        EngineUnavailable: Redis is named, but redis-py is not installed.
        StoreError: the store cannot be used.
    """
    if spec == "memory":
        from stream_erc.server.stores.sqlite import MemoryStore

        return MemoryStore()
    if spec.startswith("sqlite:") and spec != "sqlite:":
        from stream_erc.server.stores.sqlite import SqliteStore

        return SqliteStore(Path(spec.removeprefix("sqlite:")).expanduser())
    if spec.startswith(REDIS_SCHEMES):
        try:
            from stream_erc.server.stores.redis import RedisStore
        except ModuleNotFoundError as error:
            raise EngineUnavailable(
                f"--store redis://: expected the package redis, got: {error}; pip install redis"
            ) from error
        return RedisStore(spec)
    raise ConfigError(f"--store: expected memory, sqlite:PATH or redis://HOST:PORT/NUMBER, got {spec!r}")
