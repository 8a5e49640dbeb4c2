"""The models that the API names."""

from collections.abc import Mapping
from http import HTTPStatus

from stream_erc.inference.engine import Engine
from stream_erc.protocol.encoding import Message
from stream_erc.server.http.errors import ApiError

ALIAS = "whisper-1"
"""OpenAI's name, under which clients ask for whatever a server has: the default model."""


def choose_model(engines: Mapping[str, Engine], name: str) -> str:
    """Return the name of a model that is served.

    Raises:
        ApiError: there is no such model.
    """
    if name == ALIAS and name not in engines:
        return next(iter(engines))
    if name not in engines:
        known = ", ".join([*engines, ALIAS])
        message = f"model: expected one of {known}, got {name[:100]!r}"
        raise ApiError(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")
    return name


def model_list(engines: Mapping[str, Engine], since: int) -> Message:
    """Return the list of all models; the first is the default."""
    return {"object": "list", "data": [model_info(engines, name, since) for name in engines]}


def model_info(engines: Mapping[str, Engine], name: str, since: int) -> Message:
    """Return what is told of a model.

    Args:
        engines: model name -> engine.
        name: its name.
        since: when the server began to serve it, in seconds since the epoch.

    Raises:
        ApiError: there is no such model.
    """
    name = choose_model(engines, name)
    labels = list(engines[name].classifier.labels)
    return {"id": name, "object": "model", "created": since, "owned_by": "stream-erc", "labels": labels}
