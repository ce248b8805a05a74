"""A model as the rules see it: its nodes, its Q/DQ nodes read once, its constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.cpu import Isa, machine_isa
from infopt.facts import channel_axis
from infopt.model import Model
from infopt.target import ByIsa

if TYPE_CHECKING:
    from infopt.shapes import ShapeRange
    from infopt.target import Target

DOMAINS = ("", "ai.onnx")
QDQ = {"QuantizeLinear": True, "DequantizeLinear": False}
QDQ_DOMAINS = (*DOMAINS, "com.microsoft")
MOVERS = frozenset("Reshape Transpose Squeeze Unsqueeze Flatten Slice Identity".split())
"""Operators of one tensor whose output holds nothing but its input's elements."""

ACTIVATIONS = frozenset({"Relu", "Clip"})
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Compute operators whose second operand is the weight."""

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})

CHUNK = 1 << 20
"""Elements of a weight that are looked at at once, so that memory does not follow its size."""


@dataclass(frozen=True, slots=True)
class Quant:
    """A QuantizeLinear or DequantizeLinear node.

    Attributes:
        node: The node.
        quantizes: True for QuantizeLinear.
        scale: Its scales; ``None`` when they are computed at run time.
        zero: Its zero points, 0 where they are left out; ``None`` when they are computed at run time.
        integer: Type of the quantized side; ``None`` where it cannot be told.
        axis: Axis of the scales when there are several.
        block: Size of the blocks along the axis; 0 without blocks.
    """

    node: ir.Node
    quantizes: bool
    scale: np.ndarray[Any, Any] | None
    zero: np.ndarray[Any, Any] | None
    integer: ir.DataType | None
    axis: int
    block: int

    @property
    def per_channel(self) -> bool:
        """Whether there are several scales."""
        return self.scale is not None and self.scale.size > 1

    @property
    def zeros(self) -> frozenset[int]:
        """The zero points that occur; empty when they are computed at run time."""
        return frozenset() if self.zero is None else frozenset(int(each) for each in np.unique(self.zero))

    @property
    def real(self) -> ir.Value:
        """The real-valued side."""
        value = self.node.inputs[0] if self.quantizes else self.node.outputs[0]
        assert value is not None
        return value

    @property
    def stored(self) -> ir.Value:
        """The integer side."""
        value = self.node.outputs[0] if self.quantizes else self.node.inputs[0]
        assert value is not None
        return value


@dataclass(frozen=True, slots=True)
class Constant:
    """What is known of a float constant without keeping it.

    Attributes:
        value: The constant.
        reader: The first node that reads it.
        dtype: Its type.
        nan: Elements that are NaN.
        infinite: Elements that are infinite.
        largest: Largest finite magnitude.
        peaks: Largest magnitude of each output channel, of the weight of a compute node.
    """

    value: ir.Value
    reader: ir.Node
    dtype: ir.DataType
    nan: int
    infinite: int
    largest: float
    peaks: np.ndarray[Any, Any] | None


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The value of an initializer or of a Constant node; ``None`` for what is computed or fed."""
    tensor = constant_tensor(value)
    return None if tensor is None else tensor.numpy()


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """As :func:`constant`, without reading the data."""
    try:
        return None if value is None else ir.convenience.get_const_tensor(value)
    except ValueError:  # a sparse Constant
        return None


def label(node: ir.Node) -> str:
    """A name by which a user finds a node."""
    return node.name or next((value.name for value in node.outputs if value.name), None) or node.op_type


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Value of an attribute, or a default."""
    found = node.attributes.get(name)
    return default if found is None or found.is_ref() else found.value


def read_quant(node: ir.Node) -> Quant | None:
    """A node as a Q or DQ, or ``None`` when it is neither."""
    if node.op_type not in QDQ or node.domain not in QDQ_DOMAINS or len(node.inputs) < 2 or node.inputs[0] is None:
        return None
    quantizes = QDQ[node.op_type]
    given = node.inputs[2] if len(node.inputs) > 2 else None
    scale = constant(node.inputs[1])
    zero = constant(given) if given is not None else np.zeros(() if scale is None else scale.shape, np.int32)
    axis, block = attribute(node, "axis", 1), attribute(node, "block_size", 0)
    return Quant(node, quantizes, scale, zero, _integer(node, quantizes, given), int(axis), int(block))


def _integer(node: ir.Node, quantizes: bool, zero: ir.Value | None) -> ir.DataType | None:
    stored = node.outputs[0] if quantizes else node.inputs[0]
    tensor = constant_tensor(stored) or constant_tensor(zero)
    if tensor is not None:
        return tensor.dtype
    if zero is not None and zero.dtype is not None:
        return zero.dtype
    if quantizes:
        return ir.DataType(attribute(node, "output_dtype", ir.DataType.UINT8.value) or ir.DataType.UINT8.value)
    maker = read_quant(producer) if stored is not None and (producer := stored.producer()) else None
    return maker.integer if maker and maker.quantizes else None if stored is None else stored.dtype


@dataclass(frozen=True)
class Subject:
    """A model under check.

    Attributes:
        model: The model.
        targets: The targets that it is checked for.
        shapes: Ranges of dynamic inputs that the user gave.
    """

    model: Model
    targets: tuple[Target, ...] = ()
    shapes: tuple[ShapeRange, ...] = ()

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        """Every node, those of subgraphs included."""
        return tuple(self.model.graph.graph.all_nodes())

    @cached_property
    def quants(self) -> Mapping[ir.Node, Quant]:
        """Every Q and DQ node."""
        return {node: quant for node in self.nodes if (quant := read_quant(node)) is not None}

    @cached_property
    def floats(self) -> tuple[Constant, ...]:
        """Every float constant but scales, each read once."""
        found: dict[ir.Value, Constant] = {}
        for node in self.nodes:
            for index, value in enumerate(node.inputs):
                tensor = constant_tensor(value)
                if value is None or tensor is None or value in found or (node in self.quants and index > 0):
                    continue
                if tensor.dtype in FLOATS:
                    found[value] = _statistics(value, node, index)
        return tuple(found.values())

    @property
    def isa(self) -> Isa:
        """The instruction set that ONNX Runtime is to run it with."""
        chosen = (target.isa for target in self.targets if isinstance(target, ByIsa) and target.isa)
        return next(chosen, None) or machine_isa()

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.model.graph.graph

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self.model.opset

    def all_quants(self, quantizes: bool) -> Iterator[Quant]:
        """The Q nodes, or the DQ nodes."""
        return (quant for quant in self.quants.values() if quant.quantizes is quantizes)

    def maker(self, value: ir.Value | None) -> Quant | None:
        """The Q or DQ that makes a tensor."""
        producer = value.producer() if value is not None else None
        return self.quants.get(producer) if producer is not None else None

    def dequantized(self, value: ir.Value | None) -> Quant | None:
        """The DQ that makes a tensor."""
        maker = self.maker(value)
        return maker if maker is not None and not maker.quantizes else None

    def quantized(self, value: ir.Value) -> list[Quant]:
        """The Q nodes that read a tensor."""
        found = (self.quants.get(use.node) for use in value.uses() if use.idx == 0)
        return [quant for quant in found if quant is not None and quant.quantizes]

    def is_weight(self, quant: Quant) -> bool:
        """Whether a Q or DQ holds a constant: its input, or that of the Q before it."""
        source = quant.node.inputs[0]
        before = self.maker(source)
        return constant_tensor(source) is not None or (
            before is not None and before.quantizes and constant_tensor(before.node.inputs[0]) is not None
        )

    def real_weight(self, quant: Quant) -> np.ndarray[Any, Any] | None:
        """The integers of a DQ that stands behind a constant; ``None`` behind anything else."""
        return None if quant.quantizes else constant(quant.node.inputs[0])

    def products(self) -> Iterator[ir.Node]:
        """The compute nodes of a data and a weight operand."""
        return (node for node in self.nodes if is_op(node, PRODUCTS) and len(node.inputs) > 1)

    def consumers(self, value: ir.Value) -> list[ir.Node]:
        """The nodes that read a tensor."""
        return [use.node for use in value.uses()]


def is_op(node: ir.Node | None, ops: frozenset[str]) -> bool:
    """Whether a node is one of some operators of the default domain."""
    return node is not None and node.op_type in ops and node.domain in DOMAINS


def behind(value: ir.Value) -> ir.Value:
    """The tensor behind the activations that follow a tensor one by one."""
    uses = tuple(value.uses())
    while len(uses) == 1 and not value.is_graph_output() and is_op(uses[0].node, ACTIVATIONS):
        value = uses[0].node.outputs[0]
        uses = tuple(value.uses())
    return value


def by_channel(array: np.ndarray[Any, Any], axis: int, reduce: Callable[..., Any] = np.max) -> np.ndarray[Any, Any]:
    """The largest element of each slice along an axis, or another reduction of it."""
    others = tuple(i for i in range(array.ndim) if i != axis % array.ndim)
    return np.asarray(reduce(array, axis=others)) if array.size else np.zeros(0)


def _statistics(value: ir.Value, reader: ir.Node, index: int) -> Constant:
    """Read a constant once, some of it at a time, and let go of it: it may be mapped from a file."""
    tensor = constant_tensor(value)
    assert tensor is not None
    counts = [_counts(part) for part in _parts(tensor.numpy())]
    nan, infinite = sum(each[0] for each in counts), sum(each[1] for each in counts)
    largest = max((each[2] for each in counts), default=0.0)
    weight = is_op(reader, PRODUCTS) and index == 1 and len(tensor.shape) > 1 and not nan
    peaks = _peaks(tensor.numpy(), channel_axis(reader)) if weight else None
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()
    return Constant(value, reader, tensor.dtype, nan, infinite, largest, peaks)


def _parts(array: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    flat = array.reshape(-1)
    return (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))


def _counts(part: np.ndarray[Any, Any]) -> tuple[int, int, float]:
    """NaNs, infinities and the largest finite magnitude."""
    finite = np.isfinite(part)
    return int(np.isnan(part).sum()), int(np.isinf(part).sum()), float(np.abs(part).max(where=finite, initial=0))


def _peaks(array: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    return np.asarray(np.maximum(by_channel(array, axis), -by_channel(array, axis, np.min)), np.float64)
