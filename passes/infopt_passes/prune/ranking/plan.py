"""Which units go for a goal: ranked once, for any number of allocations and trial cuts.

This is what a search calls. Ranking looks at all samples and takes seconds; an allocation of it takes milliseconds::

    order = ranked(model, context)
    for share in (0.8, 0.6, 0.4):
        found = order.allocation(Goal("flops", share))
        small = order.cut(found)            # without recovery: for its latency and size
        print(found.share("params"), [int(kept.sum()) for kept in found.kept])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.model import Model
from infopt.passes import Context
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.ranking.allocate import Allocation
from infopt_passes.prune.ranking.cost import Costs
from infopt_passes.prune.ranking.importance import importances
from infopt_passes.prune.ranking.multiples import Multiple

MULTIPLE = 16
"""Channel counts that most kernels run well, where no target says more."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached.

    Attributes:
        kind: ``"flops"`` or ``"params"``.
        share: What may be left of it.
        asked: Whether the user asked for just that, rather than for nothing in particular.
    """

    kind: Literal["flops", "params"]
    share: float
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Ranked:
    """A model whose units are ranked.

    Attributes:
        model: The float model.
        work: What can be pruned of it; it is never cut itself.
        scores: Importance of each unit of each group, comparable between groups.
        costs: Counts operations and parameters.
        multiple: What channel counts are brought to multiples of.
    """

    model: Model
    work: Work
    scores: Sequence[npt.NDArray[Any]]
    costs: Costs
    multiple: Multiple

    def allocation(self, goal: Goal) -> Allocation:
        """Which units stay for a goal: of each group as many as its importance and its costs say.

        Args:
            goal: What is to be reached. Where it cannot be without emptying a layer, as much goes as can: look at
                :meth:`Allocation.share`.
        """
        found = Allocation(self.work.groups, self.scores, self.costs, goal.kind, self.multiple, list(self.work.kept))
        found.reach(goal.share)
        return found

    @property
    def least(self) -> float:
        """The smallest part of the operations that can be kept without emptying a layer."""
        return self.allocation(Goal("flops", 0.0)).share()

    def cut(self, allocation: Allocation) -> Model:
        """The model without the units that are gone, as it is before any recovery."""
        work = Work.of(self.model.graph)
        work.kept = allocation.kept
        return self.model.edited(work.cut())


def ranked(model: Model, context: Context, importance: str = "activations", multiple: int = 0) -> Ranked:
    """Rank the units of a model.

    Args:
        model: A float model; it is left as it was.
        context: Brings samples, target and memory.
        importance: ``"activations"``, which looks at the samples, or ``"magnitude"``.
        multiple: What channel counts are brought to multiples of; 0 is what the target runs fast, with
            halves of it in narrow groups.

    Returns:
        The ranked model; it has no groups where nothing can be pruned, and says why in ``work.found.kept``.

    Raises:
        InputError: There are no samples, and the importance needs them.
    """
    work = Work.of(model.graph)
    step = multiple_of(multiple, context)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite counts as most important
        scores = importances(work, importance, context, step.half) if work.groups else ()
    return Ranked(model, work, scores, costs_of(work.graph, context), step)


def multiple_of(asked: int, context: Context) -> Multiple:
    """What channel counts are brought to multiples of."""
    table = context.target.table if context.target is not None else None
    if asked:
        return Multiple.of(asked)
    return Multiple.of(table.multiple if table is not None else MULTIPLE, asked=False)


def costs_of(graph: ir.Model, context: Context) -> Costs:
    """Costs of a graph for inputs as the first calibration sample has them."""
    if context.calibration is None or not len(context.calibration):
        shapes = {spec.name: [d if isinstance(d, int) else 1 for d in spec.shape] for spec in context.inputs}
        return Costs.of(graph, shapes)
    feed = next(iter(context.calibration.feeds()))
    return Costs.of(graph, {name: array.shape for name, array in feed.items()})
