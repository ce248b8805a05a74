"""What a rule is: a row of data around a function that finds the nodes it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import onnx_ir as ir

    from infopt.checks.subject import Subject

Severity = Literal["error", "warning", "note"]

TENSORRT = frozenset({"tensorrt", "tensorrt-rtx"})
OPENVINO = frozenset({"openvino"})
ONNXRUNTIME = frozenset({"onnxruntime"})


@dataclass(frozen=True, slots=True)
class Spot:
    """One place that a rule objects to.

    Attributes:
        reason: What is wrong there, in words, with the numbers that show it.
        node: The node; ``None`` when it is about the model as a whole.
        place: Name of a tensor or input, where no node is meant.
        fixable: Whether the rule's repair can be applied here.
        remedy: What to do here, where that differs from the rule's remedy.
        targets: The targets that are meant, where these are fewer than the rule's.
    """

    reason: str
    node: ir.Node | None = None
    place: str | None = None
    fixable: bool = False
    remedy: str | None = None
    targets: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class LintRule:
    """One row of the registry.

    Attributes:
        id: Stable name.
        severity: ``error``: it will not parse or build, or the results will be wrong; ``warning``: it will be slow,
            inaccurate or is risky; ``note``: worth knowing.
        what: The defect in a sentence.
        remedy: What to do about it.
        find: Yields the places; ``None`` for what only a runtime can tell.
        targets: The targets that it is about; ``None`` for all.
        repair: Mends one place of a graph without changing a single result, and says what it did.
        fusion: The finding says that a node will not run in integers; a runtime that was asked has the last word.
        refused: The finding says that the runtime will not take the model, so a build that succeeds is told with it.
    """

    id: str
    severity: Severity
    what: str
    remedy: str
    find: Callable[[Subject], Iterable[Spot]] | None
    targets: frozenset[str] | None = None
    repair: Callable[[Subject, Spot], str] | None = None
    fusion: bool = False
    refused: bool = False
