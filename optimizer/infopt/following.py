"""Whether the latency of a pruned model followed its operations, and what is the likely reason where it did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.wording import digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infopt.bench import Latency
    from infopt.model import Pruned

NOTABLE = 0.95
"""A model with less than this part of its operations left is one that was pruned."""

SHORT_MS = 0.5
"""A call that takes less is mostly spent on calling: launching operators and threads."""


def unfollowed(
    before: int | None, after: int | None, latency: Latency, pruned: Sequence[Pruned] = (), multiple: int = 1
) -> list[str]:
    """A warning where a model lost operations and its latency did not lose at least half as large a part.

    Args:
        before: Operations of one sample.
        after: Those that are left.
        latency: As it was measured on the target.
        pruned: What pruning left.
        multiple: Channel counts that the target runs well are multiples of it, or of its half in narrow groups.
    """
    if not before or after is None or latency.speedup is None or after >= NOTABLE * before:
        return []
    fewer, shorter = 1 - after / before, 1 - 1 / latency.speedup
    if shorter >= fewer / 2:
        return []
    took = f"{shorter:.0%} less time" if shorter >= 0 else f"{-shorter:.0%} more time"
    told = f"latency did not follow: {fewer:.0%} fewer operations, {took}{_medians(latency)}"
    return [f"{told}; {_why(latency, pruned, multiple)}"]


def _medians(latency: Latency) -> str:
    base, own = latency.baseline_float, latency.candidate
    if base is None or own is None or base.ms is None or own.ms is None:
        return ""
    return f" ({digits(base.ms.p50)} ms before, {digits(own.ms.p50)} ms after)"


def _why(latency: Latency, pruned: Sequence[Pruned], multiple: int) -> str:
    counts = [each for each in pruned if each.unit == "channels" and each.after is not None]
    half = max(1, multiple // 2)
    uneven = [each for each in counts if each.after != each.before and (each.after or 0) % half]
    if uneven:
        told = f"{len(uneven)} groups have channel counts that are no multiples of {half}"
        return f"likely because {told}, such as {uneven[0].after} of {uneven[0].name}: leave out --multiple"
    base = latency.baseline_float
    if base is not None and base.ms is not None and base.ms.p50 < SHORT_MS:
        what = f"a call of {digits(base.ms.p50)} ms is mostly spent on starting operators, whatever their size"
        return f"likely because {what}: a larger batch shows the gain"
    what = "the time goes to moving data and to layers that were left alone, not to the operations that went"
    return f"likely because {what}: --latency as the goal measures, and cuts where it pays"
