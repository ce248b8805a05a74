"""The differences as frozen records; the attributes are the keys of the JSON object."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from infopt.codec import encode

SCHEMA = "infopt.diff/1"

Change = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node that one graph has, or that both have and that is not the same.

    Attributes:
        name: Its name, or that of its first output.
        op: Its operator, in B unless it was removed.
        change: What happened to it from A to B.
        details: What is not the same, in words.
    """

    name: str
    op: str
    change: Change
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightChange:
    """A weight that one graph has, or that both have with another type, shape or values.

    Attributes:
        name: Its name.
        change: What happened to it from A to B.
        a: Type and shape in A.
        b: Type and shape in B; where they are those of A the values differ.
    """

    name: str
    change: Change
    a: str | None
    b: str | None


@dataclass(frozen=True, slots=True)
class OpCount:
    """An operator of which the graphs do not have as many nodes."""

    op: str
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class GraphDiff:
    """What became of the target-true graph, its bodies included.

    Attributes:
        a: Nodes of A.
        b: Nodes of B.
        interface: Inputs, outputs and opsets that are not the same, in words.
        operators: Operators whose counts differ.
        nodes: Nodes that differ.
        weights: Weights that differ.
    """

    a: int
    b: int
    interface: tuple[str, ...] = ()
    operators: tuple[OpCount, ...] = ()
    nodes: tuple[NodeChange, ...] = ()
    weights: tuple[WeightChange, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both graphs are the same."""
        return not (self.interface or self.operators or self.nodes or self.weights)


@dataclass(frozen=True, slots=True)
class ScaleChange:
    """A tensor that is quantized in one graph only, or in both but otherwise.

    Attributes:
        tensor: What is quantized: the tensor, or the stored weight.
        change: What happened to it from A to B.
        a: Type and granularity in A: ``"uint8"``, ``"int8 64 scales on axis 0"``.
        b: The same in B.
        ratio: Smallest, median and largest scale of B over that of A; ``None`` where their numbers do not fit.
        zero_points: Zero points that differ; ``None`` where they cannot be compared.
    """

    tensor: str
    change: Change
    a: str | None
    b: str | None
    ratio: tuple[float, float, float] | None = None
    zero_points: int | None = None


@dataclass(frozen=True, slots=True)
class ScalesDiff:
    """What became of the scales.

    Attributes:
        a: Quantized tensors of A.
        b: Quantized tensors of B.
        changes: Those that differ.
    """

    a: int
    b: int
    changes: tuple[ScaleChange, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelsDiff:
    """What became of the integer coverage, as the reports tell it.

    Attributes:
        a: Compute layers of A that run as integers, and all of them; ``None`` where that is not known.
        b: The same of B.
        now_float: Compute layers that run in float in B only.
        now_integer: Compute layers that run in float in A only.
    """

    a: tuple[int, int] | None
    b: tuple[int, int] | None
    now_float: tuple[str, ...] = ()
    now_integer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A key with another value; ``null`` on a side that does not have it."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Measured:
    """A number of both reports.

    Attributes:
        what: What was measured, as a path of keys: ``"latency.candidate.ms.p50"``.
        a: In A.
        b: In B.
        interval: 95 % interval of ``b - a`` where the reports allow one.
        reason: Why the two do not mean the same, if they do not.
    """

    what: str
    a: float | None
    b: float | None
    interval: tuple[float, float] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """Two output directories; the attributes are the keys of the JSON object.

    Attributes:
        schema: Version of the format.
        infopt: Version of infopt.
        a: The first directory.
        b: The second one.
        same: Whether both were made from the same inputs with the same options and versions, and hold the same graph.
            What was measured and on which machine does not count.
        inputs: Files that went in and whose contents differ: sha256 by what they are for.
        options: Keys of ``recipe.toml`` with other values; files are not listed for lying elsewhere.
        versions: infopt, the target and libraries that shaped the output.
        environment: The machine, and the settings with which the artifact is opened.
        graph: The graph.
        scales: Its scales and zero points.
        kernels: Integer coverage.
        measured: Accuracy, latency, size and memory, where one of the reports has them.
    """

    schema: str = SCHEMA
    infopt: str
    a: str
    b: str
    same: bool
    inputs: tuple[ValueChange, ...]
    options: tuple[ValueChange, ...]
    versions: tuple[ValueChange, ...]
    environment: tuple[ValueChange, ...]
    graph: GraphDiff
    scales: ScalesDiff
    kernels: KernelsDiff
    measured: tuple[Measured, ...]

    def to_json(self) -> dict[str, Any]:
        """The differences as JSON holds them."""
        result: dict[str, Any] = encode(self)
        return result

    def text(self) -> str:
        """What ``--json`` prints."""
        return json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
