"""Engines that hash, as the actors of a Ray cluster load them."""

from serving import FakeEngine


def load() -> dict[str, FakeEngine]:
    return {"hash": FakeEngine()}


def identify() -> str:
    from importlib import metadata

    return f"stream-erc {metadata.version('stream-erc')}, hash"
