"""What flows through the compiler: a graph, and the record of what was done to it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.data import InputSpec
from infopt.errors import InfoptError, ModelError
from infopt.writing import write_inline

INLINE_LIMIT = 256_000_000
"""Weights above this many bytes are written beside the graph: whoever reads a message has all of it in memory."""

QUANTIZED_OPS = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul QGemm QLinearAdd "
    "ConvInteger MatMulInteger MatMulIntegerToFloat DynamicQuantizeMatMul DynamicQuantizeLSTM MatMulNBits "
    "GatherBlockQuantized FakeQuantize".split()
)
"""Operators that show that a model has been quantized already."""

HELD = 4096
"""Weights in other files are read at once below this many bytes: they are shapes and axes, which every tool reads."""


@dataclass(frozen=True, slots=True)
class Note:
    """A remark of a pass on one node, for the report.

    Attributes:
        kind: ``"float"`` (kept in float), ``"warning"`` (the user should know), ``"choice"`` (what a pass tried, and
            what came of it), ``"layer"`` (what became of one layer).
        node: Name of the node or tensor.
        why: The reason in words.
    """

    kind: str
    node: str
    why: str


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """The graph that passes made of the model.

    Attributes:
        nodes: Nodes, subgraphs included.
        parameters: Weight elements.
        bytes: Bytes of the weights.
        flops: Floating-point operations of one sample, if they are known.
    """

    nodes: int
    parameters: int
    bytes: int
    flops: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """One pass that ran.

    Attributes:
        name: Name of the pass.
        options: Its options as a recipe holds them, with what it found in the place of what was left to it.
        seconds: Wall time.
        nodes: Nodes of the graph after it, subgraphs included.
        bytes: Bytes of the weights after it.
        choices: What it chose itself, and why, in words.
        asked: The options that it was given, where it found others.
    """

    name: str
    options: dict[str, Any]
    seconds: float
    nodes: int
    bytes: int
    choices: tuple[str, ...] = ()
    asked: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """What calibration saw of a quantized tensor, and what was made of it.

    Attributes:
        low: Smallest value of the calibrated range.
        high: Largest value of the calibrated range.
        scale: Quantization step.
        zero_point: Integer that stands for zero.
        dtype: Integer type by ONNX name, ``"uint8"``.
    """

    low: float
    high: float
    scale: float
    zero_point: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning left of a group of units that come and go together, or of a layer's weights.

    Attributes:
        name: The first tensor that is made with them, or the layer.
        unit: What is counted: ``"channels"``, ``"units of 4 channels"`` (heads), ``"weights"``; ``"layer"`` for one
            that was left alone.
        before: How many there were; ``None`` where that was not counted.
        after: How many are left; of weights, those that are not zero.
        remark: Why all of it was left alone, or what is known of what is left.
    """

    name: str
    unit: str
    before: int | None = None
    after: int | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A graph with its history. Passes take one and return another; nothing is changed in place.

    Attributes:
        graph: The graph; weights may be lazy or memory-mapped.
        path: The file that the user gave.
        steps: Passes that ran, in order.
        notes: Remarks of these passes.
        ranges: Calibrated range by tensor name, once quantized.
        external: Names of the files of its external data, relative to that of the model.
        pruned: What pruning left of each group, once pruned.
        settled: Options, as a recipe holds them, with which the pass that ran last does the same without a search or a
            measurement; ``None`` where those that it was given do. :func:`infopt.passes.run` takes them from here.
    """

    graph: ir.Model
    path: Path
    steps: tuple[Step, ...] = ()
    notes: tuple[Note, ...] = ()
    ranges: tuple[tuple[str, Range], ...] = ()
    external: tuple[str, ...] = ()
    pruned: tuple[Pruned, ...] = ()
    settled: Mapping[str, Any] | None = None

    def edited(self, graph: ir.Model, *notes: Note) -> Model:
        """The same model with another graph and further notes."""
        return replace(self, graph=graph, notes=self.notes + notes)

    def with_pruned(self, *groups: Pruned) -> Model:
        """The same model with what pruning left of further groups."""
        return replace(self, pruned=self.pruned + groups)

    @property
    def nodes(self) -> int:
        """Number of nodes, subgraphs included."""
        return sum(1 for _ in self.graph.graph.all_nodes())

    @property
    def parameters(self) -> int:
        """Number of weight elements, subgraphs included."""
        return sum(math.prod(t.shape.numpy()) for t in weights(self.graph))

    @property
    def bytes(self) -> int:
        """Bytes of all weights, subgraphs included."""
        return sum(t.nbytes for t in weights(self.graph))

    @property
    def files(self) -> tuple[Path, ...]:
        """The model's file and the files of its external data."""
        return (self.path, *(self.path.parent / name for name in self.external))

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self.graph.opset_imports.get("", 0)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return tuple(value.name or "" for value in self.graph.graph.outputs)

    def quantized_nodes(self) -> list[str]:
        """Names of nodes that show that the model is quantized already."""
        return [node.name or node.op_type for node in self.graph.graph.all_nodes() if node.op_type in QUANTIZED_OPS]


def weights(graph: ir.Model) -> Iterator[ir.TensorProtocol]:
    """All weight tensors of a model, each once, subgraphs included."""
    for holder in (graph.graph, *graph.graph.subgraphs()):
        for value in holder.initializers.values():
            if value.const_value is not None:
                yield value.const_value


def load(path: Path) -> Model:
    """Read an ONNX file; large weights that lie in other files stay there until a pass asks for them.

    Args:
        path: The ``.onnx`` file.

    Returns:
        The model, its external data checked but not read.

    Raises:
        ModelError: The file is missing, is not ONNX, is truncated, a node reads what nothing makes, or external
            data is missing, too short or outside the model's folder.
    """
    if not path.is_file():
        raise ModelError(f"{path} is not a file", "give the path of an ONNX model")
    try:
        graph = ir.load(path)
    except MemoryError:
        raise
    except Exception as error:  # every parser of the stack raises its own type
        raise ModelError(f"{path} is not a readable ONNX model ({_first_line(error)})", "export it again") from error
    if not graph.graph.outputs or not graph.opset_imports:
        raise ModelError(f"{path} holds no ONNX graph", "the file may be empty, truncated or of another format")
    _check_connected(graph, path)
    external = list(_external(graph))
    for tensor in external:
        _check_external(tensor, path)
    _hold_small(graph)
    return Model(graph, path, external=tuple(sorted({str(tensor.location) for tensor in external})))


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Where libraries crash over a model that is not valid, say that; they trust that it is.

    The ONNX checker does not run on every model: it reads all of it, and runtimes take some that it refuses.

    Raises:
        ModelError: Something was raised that is no error of infopt and no OSError, and the model is not valid.
    """
    try:
        yield
    except (InfoptError, OSError):
        raise
    except Exception as error:
        reason = _invalid(path)
        if reason is None:
            raise
        raise ModelError(f"{path} is not a valid ONNX model ({reason})", "export it again") from error


def save(graph: ir.Model, path: Path) -> None:
    """Write a model file; large weights go to ``<name>.data`` beside it.

    Args:
        graph: The model; it is not changed.
        path: The file to write. It must not be the file that holds the model's own external weights.

    Raises:
        OSError: The file cannot be written; :mod:`infopt.output` makes an error for the user of it.
    """
    large = sum(t.nbytes for t in weights(graph)) > INLINE_LIMIT
    graph = graph.clone()
    if large:
        ir.save(graph, path, external_data=f"{path.name}.data")
    else:
        write_inline(graph, path)


def _hold_small(graph: ir.Model) -> None:
    """Read small weights, and whatever Constant nodes hold, from other files; runtimes look for these in one folder."""
    for holder in (graph.graph, *graph.graph.subgraphs()):
        for value in holder.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and tensor.nbytes < HELD:
                value.const_value = _held(tensor)
    holders: list[ir.Graph | ir.Function] = [graph.graph, *graph.functions.values()]
    for node in (node for holder in holders for node in holder.all_nodes()):
        for name, attribute in list(node.attributes.items()):
            tensor = None if attribute.is_ref() or attribute.type != ir.AttributeType.TENSOR else attribute.value
            if isinstance(tensor, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, _held(tensor))


def _held(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    held = ir.Tensor(tensor.numpy().copy(), tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
    tensor.release()
    return held


def input_specs(graph: ir.Model) -> tuple[InputSpec, ...]:
    """Names, dtypes and shapes of a graph's inputs; initializers that are listed as inputs are left out.

    Raises:
        ModelError: An input has no tensor type.
    """
    inputs = [value for value in graph.graph.inputs if value.name not in graph.graph.initializers]
    return tuple(_spec(value) for value in inputs)


def _spec(value: ir.Value) -> InputSpec:
    if not isinstance(value.type, ir.TensorType) or value.shape is None:
        raise ModelError(f"input {value.name!r} is not a tensor of known rank", "sequences and maps are not supported")
    dims = tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)
    return InputSpec(value.name or "", np.dtype(value.type.dtype.numpy()), dims, None)


def _invalid(path: Path) -> str | None:
    """Why a model is not valid, as far as the ONNX checker and reading all of it can tell, or ``None``."""
    import onnx

    try:
        onnx.checker.check_model(os.fspath(path))
        graph = ir.load(path)
        ir.to_proto(graph)  # finds names that are not text
        for tensor in weights(graph):
            tensor.numpy()
    except Exception as error:
        return _first_line(error)
    return None


def _first_line(error: BaseException) -> str:
    """What is wrong, in a line: libraries wrap the reason in where they came across it."""
    while error.__cause__:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _check_connected(graph: ir.Model, path: Path) -> None:
    """See to it that every value that is read is made somewhere; the parser lets it pass."""
    read = [(f"node {node.name or node.op_type!r}", value) for node in graph.graph.all_nodes() for value in node.inputs]
    read += [("the list of outputs", value) for value in graph.graph.outputs]
    for reader, value in read:
        if value and not (value.producer() or value.is_graph_input() or value.is_initializer()):
            raise ModelError(f"{path}: {reader} names {value.name!r}, which nothing makes", "export it again")


def _external(graph: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Tensors that lie in other files: weights, and values of Constant nodes, those of functions included."""
    holders: list[ir.Graph | ir.Function] = [graph.graph, *graph.functions.values()]
    nodes = [node for holder in holders for node in holder.all_nodes()]
    attributes = [attribute for node in nodes for attribute in node.attributes.values() if not attribute.is_ref()]
    values = [attribute.value for attribute in attributes if attribute.type == ir.AttributeType.TENSOR]
    yield from (tensor for tensor in (*weights(graph), *values) if isinstance(tensor, ir.ExternalTensor))


def _check_external(tensor: ir.ExternalTensor, model: Path) -> None:
    folder = model.parent.resolve()
    data = (folder / str(tensor.location)).resolve()
    if not data.is_relative_to(folder):
        raise ModelError(
            f"{model}: weight {tensor.name!r} points outside the model's folder ({tensor.location})",
            "external data must lie beside the model",
        )
    if not data.is_file():
        raise ModelError(f"{model}: external data file {data.name} is missing", "copy it beside the model")
    end = (tensor.offset or 0) + (tensor.length or tensor.nbytes)
    if data.stat().st_size < end:
        raise ModelError(f"{model}: {data.name} is truncated: weight {tensor.name!r} ends at byte {end}")
