"""What can be said of one node without running it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from infopt.target import Facts, Role, Rule, Table

WEIGHT_INPUT = 1
"""Position of the weight in Conv, ConvTranspose, Gemm and MatMul alike."""

BIAS_INPUT = 2

Sizes = tuple[int | None, ...]
"""Sizes of a tensor's axes, ``None`` where unknown."""

FLOAT_SUFFIX = ":float"
"""An output of the model that is quantized keeps its name behind the pair; in front it is called so."""

CONVOLUTIONS = ("Conv", "ConvTranspose")

COMPUTE_OPS = frozenset("Conv ConvTranspose Gemm MatMul Einsum LSTM GRU RNN Attention".split())
"""Operators that do most of a model's arithmetic: the report names each that stays in float."""

PLAIN = frozenset({ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING, ir.AttributeType.INTS})
"""Types of the attributes that conditions may look at."""


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is a weight of the model rather than computed or fed."""
    return value is not None and value.is_initializer() and not value.is_graph_input()


def activations(node: ir.Node) -> list[int]:
    """Positions of the inputs that are computed at run time."""
    return [i for i, value in enumerate(node.inputs) if value is not None and not is_constant(value)]


def operands(node: ir.Node, spared: bool) -> list[int]:
    """Positions of the inputs that are computed at run time, where asked for without those known to be broadcast."""
    computed = activations(node)
    output = _shape(node.outputs[0])
    if not spared or output is None:
        return computed
    return [i for i in computed if not _broadcast(_shape(node.inputs[i]), output)]


def _broadcast(shape: Sizes | None, output: Sizes) -> bool:
    """Whether a shape is known to be smaller than that of the result it takes part in."""
    if shape is None:
        return False
    aligned = (1,) * (len(output) - len(shape)) + shape
    return any(size == 1 and wanted != 1 for size, wanted in zip(aligned, output, strict=True))


def channel_axis(node: ir.Node) -> int:
    """Axis of the output channels in a compute node's weight."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if _number(node, "transB", 0) else 1
    return -1


def facts(node: ir.Node) -> Facts:
    """What a table's conditions may look at."""
    weight = node.inputs[WEIGHT_INPUT] if len(node.inputs) > WEIGHT_INPUT else None
    constant = weight if is_constant(weight) else None
    return Facts(
        op=node.op_type,
        weight=tuple(constant.shape.numpy()) if constant is not None and constant.shape is not None else None,
        channel_axis=channel_axis(node),
        groups=int(_number(node, "group", 1)),
        inputs=tuple(_shape(value) for value in node.inputs),
        output=_shape(node.outputs[0]),
        attributes={name: attr.value for name, attr in node.attributes.items() if attr.type in PLAIN},
        constants=tuple(value is None or is_constant(value) for value in node.inputs),
        numbers=tuple(map(_single, node.inputs)),
        outputs=sum(bool(value.uses()) or value.is_graph_output() for value in node.outputs),
    )


def _single(value: ir.Value | None) -> float | None:
    """The value of a constant that is a single number."""
    tensor = value.const_value if value is not None and is_constant(value) else None
    if tensor is None or tensor.size != 1 or tensor.dtype == ir.DataType.STRING:
        return None
    return float(tensor.numpy().reshape(()))


def row(node: ir.Node, opset: int, table: Table) -> Rule | None:
    """The row of a table that is about a node, in a model of some operator set."""
    if node.domain != "":
        return None
    rule = table.rule(node.op_type, computed=not any(map(is_constant, node.inputs[:2])))
    return rule if rule and opset >= rule.since else None


def float_reason(node: ir.Node, rule: Rule, table: Table) -> str | None:
    """Why a table leaves a node in float that it has a row for, or ``None`` when it does not."""
    if rule.role is Role.FLOAT:
        return rule.why
    # The operands of a compute node are of one type: the weight tells it where shapes were not inferred.
    typed = node.inputs if rule.role is Role.COMPUTE else node.inputs[:1]
    for value in typed:
        if value is not None and value.dtype not in (None, ir.DataType.FLOAT):
            return f"its input is {value.dtype.name.lower()}, not float32"
    seen = facts(node)
    why = next((why for condition in rule.unless if (why := condition(seen))), None)
    return why or (_odd_bias(node) if rule.role is Role.COMPUTE and table.bias == "int32" else None)


def _odd_bias(node: ir.Node) -> str | None:
    """An integer bias is one number per output channel; Gemm allows others."""
    bias = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else None
    if bias is None or bias.shape is None or all(size == 1 for size in bias.shape[:-1]):
        return None
    return f"its bias has the shape {'x'.join(map(str, bias.shape))}"


def clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """The bounds of a ReLU or Clip; ``None`` for other operators and for bounds that are computed at run time."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip":
        return None
    given = [*node.inputs[1:3], None, None][:2]
    if any(value is not None and not is_constant(value) for value in given):
        return None
    low, high = (
        default if value is None or value.const_value is None else float(value.const_value.numpy().reshape(()))
        for value, default in zip(given, (-np.inf, np.inf), strict=True)
    )
    return low, high


def _shape(value: ir.Value | None) -> Sizes | None:
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def _number(node: ir.Node, name: str, default: float) -> float:
    attr = node.attributes.get(name)
    return attr.value if attr is not None else default
