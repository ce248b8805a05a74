"""Inputs and outputs of files that only ONNX Runtime can read."""

from __future__ import annotations

from pathlib import Path

from infopt.data import InputSpec
from infopt.errors import RuntimeRefused
from infopt.targets.onnxruntime import NAME, open_onnx


def ort_interface(path: Path) -> tuple[tuple[InputSpec, ...], tuple[str, ...]]:
    """Inputs and output names of a file in ONNX Runtime's own format (``.ort``).

    Raises:
        RuntimeRefused: The runtime cannot open it, or it takes something else than tensors.
    """
    session = open_onnx(path, {}).session
    specs = tuple(_spec(port) for port in session.get_inputs())
    return specs, tuple(port.name for port in session.get_outputs())


def _spec(port: object) -> InputSpec:
    import numpy as np
    from onnx import TensorProto, helper

    name, kind, shape = (getattr(port, key) for key in ("name", "type", "shape"))
    element = str(kind).removeprefix("tensor(").removesuffix(")").upper()  # tensor(float16) is FLOAT16 of onnx.proto
    if element not in set(TensorProto.DataType.keys()):
        raise RuntimeRefused(NAME, f"input {name!r} is {kind}, not a tensor")
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(element))
    return InputSpec(str(name), np.dtype(dtype), tuple(shape))
