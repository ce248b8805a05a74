"""What the gate is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from infopt.options import Opt, parse_fraction

Undecided = Literal["warn", "pass", "fail"]


@dataclass(frozen=True, slots=True)
class GateOptions:
    """Limits, and where the answer goes."""

    budget: Annotated[Path | None, Opt("The limits.", metavar="BUDGET.toml")] = None
    baseline: Annotated[
        Path | None,
        Opt("Report or output directory of an earlier commit; what is worse than there is a regression.",
            metavar="OLD_REPORT"),
    ] = None  # fmt: skip
    tolerance: Annotated[
        float,
        Opt("Share by which latency, size and memory may be worse than in the baseline.",
            low=0, high=10, parse=parse_fraction, metavar="SHARE"),
    ] = 0.05  # fmt: skip
    undecided: Annotated[
        Undecided, Opt("What a limit does that the interval leaves open; warn and pass end with exit code 0.")
    ] = "warn"
    markdown: Annotated[
        Path | None, Opt("Write the answer as Markdown that fits a comment; - prints it.", metavar="FILE|-")
    ] = None
    junit: Annotated[Path | None, Opt("Write the answer as JUnit XML, a test case a limit.", metavar="FILE.xml")] = None
    github: Annotated[bool, Opt("Print the answer as annotations of GitHub Actions.")] = False
