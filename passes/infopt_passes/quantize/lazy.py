"""Weights that are quantized when they are written, so that no two large ones are in memory at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import onnx_ir as ir

from infopt.target import Scheme
from infopt_passes.quantize.numbers import Array, quantize_weight

T = TypeVar("T")

LARGE = 1 << 20
"""Weights of fewer bytes are quantized at once."""


def lent(tensor: ir.TensorProtocol, use: Callable[[Array], T]) -> T:
    """What a function makes of a tensor's values; what was mapped from a file for them is let go of afterwards.

    Args:
        tensor: The tensor.
        use: The function; it must not keep the array.
    """
    try:
        return use(tensor.numpy())
    finally:
        if isinstance(tensor, ir.ExternalTensor):
            with suppress(BufferError):  # somebody else still looks at it
                tensor.release()


def quantized_tensor(tensor: ir.TensorProtocol, scales: Array, axis: int, scheme: Scheme) -> Any:
    """The integers of a weight: an array, or for a large one a tensor that makes it whenever it is asked.

    Args:
        tensor: The float weight.
        scales: See :func:`infopt_passes.quantize.numbers.weight_scales`.
        axis: Axis of the output channels.
        scheme: How the target wants it.
    """

    def integers() -> ir.TensorProtocol:
        return ir.tensor(lent(tensor, lambda array: quantize_weight(array, scales, axis, scheme)))

    if tensor.nbytes < LARGE:
        return integers().numpy()
    return ir.LazyTensor(integers, ir.DataType[scheme.dtype.upper()], ir.Shape(tensor.shape.numpy()))
