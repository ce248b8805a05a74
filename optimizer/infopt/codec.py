"""Frozen records to JSON and back: a dataclass's type hints say how JSON holds it."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from infopt.errors import InputError
from infopt.model import Step

JSON_NAMES: Mapping[type, Mapping[str, str]] = {Step: {"name": "pass"}}
"""Fields whose key in JSON is not their name; ``pass`` cannot be a name in Python."""


_LARGEST = 10**300
"""Whole numbers beyond count nothing, and where they are used no float holds them."""


def encode(value: Any) -> Any:
    """Dataclasses, mappings, sequences, paths and numpy scalars as JSON values.

    Numbers that are not finite become ``None``: JSON has no name for them.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = JSON_NAMES.get(type(value), {})
        return {names.get(f.name, f.name): encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, Path):
        return value.as_posix()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode(hint: Any, value: Any, where: str) -> Any:
    """The inverse of :func:`encode`, checked against a type hint.

    Args:
        hint: What is wanted: a dataclass, ``tuple``, ``dict[str, ...]``, ``Literal``, ``X | None``, ``Any``
        or
            a scalar type. A null where a float is wanted reads as NaN: :func:`encode` made a null of it.
        value: What JSON holds.
        where: Its place in the document, for the message.

    Raises:
        InputError: Something is missing or of another type; unknown keys are ignored.
    """
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(hint), value, where)
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, _expect(dict, value, where), where)
    if origin is tuple:
        return _decode_tuple(get_args(hint), _expect(list, value, where), where)
    if origin is list:
        return list(_decode_tuple((*get_args(hint), ...), _expect(list, value, where), where))
    if origin in (dict, Mapping):
        of = get_args(hint)[1]
        return {key: decode(of, item, _join(where, key)) for key, item in _expect(dict, value, where).items()}
    return _decode_scalar(hint, value, where)


def _decode_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    for kind in rest[:-1]:
        try:
            return decode(kind, value, where)
        except InputError:
            continue
    return decode(rest[-1], value, where)


def _decode_record(cls: Any, value: dict[str, Any], where: str) -> Any:
    names, given = JSON_NAMES.get(cls, {}), {}
    for item in dataclasses.fields(cls):
        key = names.get(item.name, item.name)
        if key in value:
            given[item.name] = decode(_hints(cls)[item.name], value[key], _join(where, key))
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise InputError(f"{_join(where, key)!r} is missing")
    return cls(**given)


def _decode_tuple(kinds: tuple[Any, ...], value: list[Any], where: str) -> tuple[Any, ...]:
    if len(kinds) == 2 and kinds[1] is ...:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise InputError(f"{where!r} has {len(value)} entries, {len(kinds)} are wanted")
    return tuple(decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _decode_scalar(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise InputError(f"{where!r} is {_short(value)}, one of {', '.join(map(str, get_args(hint)))} is wanted")
        return value
    if hint is float and value is None:
        return math.nan
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < _LARGEST else math.inf
    if hint is int and isinstance(value, int) and abs(value) > _LARGEST:
        raise InputError(f"{where!r} is {_short(value)}, which no count reaches")
    if hint is Path:
        return Path(_expect(str, value, where))
    return _expect(hint, value, where)


def _expect(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where!r} is {_short(value)}, {kind.__name__} is wanted")
    return value


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)
