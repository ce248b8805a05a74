"""Floating-point operations of a graph, counted from shapes: two for each multiplication with its addition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import onnx_ir as ir

from infopt.contributed import note_shapes

Size = Callable[[ir.Value, int], int]
"""Size of an axis of a tensor."""

ATTENTION = ("Attention", "MultiHeadAttention", "GroupQueryAttention")

INTEGER = {"MatMulInteger": "MatMul", "ConvInteger": "Conv", "DynamicQuantizeLSTM": "LSTM"}
"""What multiplies integers that were quantized at run time, as what it counts."""

COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedMatMul", "LSTM", "GRU", "RNN", *ATTENTION, *INTEGER)
"""Operators that are counted; what the others compute is small beside it."""

DOMAINS = ("", "com.microsoft")

INDEX = 64
"""Elements of a tensor that is still index arithmetic."""


ROUNDS = 8
"""Behind operators that ONNX does not know, others may stand that it knows, and such ones again."""


def flops(graph: ir.Model, shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Floating-point operations of one run, of the main graph.

    Args:
        graph: The model.
        shapes: Shape of each input in that run.

    Returns:
        The number; ``None`` where a shape that it depends on is only known at run time.
    """
    try:
        known = inferred(graph, shapes)
    except MemoryError:
        raise
    except Exception:  # inference of a graph that a runtime may well take
        return None

    def size(value: ir.Value, axis: int) -> int:
        found = value.shape[axis] if value.shape is not None else None
        if not isinstance(found, int):
            raise KeyError(value.name)
        return found

    try:
        return sum(node_flops(node, size) for node in known.graph)
    except (KeyError, IndexError):
        return None


def static_sizes(graph: ir.Model, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of the main graph, by name, as inference finds it for inputs of some shapes.

    Tensors that inference does not know the shape of are left out.
    """
    nodes = inferred(graph, shapes).graph
    values = [value for node in nodes for value in (*node.inputs, *node.outputs) if value is not None]
    found = {value.name or "": value.shape for value in values if value.shape is not None}
    return {
        name: tuple(int(size) for size in shape if isinstance(size, int))
        for name, shape in found.items()
        if all(isinstance(size, int) for size in shape)
    }


def inferred(graph: ir.Model, shapes: Mapping[str, Sequence[int]]) -> ir.Model:
    """A copy of a model with the shapes that follow from those of its inputs."""
    from onnx_ir.passes.common import LiftConstantsToInitializersPass
    from onnxscript.optimizer import fold_constants

    clone = graph.clone()
    for value in clone.graph.inputs:
        known = shapes.get(value.name or "")
        if known is not None:
            value.shape = ir.Shape(known)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(clone)
    _infer(clone)
    if _open(clone.graph):
        # Inference does not compute: what exporters work out from a shape, such as the end of a Slice, has to be known.
        fold_constants(clone, input_size_limit=INDEX, output_size_limit=INDEX)
        _infer(clone)
    return clone


def _infer(model: ir.Model) -> None:
    """Infer all shapes again, in place."""
    from onnx_ir.passes.common import ShapeInferencePass

    for node in model.graph:
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = None
    for value in model.graph.initializers.values():
        # A folded tensor may still have the shape that was inferred of it.
        if value.const_value is not None:
            value.shape = ir.Shape(value.const_value.numpy().shape)
    ShapeInferencePass()(model)
    for _ in range(ROUNDS):
        if not note_shapes(model.graph):
            break
        ShapeInferencePass()(model)


def _open(graph: ir.Graph) -> bool:
    """Whether the shape of an output of an operator that is counted is not known."""
    outputs = [node.outputs[0] for node in graph if node.op_type in COUNTED and node.domain in DOMAINS]
    return any(value.shape is None or not all(isinstance(size, int) for size in value.shape) for value in outputs)


def node_flops(node: ir.Node, size: Size) -> int:
    """Floating-point operations of one node; 0 for operators that are not counted.

    Args:
        node: The node.
        size: Tells sizes; it may raise what the caller expects for one that it does not know.

    Raises:
        KeyError: The rank of a tensor is not known.
    """
    if node.domain not in DOMAINS or node.op_type not in COUNTED:
        return 0
    kind = INTEGER.get(node.op_type, node.op_type)
    if kind in ATTENTION:
        return _attention(node, size)
    weight, output = node.inputs[1], node.outputs[0]
    if weight is None or weight.shape is None:
        return 0
    weights = prod(size(weight, axis) for axis in range(len(weight.shape)))
    if kind in ("Conv", "ConvTranspose"):
        # Each weight meets every place: of the output of a Conv, of the input of a ConvTranspose.
        places = output if kind == "Conv" else node.inputs[0]
        return 2 * weights * _size_of(places, size, but=1)
    if kind == "Gemm":
        return 2 * weights * size(output, 0)
    if kind in ("MatMul", "FusedMatMul"):
        data, turned = node.inputs[0], node.attributes.get_int("transA", 0)
        assert data is not None
        return 2 * _size_of(output, size) * size(data, len(data.shape or "..") - (2 if turned else 1))
    data, back = node.inputs[0], node.inputs[2]
    assert data is not None
    assert back is not None
    return 2 * size(data, 0) * size(data, 1) * (weights + prod(size(back, axis) for axis in range(3)))


def _attention(node: ir.Node, size: Size) -> int:
    """Scores and what is mixed by them, each a product over all tokens; what a cache brings along is not counted.

    Queries have axes (batch, tokens, features) or (batch, heads, tokens, features). Packed keys have as many tokens as
    there are queries. The Attention of ONNX Runtime multiplies with its weights, too.
    """
    query, output = node.inputs[0], node.outputs[0]
    own = node.domain != "" and node.op_type == "Attention"
    key = node.inputs[1] if len(node.inputs) > 1 and not own else None
    if query is None or query.shape is None or output.shape is None:
        raise KeyError("a tensor of unknown rank")
    weight = node.inputs[1] if own else None
    products = size(query, 0) * size(query, 1) * _size_of(weight, size) if own else 0
    seen = _tokens(key if key is not None else query, size)
    wide = _size_of(output if own or key is None else query, size)
    return 2 * (products + seen * (wide + _size_of(output, size)))


def _tokens(value: ir.Value, size: Size) -> int:
    return size(value, 2 if len(value.shape or "") == 4 else 1)


def _size_of(value: ir.Value | None, size: Size, but: int | None = None) -> int:
    if value is None or value.shape is None:
        raise KeyError("a tensor of unknown rank")
    return prod(size(value, axis) for axis in range(len(value.shape)) if axis != but)
