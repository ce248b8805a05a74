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
        return new.accuracy_reason or "accuracy was measured on one side only"
    samples, before = new.data.eval, old.data.eval
    if samples is None or before is None or not samples.sha256 or samples.sha256 != before.sha256:
        return "the reports are not about the same evaluation samples"
    if (samples.search, now.n, samples.labelled) != (before.search, then.n, before.labelled):
        return "the reports are about different parts of the evaluation samples"
    if (now.metric, now.higher_is_better, now.reference) != (then.metric, then.higher_is_better, then.reference):
        return f"the metrics are {visible(then.metric, 40)} and {visible(now.metric, 40)}"
    if now.where != then.where:
        return f"one accuracy was {then.where}, the other {now.where}"
    return None


def other_machine(new: Report, old: Report) -> str | None:
    """Why latencies that two reports measured cannot be compared, or ``None``."""
    machines = [side.environment.get("cpu") for side in (new, old)]
    if machines[0] != machines[1] or machines[0] is None:
        return "they were measured on different processors, or it is not known on which"
    devices = [side.target.device for side in (new, old) if side.target]
    if _same_runtime(new, old) and len(set(devices)) > 1:
        return "they were measured on different devices"
    now, then = new.latency, old.latency
    if (now.batch, now.threads) != (then.batch, then.threads):
        return "they were measured with another batch or number of threads"
    return None


def other_latency(new: Report, old: Report) -> str | None:
    """Why the speedups of two reports cannot be compared, or ``None``."""
    settings = [side.latency.baseline_float.setting if side.latency.baseline_float else "" for side in (old, new)]
    if settings[0] != settings[1]:
        return f"they are relative to {visible(settings[0], 40)} and {visible(settings[1], 40)}"
    return other_machine(new, old)


def _same_runtime(new: Report, old: Report) -> bool:
    return new.target is not None and old.target is not None and new.target.name == old.target.name
