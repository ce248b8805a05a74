"""What a check found: frozen records, the JSON view, and the counts that decide the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from infopt.checks.rule import Severity
from infopt.codec import encode

SCHEMA = "infopt.check/1"
State = Literal["built", "parsed", "refused", "crashed", "not asked"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that one rule objects to.

    Attributes:
        rule: Id of the rule.
        severity: Severity of the rule.
        targets: The checked targets that it is about.
        node: Name of the node, or of its first output where it has none; of an input or tensor where no node is
            meant; ``None`` for the model as a whole.
        op: Operator of the node.
        reason: What is wrong.
        remedy: What to do.
        fixable: Whether ``--fix`` mends it without changing a result.
        confirmed: The targets whose runtime, when it was asked, objected to the same node.
    """

    rule: str
    severity: Severity
    targets: tuple[str, ...]
    node: str | None
    op: str | None
    reason: str
    remedy: str
    fixable: bool = False
    confirmed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetState:
    """What became of the model in one target.

    Attributes:
        name: Name of the target.
        runtime: Name of the runtime.
        version: Its version; ``None`` where it is not installed.
        state: ``built``; ``parsed``, where it did not build for shapes that were guessed; ``refused``; ``crashed``; or
            ``not asked`` with a reason.
        reason: Why it was not asked.
        integer: Compute layers that run in integers, in a quantized model; ``None`` where that is not known.
        total: Compute layers.
        rows: Compute nodes of a float model that the target's table quantizes.
        compute: Compute nodes of a float model.
    """

    name: str
    runtime: str
    version: str | None
    state: State
    reason: str | None = None
    integer: int | None = None
    total: int | None = None
    rows: int | None = None
    compute: int | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """One place that was mended."""

    rule: str
    node: str | None
    what: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """What ``--fix`` did.

    Attributes:
        path: The file that was written; a copy when there was nothing to mend.
        repairs: What was mended.
        difference: Largest difference of an output, relative to the output's largest value, on made-up samples;
            ``None`` when the model was not run.
        unproven: Why it was not run.
    """

    path: str
    repairs: tuple[Repair, ...]
    difference: float | None = None
    unproven: str | None = None


@dataclass(frozen=True, slots=True)
class ModelState:
    """The checked model."""

    path: str
    nodes: int
    parameters: int
    bytes: int
    opset: int
    ir_version: int
    quantized: bool


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check; with a repair, that of the repaired model.

    Attributes:
        infopt: Version of infopt.
        model: The model as it was given.
        targets: What became of it in each target.
        findings: What was found, the gravest first.
        fixed: What was repaired; ``None`` when that was not asked for.
    """

    infopt: str
    model: ModelState
    targets: tuple[TargetState, ...]
    findings: tuple[Finding, ...]
    fixed: Fixed | None = None

    def count(self, severity: Severity, target: str | None = None) -> int:
        """Number of findings of a severity, about one target or all."""
        return sum(each.severity == severity and (target is None or target in each.targets) for each in self.findings)

    @property
    def errors(self) -> int:
        """Findings that mean that the model will not build or will be wrong."""
        return self.count("error")

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, ``schema`` first."""
        counts = {f"{each}s": self.count(each) for each in SEVERITIES}
        return {"schema": SCHEMA, **encode(self), "counts": counts}

    def text(self) -> str:
        """The report as the text of a JSON file."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


def sorted_findings(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings with the gravest first, else in the order in which they were found."""
    return tuple(sorted(found, key=lambda each: SEVERITIES.index(each.severity)))
