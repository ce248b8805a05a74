"""What each operator ties together. An operator without a rule freezes all that it touches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from infopt.facts import is_constant
from infopt_passes.prune.wiring.axes import rank, size_of
from infopt_passes.prune.wiring.moves import MOVES
from infopt_passes.prune.wiring.ties import Ties, given, listed
from infopt_passes.prune.wiring.ties import called as _called

Rule = Callable[[ir.Node, Ties], None]

UNARY = tuple(
    "Abs Acos Asin Atan BitShift Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish "
    "Tan Tanh ThresholdedRelu IsNaN IsInf".split()
)
BROADCAST = tuple(
    "Add Sub Mul Div Pow Sum Min Max Mean Mod Where Equal Greater Less GreaterOrEqual LessOrEqual And Or Xor "
    "PRelu BiasGelu".split()
)
REDUCTIONS = tuple(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceProd ReduceSumSquare ReduceLogSum "
    "ReduceLogSumExp".split()
)
POOLS = tuple("MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool".split())


def _unary(node: ir.Node, tie: Ties) -> None:
    for output in node.outputs:
        tie.all_but(node.inputs[0], output)


def _broadcast(node: ir.Node, tie: Ties) -> None:
    output = node.outputs[0]
    for value in node.inputs:
        missing = (rank(output) or 0) - (rank(value) or 0)
        for axis in range(rank(value) or 0):
            if value is not None and size_of(value, axis) != 1:
                tie(value, axis, output, axis + missing)
    _unsure(node, tie, rank(output) or 0)


def _unsure(node: ir.Node, tie: Ties, axes: int) -> None:
    """Freeze the leading axes of a result that an operand may or may not have: its size there is not known."""
    output = node.outputs[0]
    total = rank(output) or 0
    for value in node.inputs:
        missing = total - (rank(value) or 0)
        for axis in range(max(0, missing), axes):
            if value is not None and size_of(value, axis - missing) is None:
                tie.freeze(output, f"{_called(node)} reads a tensor of unknown size", axis)


def _conv(node: ir.Node, tie: Ties) -> None:
    data, weight, bias, output = node.inputs[0], node.inputs[1], given(node, 2), node.outputs[0]
    groups = node.attributes.get_int("group", 1) or 1
    made, read = (0, 1) if node.op_type == "Conv" else (1, 0)
    tie(data, 0, output, 0)
    if weight is None or not is_constant(weight):
        return
    tie(bias, 0, output, 1)
    if groups == 1:
        tie(data, 1, weight, read)
        tie(weight, made, output, 1)
    elif data is not None:
        # One axis of the weight has the channels of all groups, the other those of one.
        _grouped(tie, weight, *((output, data) if node.op_type == "Conv" else (data, output)), groups)


def _grouped(tie: Ties, weight: ir.Value, full: ir.Value, other: ir.Value, groups: int) -> None:
    """Whole groups come and go, or, where groups are few and wide, as many channels of each as of all others."""
    size, shared = size_of(full, 1), size_of(weight, 1)
    if size is None or shared is None or size % groups or size_of(weight, 0) != size:
        return
    if size_of(other, 1) != shared * groups:
        return
    ids, others, each = tie.axes.ids(full, 1), tie.axes.ids(other, 1), size // groups
    tie(weight, 0, full, 1)
    if min(each, shared) >= groups:
        tie.positions((full, 1), ids, (full, 1), np.tile(ids[:each], groups))
        tie.positions((other, 1), others, (weight, 1), np.tile(tie.axes.ids(weight, 1), groups))
        return
    tie.positions((full, 1), ids, (full, 1), np.repeat(ids[::each], each))
    tie.positions((other, 1), others, (full, 1), np.repeat(ids[::each], shared))


def _gemm(node: ir.Node, tie: Ties) -> None:
    data, weight, bias, output = node.inputs[0], node.inputs[1], given(node, 2), node.outputs[0]
    turned, flipped = node.attributes.get_int("transB", 0), node.attributes.get_int("transA", 0)
    tie(data, 0 if flipped else 1, weight, 1 if turned else 0)
    tie(data, 1 if flipped else 0, output, 0)
    tie(weight, 0 if turned else 1, output, 1)
    for back in range(1, (rank(bias) or 0) + 1):
        if bias is not None and size_of(bias, (rank(bias) or 0) - back) != 1:
            tie(bias, (rank(bias) or 0) - back, output, 2 - back)


def _matmul(node: ir.Node, tie: Ties) -> None:
    product(node, tie, False, False)


def product(node: ir.Node, tie: Ties, turned: bool, flipped: bool) -> None:
    """Tie what a product of matrices ties together.

    Args:
        node: It reads the two first.
        tie: Of the node.
        turned: Whether the last two axes of the first input change places before it is multiplied.
        flipped: The same of the second.
    """
    one, other, output = node.inputs[0], node.inputs[1], node.outputs[0]
    left, right, out = rank(one) or 0, rank(other) or 0, rank(output) or 0
    if left < 2 or right < 2 or out != max(left, right):
        return
    tie(one, left - 1 - turned, other, right - 2 + flipped)
    tie(one, left - 2 + turned, output, out - 2)
    tie(other, right - 1 - flipped, output, out - 1)
    for value, own in ((one, left), (other, right)):
        for axis in range(own - 2):
            if value is not None and size_of(value, axis) != 1:
                tie(value, axis, output, axis + out - own)
    _unsure(node, tie, out - 2)


def _normalized(node: ir.Node, tie: Ties) -> None:
    """BatchNormalization and InstanceNormalization: one number per channel in each vector."""
    data, output = node.inputs[0], node.outputs[0]
    over = range(2, rank(data) or 0) if node.op_type == "InstanceNormalization" else ()
    tie.all_but(data, output, *over)
    for vector in node.inputs[1:]:
        tie(vector, 0, output, 1)
    for value in (data, output):
        if over:
            tie.freeze(value, f"{_called(node)} computes its mean over them", *over)


def _group_norm(node: ir.Node, tie: Ties) -> None:
    """Whole groups of channels come and go: a mean is over all of one."""
    data, output, groups = node.inputs[0], node.outputs[0], node.attributes.get_int("num_groups", 1) or 1
    channels, why = size_of(output, 1), f"{_called(node)} computes its mean over them"
    tie(data, 0, output, 0)
    for value in (data, output):
        tie.freeze(value, why, *range(2 if groups > 1 else 1, rank(value) or 0))
    if groups == 1 or channels is None or channels % groups or data is None or size_of(data, 1) != channels:
        return
    tie(data, 1, output, 1)
    ids, each = tie.axes.ids(output, 1), channels // groups
    tie.positions((output, 1), ids, (output, 1), np.repeat(ids[::each], each))
    for vector in node.inputs[1:]:
        tie(vector, 0, output, 1)
        if vector is not None and size_of(vector, 0) == groups != channels:  # before operator set 21
            tie.positions((vector, 0), tie.axes.ids(vector, 0), (output, 1), ids[::each])


def _einsum(node: ir.Node, tie: Ties) -> None:
    """Axes of one letter are one."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    read, arrow, made = equation.partition("->")
    terms = [*read.split(","), made]
    values = [*node.inputs, node.outputs[0]]
    if not arrow or len(terms) != len(values) or any(len(t) != rank(v) for t, v in zip(terms, values, strict=True)):
        return
    places = [
        (letter, value, axis) for term, value in zip(terms, values, strict=True) for axis, letter in enumerate(term)
    ]
    for letter in set(read) - {","}:
        (_, one, first), *others = [place for place in places if place[0] == letter]
        if len({size_of(value, axis) for _, value, axis in places if _ == letter and value is not None}) == 1:
            for _, value, axis in others:
                tie(one, first, value, axis)
            if one is not None:
                tie.spoken.add((one, first))


def _layer_norm(node: ir.Node, tie: Ties) -> None:
    data, output = node.inputs[0], node.outputs[0]
    total = rank(data) or 0
    first = node.attributes.get_int("axis", -1) % max(total, 1)
    tie.all_but(data, output, *range(first, total))
    why = f"{_called(node)} computes its mean over them"
    for value in (data, output):
        tie.freeze(value, why, *range(first, total))


def _along(node: ir.Node, tie: Ties) -> None:
    """Softmax and its kind: all of one axis, in old operator sets all from that axis on."""
    data, output = node.inputs[0], node.outputs[0]
    total, version = rank(data) or 0, node.version or (node.graph.opset_imports.get("", 0) if node.graph else 0)
    axis = node.attributes.get_int("axis", -1 if version >= 13 else 1) % max(total, 1)
    over = [axis] if version >= 13 else list(range(axis, total))
    tie.all_but(data, output, *over)
    for value in (data, output):
        if over:
            tie.freeze(value, f"{_called(node)} goes over them", *over)


def _reduced(node: ir.Node, tie: Ties) -> None:
    data, output, total = node.inputs[0], node.outputs[0], rank(node.inputs[0]) or 0
    over = listed(node, "axes", 1)
    if over is None and given(node, 1) is not None:
        return None
    noop = node.attributes.get_int("noop_with_empty_axes", 0)
    if not over and noop:
        return tie.all_but(data, output)
    gone = {axis % max(total, 1) for axis in (over or range(total))}
    keep = bool(node.attributes.get_int("keepdims", 1))
    places = [axis for axis in range(total) if keep or axis not in gone]
    for place, axis in enumerate(places):
        if axis not in gone:
            tie(data, axis, output, place)
    return tie.freeze(data, f"{_called(node)} reduces over them", *gone) if gone else None


def _pool(node: ir.Node, tie: Ties) -> None:
    for output in node.outputs[:1]:
        tie(node.inputs[0], 0, output, 0)
        tie(node.inputs[0], 1, output, 1)
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        tie.freeze(node.inputs[0], f"{_called(node)} gives indices", 1)


def _rules() -> dict[str, Rule]:
    table: dict[str, Rule] = dict(MOVES)
    same: tuple[tuple[tuple[str, ...], Rule], ...] = (
        (UNARY, _unary),
        (BROADCAST, _broadcast),
        (REDUCTIONS, _reduced),
        (POOLS, _pool),
        (("Conv", "ConvTranspose"), _conv),
        (("BatchNormalization", "InstanceNormalization"), _normalized),
        (("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), _layer_norm),
        (("Softmax", "LogSoftmax", "Hardmax"), _along),
        (("Gemm",), _gemm),
        (("MatMul",), _matmul),
        (("Einsum",), _einsum),
        (("GroupNormalization",), _group_norm),
    )
    return table | {name: rule for names, rule in same for name in names}


RULES = _rules()
"""Rule by operator, of the operators of ONNX that compute."""
