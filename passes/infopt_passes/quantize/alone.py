"""Runs a quantized model with some of its roundings only: what each of them does to the outputs alone.

The powers of the errors of small roundings add up, so that what they do alone tells what is gone without them. What is
gone of the whole error when one of many is taken out is the difference of two large numbers, and mostly chance.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from infopt.facts import FLOAT_SUFFIX, is_constant
from infopt.noise import OutputJudge
from infopt.probe import filed
from infopt.targets.onnxruntime import EMULATE, open_onnx

if TYPE_CHECKING:
    import onnx

Place = tuple[str, int]
"""A node's name and the position of one of its inputs."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A quantized model, of which every rounding can be left out.

    Attributes:
        proto: The quantized model, with the float model's constants beside its own.
        settings: With which the runtime opens it.
        pairs: The tensor in front of Q, by the name of what a DQ gives.
        floats: The constants that take the places of quantized ones; empty where there was none.
        judge: Judges the outputs.
    """

    proto: onnx.ModelProto
    settings: dict[str, str]
    pairs: dict[str, str]
    floats: dict[Place, str]
    judge: OutputJudge

    def noise(self, tensors: Collection[str], nodes: Collection[str]) -> float:
        """Error of the outputs when nothing else is rounded; see :meth:`infopt.noise.OutputJudge.noise`.

        Args:
            tensors: The activations that are rounded, by their names in the float model.
            nodes: The nodes whose constants are.
        """
        import onnx

        changed = onnx.ModelProto()
        changed.CopyFrom(self.proto)
        self._leave_out(changed.graph, tensors, nodes)
        session = open_onnx(changed.SerializeToString(), {**self.settings, **EMULATE})
        return self.judge.distance([session.run(feed) for feed in self.judge.feeds])

    def _leave_out(self, graph: onnx.GraphProto, tensors: Collection[str], nodes: Collection[str]) -> None:
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and node.output[0] in self.pairs:
                source = self.pairs[node.output[0]]
                if source.removesuffix(FLOAT_SUFFIX) not in tensors:
                    node.op_type = "Identity"
                    node.input[:] = [source]
                    del node.attribute[:]
            elif node.name not in nodes:
                for index in range(len(node.input)):
                    node.input[index] = self.floats.get((node.name, index), node.input[index])
            for attribute in node.attribute:
                for body in (attribute.g, *attribute.graphs):
                    self._leave_out(body, tensors, nodes)


def alone(base: ir.Model, built: ir.Model, judge: OutputJudge, folder: Path) -> Alone:
    """A model of which every rounding can be left out.

    Args:
        base: The float model that was quantized.
        built: The quantized model.
        judge: Knows the float model's outputs.
        folder: For the weights, as long as the result is used.
    """
    import onnx

    joint = built.clone()
    floats = _floats(base, joint)
    serialized, settings = filed(joint, folder)
    return Alone(onnx.load_model_from_string(serialized), settings, _pairs(base, joint), floats, judge)


def _pairs(base: ir.Model, joint: ir.Model) -> dict[str, str]:
    """What quantization put in: pairs that the float model had already stay."""
    own = {node.name for node in base.graph.all_nodes()}
    found = {}
    for node in joint.graph.all_nodes():
        quantize = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if node.op_type != "DequantizeLinear" or node.name in own or quantize is None:
            continue
        source = quantize.inputs[0]
        assert source is not None
        found[node.outputs[0].name or ""] = source.name or ""
    return found


def _floats(base: ir.Model, joint: ir.Model) -> dict[Place, str]:
    """Put the float model's constants into the graph, by the places where quantization put others."""
    before = {node.name: node for node in base.graph.all_nodes()}
    found: dict[Place, str] = {}
    for node in joint.graph.all_nodes():
        twin = before.get(node.name)
        for index, value in enumerate(node.inputs if twin is not None else ()):
            assert twin is not None
            old = _given(twin.inputs, index)
            if value is None or (old is not None and (old.name == value.name or not is_constant(old))):
                continue
            found[node.name or "", index] = _borrowed(joint.graph, old) if old is not None else ""
    return found


def _given(values: Sequence[ir.Value | None], index: int) -> ir.Value | None:
    return values[index] if index < len(values) else None


def _borrowed(graph: ir.Graph, value: ir.Value) -> str:
    """The name of a constant of the float model in a graph that may have dropped it."""
    name = f"{value.name}:unrounded"
    if name not in graph.initializers:
        copy = ir.Value(name=name, const_value=value.const_value, type=value.type, shape=value.shape)
        graph.register_initializer(copy)
    return name
