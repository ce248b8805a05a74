"""The worst of many classes against a limit on the drop.

With K classes the worst one is the worst of K draws: by chance alone some class loses more than any single interval
says. The largest true drop D of all classes is bounded by

* ``max L_k`` from below, each ``L_k`` a one-sided bound at ``1 - alpha / K`` (Bonferroni): above D with a probability
  of at most alpha, since one of the K bounds must then be above its own class's drop. For the one question that is
  asked, whether any class exceeds the limit, Holm's first step is the same;
* ``max U_k`` from above, each at ``1 - alpha`` without correction: below D only if the bound of the very class that
  drops by D is (R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24 (1982)
  295-300: an intersection-union test needs none).

So ``fail`` and ``pass`` are each wrong in at most alpha of the cases, however many classes there are. The corrected
bounds lie far out, where score intervals such as Tango's are too narrow: their error is up to 2.4 times what is stated
at 150 samples and ``alpha / K`` of 0.05 %. Therefore bounds are made of exact limits of both proportions, see
:func:`infopt.stats.proportions.paired_bounds`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from infopt.deciding import decide
from infopt.labelling import unlabelled, why_unlabelled
from infopt.report import ClassChange, Criterion, Report
from infopt.stats.limits import one_sided
from infopt.stats.margin import drop_interval, worsening
from infopt.stats.proportions import paired_bounds, tango_interval
from infopt.wording import metric, span, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infopt.accuracy import Accuracy

Interval = tuple[float, float]
MATCH = 1e-6
"""An interval that was recomputed from counts is the report's when it differs by no more."""

_NAMED = 3


@dataclass(frozen=True, slots=True)
class ClassBound:
    """One-sided bounds of a class's drop, or none.

    Attributes:
        label: The class.
        drop: What was measured.
        low: From below, corrected for the number of classes; without an interval the drop itself.
        high: From above; without an interval infinite.
    """

    label: str
    drop: float
    low: float
    high: float

    @classmethod
    def blind(cls, label: str, drop: float) -> ClassBound:
        """A class without an interval: what was measured fails beyond the limit, and never passes."""
        return cls(label, drop, drop, math.inf)

    def unless_blind(self) -> ClassBound:
        """The same; without an interval one that does not fail either."""
        return replace(self, low=-math.inf) if math.isinf(self.high) else self

    def stretched(self, factor: float) -> ClassBound:
        """The same with bounds that are further away by a factor."""
        if not math.isfinite(factor) or math.isinf(self.high):
            return ClassBound.blind(self.label, self.drop)
        low, high = self.drop - factor * (self.drop - self.low), self.drop + factor * (self.high - self.drop)
        return ClassBound(self.label, self.drop, low, high)


def class_drop(name: str, report: Report, limit: float, confidence: float) -> tuple[Criterion, str | None]:
    """Decide a limit on the drop of the worst class.

    Args:
        name: Key of the limit.
        report: Tells of the classes.
        limit: Largest drop that is accepted.
        confidence: One-sided confidence of each answer.

    Returns:
        The decision, with an interval of the largest true drop, and the reason unless it is a clear pass. A class
        without samples makes it ``unmeasured``, as a report without labels; one without an interval leaves it at best
        ``undecided``.
    """
    if unlabelled(report):
        why = why_unlabelled(report)
        return Criterion(name, limit, None, None, "unmeasured"), f"{name} was not measured: {why}"
    classes = report.classes
    empty = [each.label for each in classes if each.n < 1 or not math.isfinite(each.drop)]
    if empty or not classes:
        why = f"no sample of {_listed(empty)}" if empty else "the report tells of no class (compare on labels)"
        return Criterion(name, limit, None, None, "unmeasured"), f"{name} was not measured: {why}"
    return decide_classes(name, class_bounds(report, classes, 1 - confidence), limit)


def class_bounds(report: Report, classes: Sequence[ClassChange], alpha: float) -> list[ClassBound]:
    """Bounds of each class's drop: from below at ``alpha`` for all together, from above at ``alpha`` each."""
    higher = report.accuracy is None or report.accuracy.higher_is_better
    factor = stretch(report.accuracy)
    return [_bound(each, higher, (alpha / len(classes), alpha)).stretched(factor) for each in classes]


def stretch(accuracy: Accuracy | None) -> float:
    """By how much samples that belong to groups say less than as many that stand on their own.

    Intervals of single classes do not know of groups; those of all samples do, and what they are wider is taken to be
    true within the classes too.

    Returns:
        A factor for distances from the drop, 1 without groups; infinite where it is not known.
    """
    if accuracy is None or accuracy.groups is None or accuracy.interval == "cluster-bca":
        return 1.0  # classes of such a metric have intervals that know of groups, or none
    within = drop_interval(accuracy)
    if within is None or accuracy.flips is None or accuracy.interval not in (None, "tango", "cluster-tango"):
        return math.inf
    alone = tango_interval(accuracy.flips.lost, accuracy.flips.gained, accuracy.n)
    return max(1.0, (within[1] - within[0]) / (alone[1] - alone[0]))


def decide_classes(name: str, bounds: Sequence[ClassBound], limit: float) -> tuple[Criterion, str | None]:
    """Decide a limit from bounds of every class's drop; there is at least one class."""
    worst = max(bounds, key=lambda bound: bound.drop)
    lowest, highest = max(bounds, key=lambda bound: bound.low), max(bounds, key=lambda bound: bound.high)
    # The largest drop that a bound shows stands for the value: the one that was measured may be of a noisier class.
    status = decide(lowest.low, (lowest.low, highest.high), limit)
    interval = (lowest.low, highest.high) if math.isfinite(lowest.low + highest.high) else None
    criterion = Criterion(name, limit, worst.drop, interval, status)
    if status == "pass":
        return criterion, None
    return criterion, f"{name}: {_why(criterion, bounds, worst, lowest if status == 'fail' else highest)}"


def _why(criterion: Criterion, bounds: Sequence[ClassBound], worst: ClassBound, decisive: ClassBound) -> str:
    what = f"class {visible(worst.label, 60)} drops most, by {metric(worst.drop)}"
    limit, many = metric(criterion.limit), f"over {len(bounds)} classes"
    if criterion.status == "fail" and math.isinf(decisive.high):
        return f"{what}, which does not keep the limit {limit}, by the measured value alone (it has no interval)"
    if criterion.status == "fail":
        most = "" if decisive is worst else f"; class {visible(decisive.label, 60)} by at least {metric(decisive.low)}"
        return f"{what}{most} ({span(criterion.interval)} {many}), the limit is {limit}"
    blind = [each.label for each in bounds if math.isinf(each.high)]
    if blind:
        return f"{what}, but {_listed(blind)} has no interval, so that it cannot be shown to keep the limit {limit}"
    which = f", from class {visible(decisive.label, 60)}"
    return (
        f"{what}, but the limit {limit} lies within {span(criterion.interval)} {many}{which}; measure on more samples"
    )


def _bound(change: ClassChange, higher: bool, alphas: tuple[float, float]) -> ClassBound:
    within = worsening(change.ci95, higher)
    if within is None:
        return ClassBound.blind(change.label, change.drop)
    flips = class_flips(change, within)
    if flips is not None:
        (low, _), (_, high) = (paired_bounds(*flips, change.n, alpha) for alpha in alphas)
    else:
        (low, _), (_, high) = (one_sided(within, change.drop, 1 - alpha) for alpha in alphas)
    return ClassBound(change.label, change.drop, min(low, change.drop), max(high, change.drop))


def class_flips(change: ClassChange, within: Interval) -> tuple[int, int] | None:
    """Samples that a class (lost, gained), found by the width of their Tango interval.

    Args:
        change: The class.
        within: The 95 % interval of its drop.

    Returns:
        The counts whose interval this is; ``None`` if there are none, since the metric is not right or wrong.
    """
    if abs(change.drop) > 1:
        return None
    net = round(change.drop * change.n)
    if abs(net - change.drop * change.n) > MATCH * change.n or abs(net) > change.n:
        return None
    low, high = 0, (change.n - abs(net)) // 2  # pairs of a sample that was gained and one that was lost
    while low < high:
        middle = (low + high) // 2
        ends = tango_interval(max(net, 0) + middle, max(-net, 0) + middle, change.n)
        low, high = (middle + 1, high) if ends[1] - ends[0] < within[1] - within[0] - MATCH else (low, middle)
    counts = max(net, 0) + low, max(-net, 0) + low
    ends = tango_interval(*counts, change.n)
    return counts if max(abs(ends[0] - within[0]), abs(ends[1] - within[1])) <= MATCH else None


def _listed(labels: Sequence[str]) -> str:
    named = ", ".join(visible(label, 40) for label in labels[:_NAMED])
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return f"class {named}{more}"
