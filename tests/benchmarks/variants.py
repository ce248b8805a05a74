"""Variants of a pass that are compared, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from infopt.options import fields

Options = Mapping[str, Any]


def label(options: Options) -> str:
    """A variant in words."""
    return ", ".join(f"{name}={value}" for name, value in options.items())


def absent(kind: type, options: Options) -> str | None:
    """Why a pass cannot be given these options, or ``None``: it lacks one of them or its value."""
    known = {field.name: field.type for field in fields(kind)}
    for name, value in options.items():
        if name not in known:
            return f"the pass has no option {name!r}"
        if get_origin(known[name]) is Literal and value not in get_args(known[name]):
            return f"{name} has no value {value!r}"
    return None
