"""What can be said of zeros among a model's weights."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt
    import onnx_ir as ir

OF = 4
"""Input channels of a group in the 2:4 pattern."""

ZEROS = 2
"""Weights of a group that are zero at least."""

DENSE = "left dense: "
"""What the remark on a layer that no weight of was zeroed begins with; the reason follows."""

CHUNK = 1 << 20
"""Bytes that are compressed at a time."""


def two_of_four(path: Path) -> bool:
    """Whether some Conv, Gemm or MatMul of an ONNX file has a weight with two zeros in every four input channels.

    Weights behind a DequantizeLinear count as well: one whose zero point is 0 keeps zeros.
    """
    import onnx_ir as ir
    from google.protobuf.message import DecodeError

    try:
        graph = ir.load(path).graph
    except DecodeError:
        return False  # the runtime has words for what is no model
    return any(_sparse(node) for node in graph.all_nodes() if node.op_type in ("Conv", "Gemm", "MatMul"))


def has_pattern(weight: npt.NDArray[Any], axis: int) -> bool:
    """Whether each four neighbours along an axis hold two zeros, and the axis is made of fours.

    Args:
        weight: Of any shape.
        axis: That of the input channels.
    """
    import numpy as np

    size = weight.shape[axis]
    if not weight.size or size % OF:
        return False
    fours = np.moveaxis(weight, axis, -1).reshape(-1, OF)
    return bool(np.all(np.sum(fours == 0, axis=1) >= ZEROS))


def compressed_bytes(files: Iterable[Path]) -> int:
    """Bytes of files as a zip archive holds them: deflate, level 6."""
    return sum(map(_deflated, files))


def _deflated(path: Path) -> int:
    packer, count = zlib.compressobj(6), 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            count += len(packer.compress(chunk))
    return count + len(packer.flush())


def stored_weight(node: ir.Node) -> ir.TensorProtocol | None:
    """The constant that a layer reads as its weight, as it is stored: before a DequantizeLinear, if there is one."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    maker = weight.producer() if weight is not None else None
    if maker is not None and maker.op_type == "DequantizeLinear":
        weight = maker.inputs[0]
    return weight.const_value if weight is not None else None


def _sparse(node: ir.Node) -> bool:
    weight = stored_weight(node)
    if weight is None or len(weight.shape) < 2:
        return False
    inputs_last = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
    axis = 1 if node.op_type == "Conv" or inputs_last else len(weight.shape) - 2
    return has_pattern(weight.numpy(), axis)
