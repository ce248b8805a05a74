"""``--max-drop`` as the goal: the largest cut whose accuracy drop stays within the budget, found by trials.

A trial prunes, recovers and scores a model; a full one may take a minute. So the share is first bracketed by trials
that recover on few samples, and few full ones end the search: they start where the coarse ones ended, go on in growing
steps to the nearest shares that keep and that miss the budget, and halve what is between. That the drop grows with the
cut is assumed; a bump may end the search early, never with a model that misses the budget.

What was found is an option like any other: the recipe that a run leaves has it, and makes the same model at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from infopt.model import Model, Note
from infopt.options import plain
from infopt.passes import Context
from infopt.wording import metric as shown
from infopt_passes.prune.apply import Cut, check_float, check_groups, reached
from infopt_passes.prune.distill import check_model
from infopt_passes.prune.ranking.allocate import ROUNDING
from infopt_passes.prune.ranking.plan import Goal, ranked

if TYPE_CHECKING:
    from infopt.selection import Selection, Trial
    from infopt_passes.prune import Prune

COARSE = 64
"""Calibration samples that coarse trials recover with."""

TRIALS = 6
"""Trials of either kind, at most."""

START, WIDE, NEAR = 0.5, (0.2, 0.06), (0.04, 0.02)
"""Share of the first trial; the first step from there and how near the ends come, of coarse and of full trials."""

Make = Callable[[float, Context], Cut]
"""Prunes to a share, with the samples of a context."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A share that was tried.

    Attributes:
        share: What was left.
        samples: Calibration samples that it recovered with.
        trial: Its score.
    """

    share: float
    samples: int
    trial: Trial


@dataclass(slots=True)
class Search:
    """A search under way.

    Attributes:
        make: Prunes to a share.
        context: Brings samples.
        selection: Scores candidates.
        seconds: Time after which no further trial begins; half of it is for coarse ones.
        tried: All trials so far.
        best: The smallest model of a full trial that kept the budget.
        late: Whether time ran out.
    """

    make: Make
    context: Context
    selection: Selection
    seconds: float
    tried: list[Tried] = field(default_factory=list)
    best: Cut | None = None
    late: bool = False

    def run(self) -> None:
        """Coarse trials, where samples are many, and full ones; at least one of these."""
        begin, samples = time.monotonic(), self.context.calibration
        start, steps = START, WIDE
        if samples is not None and len(samples) >= 2 * COARSE:
            few = replace(self.context, calibration=samples.thinned(COARSE))
            start, steps = self._bracket(few, False, START, WIDE, begin + self.seconds / 2), NEAR
        self._bracket(self.context, True, min(start, 1 - NEAR[0]), steps, begin + self.seconds)

    def _bracket(self, context: Context, full: bool, share: float, steps: tuple[float, float], ends: float) -> float:
        """The smallest share found that keeps the budget, 1 where none does."""
        (step, gap), low, high = steps, 0.0, 1.0  # what misses it, what keeps it
        for done in range(TRIALS):
            if done and time.monotonic() >= ends:
                self.late |= full
                break
            cut, kept = self._try(share, context, full)
            low, high = (low, min(share, cut.share)) if kept else (max(low, share), high)
            if high - low <= gap or (kept and cut.share > share + ROUNDING):  # less cannot be had
                break
            share, step = following(low, high, step), 2 * step
        return high

    def _try(self, share: float, context: Context, full: bool) -> tuple[Cut, bool]:
        self.context.progress("trying cuts", len(self.tried), 2 * TRIALS)
        cut = self.make(share, context)
        trial = self.selection.trial(cut.model, self.context)
        count = len(context.calibration) if context.calibration is not None else 0
        self.tried.append(Tried(cut.share, count, trial))
        if full and trial.kept and (self.best is None or cut.share < self.best.share):
            self.best = cut
        return cut, trial.kept


def following(low: float, high: float, step: float) -> float:
    """The share to try next.

    Args:
        low: The largest that misses the budget; 0 where none is known.
        high: The smallest that keeps it; 1 where none is known.
        step: How far to go from the one that is known.
    """
    middle = (low + high) / 2
    if low > 0 and high < 1:
        return middle
    return max(high - step, middle) if high < 1 else min(low + step, middle)


def largest(model: Model, options: Prune, context: Context, selection: Selection) -> Model:
    """Prune a model as far as a budget allows.

    Args:
        model: The float model.
        options: What is asked for besides.
        context: Brings samples, target and seed.
        selection: Brings the budget, and scores candidates.

    Returns:
        The pruned model with a note on each trial; the model as it was, with a warning, where no cut keeps the budget.

    Raises:
        InputError: The model is quantized, or nothing can be pruned.
        RuntimeRefused: The runtime cannot run a candidate.
    """
    check_float(model)
    check_model(model.graph, options, context)
    alone = replace(context, selection=None)
    slow = options.recover == "distill"
    quick = replace(options, recover="lsq", fine_tune=False, epochs=0) if slow else options
    search = Search(_maker(model, quick, alone), alone, selection, options.time_limit)
    search.run()
    quickest = best = search.best
    if best is not None and slow:
        best = _recovered_fully(search, _maker(model, options, alone), best)
    notes = list(_told(search, best, options.kind))
    if best is None:
        return replace(model.edited(model.graph.clone(), *notes), settled=plain(_with_share(options, 1.0)))
    found = _with_share(quick if best is quickest else options, best.goal)
    return replace(best.model.edited(best.model.graph, *notes), settled=plain(found))


def _maker(model: Model, options: Prune, context: Context) -> Make:
    """What prunes a model to a share of its operations, or of its weights."""
    if options.kind != "structured":
        return lambda share, some: Cut(_with_share(options, share)(model, some), share, share)
    order = ranked(model, context, options.importance, options.multiple)
    check_groups(order)
    least = order.least
    return lambda share, some: reached(order, options, some, Goal("flops", max(share, least), asked=False))


def _with_share(options: Prune, share: float) -> Prune:
    """Options that keep a share without a search."""
    return replace(options, flops=share) if options.kind == "structured" else replace(options, sparsity=1 - share)


def _recovered_fully(search: Search, make: Make, best: Cut) -> Cut:
    """The same share with the recovery that was asked for, which takes too long for trials; if it keeps the budget."""
    search.make, search.best = make, None
    search._try(best.goal, search.context, True)
    return search.best or best


def _told(search: Search, best: Cut | None, kind: str) -> Iterator[Note]:
    selection, what = search.selection, "flops" if kind == "structured" else "weights"
    for number, each in enumerate(search.tried, start=1):
        few = f", recovered on {each.samples} samples" if each.samples < search.tried[-1].samples else ""
        yield Note(
            "choice", f"cut {number}", f"{each.share:.1%} of the {what} kept{few}: {selection.metric} {each.trial}"
        )
    limit, count = shown(selection.limit), f"{selection.samples:,}"
    whose = "evaluation samples" if selection.confirmed else "calibration samples"
    bound = f"drop of {selection.metric}" if selection.labelled else f"drop of {selection.metric} with the float model"
    if best is None:
        least = max(search.tried, key=lambda each: each.share)
        late = "; time ran out: --time-limit gives more" if search.late else ""
        why = f"no cut keeps a {bound} of at most {limit} on {count} {whose}, so nothing was pruned"
        yield Note("warning", "prune", f"{why}; with {least.share:.1%} of the {what} kept it is {least.trial}{late}")
    else:
        apart = f"; {selection.confirmed:,} others confirm it" if selection.confirmed else ", held back from all fits"
        why = f"{best.share:.1%} of the {what} kept, the least of {len(search.tried)} cuts tried whose {bound} stays"
        if selection.proves:
            why += f", with {selection.confidence:.0%} confidence,"
        late = "; time ran out: --time-limit allows more" if search.late else ""
        yield Note("choice", "largest cut", f"{why} within {limit} on {count} {whose} that chose it{apart}{late}")
    yield from _doubts(selection)


def _doubts(selection: Selection) -> Iterator[Note]:
    if not selection.proves:
        more = f" (about {selection.lacking:,} more would do)" if selection.lacking else ""
        why = (
            f"{selection.samples:,} samples are too few to show with {selection.confidence:.0%} confidence that a drop"
        )
        told = f"{why} is at most {shown(selection.limit)}{more}: the cut was chosen by the measured drop alone"
        yield Note("warning", "prune", told)
    if not selection.labelled:
        told = "--max-drop bounded how far outputs leave the float model's: no labels said what is right"
        yield Note("warning", "prune", told)
    if selection.later:
        told = f"what {' and '.join(selection.later)} loses comes on top of the drop that --max-drop allowed to prune"
        yield Note("warning", "prune", told)
