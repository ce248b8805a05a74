"""That a pruned model computes what the whole one does with the same units silenced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from passes.reads import reads

from infopt.data import infer_batch_axes
from infopt.model import Model, input_specs
from infopt.passes import interface
from infopt.readers.synthetic import SyntheticSamples
from infopt_passes.prune.cutting.work import Work


def chosen(work: Work, seed: int, share: float = 0.3) -> None:
    """Let some units of each group go, never all of them."""
    rng = np.random.default_rng(seed)
    work.kept = [rng.permutation(len(kept)) >= int(np.ceil(share * len(kept))) - (len(kept) < 3) for kept in work.kept]
    for kept in work.kept:
        kept[0] |= not kept.any()


def silenced(work: Work) -> Model:
    """The model as it was, with zeros in the place of what is gone wherever a layer with a weight reads it."""
    gone = {(value.name, axis): mask for (value, axis), mask in work.removed().items()}
    graph = work.exact.clone()
    for node in list(graph.graph):
        for index, axis in reads(node):
            data = node.inputs[index]
            assert data is not None
            assert data.shape is not None
            rank = len(data.shape)
            mask = gone.get((data.name, axis))
            if mask is None:
                continue
            shape = [1] * rank
            shape[axis] = len(mask)
            name = f"{node.name}:{index}:{axis}:mask"
            value = ir.Value(name=name, const_value=ir.tensor(mask.astype(np.float32).reshape(shape), name=name))
            value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
            graph.graph.register_initializer(value)
            product = ir.node("Mul", [data, value], name=f"{name}ed")
            made = product.outputs[0]
            made.name, made.shape, made.type = f"{name}ed", data.shape, data.type
            graph.graph.insert_before(node, product)
            node.replace_input_with(index, made)
    return Model(graph, Path("model.onnx"))


def feed_of(model: Model) -> Any:
    return samples_of(model, 2)


def samples_of(model: Model, count: int) -> Any:
    """A feed of made-up samples."""
    inputs = infer_batch_axes(input_specs(model.graph), {})
    return next(SyntheticSamples(inputs, count, 0).batches(count, np.arange(count))).feed


def check_equal(model: Model, run_float: Any, choose: Callable[[Work], None], weighed: bool = True) -> Work:
    """Let the units go that ``choose`` takes, and compare what is left with the whole model that does not see them.

    Args:
        model: The whole model.
        run_float: Runs it.
        choose: Says which units are kept.
        weighed: Whether all that go are read by weights: then zeros in these silence them.
    """
    work = Work.of(model.graph)
    choose(work)
    wanted = run_float(silenced(work), feed_of(model))
    work.zero()
    zeroed = run_float(model.edited(work.graph.clone()), feed_of(model))
    result = model.edited(work.cut())
    onnx.checker.check_model(ir.to_proto(result.graph), full_check=True)
    assert interface(result) == interface(model)
    found = run_float(result, feed_of(model))
    for name, array in wanted.items():
        close = 1e-4 * max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(found[name], array, rtol=0, atol=close)
        if weighed:
            np.testing.assert_allclose(zeroed[name], array, rtol=0, atol=close)
    return work
