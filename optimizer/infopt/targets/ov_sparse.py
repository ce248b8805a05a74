"""Sparse weights that OpenVINO can keep packed in memory, and what a user has to do for it.

Its processor plugin packs the weights of fully connected layers when it loads a model, and unpacks them as it computes,
which saves memory traffic, not products. It does so where the processor has AMX, the data is int8 or uint8, the weight
is a constant int8 matrix with both sizes multiples of 64, and at least the part :data:`RATE` of it is zero; by default
that is 1, which means never. Everywhere else the property is taken and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.cpu import machine_isa

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

RATE = "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"
"""The property, a number between 0 and 1 that is given to ``compile_model``."""

LEAST = 0.5
"""Part of zeros beyond which the runtime's documentation says that packing works."""

MULTIPLE = 64
"""Of both sizes of a matrix that can be packed."""


def packable(graph: Path) -> dict[str, float]:
    """Layers of an ONNX file whose weights can be packed, each with the part of them that is zero."""
    import onnx_ir as ir

    nodes = ir.load(graph).graph.all_nodes()
    found = {node.name or node.op_type: _zeros(node) for node in nodes if node.op_type in ("MatMul", "Gemm")}
    return {name: zeros for name, zeros in found.items() if zeros > LEAST}


def advice(graph: Path) -> str | None:
    """What a user can try with an ONNX file that has such layers; ``None`` where it has none."""
    found = packable(graph)
    if not found:
        return None
    low, high = min(found.values()), max(found.values())
    layers = f"{len(found)} of its layers have INT8 weights of which {low:.0%} to {high:.0%} are zero"
    rate = int(low * 100) / 100
    how = f"processors with AMX can keep them packed when it is compiled with {RATE} at {rate:g}"
    why = "its gain is for you to measure" if machine_isa() == "amx" else "this processor has no AMX to measure it on"
    return f"{layers}; {how}, which is not set here: {why}"


def _zeros(node: ir.Node) -> float:
    """Part of a layer's weight that is zero; 0 where it cannot be packed."""
    import numpy as np
    import onnx_ir as ir

    from infopt.sparsity import stored_weight

    data = node.inputs[0].producer() if node.inputs[0] is not None else None
    weight = stored_weight(node)
    if data is None or data.op_type != "DequantizeLinear" or weight is None or weight.dtype != ir.DataType.INT8:
        return 0.0
    array = weight.numpy()
    if array.ndim != 2 or any(size % MULTIPLE for size in array.shape):
        return 0.0
    return float(np.mean(array == 0))
