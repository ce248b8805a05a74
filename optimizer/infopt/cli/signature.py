"""Builds a command's Typer signature from option dataclasses, so that a flag is declared once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from infopt.flags import Flag

MARKUP = re.compile(r"\[(?=[a-z#/@])")
"""What Rich takes for the beginning of a style, and swallows: that of ``infopt[torch]``."""


def command(
    arguments: Mapping[str, Any], flags: Mapping[str, Flag], extra: Mapping[str, Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a function that takes keywords the signature of a command.

    Args:
        arguments: Annotation of each positional argument.
        flags: Options that come from dataclasses; a flag that is not given arrives as ``None``.
        extra: Annotation of each option of the command line alone.

    Returns:
        A decorator; the function is called with all of them as keywords.
    """
    parameters = [_parameter(name, hint, inspect.Parameter.empty) for name, hint in arguments.items()]
    parameters += [_parameter(name, _annotation(flag), None) for name, flag in flags.items()]
    parameters += [_parameter(name, hint, _default(hint)) for name, hint in extra.items()]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def wrapper(**values: Any) -> None:
            function(**{name: _given(value) for name, value in values.items()})

        wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


def _parameter(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _default(hint: Any) -> Any:
    """Switches are off, what may be ``None`` is; any other option of the command line alone is required."""
    if type(None) in get_args(hint.__origin__):
        return None
    return False if hint.__origin__ is bool else inspect.Parameter.empty


def _given(value: Any) -> Any:
    """Typer gives an empty list for a repeatable option that is absent."""
    return None if value in ([], ()) else value


def _annotation(flag: Flag) -> Any:
    """Typer's annotation of an option; the value is converted and checked by :func:`infopt.options.build`."""
    field, opt = flag.field, flag.field.opt
    kind = str if opt.parse is not None else _kind(field.type)
    shown = None if field.default in (None, False, ()) else str(opt.show(field.default) if opt.show else field.default)
    option = typer.Option(*field.flags, help=_help(flag), metavar=opt.metavar, show_default=shown or False)
    return Annotated[kind | None, option]


def _kind(kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return list[str]
    if kind in (bool, int, float):
        return kind
    return str if kind is not Path else Path


def _help(flag: Flag) -> str:
    choices = getattr(flag.field.type, "__args__", ()) if str(flag.field.type).startswith("typing.Literal") else ()
    text = flag.field.opt.help + (f" One of: {', '.join(choices)}." if choices else "")
    return MARKUP.sub(r"\\[", text)
