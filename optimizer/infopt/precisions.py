"""Precisions: what a target can run besides static INT8, and what it says of the others.

A target tells per precision the table to quantize by, or why it cannot run it. One that tells nothing runs static
INT8 by its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from infopt.errors import OptionError

if TYPE_CHECKING:
    from infopt.target import Table, Target

Precision = Literal["int8", "int8-weights", "int4-weights", "dynamic-int8", "int16-activations", "fp8"]
"""What is quantized to what: weights and activations alike, with ranges from calibration (int8, fp8) or of each run
(dynamic-int8), weights alone (int8-weights, int4-weights), or activations to 16 bits beside 8-bit weights."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

UNCALIBRATED: frozenset[Precision] = frozenset({"int8-weights", "int4-weights", "dynamic-int8"})
"""Precisions that take no calibration samples, whatever the target."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a target cannot run a precision.

    Attributes:
        why: The reason, as a clause: ``"it has no integer kernels for 16 bits"``.
        nearest: What it runs that comes closest.
    """

    why: str
    nearest: Precision


Plans = Mapping[Precision, "Table | Refusal"]


@runtime_checkable
class ByPrecision(Protocol):
    """What a target has besides, if it runs other precisions than static INT8.

    Attributes:
        precisions: The table for each precision that it runs, and why it does not run others. The table of ``"int8"``
            is the target's own.
    """

    @property
    def precisions(self) -> Plans:
        """See above."""
        ...


def plans(target: Target) -> dict[Precision, Table | Refusal]:
    """What a target says of every precision, in the order of :data:`PRECISIONS`."""
    known: Plans = target.precisions if isinstance(target, ByPrecision) else {}
    silent = Refusal(f"target {target.name!r} brings no table for it", "int8")
    return {each: target.table if each == "int8" else known.get(each, silent) for each in PRECISIONS}


def table_for(target: Target, precision: Precision) -> Table:
    """The table to quantize by.

    Raises:
        OptionError: The target cannot run the precision; the reason and the nearest one that it runs are given.
    """
    plan = plans(target)[precision]
    if isinstance(plan, Refusal):
        raise OptionError(
            f"{target.runtime} cannot run precision {precision!r}: {plan.why}",
            f"the nearest that it runs is --precision {plan.nearest}",
        )
    return plan
