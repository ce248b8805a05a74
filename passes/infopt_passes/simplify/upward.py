"""Spells out the padding of transposed convolutions: runtimes differ in how they split what ``output_shape`` implies.

Where a batch is not fixed, OpenVINO 2026.4 gives what ``output_shape`` asks for shifted by a pixel, and what
``auto_pad`` asks for with a pixel more; with pads all agree. The formulas are those of the ONNX operator's own page.
"""

from __future__ import annotations

import onnx_ir as ir

SAME = ("SAME_UPPER", "SAME_LOWER")


def spell_out_padding(graph: ir.Graph) -> int:
    """Give, in place, transposed convolutions the pads that they imply, where sizes are known.

    Args:
        graph: The main graph, with shapes inferred; bodies in it are done as well.

    Returns:
        Number of nodes that were changed.
    """
    nodes = [node for node in graph.all_nodes() if node.op_type == "ConvTranspose" and node.domain == ""]
    return sum(_spell_out(node) for node in nodes)


def _spell_out(node: ir.Node) -> bool:
    mode, wanted = node.attributes.get_string("auto_pad", "NOTSET"), _ints(node, "output_shape")
    total = _total(node, mode, wanted) if wanted or mode != "NOTSET" else None
    if total is None or min(total) < 0:  # places that nothing is written to
        return False
    less, greater = [t // 2 for t in total], [t - t // 2 for t in total]
    pads = [*less, *greater] if mode == "SAME_UPPER" else [*greater, *less]
    for name in ("auto_pad", "output_shape"):
        node.attributes.pop(name, None)
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    return True


def _total(node: ir.Node, mode: str | None, wanted: list[int]) -> list[int] | None:
    """The padding of each axis, both ends together; ``None`` where sizes are not known."""
    data, weight = node.inputs[:2]
    if data is None or weight is None or weight.shape is None or not weight.shape.is_static():
        return None
    kernel = weight.shape.numpy()[2:]
    strides, dilations = (_ints(node, name) or [1] * len(kernel) for name in ("strides", "dilations"))
    more = _ints(node, "output_padding") or [0] * len(kernel)
    # What comes out without padding, less the stride for each place that comes in.
    rest = [a + (k - 1) * d + 1 - s for a, k, d, s in zip(more, kernel, dilations, strides, strict=True)]
    if not wanted:
        return rest if mode in SAME else [0] * len(kernel)
    sizes = [size for size in (data.shape or ())[2:] if isinstance(size, int)]
    if len(sizes) != len(kernel):
        return None
    return [n * s + r - size for n, s, r, size in zip(sizes, strides, rest, wanted[-len(kernel) :], strict=True)]


def _ints(node: ir.Node, name: str) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else []
