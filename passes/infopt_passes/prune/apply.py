"""The prune pass at work: what goes, in how many steps, and what is told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infopt.errors import InputError
from infopt.model import Model, Note
from infopt.passes import Context
from infopt_passes.prune.allocate import Allocation
from infopt_passes.prune.cost import Costs
from infopt_passes.prune.distill import check_model, cut
from infopt_passes.prune.importance import importances
from infopt_passes.prune.recover import FEWEST, Recovered, recover
from infopt_passes.prune.work import Work

if TYPE_CHECKING:
    from infopt_passes.prune import Prune

MULTIPLE = 8
"""Channel counts that most kernels run well, where no target says more."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached.

    Attributes:
        kind: ``"flops"`` or ``"params"``.
        share: What may be left of it.
        asked: Whether the user asked for just that, rather than for nothing in particular.
    """

    kind: str
    share: float
    asked: bool = True


def pruned(model: Model, options: Prune, context: Context) -> Model:
    """Prune a model; see :class:`infopt_passes.prune.Prune`."""
    from infopt_passes.prune import USUAL

    done = model.quantized_nodes()
    if done:
        raise InputError(f"{model.path} is quantized (node {done[0]!r})", "prune the float model, then quantize it")
    check_model(model.graph, options, context)
    if options.calibrated:
        context.need_calibration("prune")
    kind = "params" if options.params is not None else "flops"
    asked = options.params if options.params is not None else options.flops
    goal = Goal(kind, USUAL if asked is None else asked, asked is not None)
    if options.latency is not None:
        from infopt_passes.prune.timed import share_for

        multiple = multiple_of(options, context)
        goal = Goal("flops", share_for(model, options.latency, options.importance, multiple, context))
    return reached(model, options, context, goal)


def reached(model: Model, options: Prune, context: Context, goal: Goal) -> Model:
    """Prune to a goal in operations or parameters.

    Args:
        model: The float model.
        options: What else is asked for.
        context: Brings samples, target and seed.
        goal: What is to be reached.

    Raises:
        InputError: Nothing can be pruned, or the goal is out of reach; unless it was not asked for.
    """
    work = Work.of(model.graph)
    if not work.groups:
        why = "nothing can be pruned: " + _whys(work)
        if goal.asked:
            raise InputError(f"{model.path}: {why}", "prune its weights with --kind unstructured instead")
        return model.edited(model.graph.clone(), Note("warning", "prune", why))
    costs = Costs.of(work.graph, shapes_of(context))
    multiple = multiple_of(options, context)
    notes: list[Note] = []
    for step in range(options.steps):
        share = goal.share ** ((step + 1) / options.steps)
        scores = importances(work, options.importance, context, multiple)
        allocation = Allocation(work.groups, scores, costs, goal.kind, multiple, work.kept)
        met = allocation.reach(share)
        work.kept = allocation.kept
        work.zero()
        if options.recover != "none":
            notes = _told(recover_enough(work, context))
        if not met:
            notes.append(_out_of_reach(model, goal, allocation, work))
            break
    table = [*_rows(work, costs, allocation), *_kept(work)]
    graph, distilled = cut(work, options, context)
    return model.edited(graph, *table, *notes, *distilled)


def multiple_of(options: Prune, context: Context) -> int:
    """What channel counts are brought to multiples of."""
    table = context.target.table if context.target is not None else None
    return options.multiple or (table.multiple if table is not None else MULTIPLE)


def shapes_of(context: Context) -> dict[str, Sequence[int]]:
    """Shapes of the inputs, as the first calibration sample has them."""
    if context.calibration is None or not len(context.calibration):
        return {spec.name: [d if isinstance(d, int) else 1 for d in spec.shape] for spec in context.inputs}
    feed = next(iter(context.calibration.feeds()))
    return {name: array.shape for name, array in feed.items()}


def recover_enough(work: Work, context: Context) -> Recovered | None:
    """Refit the layers, where there are samples enough; ``None`` where not."""
    return recover(work, context) if len(context.need_calibration("prune")) >= FEWEST else None


def _told(recovered: Recovered | None) -> list[Note]:
    if recovered is None:
        return [Note("warning", "recover", f"needs at least {FEWEST} samples, and is left out")]
    notes = [Note("choice", "recovery", f"{len(recovered.fitted)} layers refitted by least squares")]
    if recovered.scarce:
        count = len(recovered.scarce)
        why = f"{count} layers have more inputs than rows were seen of them ({recovered.scarce[0]} is the first)"
        notes.append(
            Note("warning", "recover", f"{why}: their new weights are pulled to the old ones; more samples help")
        )
    if recovered.left:
        why = "least squares gave nothing finite or seen: they keep their weights"
        notes.append(Note("warning", recovered.left[0], f"and {len(recovered.left) - 1} other layers: {why}"))
    return notes


def _out_of_reach(model: Model, goal: Goal, allocation: Allocation, work: Work) -> Note:
    least = allocation.share()
    why = f"no less than {least:.0%} of the {goal.kind} can be kept without emptying a layer"
    if goal.asked:
        remedy = f"give --{goal.kind} {least:.2f} or more, or a smaller --multiple; kept whole: {_whys(work)}"
        raise InputError(f"{model.path}: {why}", remedy)
    return Note("warning", "prune", why)


def _whys(work: Work) -> str:
    """The reasons why layers stay, the most frequent first."""
    counted = Counter(work.found.kept.values()).most_common(6)
    return "; ".join(f"{why} ({count} layers)" if count > 1 else why for why, count in counted) or "it has no weights"


def _rows(work: Work, costs: Costs, allocation: Allocation) -> list[Note]:
    rows = []
    for kind, what in (("flops", "operations"), ("params", "parameters")):
        whole, left = costs.total(kind, {}), costs.total(kind, allocation.left)
        rows.append(Note("choice", what, f"{whole:,.0f} -> {left:,.0f} ({left / max(whole, 1):.1%})"))
    for group, kept in zip(work.groups, work.kept, strict=True):
        what = "channels" if group.width == 1 else f"units of {group.width} channels"
        rows.append(Note("choice", group.name, f"{group.units} -> {int(kept.sum())} {what}"))
    return rows


def _kept(work: Work) -> list[Note]:
    return [Note("choice", name, f"left alone: {why}") for name, why in work.found.kept.items()]
