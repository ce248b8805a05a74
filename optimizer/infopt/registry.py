"""Finds passes and targets, infopt's own and third parties', through entry points; nothing is imported until used.

An entry point of the group ``infopt.passes`` or ``infopt.targets`` names a dict from a name to ``"module:attribute"``.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, cast

from infopt.errors import OptionError, TargetUnavailable, unknown

if TYPE_CHECKING:
    from infopt.cpu import Isa
    from infopt.passes import Pass
    from infopt.target import Target

Group = Literal["passes", "targets"]

OWN = "infopt.targets."
"""Where infopt's own targets are."""


def names(group: Group) -> dict[str, str]:
    """Names of a group, each with the place that it is loaded from; the first to claim a name has it."""
    found: dict[str, str] = {}
    for point in entry_points(group=f"infopt.{group}"):
        for name, place in point.load().items():
            found.setdefault(name, place)
    return found


def pass_class(name: str) -> type[Pass]:
    """The dataclass of a pass.

    Raises:
        OptionError: No such pass; the nearest name is given.
    """
    return cast("type[Pass]", _load("passes", name))


def target(name: str, isa: Isa | Literal["auto"] = "auto") -> Target:
    """A target by its name.

    Args:
        name: What ``--target`` takes.
        isa: Instruction set of the machine that will run it; ``"auto"`` is this machine's.

    Raises:
        OptionError: No such target (the nearest name is given), it has no table for the instruction set, or its table
            contradicts itself.
    """
    from infopt.cpu import machine_isa
    from infopt.target import ByIsa

    found = cast("Target", _load("targets", name)())
    if not names("targets")[name].startswith(OWN):  # tests keep infopt's own in order, and users need not wait for it
        _check(name, found)
    if isinstance(found, ByIsa):
        return found.for_isa(isa)
    if isa not in ("auto", machine_isa()):  # a recipe names the machine's for every target
        raise OptionError(f"target {name!r} has no tables by instruction set", "leave --isa out")
    return found


def require(chosen: Target) -> None:
    """Stop when a target cannot be used here.

    Raises:
        TargetUnavailable: With the target's own reason.
    """
    reason = chosen.available()
    if reason:
        raise TargetUnavailable(f"target {chosen.name!r} is not available: {reason}")


def _check(name: str, loaded: Target) -> None:
    from infopt.precisions import plans
    from infopt.table_check import check_table
    from infopt.target import Table

    table = getattr(loaded, "table", None)
    if not isinstance(table, Table):
        raise OptionError(f"target {name!r} has no table but {type(table).__name__}", "give it an infopt.target.Table")
    check_table(name, table)
    for plan in plans(loaded).values():
        if isinstance(plan, Table):
            check_table(name, plan)


def _load(group: Group, name: str) -> Any:
    known = names(group)
    if name not in known:
        raise unknown({"passes": "pass", "targets": "target"}[group], name, known)
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
