"""What the user demands of an artifact, as declared on the command line or in ``budget.toml``.

Limits are absolute: ``max_drop = 0.005`` allows the metric to worsen by 0.005 in its own unit, whatever the
baseline is. :mod:`infopt.verdict` decides whether a report meets them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

from infopt.errors import OptionError
from infopt.options import Opt, build, parse_fraction, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

REMEDY = "write 0.5% or 0.005"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; one that is ``None`` is not asked for.

    Attributes:
        max_drop: Largest worsening of the metric, in the metric's unit.
        max_class_drop: Largest worsening within any class: a mean can hide a class that died.
        min_speedup: Smallest speedup over the runtime's best float setting.
        max_p99_ms: Largest 99th percentile of the latency, in milliseconds.
        max_bytes: Largest size of the artifact, in bytes.
        max_peak_bytes: Largest peak of the memory while the artifact runs, in bytes.
        min_integer_share: Smallest share of the compute layers that run as integers, 0 to 1.
        confidence: How surely a limit must be kept, or missed, for an answer: one-sided.
    """

    max_drop: Annotated[
        float | None,
        Opt("Largest loss of accuracy, absolute: 0.5% or 0.005.", metavar="DROP", low=0, parse=parse_fraction),
    ] = None
    max_class_drop: Annotated[
        float | None,
        Opt("Largest loss of accuracy in any class: 5% or 0.05.", low=0, parse=parse_fraction, cli=False),
    ] = None
    min_speedup: Annotated[
        float | None, Opt("Smallest speedup over the runtime's best float setting, such as 1.2.", low=0)
    ] = None
    max_p99_ms: Annotated[
        float | None, Opt("Largest 99th percentile of the latency, in milliseconds.", low=0, cli=False)
    ] = None
    max_bytes: Annotated[int | None, Opt("Largest size of the artifact, in bytes.", low=1, cli=False)] = None
    max_peak_bytes: Annotated[
        int | None, Opt("Largest peak of the memory while the artifact runs, in bytes.", low=1, cli=False)
    ] = None
    min_integer_share: Annotated[
        float | None,
        Opt(
            "Smallest share of compute layers that run as integers: 90% or 0.9.",
            low=0,
            high=1,
            parse=parse_fraction,
            cli=False,
        ),
    ] = None
    confidence: Annotated[
        float,
        Opt(
            "How surely a limit must be kept, or missed, for an answer: one-sided.",
            low=0.5,
            high=0.9999,
            parse=parse_fraction,
            cli=False,
        ),
    ] = 0.95

    @property
    def given(self) -> bool:
        """Whether any limit is set."""
        return any(getattr(self, item.name) is not None for item in fields(self) if item.name != "confidence")


def check_budget(budget: Budget, fraction: bool) -> None:
    """Refuse a drop that was surely meant as a percentage.

    Args:
        budget: What the user demands.
        fraction: Whether the metric lies between 0 and 1.

    Raises:
        OptionError: A limit on a drop is above 1 for a metric that cannot drop by more than 1.
    """
    for name, limit in (("max_drop", budget.max_drop), ("max_class_drop", budget.max_class_drop)):
        if fraction and limit is not None and limit > 1:
            raise OptionError(f"{name} = {limit:g} is above 1 for a metric between 0 and 1", REMEDY)


def fractional(scores: Iterable[float], higher_is_better: bool) -> bool:
    """Whether a metric that does not say so itself seems to lie between 0 and 1, judged by its scores."""
    return higher_is_better and all(0 <= score <= 1 for score in scores)


def load_budget(path: Path) -> Budget:
    """Read ``budget.toml``.

    Args:
        path: The file; its keys are the fields of :class:`Budget`.

    Returns:
        The budget, with at least one limit.

    Raises:
        OptionError: The file cannot be read or is not TOML, an unknown key (the nearest is named), a value that does
            not fit, or no limit at all.
    """
    budget = build(Budget, read_toml(path, "budget"), f"budget {path}")
    if not budget.given:
        raise OptionError(f"budget {path} sets no limit", "set max_drop, min_speedup, max_p99_ms, ...")
    return budget
