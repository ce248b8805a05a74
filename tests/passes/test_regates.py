"""Least squares of recurrent layers: what they win back of hidden units that are gone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from passes.sequences import GATES, steps

from infopt_passes.prune import Prune
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.recovery.recover import recover


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("kind", GATES)
def test_a_hidden_unit_with_a_twin_can_go_without_a_loss(
    kind: str, read: bool, make_context: Any, run_float: Any
) -> None:
    """Whatever reads both is refitted: the product behind and, where they are read by their own kind, the layer."""
    net = steps()
    y = net.flat(net.recurrent(kind, "x", 4)[0])
    for tensor in net.weights[:3]:
        twin(tensor, read)
    model = net.model(net.linear(y, 3))
    context = make_context(model, count=32)
    feed = next(context.calibration.feeds())
    errors = {}
    for how in ("none", "lsq"):
        result = Prune(params=0.95, multiple=1, recover=how)(model, context)
        (wanted,), (found,) = run_float(model, feed).values(), run_float(result, feed).values()
        errors[how] = float(np.abs(wanted - found).max() / np.abs(wanted).max())
    assert 20 * errors["lsq"] < errors["none"]


def twin(tensor: Any, read: bool) -> None:
    """Make the last unit of W, R or B the same as the one before; its kind reads both, or none of them."""
    array = numpy_helper.to_array(tensor).copy()
    array[:, 3::4] = array[:, 2::4]
    if array.shape[-1] == 4 and not read:
        array[:, :, 2:] = 0
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def test_a_recurrent_layer_is_refitted_to_what_is_left_of_its_features(make_context: Any, run_float: Any) -> None:
    """Of twins in the layer in front one can go without a loss, once W reads the other twice; its mean is in B."""
    net = steps()
    one = net.flat(net.recurrent("LSTM", "x", 4)[0])
    for tensor in net.weights[:3]:
        twin(tensor, True)
    model = net.model(net.linear(net.flat(net.recurrent("GRU", one, 6)[0]), 3))
    context = make_context(model, count=32)
    work = Work.of(model.graph)
    first = next(i for i, group in enumerate(work.groups) if group.units == 4)
    work.kept[first] = np.array([True, True, True, False])
    work.zero()
    told = recover(work, context)
    assert not told.left
    feed = next(context.calibration.feeds())
    (wanted,), (found,) = run_float(model, feed).values(), run_float(model.edited(work.cut()), feed).values()
    assert np.abs(wanted - found).max() < 0.02 * np.abs(wanted).max()


def test_a_hidden_unit_that_never_changes_moves_into_the_bias_of_its_gates(make_context: Any, run_float: Any) -> None:
    """Its part of the candidate state is behind the reset gate, where only the second half of the bias is."""
    net = steps()
    y = net.flat(net.recurrent("GRU", "x", 4, linear_before_reset=1)[0])
    for tensor, half in zip(net.weights[:3], (0, 0, 12), strict=True):
        array = numpy_helper.to_array(tensor).copy()
        array[:, 3::4] = 0
        if half:
            array[:, 3], array[:, 11] = -20, 1  # no update gate, and a candidate that is always the same
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    model = net.model(net.linear(y, 3))
    context = make_context(model, count=32)
    work = Work.of(model.graph)
    work.kept = [np.array([True, True, True, False])]
    errors = []
    for refit in (False, True):
        work.zero()
        if refit:
            recover(work, context)
        feed = next(context.calibration.feeds())
        (wanted,) = run_float(model, feed).values()
        (found,) = run_float(model.edited(work.graph.clone()), feed).values()
        errors.append(float(np.abs(wanted - found)[-1].max()))  # the first step reads no state: no bias knows that
    assert 10 * errors[1] < errors[0]


def test_fits_that_take_states_further_away_are_taken_back(make_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = steps()
    model = net.model(net.linear(net.flat(net.recurrent("LSTM", "x", 6)[0]), 3))
    work = Work.of(model.graph)
    work.kept = [np.arange(6) > 1]
    work.zero()
    node = next(node for node in work.graph.graph if node.op_type == "LSTM")
    before = [node.inputs[index].const_value.numpy().copy() for index in (1, 2, 3)]
    monkeypatch.setattr("infopt_passes.prune.recovery.regates.fitted", lambda target, own, *rest: own + 5.0)
    told = recover(work, make_context(model, count=32))
    assert node.name not in told.fitted
    for index, array in zip((1, 2, 3), before, strict=True):
        np.testing.assert_array_equal(node.inputs[index].const_value.numpy(), array)
