"""Makes a mean over all places of a picture a GlobalAveragePool, for which more runtimes have integer kernels.

Means over the last of three axes are left alone: they belong to normalizations that runtimes recognize by them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from infopt.facts import is_constant


def pool_means(graph: ir.Graph) -> int:
    """Replace in place what can be replaced.

    Args:
        graph: The graph; constants are initializers, shapes are inferred.

    Returns:
        Number of means replaced. One that drops the axes gets a Flatten behind it.
    """
    return sum(_replace(graph, node) for node in list(graph) if node.op_type == "ReduceMean" and node.domain == "")


def _replace(graph: ir.Graph, mean: ir.Node) -> bool:
    data, output = mean.inputs[0], mean.outputs[0]
    if data is None or data.shape is None or len(data.shape) < 4 or data.dtype != ir.DataType.FLOAT:
        return False
    rank = len(data.shape)
    axes = _axes(mean)
    if axes is None or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        return False
    pool = ir.node("GlobalAveragePool", [data], name=mean.name)
    pooled = pool.outputs[0]
    pooled.type = output.type
    pooled.shape = ir.Shape([*data.shape[:2], *[1] * (rank - 2)])
    graph.insert_before(mean, pool)
    if mean.attributes.get_int("keepdims", 1):
        name = output.name
        output.replace_all_uses_with(pooled, replace_graph_outputs=True)
        graph.remove(mean, safe=True)
        pooled.name = name
    else:
        pooled.name = f"{output.name}:pooled"
        flat = ir.node("Flatten", [pooled], attributes={"axis": 1}, name=f"{mean.name}:flatten")
        graph.insert_after(pool, flat)
        name, flat.outputs[0].type, flat.outputs[0].shape = output.name, output.type, output.shape
        output.replace_all_uses_with(flat.outputs[0], replace_graph_outputs=True)
        graph.remove(mean, safe=True)
        flat.outputs[0].name = name
    return True


def _axes(mean: ir.Node) -> list[int] | None:
    """The axes, an attribute before opset 18 and an input since; ``None`` when they are not known."""
    if "axes" in mean.attributes:
        return list(mean.attributes["axes"].as_ints())
    given = mean.inputs[1] if len(mean.inputs) > 1 else None
    if given is None or not is_constant(given) or given.const_value is None:
        return None
    return [int(axis) for axis in np.ravel(given.const_value.numpy())]
