"""What was pruned, in rows: which groups shrank from what to what, and what was left alone and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from infopt.sparsity import DENSE
from infopt.wording import MISSING, megabytes, percent, times

if TYPE_CHECKING:
    from infopt.model import Pruned
    from infopt.report import Report

NAMES = 3
"""Layers that are named of those that were left alone for one reason."""

Row = tuple[str, ...]


def shrunk(report: Report) -> tuple[Row, ...]:
    """Name, unit, before, after, part that is left, and remark of what shrank; what lost most is first."""
    found = [each for each in report.pruned if _left(each) < 1]
    return tuple(map(_row, sorted(found, key=_left)))


def left_alone(report: Report) -> tuple[Row, ...]:
    """Reason, number of layers, and the names of some, of what was left alone; the most frequent reason is first."""
    names: dict[str, list[str]] = defaultdict(list)
    for each in report.pruned:
        if _left(each) == 1 and each.remark:
            names[each.remark.removeprefix(DENSE)].append(each.name)
    ordered = sorted(names.items(), key=lambda item: -len(item[1]))
    return tuple((why, str(len(of)), _some(of)) for why, of in ordered)


def notes(report: Report) -> Iterator[str]:
    """Operations, parameters and zeros before and after, and how many groups that makes."""
    if not report.pruned:
        return
    yield from counts(report)
    zeros = [each for each in report.pruned if each.unit == "weights" and each.before]
    if zeros:
        before, after = (
            sum(n or 0 for n in found) for found in zip(*((e.before, e.after) for e in zeros), strict=True)
        )
        yield f"{percent(1 - after / before)} of the weights of {len(zeros)} layers are zero."
        return
    groups = [each for each in report.pruned if each.before is not None]
    count = sum(_left(each) < 1 for each in groups)
    yield f"{count} of {len(groups)} groups of channels, heads or neurons shrank; the others stay whole."


def counts(report: Report) -> Iterator[str]:
    """Operations and parameters before and after, as sentences."""
    result = report.result
    if result is None:
        return
    for what, before, after in (
        ("Operations of a sample", report.model.flops, result.flops),
        ("parameters", report.model.parameters, result.parameters),
    ):
        if before and after is not None:
            yield f"{what[0].upper()}{what[1:]}: {before:,} -> {after:,} ({percent(after / before)} left)."


def fewer(before: int | None, after: int | None) -> str:
    """How many times fewer of something are left, in short; empty where that is not known."""
    if not before or not after:
        return ""
    return f"{times(before / after)} fewer" if before >= after else f"{times(after / before)} more"


def compressed(report: Report) -> str:
    """The artifact as an archive holds it, where zeros make a difference there."""
    before, after = report.size.baseline_compressed_bytes, report.size.candidate_compressed_bytes
    if before is None or after is None:
        return ""
    return f"compressed {megabytes(before)} -> {megabytes(after)}"


def _left(each: Pruned) -> float:
    return 1.0 if not each.before or each.after is None else each.after / each.before


def _row(each: Pruned) -> Row:
    sizes = [MISSING if count is None else f"{count:,}" for count in (each.before, each.after)]
    return (each.name, each.unit, *sizes, percent(_left(each)), each.remark)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more
