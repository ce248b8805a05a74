"""Which options mean something for a way to quantize; others are refused rather than ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.errors import OptionError

if TYPE_CHECKING:
    from infopt.target import Table
    from infopt_passes.quantize import Quantize

LEFT_TO_METHOD = ("ranges", "equalize", "weight_ranges", "rounding", "bias_correction", "reconstruct")
"""The options whose default is ``auto``."""

USED = {
    "calibrated": frozenset(LEFT_TO_METHOD),
    "runtime": frozenset[str](),
    "float": frozenset({"rounding"}),
}
"""Those that are used, by what :attr:`infopt.target.Table.data` says."""

USED_WITHOUT_INTEGERS = frozenset({"ranges"})
"""Those that are used where activations are quantized to floats: the others reckon with even steps."""


def in_integers(table: Table) -> bool:
    """Whether activations are quantized to integers, if they are quantized."""
    return table.data != "calibrated" or "int" in table.activation.dtype


def check_used(options: Quantize, table: Table) -> None:
    """Refuse what was asked for and would not be done.

    Raises:
        OptionError: An option other than ``auto`` that the precision has no use for.
    """
    used = USED[table.data] if in_integers(table) else USED_WITHOUT_INTEGERS
    for name in LEFT_TO_METHOD:
        if name not in used and getattr(options, name) != "auto":
            flag = "--" + name.replace("_", "-")
            raise OptionError(f"{flag} has no use with precision {options.precision!r}", f"leave {flag} out")
