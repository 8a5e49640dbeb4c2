"""Parsing of messages into the dataclasses of `events`, by their declared fields."""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from stream_erc_client.errors import ProtocolError
from stream_erc_client.events import Message, Unknown

T = TypeVar("T")

MESSAGES: dict[str, type[Message]] = {message.type: message for message in get_args(Message)}


def parse(text: str | bytes) -> Message | Unknown:
    """Parse a message of the server, or a line of an event file.

    Raises:
        ProtocolError: not a JSON object with a type, or a field that is missing or of another type.
    """
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"expected a message in JSON, got {error}: {text[:100]!r}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError(f"expected a JSON object with a type, got {text[:100]!r}")
    kind = message.pop("type")
    if kind not in MESSAGES:
        return Unknown(kind, message)
    return _build(MESSAGES[kind], message, kind)


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """Build a dataclass from the values that it has a field for."""
    known: dict[str, Any] = {}
    hints = _hints(cls)  # type: ignore[arg-type]  # mypy doubts that a type has a hash
    for field in fields(cls):  # type: ignore[arg-type]
        if field.name in values:
            known[field.name] = _convert(values[field.name], hints[field.name], f"{where}.{field.name}")
        elif field.default is MISSING:
            raise ProtocolError(f"{where}: expected the field {field.name}, got none")
    return cls(**known)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Convert a JSON value to a field's declared type."""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in get_args(hint) if option is not type(None))
    if is_dataclass(hint) and isinstance(value, dict):
        return _build(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_convert(item, get_args(hint)[0], where) for item in value)
    if get_origin(hint) is dict and isinstance(value, dict):
        return {name: _convert(item, get_args(hint)[1], where) for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ProtocolError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r:.60}")
