"""The prune pass at work: what goes, in how many steps, and what is told of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from infopt.errors import InputError
from infopt.model import Model, Note, Pruned
from infopt.options import plain
from infopt.passes import Context
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.distill import check_model, cut
from infopt_passes.prune.ranking.allocate import Allocation
from infopt_passes.prune.ranking.cost import Costs
from infopt_passes.prune.ranking.importance import importances
from infopt_passes.prune.ranking.plan import Goal, Ranked, costs_of, ranked
from infopt_passes.prune.recovery.accept import State, Yardstick, accepted, told_of
from infopt_passes.prune.recovery.recover import FEWEST, Recovered, recover

if TYPE_CHECKING:
    from infopt_passes.prune import Prune


@dataclass(frozen=True, slots=True)
class Cut:
    """A pruned model.

    Attributes:
        model: The model, with what is told of it.
        goal: What was to be left, of what the goal is about.
        share: What is left.
    """

    model: Model
    goal: float
    share: float


def pruned(model: Model, options: Prune, context: Context) -> Model:
    """Prune a model; see :class:`infopt_passes.prune.Prune`."""
    from infopt_passes.prune import USUAL

    check_float(model)
    check_model(model.graph, options, context)
    if options.calibrated:
        context.need_calibration("prune")
    asked = options.params if options.params is not None else options.flops
    share, kind = USUAL if asked is None else asked, "params" if options.params is not None else "flops"
    order = ranked(model, context, options.importance, options.multiple)
    if options.latency is not None:
        from infopt_passes.prune.timed import share_for

        check_groups(order)
        if all(kept.all() for kept in order.allocation(Goal("flops", 0.0)).kept):
            raise InputError(f"{model.path}: {_stuck(order.multiple.half)}", "give a smaller --multiple")
        share, asked = share_for(order, options.latency, context), options.latency
    goal = Goal("params" if kind == "params" else "flops", share, asked is not None)
    made = reached(order, options, context, goal).model
    if options.latency is None:
        return made
    return replace(made, settled=plain(replace(options, latency=None, flops=share)))


def whole(model: Model) -> Model:
    """A model of which all is kept.

    Raises:
        InputError: It is quantized.
    """
    check_float(model)
    return model.edited(model.graph.clone(), Note("choice", "prune", "all of it is kept, as was asked for"))


def check_float(model: Model) -> None:
    """Stop where a model is quantized.

    Raises:
        InputError: It is.
    """
    if done := model.quantized_nodes():
        raise InputError(f"{model.path} is quantized (node {done[0]!r})", "prune the float model, then quantize it")


def check_groups(order: Ranked) -> None:
    """Stop where nothing can be pruned.

    Raises:
        InputError: With what is in the way.
    """
    if not order.work.groups:
        why = f"{order.model.path}: {_nothing(order.work)}"
        instead = "prune its weights with --kind unstructured instead"
        raise InputError(why, instead if order.work.found.kept else "")


@np.errstate(over="ignore", invalid="ignore")  # what overflows is seen in the outputs, and told of
def reached(order: Ranked, options: Prune, context: Context, goal: Goal) -> Cut:
    """Prune to a goal in operations or parameters.

    Args:
        order: The ranked float model.
        options: What else is asked for.
        context: Brings samples, target and seed.
        goal: What is to be reached.

    Raises:
        InputError: Nothing can be pruned, or the goal is out of reach; unless it was not asked for.
    """
    model = order.model
    if not order.work.groups:
        if goal.asked:
            check_groups(order)
        return Cut(model.edited(model.graph.clone(), Note("warning", "prune", _nothing(order.work))), goal.share, 1.0)
    work = Work.of(model.graph)
    costs, multiple, met, notes = costs_of(work.graph, context), order.multiple, True, list[Note]()
    yardstick = Yardstick.of(work, context)
    allocation = Allocation(work.groups, order.scores, costs, goal.kind, multiple, work.kept)
    for step in range(options.steps):
        state = State.of(work)
        if step:
            scores = importances(work, options.importance, context, multiple.half)
            allocation = Allocation(work.groups, scores, costs, goal.kind, multiple, work.kept)
        met = allocation.reach(goal.share ** ((step + 1) / options.steps))
        work.kept = allocation.kept
        work.zero()
        finite, told = _judged_recovery(work, options, context, yardstick)
        named = f"step {step + 1} of {options.steps}"
        if not finite:
            state.restore(work)
            allocation = Allocation(work.groups, order.scores, costs, goal.kind, multiple, work.kept)
            allocation.reach(1.0)
            notes.append(_rolled_back(named, allocation, goal))
            met = False
            break
        notes = [note for note in notes if note.node.startswith("step ")] + _named(told, named, options.steps)
        if not met:
            notes.append(_out_of_reach(model, goal, allocation, work))
            break
    table, changes = [*_totals(costs, allocation), *notes], [*_changes(work), *_left(work)]
    share = allocation.share()
    graph, distilled = cut(work, options, context)
    return Cut(model.edited(graph, *table, *distilled).with_pruned(*changes), goal.share, share)


def _judged_recovery(
    work: Work, options: Prune, context: Context, yardstick: Yardstick | None
) -> tuple[bool, list[Note]]:
    """Recover, and take back what does harm; whether the outputs are finite numbers then, and what is told."""
    if yardstick is None:
        return True, _recovered(work, options, context)
    plain, noise, told = accepted(work, yardstick, lambda some: _recovered(work, options, some))
    return math.isfinite(noise), [told_of(plain, noise, yardstick), *told]


def _recovered(work: Work, options: Prune, context: Context) -> list[Note]:
    """Recover in place, as far as it goes layer by layer."""
    if options.recover == "none":
        return []
    recovered = recover_enough(work, context)
    if recovered is not None and not (recovered.fitted or recovered.left) and work.removed():
        why = "nothing was refitted: no layer of float32 with a constant weight of its own reads what is left"
        return [Note("warning", "recover", why)]
    return _told(recovered)


def _named(told: list[Note], step: str, steps: int) -> list[Note]:
    """What is told of the outputs, by the step that it is about where there are several."""
    if steps == 1:
        return told
    return [
        replace(note, node=f"{step}, {note.node}") if note.node in ("outputs", "rolled back") else note for note in told
    ]


def _rolled_back(step: str, allocation: Allocation, goal: Goal) -> Note:
    why = f"{step} gave values that are not finite: rolled back to the last good step"
    return Note("warning", "prune", f"{why}, {allocation.share():.1%} of the {goal.kind} are kept")


def recover_enough(work: Work, context: Context) -> Recovered | None:
    """Refit the layers, where there are samples enough; ``None`` where not."""
    return recover(work, context) if len(context.need_calibration("prune")) >= FEWEST else None


def _told(recovered: Recovered | None) -> list[Note]:
    if recovered is None:
        return [Note("warning", "recover", f"needs at least {FEWEST} samples, and is left out")]
    notes = [Note("choice", "recovery", f"{len(recovered.fitted)} layers refitted by least squares")]
    if recovered.scarce:
        count = len(recovered.scarce)
        which = f"{recovered.scarce[0]} has" if count == 1 else f"{count} layers, {recovered.scarce[0]} first, have"
        why = f"{which} more inputs than rows were seen: new weights are pulled to the old ones; more samples help"
        notes.append(Note("warning", "recover", why))
    if recovered.left:
        count = len(recovered.left)
        others = f" and {count - 1} other layers" if count > 1 else ""
        why = f"least squares gave {recovered.left[0]}{others} nothing finite, so weights stay as they were"
        notes.append(Note("warning", "recover", why))
    return notes


def _out_of_reach(model: Model, goal: Goal, allocation: Allocation, work: Work) -> Note:
    least = allocation.share()
    if all(kept.all() for kept in work.kept):
        why = _stuck(allocation.multiple.half)
        if goal.asked:
            raise InputError(f"{model.path}: {why}", f"give a smaller --multiple; kept whole: {_whys(work)}")
        return Note("warning", "prune", why)
    why = f"no less than {least:.0%} of the {goal.kind} can be kept without emptying a layer"
    if goal.asked:
        remedy = f"give --{goal.kind} {least:.2f} or more, or a smaller --multiple; kept whole: {_whys(work)}"
        raise InputError(f"{model.path}: {why}", remedy)
    return Note("warning", "prune", why)


def _stuck(multiple: int) -> str:
    return f"no layer can lose channels or units in steps of --multiple {multiple}"


def _whys(work: Work) -> str:
    """The reasons why layers stay, the most frequent first."""
    counted = Counter(work.found.kept.values()).most_common(6)
    return "; ".join(f"{why} ({count} layers)" if count > 1 else why for why, count in counted) or "it has no weights"


def _nothing(work: Work) -> str:
    return "nothing can be pruned: " + _whys(work)


def _totals(costs: Costs, allocation: Allocation) -> list[Note]:
    rows = []
    for kind, what in (("flops", "operations"), ("params", "parameters")):
        whole, left = costs.total(kind, {}), costs.total(kind, allocation.left)
        rows.append(Note("choice", what, f"{whole:,.0f} -> {left:,.0f} ({left / max(whole, 1):.1%})"))
    return rows


def _changes(work: Work) -> Iterator[Pruned]:
    for group, kept in zip(work.groups, work.kept, strict=True):
        unit = "channels" if group.width == 1 else f"units of {group.width} channels"
        yield Pruned(group.name, unit, group.units, int(kept.sum()))


def _left(work: Work) -> Iterator[Pruned]:
    for name, why in work.found.kept.items():
        yield Pruned(name, "layer", remark=why)
