"""Converts a graph to a newer operator set, and makes sure that it is one."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass
from onnxscript.version_converter import convert_version

from infopt.errors import ModelError, RuntimeRefused
from infopt.model import Note, weights
from infopt.passes import Context
from infopt.probe import opened

if TYPE_CHECKING:
    from infopt.data import Feed

SCRIPTED = 18
"""Operator set from which on onnxscript converts by itself, in memory; ONNX's own converter does the older ones."""

SMALL = 1024
"""Initializers up to this many bytes go to ONNX's converter: scales, axes and the like become something else there."""

FORMER_PLACES = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""What Upsample, and Resize before operator set 11, computed by; the defaults changed, and no converter tells."""

TOLERANCE = 1e-3
"""Part of an output's largest value by which a converted graph may differ: other kernels add up in another order."""


def converted(graph: ir.Model, opset: int) -> ir.Model:
    """The graph in an operator set, or as it was where its own is not older.

    Args:
        graph: The model; it may be changed. Large weights are not read.
        opset: The wanted version of the default operator set.

    Raises:
        ModelError: An operator cannot be converted; it is named.
    """
    found = graph.opset_imports.get("", opset)
    if found >= opset:
        return graph
    InlinePass()(graph)  # converters pass functions by
    with _blamed(graph, found, opset):
        if found < SCRIPTED:
            graph = _by_onnx(graph, min(opset, SCRIPTED))
        if found <= 10:
            _keep_coordinates(graph)
        if opset > SCRIPTED:
            convert_version(graph, opset)
        _check(graph, opset)
    return graph


def check_same(before: ir.Model, after: ir.Model, context: Context) -> None:
    """See to it, on the first calibration sample, that a converted graph computes what it computed before.

    Converters are trusted with weights that do not fit into the memory for calibration, and where the runtime does not
    know the old operator set.

    Raises:
        ModelError: An output is another one.
    """
    samples = context.calibration
    if samples is None or sum(tensor.nbytes for tensor in weights(after)) > context.memory // 4:
        return
    feed = next(samples.feeds())
    try:
        expected, again = (_run(before, feed, context) for _ in range(2))
    except RuntimeRefused:
        return
    outputs = [value.name for value in before.graph.outputs]
    for name, first, second, got in zip(outputs, expected, again, _run(after, feed, context), strict=True):
        if first.dtype.kind == "f" and _close(first, second) and not _close(first, got):  # some graphs draw numbers
            raise ModelError(
                f"converted from operator set {before.opset_imports.get('')} to {after.opset_imports.get('')}, "
                f"the model gives another output {name!r}",
                f"export the model again with opset {after.opset_imports.get('')} or later",
            )


def _run(graph: ir.Model, feed: Feed, context: Context) -> list[Any]:
    folder = Path(tempfile.mkdtemp(prefix="converted-", dir=context.workdir))
    try:
        return opened(graph, folder, {}).run(feed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _close(first: Any, second: Any) -> bool:
    if first.shape != second.shape:
        return False
    most = np.abs(first[np.isfinite(first)]).max(initial=0.0)
    return bool(np.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE * most + 1e-6, equal_nan=True))


def raised(before: int, graph: ir.Model) -> list[Note]:
    """What the user is told of a conversion, if there was one."""
    after = graph.opset_imports.get("", before)
    return [Note("warning", "model", f"converted from operator set {before} to {after}")] if after > before else []


def _by_onnx(graph: ir.Model, opset: int) -> ir.Model:
    """What ONNX's own converter makes of a graph, whose large weights are lent to it as inputs."""
    main = graph.graph
    lent = {
        name: value.const_value
        for name, value in main.initializers.items()
        if value.const_value is not None and value.const_value.nbytes > SMALL
    }
    own = [value.name for value in main.inputs]
    # Before IR version 4 constants are inputs, and the converter may add some that are none.
    graph.ir_version = max(graph.ir_version, 4)
    result = ir.from_proto(onnx.version_converter.convert_version(_light(graph), opset))
    inputs = {value.name: value for value in result.graph.inputs}
    result.graph.inputs.clear()
    result.graph.inputs.extend(inputs[name] for name in own)
    for name, tensor in lent.items():
        inputs[name].const_value = tensor
        result.graph.register_initializer(inputs[name])
    result.metadata_props.update(graph.metadata_props)
    return result


def _light(graph: ir.Model) -> onnx.ModelProto:
    """A serialized graph in which large weights are inputs."""
    clone = graph.clone()
    main = clone.graph
    for name, value in list(main.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= SMALL:
            continue
        del main.initializers[name]
        value.const_value, value.type, value.shape = None, ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        if not value.is_graph_input():
            main.inputs.append(value)
    return ir.to_proto(clone)


def _keep_coordinates(graph: ir.Model) -> None:
    for node in graph.graph.all_nodes():
        if node.op_type == "Resize" and node.domain == "":
            for name, value in FORMER_PLACES.items():
                if name not in node.attributes:
                    node.attributes[name] = ir.AttrString(name, value)


def _check(graph: ir.Model, opset: int) -> None:
    """See to it that a converted graph is valid; converters skip what they do not know how to convert.

    Raises:
        ValueError: It is not; the message names an operator.
    """
    for node in graph.graph.all_nodes():
        if node.domain == "" and node.version not in (None, opset):
            raise ValueError(f"{node.op_type} was left at version {node.version}")
        if node.op_type == "GroupNormalization" and opset >= 21:
            _check_groups(node)
    proto = _light(graph)
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.HasField("tensor_type"):  # no runtime asks for a shape, the checker does
            value.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(proto.SerializeToString())


def _check_groups(node: ir.Node) -> None:
    """Scales were one for each group before version 21, and are one for each channel since."""
    groups, scale = node.attributes.get_int("num_groups", 0), node.inputs[1]
    data = node.inputs[0]
    channels = data.shape[1] if data is not None and data.shape is not None else None
    if channels != groups and (scale is None or scale.shape is None or scale.shape[0] in (None, groups)):
        raise ValueError(f"{node.op_type} has scales by group, of an unknown number of channels")


@contextmanager
def _blamed(graph: ir.Model, found: int, opset: int) -> Iterator[None]:
    """Name the operator that a converter stumbles over.

    Raises:
        ModelError: A converter or the checker raised something.
    """
    kinds = {node.op_type for node in graph.graph.all_nodes()}
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # each converter raises its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        named = [kind for kind in kinds if re.search(rf"(?<![A-Za-z]){kind}(?![a-z])", str(error))]
        operator = max(named, key=len, default=None)
        raise ModelError(
            f"the model's operator set {found} is too old to quantize and cannot be converted to {opset}"
            f"{f': {operator}' if operator else ''} ({lines[0][:200]})",
            f"export the model again with opset {opset} or later",
        ) from error
