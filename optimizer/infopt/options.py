"""Options declared once: an annotated field of a frozen dataclass.

The recipe key, the command-line flag with its help, the report row and the cache key of an option all come from
its field. A field looks like this::

    samples: Annotated[int, Opt("Calibration samples to use.", low=1)] = 300

Supported types: ``bool``, ``int``, ``float``, ``str``, ``Path``, ``Literal[...]``, ``tuple[str, ...]`` and each of
these ``| None``. Anything else needs ``Opt.parse``, which turns what a user writes (a string on the command line,
a TOML value in a recipe) into the field's value, and ``Opt.show``, its inverse.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from infopt.errors import OptionError, unknown

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opt:
    """What an option's field says beyond its type and default.

    Attributes:
        help: One sentence for ``--help`` and the documentation.
        flags: Command-line spellings; empty means ``--field-name``.
        metavar: Placeholder in the help, such as ``PATH``.
        low: Smallest number allowed.
        high: Largest number allowed.
        parse: Turns what the user wrote into the value; raises ``ValueError`` with the reason.
        show: Turns the value into what a recipe holds; the inverse of ``parse``.
        cli: False keeps the field out of the command line (recipe and Python only).
    """

    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    low: float | None = None
    high: float | None = None
    parse: Callable[[Any], Any] | None = None
    show: Callable[[Any], Any] | None = None
    cli: bool = True


@dataclass(frozen=True, slots=True)
class Field:
    """One option as read from its dataclass.

    Attributes:
        name: Field name, which is also the recipe key.
        type: The type without ``None`` and without the annotation.
        optional: Whether ``None`` is a value.
        default: Default value, or ``dataclasses.MISSING``.
        opt: The annotation.
    """

    name: str
    type: Any
    optional: bool
    default: Any
    opt: Opt

    @property
    def flags(self) -> tuple[str, ...]:
        """Command-line spellings of the option."""
        return self.opt.flags or (f"--{self.name.replace('_', '-')}",)


def fields(cls: type) -> Iterator[Field]:
    """The options of a dataclass, in declaration order; fields without an ``Opt`` are not options."""
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        opt = next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Opt)), None)
        if opt is not None:
            kind, optional = _without_none(get_args(hint)[0])
            yield Field(field.name, kind, optional, _default(field), opt)


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make an options dataclass from what a user wrote.

    Args:
        cls: A frozen dataclass whose fields are options.
        values: Field name to value, as TOML or the command line gives them.
        where: How to name the place in an error: ``"[calibration]"``, ``"pass 'quantize'"``.

    Returns:
        An instance with every given value converted and checked.

    Raises:
        OptionError: A key that does not exist (with the nearest that does), a value that does not fit, or a
            required key that is absent.
    """
    known = {field.name: field for field in fields(cls)}
    for key in values:
        if key not in known:
            raise unknown(f"key in {where}:", key, known)
    for field in known.values():
        if field.default is dataclasses.MISSING and field.name not in values:
            raise OptionError(f"{where} lacks {field.name!r}", field.opt.help)
    return cls(**{key: coerce(known[key], value, where) for key, value in values.items()})


def coerce(field: Field, value: Any, where: str) -> Any:
    """Convert one value to its field's type and check its limits.

    Raises:
        OptionError: The value does not fit; the message names the option, the value and what fits.
    """
    if value is None and field.optional:
        return None
    try:
        result = field.opt.parse(value) if field.opt.parse else _convert(field.type, value)
    except (ValueError, TypeError, OverflowError) as error:
        raise OptionError(f"{where}: {field.name} = {value!r} does not fit: {error}", field.opt.help) from None
    low, high = field.opt.low, field.opt.high
    if isinstance(result, (int, float)) and not isinstance(result, bool):
        finite = isinstance(result, int) or math.isfinite(result)
        if not finite or (low is not None and result < low) or (high is not None and result > high):
            span = f"{'-inf' if low is None else low} to {'inf' if high is None else high}"
            raise OptionError(f"{where}: {field.name} = {value!r} is outside {span}", field.opt.help)
    return result


def plain(options: object) -> dict[str, Any]:
    """An options dataclass as TOML and JSON hold it; options that are ``None`` are left out.

    ``build(type(options), plain(options), ...)`` gives an equal object back.
    """
    values = ((field, getattr(options, field.name)) for field in fields(type(options)))
    return {field.name: _show(field, value) for field, value in values if value is not None}


def _show(field: Field, value: Any) -> Any:
    if field.opt.show is not None:
        return field.opt.show(value)
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in get_args(hint) if arg is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return hint, False


def _convert(kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError("choose " + ", ".join(map(str, get_args(kind))))
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise ValueError("a list of strings is wanted")
        return tuple(value)
    if kind is Path:
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{kind.__name__} is wanted")
    return value


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The contents of a TOML file that a user wrote.

    Args:
        path: The file.
        what: What it is, for the message: ``"recipe"``.

    Raises:
        OptionError: It cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"cannot read {what} {path}: {error.strerror or error}", "give a TOML file") from error
    except ValueError as error:  # TOML syntax, UTF-8, an integer of thousands of digits
        raise OptionError(f"{what} {path} is not TOML: {error}", "mend the file") from error


def parse_fraction(value: Any) -> float:
    """A fraction written as ``0.005``, ``"0.005"`` or ``"0.5%"``.

    Raises:
        ValueError: Not a number.
    """
    if isinstance(value, bool):
        raise ValueError("a number such as 0.005, or a percentage such as 0.5%, is wanted")
    if isinstance(value, (int, float)):
        return float(value)
    text = str(value).strip()
    number = float(text.removesuffix("%"))
    return number / 100 if text.endswith("%") else number


def parse_size(value: Any) -> int:
    """A number of bytes written as ``512MB``, ``"1.5 GB"``, ``"2GiB"`` or ``1000000``.

    Raises:
        ValueError: Not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kmgt]?)(i?)b?\s*", str(value), re.IGNORECASE)
    if found is None:
        raise ValueError("a size such as 512MB or 2GB is wanted")
    number, prefix, binary = found.groups()
    if binary and not prefix:
        raise ValueError("a size such as 512MB or 2GB is wanted")
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " "))


def show_size(size: int) -> str:
    """A number of bytes as :func:`parse_size` reads it, in the largest unit that divides it."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size and size % 1000**power == 0:
            return f"{size // 1000**power}{unit}"
    return f"{size}B"


def split_function(spec: str) -> tuple[str, str]:
    """``FILE.py:function`` as file and function; anything else is a file (or a name) and ``""``."""
    file, _, function = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    return file, function


def parsed(parse: Callable[[str], T], text: str, flag: str) -> T:
    """Read what a user wrote behind a flag that takes structured text.

    Raises:
        OptionError: The text does not fit.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise OptionError(f"{flag} {text}: {error}", f"see {flag} in --help") from None
