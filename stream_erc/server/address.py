"""The address that a server listens at."""

import asyncio

from stream_erc.exceptions import InputError


def check_address(host: str, port: int) -> None:
    """Check that a server could listen at an address.

    Raises:
        InputError: it could not.
    """

    async def bind() -> None:
        create = asyncio.get_running_loop().create_server
        (await create(asyncio.Protocol, host, port, start_serving=False)).close()

    try:
        asyncio.run(bind())
    except OSError as error:
        raise unusable(host, port, error) from error


def unusable(host: str, port: int, error: OSError) -> InputError:
    """Return the error for an address that a server cannot listen at."""
    reason = (error.strerror or str(error)).rpartition(": ")[2]
    return InputError(
        f"expected an address to listen at, got {host}:{port}: {reason}; choose another with --port or --host"
    )


def in_url(host: str) -> str:
    """Return the host as it is written in a URL that a person can open."""
    if host in ("0.0.0.0", "::", ""):
        return "localhost"
    return f"[{host}]" if ":" in host else host
