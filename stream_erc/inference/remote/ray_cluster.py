"""The connection of this process to a Ray cluster.

Ray's token authentication is asked for unless ``RAY_AUTH_MODE`` says otherwise: whoever may talk to a cluster
may run code on it. Nothing is reported to Ray's makers, and no dashboard is started.
"""

import logging
import os
import socket
import sys

from stream_erc.exceptions import ConfigError, EngineUnavailable

NAMESPACE = "stream-erc"
LOCAL = "local"
OBJECT_STORE_BYTES = 100_000_000
"""The object store of a cluster that is started here. Work travels inside calls, so it stays nearly empty."""

TOKENS = "the cluster's token in RAY_AUTH_TOKEN, in the file of RAY_AUTH_TOKEN_PATH or in ~/.ray/auth_token"
REACH_S = 5.0
"""Time limit for the first answer at the address: Ray itself tries for more than a minute."""


def connect(address: str) -> None:
    """Connect this process to a cluster, as its driver. A second call does nothing.

    Args:
        address: HOST:PORT of the cluster's head, ``auto`` for the one that runs on this machine, or ``local``
            to start one in this process. Ray wants a node of the cluster on this machine.

    Raises:
        ConfigError: there is no cluster at the address, the token is missing or wrong, or the cluster runs
            another version of Ray or Python.
        EngineUnavailable: Ray is not installed.
    """
    if "://" in address or not address:
        raise ConfigError(f"--ray: expected HOST:PORT, auto or local, got {address!r}")
    imported = "ray" in sys.modules
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise EngineUnavailable('--ray: expected Ray, got none: pip install "stream-erc[ray]"') from error
    if ray.is_initialized():
        return
    if imported:
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")  # it read the mode when it was imported
    started_here = {"object_store_memory": OBJECT_STORE_BYTES} if address == LOCAL else {}
    try:
        if address not in (LOCAL, "auto"):
            _reach(address)
        ray.init(
            address,
            namespace=NAMESPACE,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **started_here,  # type: ignore[arg-type]
        )
    except ConfigError:
        raise
    except Exception as error:  # Ray raises errors of many kinds, and plain ones
        raise ConfigError(f"--ray {address}: {_explain(error)}") from error


def disconnect() -> None:
    """End the connection, and a cluster that `connect` started."""
    import ray

    ray.shutdown()


def _reach(address: str) -> None:
    """Refuse an address at which nothing listens, or a cluster that does not take our token.

    `ray.init` tries for more than a minute where nothing listens, and for 20 s where the token is wrong,
    without telling the reason.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--ray: expected HOST:PORT, auto or local, got {address!r}")
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray {address}: expected a Ray cluster, got {error}") from error
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    ensure_token_if_auth_enabled(create_token_if_missing=False)
    GcsClient(address=address)


def _explain(error: Exception) -> str:
    """Say what is wrong, in our words."""
    from ray.exceptions import AuthenticationError

    text = str(error)
    if isinstance(error, AuthenticationError) or "authentication" in text.lower():
        if "no authentication token" in text or "not found" in text:
            return f"expected {TOKENS}, got none"
        mode = os.environ["RAY_AUTH_MODE"]
        return f"expected {TOKENS}, got {'another one' if mode == 'token' else f'RAY_AUTH_MODE={mode}'}"
    if "Version mismatch" in text:
        told = " ".join(text.split()).removeprefix("Version mismatch: ")
        return f"expected a cluster with the same Ray and Python, got: {told}"
    if isinstance(error, ConnectionError):
        mode = os.environ["RAY_AUTH_MODE"]
        return (
            "expected a Ray cluster that takes this process, got none: does it run, with a node on this "
            f"machine, and does it agree about the token (RAY_AUTH_MODE is {mode})?"
        )
    return f"expected a Ray cluster, got {' '.join(text.split()) or type(error).__name__}"
