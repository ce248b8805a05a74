"""Streaming calibration: what each tensor's values span, at a memory cost that no number of samples changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.errors import DataError
from infopt.model import Model
from infopt.passes import Context
from infopt.targets.onnxruntime import open_onnx

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observer:
    """A fold over the extremes of each sample, for all tensors at once.

    Attributes:
        init: Makes the state for a number of tensors.
        update: (state, lows, highs) -> state, for one sample; lows and highs are float64 of shape (tensors,).
        finish: (state, samples) -> (lows, highs), each float64 of shape (tensors,).
    """

    init: Callable[[int], tuple[Floats, Floats]]
    update: Callable[[tuple[Floats, Floats], Floats, Floats], tuple[Floats, Floats]]
    finish: Callable[[tuple[Floats, Floats], int], tuple[Floats, Floats]]


OBSERVERS = {
    "minmax": Observer(
        init=lambda count: (np.full(count, np.inf), np.full(count, -np.inf)),
        update=lambda state, lows, highs: (np.minimum(state[0], lows), np.maximum(state[1], highs)),
        finish=lambda state, samples: state,
    ),
    "mean-minmax": Observer(
        init=lambda count: (np.zeros(count), np.zeros(count)),
        update=lambda state, lows, highs: (state[0] + lows, state[1] + highs),
        finish=lambda state, samples: (state[0] / samples, state[1] / samples),
    ),
}
"""Observers by the name that ``--ranges`` takes. ``mean-minmax`` damps single outliers; it is NNCF's default."""


def calibrate(
    model: Model, names: Sequence[str], observer: Observer, context: Context
) -> dict[str, tuple[float, float]]:
    """Run the calibration samples and fold the extremes of the named tensors.

    The reductions run inside the runtime, so activations are never copied out: peak memory is that of inference.

    Args:
        model: The float model.
        names: Tensors to observe.
        observer: How to fold.
        context: Brings the samples.

    Returns:
        (low, high) by tensor name.

    Raises:
        DataError: A tensor became NaN or infinite; the first such tensor is named.
    """
    samples = context.need_calibration("quantize")
    session = open_onnx(context.on_disk(model.edited(_reduced(model.graph, names))), {})
    state, runs = observer.init(len(names)), 0
    for feed in samples.feeds():
        lows, highs, sums = np.array(session.run(feed), np.float64).reshape(3, -1)
        sound = np.isfinite(lows) & np.isfinite(highs) & ~np.isnan(sums)
        if not sound.all():
            bad = names[int(np.argmin(sound))]
            what = f"tensor {bad!r} is NaN or infinite in float on calibration sample {runs}"
            raise DataError(what, "mend the model")
        state, runs = observer.update(state, lows, highs), runs + 1
        context.progress("calibrating", runs, len(samples))
    lows, highs = observer.finish(state, runs)
    return {name: (float(low), float(high)) for name, low, high in zip(names, lows, highs, strict=True)}


def _reduced(graph: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy of a model whose outputs are the minima of the tensors, then their maxima, then their sums.

    The sums are there to notice NaN, which minimum and maximum may step over.
    """
    result = graph.clone()
    main = result.graph
    values = {value.name: value for value in _values(main)}
    main.outputs.clear()
    for kind in ("ReduceMin", "ReduceMax", "ReduceSum"):
        for name in names:
            node = ir.node(kind, [values[name]], attributes={"keepdims": 0}, name=f"{kind}:{name}")
            node.outputs[0].name = f"{kind}:{name}:value"
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            node.outputs[0].shape = ir.Shape([])
            main.append(node)
            main.outputs.append(node.outputs[0])
    return result


def _values(graph: ir.Graph) -> list[Any]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs)]
