"""A goal in latency as one in operations: trials that are compiled and measured on the target, by bisection."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infopt.bench import interleave, speedup
from infopt.errors import InputError
from infopt.model import Model
from infopt.passes import Context
from infopt.target import Artifact, CompileOptions
from infopt_passes.prune.ranking.plan import Goal, Ranked

if TYPE_CHECKING:
    from infopt.data import Feed

TRIALS = 6
"""Models that are built and measured at most: the share of operations is found to some hundredths."""

SECONDS = 2.0
"""Time of measuring one of them beside the float model."""


def share_for(order: Ranked, latency: float, context: Context) -> float:
    """The part of the operations to keep for a part of the latency.

    Args:
        order: The ranked float model.
        latency: Part of its latency in the target's default float setting that may be left.
        context: Brings target and samples.

    Raises:
        InputError: No trial was fast enough.
        RuntimeRefused: The target refuses a model.
    """
    feed = next(iter(context.need_calibration("prune").feeds()))
    base = _compiled(order.model, context)
    low, high, seen = 0.0, 1.0, dict[float, float]()
    for trial in range(TRIALS):
        share = latency if trial == 0 else (low + high) / 2
        seen[share] = _part(base, order.cut(order.allocation(Goal("flops", share))), feed, context)
        context.progress("measuring latency", trial + 1, TRIALS)
        low, high = (share, high) if seen[share] <= latency else (low, share)
    met = [share for share, part in seen.items() if part <= latency]
    if not met:
        least = min(seen.values())
        raise InputError(
            f"{order.model.path}: no more than {1 - least:.0%} of the latency could be saved on {base.target}",
            f"give --latency {least:.2f} or more; what is left does not depend on the channels that can go",
        )
    return max(*met, order.least)


def _compiled(model: Model, context: Context) -> Artifact:
    target = context.need_target("prune")
    folder = Path(tempfile.mkdtemp(dir=context.workdir))
    settings = next(iter(target.settings("float").values()))
    return target.compile(context.on_disk(model), folder, CompileOptions(settings))


def _part(base: Artifact, trial: Model, feed: Feed, context: Context) -> float:
    """Latency of a trial as a part of the float model's."""
    target = context.need_target("prune")
    with target.open(base) as one, target.open(_compiled(trial, context)) as other:
        runs = {"base": lambda: one.run(feed), "trial": lambda: other.run(feed)}
        seconds = interleave(runs, seconds=SECONDS, seed=context.seed)
    return float(1 / speedup(np.asarray(seconds["base"]), np.asarray(seconds["trial"]))[0])
