"""What TensorRT and TensorRT-RTX run in integers.

Sources: NVIDIA's developer guide (explicit quantization, Q/DQ placement); for the sizes that do not pay, the exclusion
rules of modelopt/onnx/quantization. What holds for TensorRT-RTX is read from real engines by the conformance tests;
where the tables differ, TensorRT's rows rest on the guide, and the tests see only that the parser takes them.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from infopt.precisions import Plans, Refusal
from infopt.target import Facts, Output, Role, Rule, Scheme, Table
from infopt.targets.conditions import indices_read, not_nearest, runtime_weight
from infopt.targets.precision_tables import BLOCKS, NO_SUCH, NO_WEIGHT, WEIGHTS, weights_table

LEAST = 16
"""Channels, or inner or outer size of a matrix product, below which integer tensor cores run half empty."""

LONGEST = 512
"""Tokens up to which attention has fused kernels with integer products."""


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
    if facts.weight is None or min(facts.weight[-2:]) >= LEAST:
        return None
    return f"its weight is {'x'.join(map(str, facts.weight))}, and less than {LEAST} does not pay"


def other_equation(facts: Facts) -> str | None:
    """Only equations that are a matrix product become one; a weight's columns are its last axis."""
    terms, _, result = str(facts.attributes.get("equation", "")).replace(" ", "").partition("->")
    left, _, right = terms.partition(",")
    inner = set(left) & set(right) - set(result)
    columns = set(right) - set(left)
    several = len(inner) != 1 or len(columns) != 1 or not columns <= set(result) or not set(left) - set(right)
    apart = facts.weight is not None and (len(right) != 2 or right[-1:] not in columns)
    return "its equation is not a product with a matrix" if several or apart or "." in terms else None


def long_attention(facts: Facts) -> str | None:
    """Attention over long sequences is faster in fused kernels of half precision."""
    longest = max((size or 0 for shape in facts.inputs[:2] for size in (shape or ())[-2:]), default=0)
    return f"attention over {longest} tokens has no fused integer kernel" if longest > LONGEST else None


def small_attention(facts: Facts) -> str | None:
    """Products of small matrices lose more by quantizing both operands than they gain."""
    sizes = [size for shape in facts.inputs[:2] for size in (shape or ())[-2:] if size is not None]
    smallest = min(sizes, default=LEAST)
    return f"a side of {smallest} is less than {LEAST}, which does not pay" if smallest < LEAST else None


def other_window(facts: Facts) -> str | None:
    """TensorRT-RTX averages windows of 3x3 and 7x7 in integers, at each place; others in float."""
    window = "x".join(map(str, facts.attributes.get("kernel_shape", ())))
    steps = set(facts.attributes.get("strides", ()))
    if window in ("3x3", "7x7") and steps <= {1}:
        return None
    return f"its window of {window}{' with strides' if steps - {1} else ''} is averaged in float"


def volume_window(facts: Facts) -> str | None:
    """Pooling over three axes has float kernels only."""
    return "it pools over three axes" if len(facts.attributes.get("kernel_shape", ())) > 2 else None


def _rows(facts: Facts) -> int | None:
    """Rows of the first operand, or ``None`` if they are not all known."""
    shape = facts.inputs[0]
    if shape is None:
        return None
    rows = [shape[1]] if facts.attributes.get("transA") else list(shape[:-1])
    known = [size for size in rows if size is not None]
    return prod(known) if len(known) == len(rows) else None


PRODUCT = (runtime_weight, vector_product, small_product)
ATTENTION = (long_attention, small_attention)

IN_FRONT = "it ends the kernel of the layer in front, with the Q behind it: Q/DQ in between would only round twice"
ONE_KERNEL = "it is one kernel with the Q behind it, and needs its input in full"
SEVERAL = "it is computed in float between integer layers"
WIDE = "it needs more than 8 bits; where a product reads its result, that is quantized"

ACTIVATIONS = tuple("LeakyRelu PRelu Elu Tanh Sigmoid HardSigmoid HardSwish Mish Gelu Erf".split())
ARITHMETIC = ("Sub", "Mul", "Div", "Max")

TABLE = Table(
    activation=Scheme("int8", symmetric=True),
    weight=Scheme("int8", symmetric=True, per_channel=True, narrow=True),
    bias="float",
    sparse=True,
    multiple=16,  # of half precision, and of no harm to 32 of INT8
    rules=(
        Rule(("Conv",), Role.COMPUTE, Output.OFFERED, (runtime_weight, narrow_conv)),
        Rule(("Gemm", "MatMul"), Role.COMPUTE, Output.OFFERED, PRODUCT),
        Rule(("Einsum",), Role.COMPUTE, Output.OFFERED, (runtime_weight, other_equation, small_product)),
        Rule(("MatMul",), Role.COMPUTE, Output.OFFERED, ATTENTION, computed=True),
        Rule(("Einsum",), Role.COMPUTE, Output.OFFERED, (other_equation, *ATTENTION), computed=True),
        Rule(("Add",), Role.RESIDUAL, writes=True),
        Rule(("MaxPool",), Role.MOVE, unless=(volume_window, indices_read)),
        Rule(("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"), Role.MOVE, carries=True),
        Rule(("GlobalMaxPool", "ReduceMax", "Slice"), Role.MOVE),
        Rule(("Split", "Gather", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth"), Role.MOVE),
        Rule(("Resize",), Role.MOVE, unless=(not_nearest,), writes=True),
        Rule(("Concat",), Role.JOIN, shared=True),
        Rule(("Relu", "Clip"), Role.FLOAT, writes=True, why=IN_FRONT),
        Rule(ACTIVATIONS, Role.FLOAT, epilogue=True, writes=True, why=IN_FRONT),
        Rule(ARITHMETIC, Role.FLOAT, epilogue=True, writes=True, why=IN_FRONT),
        Rule(("LayerNormalization",), Role.FLOAT, writes=True, why=ONE_KERNEL),
        Rule(("AveragePool",), Role.FOLLOW, unless=(other_window,)),
        Rule(("GlobalAveragePool", "ReduceMean", "InstanceNormalization"), Role.FLOAT, why=SEVERAL),
        Rule(("Softmax",), Role.FLOAT, why=WIDE),
        Rule(("ConvTranspose",), Role.FLOAT, why="TensorRT-RTX turns its operands back into floats"),
        Rule(("LSTM", "GRU"), Role.FLOAT, why="the builder fails on quantized gates"),
    ),
    opset=13,
)
"""TensorRT-RTX. A symmetric range does not cut at zero: the Q stands behind a ReLU, and both end the kernel."""

DIFFERENT = (
    Rule(("ConvTranspose",), Role.COMPUTE, Output.OFFERED, (runtime_weight,)),
    Rule(("AveragePool",), Role.FOLLOW),
)

TENSORRT_TABLE = replace(
    TABLE,
    rules=(*DIFFERENT, *(
        replace(rule, ops=ops)
        for rule in TABLE.rules
        if (ops := tuple(op for op in rule.ops if op not in {op for other in DIFFERENT for op in other.ops}))
    )),
)  # fmt: skip
"""TensorRT: it has integer kernels for transposed convolutions and for averages over any window."""

FLOAT8 = Scheme("float8e4m3fn", symmetric=True)

FLOAT8_TABLE = Table(
    activation=FLOAT8,
    weight=replace(FLOAT8, per_channel=True),
    bias="float",
    rules=(
        Rule(("Conv",), Role.COMPUTE, unless=(runtime_weight, narrow_conv)),
        Rule(("Gemm", "MatMul"), Role.COMPUTE, unless=PRODUCT),
        Rule(("MatMul",), Role.FLOAT, computed=True, why=NO_WEIGHT),
        Rule(("ConvTranspose", "Einsum", "LSTM", "GRU"), Role.FLOAT, why=NO_SUCH),
    ),
    absorbs=frozenset(),
    opset=19,
    needs="a GPU of compute capability 8.9 (SM89) or more",
)
"""Micikevicius et al. 2022. Data of operators between products stay in float: what they gain in FP8 they lose in
quantizing."""

NO_RUNTIME = "its parser knows no operator that quantizes data with the range of each run to int8"
NO_SIXTEEN = "its parser refuses 16-bit zero points"

PLANS: Plans = {
    "int8-weights": weights_table(WEIGHTS, conv=False, opset=13, unless=(small_product,)),
    "int4-weights": weights_table(BLOCKS, conv=False, opset=21, unless=(small_product,)),
    "dynamic-int8": Refusal(NO_RUNTIME, "int8"),
    "int16-activations": Refusal(NO_SIXTEEN, "int8-weights"),
    "fp8": FLOAT8_TABLE,
}
"""Products read compressed weights in their own kernel; a convolution would have them turned back in another."""
