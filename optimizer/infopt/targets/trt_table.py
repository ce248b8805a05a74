"""What TensorRT and TensorRT-RTX run in integers.

Sources: NVIDIA's developer guide (Q/DQ placement); for the sizes that do not pay, the exclusion rules of
modelopt/onnx/quantization. The tests read in real TensorRT-RTX engines that each row gives integer operands.
ConvTranspose has no row: TensorRT-RTX dequantizes its operands and runs it in float.
"""

from __future__ import annotations

from math import prod

from infopt.target import Facts, Output, Role, Rule, Scheme, Table
from infopt.targets.conditions import matrix_weight, runtime_weight

LEAST = 16
"""Channels, or inner or outer size of a matrix product, below which integer tensor cores run half empty."""


def narrow_conv(facts: Facts) -> str | None:
    """Convolutions with few channels have integer kernels for some shapes only."""
    if facts.weight is None:
        return None
    out, into, *kernel = facts.weight
    if min(out, into) >= LEAST:
        return None
    if facts.groups > 1:
        suits = out % 8 == 0 and all(size >= 3 for size in kernel)
    else:
        suits = (out % 8 == 0 or into % 8 == 0) and max(out, into) >= LEAST and len(set(kernel)) == 1
    return None if suits else f"too few channels for an integer kernel ({into} in a group, {out} out)"


def vector_product(facts: Facts) -> str | None:
    """A matrix times a vector is bound by memory; integer tensor cores do not help."""
    if facts.weight is None:
        return None
    rows = _rows(facts)
    return "one operand is a vector" if 1 in (rows, facts.weight[facts.channel_axis]) else None


def small_product(facts: Facts) -> str | None:
    """Small matrix products lose more by quantizing their input than they gain."""
    if facts.weight is None or min(facts.weight) >= LEAST:
        return None
    return f"its weight is {'x'.join(map(str, facts.weight))}, and less than {LEAST} does not pay"


def _rows(facts: Facts) -> int | None:
    """Rows of the first operand, or ``None`` if they are not all known."""
    shape = facts.inputs[0]
    if shape is None:
        return None
    rows = [shape[1]] if facts.attributes.get("transA") else list(shape[:-1])
    known = [size for size in rows if size is not None]
    return prod(known) if len(known) == len(rows) else None


PRODUCT = (runtime_weight, matrix_weight, vector_product, small_product)

TABLE = Table(
    activation=Scheme("int8", symmetric=True),
    weight=Scheme("int8", symmetric=True, per_channel=True, narrow=True),
    bias="float",
    rules=(
        Rule(("Conv",), Role.COMPUTE, Output.WANTED, (runtime_weight, narrow_conv)),
        Rule(("Gemm", "MatMul"), Role.COMPUTE, Output.WANTED, PRODUCT),
        Rule(("Add",), Role.RESIDUAL),
        Rule(("MaxPool",), Role.MOVE),
        Rule(("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice"), Role.MOVE),
        Rule(("Concat",), Role.JOIN, shared=True),
    ),
    absorbs=frozenset(),
    opset=13,
)
"""Shared by both targets. A symmetric range does not cut at zero, so it absorbs no ReLU: Q comes after it."""
