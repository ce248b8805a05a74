"""Instruments: outputs that are appended to a graph to learn about the tensors inside it, reduced in the runtime.

What a probe appends gives few numbers per tensor, so that activations are not copied out: extremes for calibration,
shares of clipped values for the check of a model against other data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.bodies import body_values, home_of
from infopt.carry import collected, reduced, scans_opened
from infopt.model import HELD

if TYPE_CHECKING:
    from infopt.model import Range
    from infopt.targets.onnxruntime import OnnxSession

FLAT = HELD
"""Weights of at least this many bytes are given to the runtime as files, so that it maps them instead of copying."""

INLINE = 1 << 24
"""Bytes of weights that a pass made for a model with external data, which are not worth another copy of that data."""


Spot = tuple[str, str]
"""The name of a tensor, and that of a node in the graph or body from which it is looked at."""


def values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """Every input and every node's output of a graph, by name; subgraphs are left out."""
    made = (value for node in graph for value in node.outputs)
    return {value.name: value for value in (*graph.inputs, *made) if value.name}


def with_extremes(graph: ir.Model, names: Sequence[str], axes: Mapping[str, int] | None = None) -> ir.Model:
    """A copy of a model whose outputs are the minima of tensors, then their maxima, then their sums.

    The sums are there to notice NaN, which minimum and maximum may step over.

    Args:
        graph: The model; it is left as it was.
        names: Tensors to reduce, of the main graph or of bodies; one of an integer type has no place here. Those of a
            body that does not run give infinity, its negative, and 0.
        axes: Axis that is kept, for tensors that are reduced per channel; the others give scalars. The sums are always
            scalars.
    """
    result = graph.clone()
    main = result.graph
    values, kept = values_by_name(main), axes or {}
    inner = body_values(main) if any(name not in values for name in names) else {}
    main.outputs.clear()
    for kind in ("ReduceMin", "ReduceMax", "ReduceSum"):
        for name in names:
            axis = kept.get(name) if kind != "ReduceSum" else None
            if name not in values:
                main.outputs.append(reduced(main, inner[name], kind, axis=axis))
                continue
            _reduce(result, kind, values[name], axis)
    return result


def with_outputs(graph: ir.Model, names: Iterable[str | Spot]) -> ir.Model:
    """A copy of a model whose outputs are the named tensors, whole.

    Args:
        graph: The model; it is left as it was.
        names: Tensors of the main graph give arrays. Tensors of bodies, and those of either that are looked at from
            within a body, give lists of what they are in each run of the body; an empty array stands for no run.
    """
    result = graph.clone()
    main = result.graph
    main.outputs.clear()
    listed = list(names)
    scans_opened(main, (home for _, home in _spots(main, listed)))
    outputs: dict[int, ir.Value] = {}
    inner = [i for i, (_, home) in enumerate(_spots(main, listed)) if home is not main]
    for i in inner:
        # Outputs of a Loop change places each time, so that tensors are looked up anew.
        ((value, home),) = _spots(main, [listed[i]])
        outputs[i] = collected(main, value, home)
    for i, (value, _) in enumerate(_spots(main, listed)):
        if i not in outputs:
            name = value.name
            node = ir.node("Identity", [value], name=f"Identity:{name}")
            outputs[i] = _append(main, node, value.dtype)
            outputs[i].name = f"{name}:whole"
    main.outputs.extend(outputs[i] for i in range(len(outputs)))
    return result


def with_sizes(graph: ir.Model, names: Iterable[str | Spot]) -> ir.Model:
    """A copy of a model whose outputs are the numbers of elements of the named tensors, scalars.

    Args:
        graph: The model; it is left as it was.
        names: Of tensors that are looked at from within a body, the sizes of all runs are added up.
    """
    result = graph.clone()
    main = result.graph
    main.outputs.clear()
    for value, home in _spots(main, names):
        if home is not main:
            main.outputs.append(reduced(main, value, "Size", home))
            continue
        node = ir.node("Size", [value], name=f"Size:{value.name}")
        _finish(main, node, f"{value.name}:size", ir.DataType.INT64)
    return result


def _spots(main: ir.Graph, names: Iterable[str | Spot]) -> list[tuple[ir.Value, ir.Graph]]:
    """Tensors, and the graphs in which they are looked at."""
    values = body_values(main) | values_by_name(main)
    nodes = {node.name: node for node in main.all_nodes()}
    found = []
    for name in names:
        tensor, reader = (name, None) if isinstance(name, str) else name
        home = home_of(values[tensor]) if reader is None else nodes[reader].graph
        assert isinstance(home, ir.Graph)  # functions are inlined before
        found.append((values[tensor], home))
    return found


def with_faults(graph: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy of a model whose outputs tell of each tensor whether it holds NaN, then of each whether it is not finite.

    Args:
        graph: The model; it is left as it was.
        names: Tensors of floating-point types.
    """
    result = graph.clone()
    main = result.graph
    values = values_by_name(main)
    main.outputs.clear()
    # x - x is 0 exactly where x is finite.
    differences = [_append(main, ir.node("Sub", [values[n], values[n]], name=f"Sub:{n}"), None) for n in names]
    for kind, tensors in (("NaN", [values[name] for name in names]), ("fault", differences)):
        for name, value in zip(names, tensors, strict=True):
            flag = _append(main, ir.node("IsNaN", [value], name=f"{kind}:{name}"), ir.DataType.BOOL)
            cast = ir.node("Cast", [flag], attributes={"to": ir.DataType.FLOAT.value}, name=f"Cast:{kind}:{name}")
            _reduce(result, "ReduceMax", _append(main, cast, ir.DataType.FLOAT), None)
    return result


def with_clipping(
    graph: ir.Model, ranges: Mapping[str, Range], most: int | None = None, outputs: bool = False
) -> ir.Model:
    """A copy of a model with three outputs a tensor: share of the values outside its range, minimum, maximum.

    A value is outside when rounding takes it past the last integer: more than half a step beyond the range.

    Args:
        graph: The model; it is left as it was.
        ranges: Range by name of a tensor of the main graph.
        most: About how many values of a tensor are looked at, evenly spread; all by default.
        outputs: Keep the model's own outputs, in front.
    """
    result = graph.clone()
    main = result.graph
    values = values_by_name(main)
    if not outputs:
        main.outputs.clear()
    for name, known in ranges.items():
        seen = values[name] if most is None else _thinned(main, values[name], most)
        low, high = representable(known)
        flags = []
        for kind, bound in (("Less", low - known.scale / 2), ("Greater", high + known.scale / 2)):
            limit = _constant(main, f"{name}:{kind}:bound", np.array(bound, np.float32))
            beyond = _append(main, ir.node(kind, [seen, limit], name=f"{kind}:{name}"), ir.DataType.BOOL)
            cast = ir.node("Cast", [beyond], attributes={"to": ir.DataType.FLOAT.value}, name=f"Cast:{kind}:{name}")
            flags.append(_append(main, cast, ir.DataType.FLOAT))
        either = _append(main, ir.node("Add", flags, name=f"Add:{name}"), ir.DataType.FLOAT)
        _reduce(result, "ReduceMean", either, None)
        for kind in ("ReduceMin", "ReduceMax"):
            _reduce(result, kind, seen, None)
    return result


def representable(known: Range) -> tuple[float, float]:
    """Smallest and largest value that a quantized tensor can have."""
    info = np.iinfo(known.dtype)
    return (info.min - known.zero_point) * known.scale, (info.max - known.zero_point) * known.scale


def opened(graph: ir.Model, workdir: Path, settings: Mapping[str, str]) -> OnnxSession:
    """A CPU session of a graph, at the memory cost of its weights once.

    Weights go to the runtime as files: the model's own where it has external data, else one that is written to
    ``workdir`` tensor by tensor. The runtime maps them and lets go of each after packing it for its kernels.

    Args:
        graph: The model; it is left as it was.
        workdir: Folder for files that only live during the run.
        settings: See :func:`infopt.targets.onnxruntime.open_onnx`.

    Raises:
        RuntimeRefused: The runtime cannot create a session.
    """
    from infopt.targets.onnxruntime import open_onnx

    proto, entries = filed(graph, workdir)
    return open_onnx(proto, {**entries, **settings})


def filed(graph: ir.Model, workdir: Path) -> tuple[bytes, dict[str, str]]:
    """A serialized model whose large weights are files, and the settings with which the runtime finds these.

    Args:
        graph: The model; it is left as it was.
        workdir: Where files are written; they live as long as it does.
    """
    folder, proto = _with_files(graph, workdir)
    return proto, {"session.model_external_initializers_file_folder_path": str(folder)} if folder else {}


def _with_files(graph: ir.Model, workdir: Path) -> tuple[Path | None, bytes]:
    """A folder and a serialized model whose large weights are files in it; the runtime takes one folder only."""
    clone = graph.clone()
    held = [value for value in _initializers(clone) if value.const_value is not None]
    external = [value.const_value for value in held if isinstance(value.const_value, ir.ExternalTensor)]
    folders = {str(tensor.base_dir) for tensor in external}
    made = sum(v.const_value.nbytes for v in held if v.const_value is not None) - sum(t.nbytes for t in external)
    if len(folders) == 1 and made < INLINE:
        return Path(folders.pop() or "."), ir.to_proto(clone).SerializeToString()
    large = [value for value in held if value.const_value is not None and value.const_value.nbytes >= FLAT]
    if large:
        _spill(large, workdir / "weights.bin")
    return workdir, ir.to_proto(clone).SerializeToString()


def _initializers(model: ir.Model) -> list[ir.Value]:
    return [value for graph in (model.graph, *model.graph.subgraphs()) for value in graph.initializers.values()]


def _spill(values: Sequence[ir.Value], path: Path) -> None:
    """Move weights to a file, one at a time."""
    with path.open("wb") as file:
        for value in values:
            tensor, start = value.const_value, file.tell()
            assert tensor is not None
            file.write(tensor.tobytes())
            if isinstance(tensor, ir.ExternalTensor):
                tensor.release()
            length, shape = file.tell() - start, tensor.shape
            assert isinstance(shape, ir.Shape)
            value.const_value = ir.ExternalTensor(
                path.name, start, length, tensor.dtype, shape=shape, name=value.name or "", base_dir=path.parent
            )


def _reduce(model: ir.Model, kind: str, value: ir.Value, keep: int | None) -> None:
    """Append a reduction of a float tensor to scalars, or to a vector over the axis that is kept."""
    name, graph = value.name, model.graph
    inputs: list[ir.Value | None] = [value]
    attributes: dict[str, Any] = {"keepdims": 0}
    if keep is not None:
        assert value.shape is not None, f"the rank of {name} is not known"
        others = [axis for axis in range(len(value.shape)) if axis != keep % len(value.shape)]
        # The axes became an input of ReduceSum with opset 13 and of the others with opset 18.
        if model.opset_imports.get("", 0) >= 18:
            inputs.append(_constant(graph, f"{kind}:{name}:axes", np.array(others, np.int64)))
        else:
            attributes["axes"] = others
        attributes["noop_with_empty_axes"] = 1
        if model.opset_imports.get("", 0) < 18:
            del attributes["noop_with_empty_axes"]
    node = ir.node(kind, inputs, attributes=attributes, name=f"{kind}:{name}")
    _finish(graph, node, f"{kind}:{name}:value", ir.DataType.FLOAT)


def _thinned(graph: ir.Graph, value: ir.Value, most: int) -> ir.Value:
    """Append what takes every so many-th value of a tensor: between ``most / 2`` and ``most`` of a large one.

    The stride is odd, because the sizes of tensors mostly are not, and known only when the tensor is.
    """

    def constant(number: int) -> ir.Value:
        name = f"thinned:{number}"
        return graph.initializers.get(name) or _constant(graph, name, np.array([number], np.int64))

    def append(kind: str, inputs: list[ir.Value], dtype: ir.DataType | None = ir.DataType.INT64) -> ir.Value:
        return _append(graph, ir.node(kind, inputs, name=f"{kind}:thinned:{value.name}"), dtype)

    flat = append("Reshape", [value, constant(-1)], value.dtype)
    size = append("Shape", [flat])
    half = append("Div", [size, constant(most)])
    stride = append("Add", [append("Mul", [half, constant(2)]), constant(1)])
    thin = append("Slice", [flat, constant(0), size, constant(0), stride], value.dtype)
    thin.name, thin.shape = f"{value.name}:thinned", ir.Shape([None])
    return thin


def _append(graph: ir.Graph, node: ir.Node, dtype: ir.DataType | None) -> ir.Value:
    output = node.outputs[0]
    output.name = f"{node.name}:value"
    output.type = ir.TensorType(dtype) if dtype is not None else None
    graph.append(node)
    return output


def _finish(graph: ir.Graph, node: ir.Node, name: str, dtype: ir.DataType | None) -> None:
    """Append a node whose output is an output of the graph."""
    output = _append(graph, node, dtype)
    output.name = name
    graph.outputs.append(output)


def _constant(graph: ir.Graph, name: str, array: Any) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(array.dtype)), ir.Shape(array.shape)
    graph.register_initializer(value)
    return value
