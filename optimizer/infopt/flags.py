"""Flags of the verbs: which option of which part of a recipe each stands for.

The command line and the Python functions share these names: ``--no-eval`` and ``no_eval=True`` are the same option.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infopt.errors import unknown
from infopt.options import Field, fields
from infopt.recipe import SECTIONS, Job
from infopt.registry import pass_class


@dataclass(frozen=True, slots=True)
class Flag:
    """An option as a verb offers it.

    Attributes:
        name: Python keyword; the flag is this with hyphens.
        section: Section of the recipe, ``""`` for its top, ``"pass NAME"`` for the options of a pass.
        field: The option.
    """

    name: str
    section: str
    field: Field


def recipe_flags(passes: Iterable[str] = ()) -> dict[str, Flag]:
    """The flags of a verb that runs a recipe.

    Args:
        passes: Passes whose options the verb offers.

    Returns:
        Flag by name.
    """
    found = _flags("", Job) | section_flags(SECTIONS)
    for name in passes:
        found |= _flags(f"pass {name}", pass_class(name))
    return found


def section_flags(sections: Iterable[str]) -> dict[str, Flag]:
    """The flags of some sections of a recipe, by name."""
    return {name: flag for section in sections for name, flag in _flags(section, SECTIONS[section]).items()}


def option_flags(cls: type) -> dict[str, Flag]:
    """The flags of a verb that takes the options of one dataclass and runs no recipe, by name."""
    return _flags("", cls)


def to_recipe_table(flags: Mapping[str, Flag], values: Mapping[str, Any], passes: Iterable[str] = ()) -> dict[str, Any]:
    """The recipe mapping of a verb's options.

    Args:
        flags: What the verb offers.
        values: What the user gave, by flag name; ``None`` means not given.
        passes: The passes that the verb runs, in order.

    Returns:
        A mapping for :func:`infopt.recipe.parse`.

    Raises:
        OptionError: A name that the verb does not offer.
    """
    listed: dict[str, dict[str, Any]] = {name: {"use": name} for name in passes}
    table: dict[str, Any] = {}
    for name, value in values.items():
        if name not in flags:
            raise unknown("option", name, flags)
        if value is None:
            continue
        flag = flags[name]
        if not flag.section:
            table[flag.field.name] = value
        elif flag.section.startswith("pass "):
            listed[flag.section.removeprefix("pass ")][flag.field.name] = value
        else:
            table.setdefault(flag.section, {})[flag.field.name] = value
    return {**table, "pass": list(listed.values())} if listed else table


def _flags(section: str, cls: type) -> dict[str, Flag]:
    found = {}
    for field in fields(cls):
        if field.opt.cli:
            name = max(field.flags, key=len).removeprefix("--").replace("-", "_")
            found[name] = Flag(name, section, field)
    return found
