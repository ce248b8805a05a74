"""What a target is: a table of what it runs in integers, and four functions around its runtime.

The table is data. It says per operator which inputs a runtime wants quantized, how, and what becomes of the
output; :mod:`infopt_passes.quantize` is the only reader that acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from infopt.cpu import Isa
    from infopt.data import Feed
    from infopt.shapes import ShapeRange

Settings = Mapping[str, str]
"""Runtime settings by the runtime's own names; they belong to the artifact and are stored with it."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a tensor is quantized.

    Attributes:
        dtype: ONNX type of the stored numbers.
        symmetric: Zero point in the middle of the range (0 for signed types).
        per_channel: One scale per output channel instead of one per tensor.
        narrow: Leave out the lowest integer, so that the range is symmetric.
        unsigned: Data that is never negative is uint8 with zero point 0: the same step for twice the range.
        reduced: Use one bit less, -64 to 63, so that two products fit into the 16 bits that processors without
            VNNI add them up in.
        uniform: For weights per channel: use one scale for all channels where the rounding noise grows at most by
            this factor in power; 1 is never, 4 is one bit.
        implicit: Leave the zero point out where it is 0; it is then not a number per channel to be computed with.
        blocked: Beside the output channels, each block of a column has a scale of its own; how long, the user says.
    """

    dtype: Literal["int8", "uint8", "int4", "float8e4m3fn"]
    symmetric: bool
    per_channel: bool = False
    narrow: bool = False
    unsigned: bool = False
    reduced: bool = False
    uniform: float = 1.0
    implicit: bool = False
    blocked: bool = False


class Role(Enum):
    """What an operator is to quantization.

    Attributes:
        COMPUTE: Worth an integer kernel by itself; its inputs are quantized for it.
        FOLLOW: Runs in integers when its inputs are integers already.
        MOVE: Only moves data: input and outputs share scale and zero point.
        JOIN: Joins tensors (Concat).
        RESIDUAL: An Add of which only the skip input is quantized, so that the other side fuses into its Conv.
        FLOAT: Stays in float, because the runtime has no integer kernel or because it does not pay.
    """

    COMPUTE = "compute"
    FOLLOW = "follow"
    MOVE = "move"
    JOIN = "join"
    RESIDUAL = "residual"
    FLOAT = "float"


class Output(Enum):
    """Whether an operator's output is quantized.

    Attributes:
        ALWAYS: The integer kernel exists only with a quantized output.
        WANTED: Quantized where an integer compute node wants it.
        OFFERED: As wanted, and also where a follower can use it.
    """

    ALWAYS = "always"
    WANTED = "wanted"
    OFFERED = "offered"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule's condition may look at: one node, its constant weight and its shapes.

    Attributes:
        op: Operator type.
        weight: Shape of the constant second operand; ``None`` when it is computed at run time.
        channel_axis: Axis of the output channels in ``weight``.
        groups: Groups of a convolution; 1 otherwise.
        inputs: Known shapes of the inputs; unknown sizes are ``None``.
        output: Known shape of the first output, or ``None``.
        attributes: Integer, float and string attributes of the node, and its lists of integers.
        constants: Whether each input is a constant; absent optional inputs count as constant.
        numbers: The value of each input that is a constant single number, ``None`` for others.
        outputs: Number of outputs that are read, or are the graph's.
    """

    op: str
    weight: tuple[int, ...] | None
    channel_axis: int
    groups: int
    inputs: tuple[tuple[int | None, ...] | None, ...]
    output: tuple[int | None, ...] | None
    attributes: Mapping[str, Any]
    constants: tuple[bool, ...] = ()
    numbers: tuple[float | None, ...] = ()
    outputs: int = 1


Condition = Callable[[Facts], str | None]
"""Returns why a node stays in float, or ``None``."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of a table.

    Attributes:
        ops: Operators that the row is about.
        role: What they are to quantization.
        output: Whether their output is quantized.
        unless: Conditions under which a node stays in float.
        shared: Inputs and output carry one scale and zero point (always so for ``MOVE``).
        carries: The runtime carries the scale of the data through the operator: a pair in front of it is enough,
            and one behind it would be computed.
        epilogue: The kernel of the compute node before them computes them along, as long as no pair stands between.
        writes: Their kernel, or the one that they end, can just as well write integers: a Q behind them is free.
        activation: Scheme of the data that these operators read, where it is not the table's; of several wishes for
            one scale, that of the row that comes first in the table is granted.
        weight: Scheme of their constant weights, where it is not the table's.
        since: First opset in which the row holds.
        closes: A pair stands behind an activation that vanishes, even if floats are wanted: the runtime would fuse the
            activation into a kernel in float.
        spares: An operand that is broadcast gets no pair: it is small, and the kernel takes it in float.
        computed: The row is about products of two tensors that are both computed at run time, as in attention; an
            operator's other row is about those with a constant weight.
        why: For ``FLOAT``: why they stay in float.
    """

    ops: tuple[str, ...]
    role: Role
    output: Output = Output.WANTED
    unless: tuple[Condition, ...] = ()
    shared: bool = False
    carries: bool = False
    epilogue: bool = False
    writes: bool = False
    activation: Scheme | None = None
    weight: Scheme | None = None
    since: int = 1
    closes: bool = False
    spares: bool = False
    computed: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What a target can run in integers.

    Attributes:
        activation: Scheme of activations.
        weight: Scheme of constant weights.
        bias: ``"int32"``: biases are quantized with scale ``s_x * s_w``; ``"float"``: they are left alone.
        rules: The rows.
        absorbs: Activations that vanish into the quantized tensor behind them: into its range or the kernel's end.
        biased: A convolution has to have a bias of its own, a product with compressed weights one in front of a Relu;
            one without gets one that changes nothing.
        opset: Smallest opset of the graphs that the target is given.
        bodies: Operators whose bodies run in integers as the main graph does.
        data: How activations are quantized: with ranges from calibration, with those of each run, or not at all.
        needs: What the device needs to have for it, if not every one has it; a clause.
        multiple: Channel counts that kernels run well are multiples of it: what their vectors and blocked layouts hold.
        sparse: Whether kernels exist that skip the zeros of 2:4 sparse weights.
    """

    activation: Scheme
    weight: Scheme
    bias: Literal["int32", "float"]
    rules: tuple[Rule, ...]
    absorbs: frozenset[str] = frozenset({"Relu", "Clip"})
    biased: bool = False
    opset: int = 13
    bodies: frozenset[str] = frozenset({"If", "Loop", "Scan"})
    data: Literal["calibrated", "runtime", "float"] = "calibrated"
    needs: str = ""
    multiple: int = 16
    sparse: bool = False

    def rule(self, op: str, computed: bool = False) -> Rule | None:
        """The row about an operator, if there is one.

        Args:
            op: The operator.
            computed: Whether all its operands are computed at run time; falls back to the other row.
        """
        rows = [rule for rule in self.rules if op in rule.ops]
        return next((rule for rule in rows if rule.computed == computed), rows[0] if rows else None)

    @property
    def epilogues(self) -> frozenset[str]:
        """The operators that the kernel of the compute node before them computes along."""
        return frozenset(op for rule in self.rules if rule.epilogue for op in rule.ops)

    @property
    def compute_ops(self) -> frozenset[str]:
        """The operators whose integer kernels are worth counting."""
        return frozenset(op for rule in self.rules if rule.role is Role.COMPUTE for op in rule.ops)


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What ``compile`` needs besides the graph.

    Attributes:
        settings: Runtime settings to build in and to store with the artifact.
        shapes: Ranges of dynamic input shapes.
    """

    settings: Settings = field(default_factory=dict)
    shapes: tuple[ShapeRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled result: what ships.

    Attributes:
        target: Name of the target that made it.
        main: The file that the runtime opens.
        files: Every file that belongs to it, ``main`` first.
        graph: The ONNX graph that it was made from.
        settings: Runtime settings that go with it; ``open`` applies them.
    """

    target: str
    main: Path
    files: tuple[Path, ...]
    graph: Path
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FloatNode:
    """A compute layer that runs in float.

    Attributes:
        name: Its name in the runtime.
        op: Its type in the runtime's words.
        also: Names of the nodes that it was made from, where the runtime tells.
    """

    name: str
    op: str
    also: tuple[str, ...] = ()

    def origin(self, known: Collection[str]) -> str:
        """The node that it was made from: runtimes append to its name, or put a word before it.

        Args:
            known: Names of the graph's nodes.

        Returns:
            The first of them that its names lead to, else its own name.
        """
        for name in (self.name, *self.also):
            bare = name.rpartition(" ")[2].rstrip("/")
            while bare not in known and "/" in bare:
                bare = bare.rpartition("/")[0]
            if bare in known:
                return bare
        return self.name


@dataclass(frozen=True, slots=True)
class Kernels:
    """What the runtime says that it runs.

    Attributes:
        integer: Compute layers that run as integers, or in FP8.
        total: Compute layers.
        float_nodes: The ones that do neither run so nor read compressed weights.
        compressed: The ones that compute in float with weights that the runtime keeps in 8 bits or less.
    """

    integer: int
    total: int
    float_nodes: tuple[FloatNode, ...]
    compressed: int = 0


class Session(Protocol):
    """An opened artifact."""

    def run(self, feed: Feed) -> list[np.ndarray]:
        """Run one batch.

        Args:
            feed: One array per input.

        Returns:
            The outputs in the graph's order; the arrays are the caller's own.

        Raises:
            RuntimeRefused: The runtime failed.
        """
        ...


class Target(Protocol):
    """A runtime that infopt compiles for.

    Attributes:
        name: The name that ``--target`` takes.
        runtime: The runtime's own name.
        extra: The extra of this package that installs it; ``None`` when the core brings it.
        table: What it runs in integers.
    """

    name: str
    runtime: str
    extra: str | None
    table: Table

    def available(self) -> str | None:
        """Why the target cannot compile here, or ``None`` when it can."""
        ...

    def runnable(self) -> str | None:
        """Why an artifact cannot be executed here, or ``None`` when it can."""
        ...

    def version(self) -> str:
        """Version of the runtime."""
        ...

    def device(self) -> str:
        """The device that artifacts run on, in the runtime's words."""
        ...

    def settings(self, kind: Literal["float", "int8"]) -> dict[str, Settings]:
        """Named runtime settings that are worth measuring for float and for INT8 graphs; the default first."""
        ...

    def compile(self, model: Path, out: Path, options: CompileOptions) -> Artifact:
        """Build the artifact of an ONNX file into the folder ``out``.

        Raises:
            RuntimeRefused: The runtime rejects the model.
        """
        ...

    def open(self, artifact: Artifact) -> AbstractContextManager[Session]:
        """Open an artifact with its settings.

        Raises:
            RuntimeRefused: The runtime cannot open it.
        """
        ...

    def build_command(self, graph: Path, shapes: Sequence[ShapeRange]) -> str:
        """The command that builds the artifact of a graph on a machine that can."""
        ...

    def kernels(self, artifact: Artifact) -> Kernels:
        """Count the compute layers that really run as integers.

        Raises:
            Unmeasured: The runtime cannot tell here.
        """
        ...


@runtime_checkable
class ByIsa(Protocol):
    """What a target has besides, if its table depends on the processor's instruction set.

    Attributes:
        isa: The instruction set that it is for; ``None`` before one was chosen.
    """

    isa: Isa | None

    def for_isa(self, isa: Isa | Literal["auto"]) -> Target:
        """The target with the table for an instruction set; ``"auto"`` is that of this machine.

        Raises:
            OptionError: There is no such table.
        """
        ...
