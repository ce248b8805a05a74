"""Quantizes data at run time: with the range of each run, so that nothing is calibrated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from infopt.facts import BIAS_INPUT
from infopt.target import Scheme, Table
from infopt_passes.quantize.compress import chosen_integers, stored_weight
from infopt_passes.quantize.insert import Writer, graph_of
from infopt_passes.quantize.numbers import weight_scales
from infopt_passes.quantize.plan import Plan
from infopt_passes.quantize.recurrent import quantize_lstm

SUM = ir.DataType.INT32
FLOAT = ir.DataType.FLOAT


def quantize_at_run_time(graph: ir.Graph, plan: Plan, table: Table) -> None:
    """Make the planned products DynamicQuantizeLinear, MatMulInteger, and what scales the sums back.

    Runtimes look for these very operators, and fuse them with the bias to one kernel.

    Args:
        graph: The main graph; changed in place.
        plan: Which MatMul, Gemm and LSTM nodes.
        table: The table of the precision.
    """
    writers: dict[ir.Graph, _Products] = {}
    for node, rule in plan.integer.items():
        holder = graph_of(node)  # in a body, data from around it are quantized once more
        writer = writers.setdefault(holder, _Products(Writer(holder)))
        scheme = rule.weight or table.weight
        if node.op_type == "LSTM":
            quantize_lstm(writer.writer, node, scheme)
        else:
            writer.replace(node, scheme)
    graph.sort()


@dataclass(frozen=True, slots=True)
class _Products:
    """Replaces products; data that several of them read are quantized once.

    Attributes:
        writer: Writes to the graph.
        quantized: Per tensor, its integers, scale and zero point.
    """

    writer: Writer
    quantized: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)

    def replace(self, node: ir.Node, scheme: Scheme) -> None:
        """Put the integer product in a node's place; its result has the name of the node's."""
        data, output, name = node.inputs[0], node.outputs[0], node.name
        assert data is not None
        numbers, step, zero = self._data(data)
        weight = stored_weight(node)
        scales = weight.use(lambda array: weight_scales(array, weight.axis, scheme, None, 1.0))
        key = f"{node.inputs[1].name}:{name}"  # type: ignore[union-attr]
        stored = self.writer.constant(f"{key}:quantized", chosen_integers(weight, scales, scheme))
        sums = self._node("MatMulInteger", [numbers, stored, zero], f"{name}:sums", SUM, output.shape)
        floats = self._node("Cast", [sums], f"{name}:cast", FLOAT, output.shape, to=FLOAT)
        steps = self._node("Mul", [step, self.writer.constant(f"{key}:scale", scales)], f"{name}:step", FLOAT)
        result = self._node("Mul", [floats, steps], f"{name}:product", FLOAT, output.shape)
        bias = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else None
        if bias is not None:
            result = self._node("Add", [result, bias], f"{name}:biased", FLOAT, output.shape)
        called = output.name
        result.type = output.type
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        self.writer.graph.remove(node, safe=True)
        result.name = called

    def _data(self, data: ir.Value) -> list[ir.Value]:
        if data not in self.quantized:
            name = f"{data.name}:dynamic"
            node = ir.node("DynamicQuantizeLinear", [data], num_outputs=3, name=name)
            parts = (("quantized", ir.DataType.UINT8), ("scale", FLOAT), ("zero_point", ir.DataType.UINT8))
            for value, (part, dtype) in zip(node.outputs, parts, strict=True):
                value.name, value.type, value.shape = f"{name}:{part}", ir.TensorType(dtype), ir.Shape([])
            node.outputs[0].shape = data.shape
            self.writer.graph.append(node)
            self.quantized[data] = list(node.outputs)
        return self.quantized[data]

    def _node(
        self,
        op: str,
        inputs: list[ir.Value],
        name: str,
        dtype: ir.DataType,
        shape: ir.Shape | None = None,
        **given: Any,
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes=given, name=name)
        node.outputs[0].name, node.outputs[0].shape = f"{name}:output", shape
        node.outputs[0].type = ir.TensorType(dtype)
        self.writer.graph.append(node)
        return node.outputs[0]
