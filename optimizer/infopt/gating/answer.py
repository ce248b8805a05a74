"""What follows from a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from infopt.gating.options import Undecided
    from infopt.report import Criterion, Status, Verdict

Effect = Literal["pass", "warn", "fail"]


def effect(status: Status, undecided: Undecided) -> Effect:
    """What a limit does to the job: what was not measured is never let through."""
    if status == "undecided":
        return undecided
    return "pass" if status == "pass" else "fail"


def gate_exit_code(verdict: Verdict, undecided: Undecided) -> int:
    """3 when the job must stop, else 0."""
    return 3 if effect(verdict.status, undecided) == "fail" else 0


def why(verdict: Verdict, criterion: Criterion) -> str:
    """The reason of one limit's answer in words, empty for a clear pass."""
    starts = f"{criterion.name}:", f"{criterion.name} "
    return next((reason for reason in verdict.reasons if reason.startswith(starts)), "")
