"""What is quantized in a file, and what the weights of matrix products take in it."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from infopt.model import QUANTIZED_OPS, load

PRODUCTS = {
    "MatMul": 2,
    "Gemm": 2,
    "MatMulInteger": 4,
    "QLinearMatMul": 8,
    "MatMulNBits": 4,
    "MatMulIntegerToFloat": 6,
    "DynamicQuantizeMatMul": 4,
    "QGemm": 6,
}
"""Operators with a matrix product, and how many of their first inputs are operands, scales and zero points."""

PASSED = frozenset({"Cast", "Identity", "Reshape", "Transpose", "Unsqueeze", "Squeeze"})


def quantized_count(path: Path) -> int:
    """Nodes of an ONNX file or an OpenVINO IR that are quantized or quantize."""
    if path.suffix == ".xml":
        text = path.read_text(encoding="utf-8")
        return sum(text.count(f'type="{op}"') for op in QUANTIZED_OPS)
    return len(load(path).quantized_nodes())


def matrix_bytes(path: Path) -> int:
    """Bytes of all constant operands of matrix products, each once, with their scales and zero points."""
    found: dict[int, int] = {}
    for node in ir.load(path).graph.all_nodes():
        for value in node.inputs[: PRODUCTS.get(node.op_type, 0)]:
            found |= {id(each): _size(each) for each in _constants(value)}
    return sum(found.values())


def _constants(value: ir.Value | None) -> list[ir.Value]:
    """What a constant operand is made of; nothing for one that is computed from data."""
    if value is None:
        return []
    node = value.producer()
    if node is None:
        return [value] if value.const_value is not None else []
    if node.op_type == "Constant":
        return [value]
    if node.op_type == "DequantizeLinear":
        data = _constants(node.inputs[0])
        return [*data, *(each for part in node.inputs[1:] for each in _constants(part))] if data else []
    return _constants(node.inputs[0]) if node.op_type in PASSED else []


def _size(value: ir.Value) -> int:
    tensor = ir.convenience.get_const_tensor(value)
    return 0 if tensor is None else tensor.nbytes
