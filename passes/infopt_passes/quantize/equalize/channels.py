"""Finds tensors whose channels can be rescaled without changing what a model computes.

A channel that is divided by a factor where it is made can be multiplied by it where it is read, as long as everything
in between is positively homogeneous: ReLU, pooling, sums of such tensors. All tensors between such makers and readers
form a group with one factor per channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from infopt.facts import BIAS_INPUT, CONVOLUTIONS, WEIGHT_INPUT, activations, channel_axis, clip_bounds, is_constant

PASSABLE = frozenset("Relu LeakyRelu MaxPool AveragePool GlobalAveragePool GlobalMaxPool Identity Dropout".split())
"""Operators that compute channel by channel and commute with positive factors."""

PRODUCTS = ("Gemm", "MatMul")

Reader = tuple[ir.Node, int]


@dataclass(slots=True)
class Group:
    """Tensors that share one factor per channel.

    Attributes:
        channels: Number of channels.
        values: The tensors, each with the axis of its channels.
        makers: Nodes that make them: their weight and bias are divided by the factors.
        factors: Constant operands of a Mul or a LayerNormalization, which are divided likewise, and constants that are
            added on the way.
        readers: Nodes that read them: their weight is multiplied by the factors.
        ceiling: The lowest upper bound of a Clip on the way; infinite without one.
    """

    channels: int
    values: dict[ir.Value, int] = field(default_factory=dict)
    makers: list[ir.Node] = field(default_factory=list)
    factors: list[tuple[ir.Node, int]] = field(default_factory=list)
    readers: list[ir.Node] = field(default_factory=list)
    ceiling: float = float("inf")

    def rounded(self) -> list[ir.Value]:
        """The tensors that may be rounded to integers: not what only a ReLU or a Clip reads, which goes before that.

        What such a tensor has below zero would be taken for range that the channel needs.
        """
        return [value for value in self.values if not _before_bounds(value)] or list(self.values)


def groups(graph: ir.Graph) -> list[Group]:
    """The groups of a main graph and of its bodies, in its order; shapes are inferred. None reaches across bodies.

    Args:
        graph: The graph; constants are initializers.
    """
    found: list[Group] = []
    seen: set[ir.Value] = set()
    for node in graph.all_nodes():
        channels, axis = _start(node)
        if channels < 2 or node.outputs[0] in seen or not isinstance(node.graph, ir.Graph):
            continue
        search = Search(node.graph, Group(channels))
        whole = search.follow(node.outputs[0], axis)
        seen |= search.group.values.keys()
        if whole and search.group.readers:
            found.append(search.group)
    return found


@dataclass(slots=True)
class Search:
    """Collects one group, of the main graph or of one body."""

    graph: ir.Graph
    group: Group
    pending: list[tuple[ir.Value, int]] = field(default_factory=list)

    def follow(self, value: ir.Value, axis: int) -> bool:
        """Collect all that belongs to a tensor; false when something on the way does not let factors pass."""
        self._take(value, axis)
        sound = axis >= 0
        while self.pending and len(self.group.values) < 1000:
            value, axis = self.pending.pop()
            # All tensors are visited even then: a group that is not whole is not tried again from another member.
            sound &= self._is_own(value, axis) and self._up(value, axis)
            reached = [self._down(use.node, use.idx, value, axis) for use in value.uses()]
            sound &= all(reached)
        return sound and not self.pending

    def _is_own(self, value: ir.Value, axis: int) -> bool:
        shape = value.shape
        plain = value.dtype in (None, ir.DataType.FLOAT) and not value.is_graph_output()
        return plain and shape is not None and axis < len(shape) and shape[axis] == self.group.channels

    def _take(self, value: ir.Value | None, axis: int) -> bool:
        if value is None or is_constant(value):
            return False
        if value in self.group.values:
            return self.group.values[value] == axis
        self.group.values[value] = axis
        self.pending.append((value, axis))
        return True

    def _up(self, value: ir.Value, axis: int) -> bool:
        node = value.producer()
        if node is None or node.graph is not self.graph or node.domain != "":
            return False
        if _is_maker(node):
            self.group.makers.append(node)
            return True
        if node.op_type == "LayerNormalization":
            return self._normalized(node, axis)
        return self._between(node, value, axis)

    def _down(self, node: ir.Node, index: int, value: ir.Value, axis: int) -> bool:
        if node.graph is not self.graph or node.domain != "":
            return False
        if index == 0 and _reads_channels(node, value, axis):
            self.group.readers.append(node)
            return True
        if node.op_type == "Mul" and self._own_factors(node, axis) is not None:
            return False  # its constant is where another group begins
        return self._between(node, value, axis)

    def _between(self, node: ir.Node, value: ir.Value, axis: int) -> bool:
        """Take along what a node that lets factors pass connects a tensor with."""
        if node.op_type in ("Add", "Sum"):
            return self._sum(node, axis)
        if node.op_type == "Mul":
            return self._multiplied(node, axis)
        if node.op_type == "Clip":
            return self._clip(node, axis)
        if node.op_type in ("Flatten", "Reshape", "Squeeze"):
            return self._flattened(node)
        if node.op_type == "PRelu":
            passes = is_constant(node.inputs[1]) and _same_rank(node)
            return passes and self._take(node.inputs[0], axis) and self._take(node.outputs[0], axis)
        if node.op_type not in PASSABLE or len([out for out in node.outputs if out.uses()]) > 1:
            return False
        if node.op_type.endswith("Pool") and axis != 1:
            return False
        return self._take(node.inputs[0], axis) and self._take(node.outputs[0], axis)

    def _sum(self, node: ir.Node, axis: int) -> bool:
        computed = activations(node)
        if not _same_rank(node):
            return False
        for index in set(range(len(node.inputs))) - set(computed):
            if not self._per_channel(node, index, axis):
                return False
            self._factor(node, index)
        taken = [self._take(value, axis) for value in (*(node.inputs[i] for i in computed), node.outputs[0])]
        return all(taken)

    def _multiplied(self, node: ir.Node, axis: int) -> bool:
        index = self._own_factors(node, axis)
        if index is not None:
            # Its own constant takes the factors, whatever comes before.
            self._factor(node, index)
            return True
        computed = activations(node)
        if len(computed) != 1 or len(node.inputs) != 2 or not _same_rank(node):
            return False
        constant = node.inputs[1 - computed[0]]
        single = constant is not None and constant.const_value is not None and constant.const_value.size == 1
        return single and self._take(node.inputs[computed[0]], axis) and self._take(node.outputs[0], axis)

    def _own_factors(self, node: ir.Node, axis: int) -> int | None:
        """Position of the constant of a Mul that has one number per channel."""
        constants = [index for index in (0, 1) if self._per_channel(node, index, axis)]
        return constants[0] if len(constants) == 1 and len(activations(node)) == 1 else None

    def _normalized(self, node: ir.Node, axis: int) -> bool:
        last = int(node.attributes.get_int("axis", -1))
        rank = len(node.outputs[0].shape or ())
        scaled = [i for i in (1, 2) if len(node.inputs) > i and node.inputs[i] is not None]
        vectors = all(self._per_channel(node, index, axis) for index in scaled)
        sound = vectors and axis == last % max(rank, 1) == rank - 1
        for index in scaled if sound else ():
            self._factor(node, index)
        return sound and all(not out.uses() for out in node.outputs[1:])

    def _clip(self, node: ir.Node, axis: int) -> bool:
        bounds = clip_bounds(node)
        if bounds is None or bounds[0] not in (0.0, -float("inf")) or not bounds[1] > 0:
            return False
        self.group.ceiling = min(self.group.ceiling, bounds[1])
        return self._take(node.inputs[0], axis) and self._take(node.outputs[0], axis)

    def _flattened(self, node: ir.Node) -> bool:
        """A reshaping of (N, C, 1, 1) to (N, C)."""
        before, after = node.inputs[0], node.outputs[0]
        if before is None or before.shape is None or after.shape is None:
            return False
        sizes = [*before.shape[1:], *after.shape[1:]]
        channels = self.group.channels
        vectors = all(isinstance(size, int) for size in sizes) and _volume(before) == _volume(after) == channels
        if not vectors or before.shape[1] != channels or len(after.shape) < 2 or after.shape[1] != channels:
            return False
        return self._take(before, 1) and self._take(after, 1)

    def _per_channel(self, node: ir.Node, index: int, axis: int) -> bool:
        """Whether a constant operand has one number per channel."""
        value, shape = node.inputs[index], node.outputs[0].shape
        if value is None or not is_constant(value) or value.dtype != ir.DataType.FLOAT:
            return False
        if value.shape is None or shape is None or len(value.shape) > len(shape):
            return False
        aligned = [1] * (len(shape) - len(value.shape)) + [int(size) for size in value.shape.numpy()]
        return all(size == (self.group.channels if i == axis else 1) for i, size in enumerate(aligned))

    def _factor(self, node: ir.Node, index: int) -> None:
        if (node, index) not in self.group.factors:
            self.group.factors.append((node, index))


def _before_bounds(value: ir.Value) -> bool:
    readers = [use.node for use in value.uses()]
    return bool(readers) and all(node.op_type in ("Relu", "Clip") and node.domain == "" for node in readers)


def _start(node: ir.Node) -> tuple[int, int]:
    """Number of channels that a group which begins at a node would have, and their axis; (0, -1) where none begins."""
    output = node.outputs[0] if node.outputs else None
    if node.domain != "" or output is None or output.shape is None:
        return 0, -1
    last = len(output.shape) - 1
    if _is_maker(node):
        return _made(node), 1 if node.op_type in CONVOLUTIONS else last
    if node.op_type == "LayerNormalization":
        return _size(output, last), last
    constants = [value for value in node.inputs if value is not None and is_constant(value)]
    if node.op_type != "Mul" or len(constants) != 1 or constants[0].shape is None:
        return 0, -1
    sizes = [int(size) for size in constants[0].shape.numpy()]
    long = [i for i, size in enumerate(sizes) if size > 1]
    return (sizes[long[0]], long[0] + last + 1 - len(sizes)) if len(long) == 1 else (0, -1)


def _size(value: ir.Value, axis: int) -> int:
    size = value.shape[axis] if value.shape else None
    return size if isinstance(size, int) else 0


def _same_rank(node: ir.Node) -> bool:
    """Whether all that a node computes with has the rank of its output, so that an axis is the same in all of it."""
    shapes = [value.shape for value in (*(node.inputs[i] for i in activations(node)), node.outputs[0]) if value]
    return (
        all(shape is not None for shape in shapes) and len({len(shape) for shape in shapes if shape is not None}) == 1
    )


def _is_maker(node: ir.Node) -> bool:
    """A compute node whose weight, and bias if it has one, are constants with an axis for the output channels."""
    if node.domain != "" or node.op_type not in (*CONVOLUTIONS, *PRODUCTS) or len(node.inputs) <= WEIGHT_INPUT:
        return False
    if node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) != 1:
        return False
    weight = node.inputs[WEIGHT_INPUT]
    bias = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else None
    if weight is None or not is_constant(weight) or weight.shape is None or weight.dtype != ir.DataType.FLOAT:
        return False
    if is_constant(node.inputs[0]) or (node.op_type == "MatMul" and len(weight.shape) != 2):
        return False
    return bias is None or (is_constant(bias) and bias.shape is not None and _is_row(bias, _made(node)))


def _is_row(bias: ir.Value, channels: int) -> bool:
    sizes = [int(size) for size in bias.shape.numpy()] if bias.shape is not None else []
    return bool(sizes) and sizes[-1] == channels and all(size == 1 for size in sizes[:-1])


def _made(node: ir.Node) -> int:
    """Number of output channels of a compute node."""
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.shape is not None
    return int(weight.shape.numpy()[channel_axis(node)])


def _last(value: ir.Value) -> int:
    return len(value.shape) - 1 if value.shape is not None else -1


def _volume(value: ir.Value) -> int:
    volume = 1
    for size in (value.shape or ())[1:]:
        volume *= int(size) if isinstance(size, int) else 0
    return volume


def _reads_channels(node: ir.Node, value: ir.Value, axis: int) -> bool:
    """Whether a compute node sums over the channels of a tensor with a constant weight."""
    if node.op_type == "Gemm" and int(node.attributes.get_int("transA", 0)):
        return False
    if node.op_type in CONVOLUTIONS:
        return axis == 1 and _is_weighted(node)
    return node.op_type in PRODUCTS and axis == _last(value) and _is_weighted(node)


def _is_weighted(node: ir.Node) -> bool:
    weight = node.inputs[WEIGHT_INPUT] if len(node.inputs) > WEIGHT_INPUT else None
    if weight is None or not is_constant(weight) or weight.shape is None or weight.dtype != ir.DataType.FLOAT:
        return False
    if node.op_type == "MatMul":
        return len(weight.shape) == 2
    return node.op_type != "ConvTranspose" or node.attributes.get_int("group", 1) == 1
