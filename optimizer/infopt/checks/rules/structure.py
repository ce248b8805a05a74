"""Names, inputs, versions and control flow."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from infopt.checks import repair
from infopt.checks.rule import ONNXRUNTIME, OPENVINO, TENSORRT, LintRule, Spot
from infopt.checks.subject import DOMAINS, Subject, constant_tensor
from infopt.data import infer_batch_axes
from infopt.errors import ModelError
from infopt.model import input_specs
from infopt.shapes import complete, show_shape

BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})
UNSHAPED = "Field 'shape' of 'type' is required"
OWN_DOMAIN = "ai.onnx"
"""What the domains that ONNX itself defines begin with."""


def invalid(subject: Subject) -> Iterator[Spot]:
    """What the ONNX checker says of the file."""
    reason = _refused(subject.model.path) if subject.model.path.is_file() else None
    if reason is not None:
        yield Spot(reason)


def _refused(path: Path) -> str | None:
    """Why the checker refuses a file; that outputs have no shape is no reason, no runtime asks for it."""
    import onnx

    try:
        onnx.checker.check_model(os.fspath(path))
    except Exception as error:  # the checker's own class, or protobuf's
        if UNSHAPED not in str(error):
            return _line(error)
    else:
        return None
    proto = onnx.load(path, load_external_data=False)
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(proto.SerializeToString())
    except Exception as error:
        return _line(error)
    return None


def _line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def unnamed(subject: Subject) -> Iterator[Spot]:
    """Nodes without a name."""
    found = [node for node in subject.nodes if not node.name]
    if found:
        yield Spot(f"{len(found)} of {len(subject.nodes)} nodes have no name", found[0], fixable=True)


def twice(subject: Subject) -> Iterator[Spot]:
    """Nodes whose name another node of their graph has already."""
    for graph in (subject.graph, *subject.model.graph.graph.subgraphs()):
        counts = Counter(node.name for node in graph if node.name)
        for name, count in counts.items():
            if count > 1:
                node = [each for each in graph if each.name == name][1]
                yield Spot(f"{count} nodes are called {name!r}", node, fixable=True)


def odd_inputs(subject: Subject) -> Iterator[Spot]:
    """Inputs that are sequences, maps or strings."""
    for value in subject.graph.inputs:
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            yield Spot(f"input {value.name!r} is a {type(value.type).__name__.removesuffix('Type').lower()}",
                       place=value.name)  # fmt: skip
        elif value.dtype is ir.DataType.STRING:
            yield Spot(f"input {value.name!r} holds strings", place=value.name)


def dynamic(subject: Subject) -> Iterator[Spot]:
    """Inputs whose shapes the builder has to be told, with what to tell it."""
    try:
        specs = infer_batch_axes(input_specs(subject.model.graph), {})
        ranges = {each.name: each for each in complete(specs, [])}
    except ModelError:  # not a tensor: another rule's
        return
    known = {each.name for each in subject.shapes}
    for spec in specs:
        if spec.name in ranges and spec.name not in known:
            axes = [f"{axis} ({dim or 'no name'})" for axis, dim in enumerate(spec.shape) if not isinstance(dim, int)]
            yield Spot(
                f"axes {', '.join(axes)} of input {spec.name!r} are dynamic, and no range is given",
                place=spec.name,
                remedy=f"--shape {show_shape(ranges[spec.name])} (infopt's own guess), or the range that you will use",
            )


def fixed_batch(subject: Subject) -> Iterator[Spot]:
    """Models whose batch is fixed at 1."""
    shapes = [value.shape for value in subject.graph.inputs if value.shape is not None and len(value.shape) > 1]
    if shapes and all(shape[0] == 1 for shape in shapes):
        yield Spot(
            "every input has 1 as its first size: a server cannot batch requests",
            place=subject.graph.inputs[0].name,
        )


def bodies(subject: Subject) -> Iterator[Spot]:
    """Nodes with subgraphs."""
    for node in subject.nodes:
        if node.op_type in BODIES and node.domain in DOMAINS:
            yield Spot(
                f"{node.op_type} has a body, for which a runtime leaves the paths that it has for plain graphs", node
            )


def sequences(subject: Subject) -> Iterator[Spot]:
    """Operators on sequences and optionals."""
    for node in subject.nodes:
        if node.domain in DOMAINS and ("Sequence" in node.op_type or node.op_type.startswith("Optional")):
            yield Spot(f"{node.op_type} works on a sequence or optional", node)


def foreign(subject: Subject) -> Iterator[Spot]:
    """Operators that ONNX does not define and the model does not either."""
    own = {(function.domain, function.name) for function in subject.model.graph.functions.values()}
    quantizers = {"QuantizeLinear", "DequantizeLinear"}
    for node in subject.nodes:
        known = (
            not node.domain
            or node.domain.startswith(OWN_DOMAIN)
            or (node.domain, node.op_type) in own
            or node.op_type in quantizers
        )
        if not known:
            yield Spot(f"{node.domain}.{node.op_type} is not an ONNX operator", node)


def given_away(subject: Subject) -> Iterator[Spot]:
    """Outputs that are constants or inputs."""
    for value in subject.graph.outputs:
        if constant_tensor(value) is not None:
            yield Spot(f"output {value.name!r} is a constant", place=value.name)
        elif value.is_graph_input():
            yield Spot(f"output {value.name!r} is an input, handed through", place=value.name)


def external(subject: Subject) -> Iterator[Spot]:
    """Weights in other files."""
    files = [path.name for path in subject.model.files[1:]]
    if files:
        yield Spot(f"weights lie in {', '.join(files[:3])}{' and others' if len(files) > 3 else ''}")


def old(subject: Subject) -> Iterator[Spot]:
    """Models older than Q/DQ per channel."""
    if 0 < subject.opset < 13 and not subject.quants:
        yield Spot(f"operator set {subject.opset}: Q/DQ per channel came with 13")


ROWS = (
    LintRule(
        "invalid-onnx", "warning", "The ONNX checker refuses the model; runtimes may be more lenient, or not.",
        "export the model again, or mend what the message names", invalid,
    ),
    LintRule(
        "duplicate-name", "error", "Two nodes have one name; ONNX Runtime refuses such a model.",
        "give every node a name of its own", twice, ONNXRUNTIME, repair.rename_twins,
        refused=True,
    ),
    LintRule(
        "non-tensor-input", "error", "An input is no numeric tensor; OpenVINO's and TensorRT's importers take none.",
        "keep tokenizing and list handling outside of the model", odd_inputs, TENSORRT | OPENVINO,
        refused=True,
    ),
    LintRule(
        "sequence-operator", "warning", "Sequence and optional operators exist in few runtimes.",
        "export without lists: concatenate or stack to a tensor", sequences, TENSORRT | OPENVINO,
    ),
    LintRule(
        "foreign-operator", "warning", "An operator outside of the ONNX standard: it ties the model to the runtimes "
        "that happen to know it.", "export without runtime-specific fusions; fuse in the runtime instead", foreign,
        TENSORRT | OPENVINO,
    ),
    LintRule(
        "dynamic-shape", "warning", "An input has dynamic axes; the builder needs their range, and is fast near the "
        "one that it is told.", "give --shape NAME=MIN..OPT..MAX", dynamic, TENSORRT,
    ),
    LintRule(
        "constant-output", "note", "An output is a constant or an input.", "drop the output", given_away,
    ),
    LintRule(
        "control-flow", "note", "TensorRT takes only some If, Loop and Scan nodes. Their bodies are quantized where "
        "calibration runs them.",
        "where an If asks for sizes, fix these with --shape and it is decided; else export the branch, unroll the loop",
        bodies,
    ),
    LintRule(
        "old-opset", "note", "The operator set is older than Q/DQ per channel; infopt converts it before it quantizes.",
        "export with opset 17 or later", old,
    ),
    LintRule(
        "fixed-batch", "note", "The batch is fixed at 1.", "export with a dynamic batch axis to serve batches",
        fixed_batch,
    ),
    LintRule(
        "external-data", "note", "Weights lie in files beside the model.", "ship them together", external,
    ),
    LintRule(
        "unnamed-node", "note", "Nodes without names cannot be named in reports, recipes or keep lists.",
        "give every node a name", unnamed, None, repair.name_all,
    ),
)  # fmt: skip
