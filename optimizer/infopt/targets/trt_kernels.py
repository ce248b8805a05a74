"""What an engine runs in integers: told by the engine inspector, or read from a TensorRT-RTX program.

A TensorRT-RTX engine carries its program as text: the type of every tensor, and every operation with its
operands and the ONNX nodes that it came from. Only the choice of kernels for these types is left to the GPU.
"""

from __future__ import annotations

import json
import mmap
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infopt.errors import Unmeasured
from infopt.target import FloatNode, Kernels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

COMPUTE = {"corrltn": "Conv", "deconvolution": "ConvTranspose", "fully_connected": "MatMul"}
"""Operations of a program that are compute layers, with the ONNX operators that they stand for."""

ATTENTION = "mha"
"""Part of the names of kernels that stand for both products of an attention and the Softmax between them."""

INSPECTED = {
    "deconv": "ConvTranspose",
    "conv": "Conv",
    "corr": "Conv",
    "gemm": "MatMul",
    "matrixmultiply": "MatMul",
    "matrix_multiply": "MatMul",
    "fully_connected": "MatMul",
}
"""Parts of the inspector's layer and parameter types that tell compute layers, the most telling first."""


EIGHT_BITS = ("int8", "fp8")
"""The inspector's names of types that are counted."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a program.

    Attributes:
        kind: Its name in the program, such as ``"corrltn"``; ``"function"`` is a fused element-wise kernel.
        name: Name of the operation; that of a compute layer is its ONNX node, or several joined by ``+``.
        nodes: ONNX nodes that it came from.
        inputs: Element types of its operands, ``"int8"``.
        outputs: Element types of its results.
    """

    kind: str
    name: str
    nodes: list[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def op(self) -> str:
        """The ONNX operator of a compute layer; empty for what is none."""
        fused = self.kind == "function" and ATTENTION in self.name
        return "Attention" if fused else COMPUTE.get(self.kind, "")

    @property
    def integer(self) -> bool:
        """Whether both factors are integers, or in FP8."""
        return self.inputs[:2] in (("int8", "int8"), ("fp8_e4m3", "fp8_e4m3"))

    @property
    def decompresses(self) -> bool:
        """Whether it is a kernel that reads a compressed weight and multiplies by it; the product is listed, too."""
        return self.kind == "runtime_fusion" and not {"int8", "int4"}.isdisjoint(self.inputs)

    @property
    def layers(self) -> list[str]:
        """The compute layers that this operation is; products with the same operand are often merged."""
        made_up = self.name.startswith(("_", "$$"))
        return self.nodes[:1] if made_up and self.nodes else [self._node(part) for part in self.name.split("+")]

    def _node(self, name: str) -> str:
        """A node by the name of its operation, which gets a number where a tensor has that name already."""
        plain = re.sub(r"_U\d+$", "", name)
        return plain if name not in self.nodes and plain in self.nodes else name


def program(engine: Path) -> list[Operation]:
    """The operations of a TensorRT-RTX engine, fused parts included.

    Raises:
        Unmeasured: The engine carries no program that can be read.
    """
    with engine.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        texts = [match[0].decode(errors="replace") for match in re.finditer(rb"header \{\n[^\0]*", data)]
    found = [operation for text in texts for operation in _operations(text)]
    if not found:
        raise Unmeasured(f"{engine.name} carries no program that can be read")
    return found


def planned_kernels(engine: Path) -> Kernels:
    """Count the compute layers of a TensorRT-RTX engine whose operands are integers or in FP8; no GPU is needed.

    Raises:
        Unmeasured: The engine carries no program that can be read.
    """
    operations = program(engine)
    compute = [operation for operation in operations if operation.op]
    total = sum(len(operation.layers) for operation in compute)
    floats = [FloatNode(name, each.op) for each in compute if not each.integer for name in each.layers]
    compressed = {node for each in operations if each.decompresses for node in each.nodes}
    left = tuple(node for node in floats if node.name not in compressed)
    return Kernels(total - len(floats), total, left, len(floats) - len(left))


def inspected_kernels(text: str) -> Kernels:
    """Count compute layers in an engine inspector's JSON, of TensorRT 10 or 11.

    Raises:
        Unmeasured: The JSON names no compute layers.
    """
    layers = [layer for layer in json.loads(text).get("Layers", []) if isinstance(layer, dict)]
    compute = [(layer, op) for layer in layers if (op := _operator(layer))]
    if not compute:
        raise Unmeasured("the engine inspector names no compute layers")
    left = tuple(FloatNode(_node(layer), op) for layer, op in compute if not _integer(layer))
    return Kernels(len(compute) - len(left), len(compute), left)


def _operations(text: str) -> Iterator[Operation]:
    types = dict(re.findall(r'tensor=\{[^\n]*?name="([^"\n]+)"[^\n]*?type=(\w+) \}', text))
    start = text.find("\nmain {")
    for line in text[start : text.find("\n}", start)].split("\n") if start >= 0 else ():
        head = re.match(r'  (\w+)=\{ name=(?:"([^"]*)"|(\S+))', line)
        if head:
            nodes = re.findall(r"\[ONNX Layer: ([^\x1f]*?)\](?=[\x1e\x1f\"])", line)
            inputs, outputs = _types("input", line, types), _types("output", line, types)
            yield Operation(head[1], head[2] or head[3], nodes, inputs, outputs)


def _types(way: str, line: str, types: Mapping[str, str]) -> tuple[str, ...]:
    listed = re.search(rf" {way}(?:_args)?=\{{([^}}]*)\}}", line)
    return tuple(types.get(name, "?") for name in re.findall(r'"([^"]+)"', listed[1])) if listed else ()


def _operator(layer: Mapping[str, Any]) -> str | None:
    kind = f"{layer.get('LayerType')} {layer.get('ParameterType')}".lower()
    return next((op for part, op in INSPECTED.items() if part in kind), None)


def _integer(layer: Mapping[str, Any]) -> bool:
    weights = layer.get("Weights")
    if isinstance(weights, dict) and weights.get("Type"):
        return str(weights["Type"]).lower() in EIGHT_BITS
    # TensorRT 10 has one field for format and type, 11 has two.
    first: Mapping[str, Any] = next(iter(layer.get("Inputs", [])), {})
    told = f"{first.get('DataType')} {first.get('Format/Datatype')}".lower()
    return any(name in told for name in EIGHT_BITS)


def _node(layer: Mapping[str, Any]) -> str:
    nodes = re.findall(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f]|$)", str(layer.get("Metadata", "")))
    return nodes[0] if nodes else str(layer.get("Name", ""))
