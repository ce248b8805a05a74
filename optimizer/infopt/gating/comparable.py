"""Why numbers of two reports, made in different processes and perhaps on different machines, cannot be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.errors import InputError
from infopt.wording import visible

if TYPE_CHECKING:
    from infopt.report import Report


def check_target(new: Report, old: Report) -> None:
    """See to it that two reports are for the same target, without which nothing in them can be compared.

    Raises:
        InputError: They are not.
    """
    names = [side.target.name if side.target else "no target" for side in (old, new)]
    if names[0] != names[1]:
        raise InputError(
            f"the baseline is for {visible(names[0], 40)}, the report for {visible(names[1], 40)}",
            "give the --baseline of the same target",
        )


def other_accuracy(new: Report, old: Report) -> str | None:
    """Why the accuracies of two reports cannot be compared, or ``None``."""
    now, then = new.accuracy, old.accuracy
    if now is None or then is None:
        return new.accuracy_reason or "the report has no accuracy"
    samples, before = new.data.eval, old.data.eval
    if samples is None or before is None or not samples.sha256 or samples.sha256 != before.sha256:
        return "the evaluation samples are not those of the baseline"
    if (samples.search, now.n, samples.labelled) != (before.search, then.n, before.labelled):
        return "another part of the evaluation samples was used in the baseline"
    if (now.metric, now.higher_is_better, now.reference) != (then.metric, then.higher_is_better, then.reference):
        return f"the metric is {visible(now.metric, 40)}, that of the baseline {visible(then.metric, 40)}"
    if now.where != then.where:
        return f"accuracy was {now.where} here and {then.where} in the baseline"
    return None


def other_latency(new: Report, old: Report) -> str | None:
    """Why the latencies of two reports cannot be compared though both were measured, or ``None``."""
    machines = [(side.environment.get("cpu"), side.target and side.target.device) for side in (new, old)]
    if machines[0] != machines[1] or machines[0][0] is None:
        return "the baseline was measured on another machine, or it is not known on which"
    now, then = new.latency, old.latency
    if (now.batch, now.threads) != (then.batch, then.threads):
        return "the baseline was measured with another batch or number of threads"
    settings = [side.baseline_float.setting if side.baseline_float else "" for side in (now, then)]
    if settings[0] != settings[1]:
        return f"the float setting is {visible(settings[0], 40)}, that of the baseline {visible(settings[1], 40)}"
    return None
