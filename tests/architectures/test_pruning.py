"""Networks as PyTorch exports them lose three tenths of their operations and compute what they do masked."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: networks are exported from it (pip install infopt[dev])")

from architectures.expected import EXPECTED, Expected
from architectures.exported import ARCHITECTURES, FOLLOWED, exported
from passes.silenced import check_equal, feed_of

from infopt.passes import run
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.ranking.allocate import Allocation
from infopt_passes.prune.ranking.cost import Costs
from infopt_passes.prune.ranking.importance import magnitudes
from infopt_passes.prune.ranking.multiples import Multiple
from infopt_passes.prune.wiring.weights import PRODUCTS, weight_of
from infopt_passes.simplify import Simplify

if TYPE_CHECKING:
    from conftest import MakeContext

    from infopt.model import Model

SHARE = 0.7
CASES = [
    *(pytest.param(name, "script", id=f"{name}-script") for name in ARCHITECTURES),
    *(
        pytest.param(name, "dynamo", id=f"{name}-dynamo", marks=() if name in FOLLOWED else pytest.mark.slow)
        for name in ARCHITECTURES
    ),
]


@cache
def simplified(name: str, exporter: Any, make_context: MakeContext) -> Model:
    model = exported(name, exporter)
    return run(model, [Simplify()], make_context(model))


def taken(work: Work, shapes: dict[str, Any]) -> None:
    """Let the units of least weight go, to three tenths of the operations."""
    costs = Costs.of(work.graph, shapes)
    allocation = Allocation(work.groups, magnitudes(work), costs, "flops", Multiple.of(1), work.kept)
    assert allocation.reach(SHARE)
    work.kept = allocation.kept


def free_share(work: Work) -> float:
    """Part of the outputs of all layers with weights that may go."""
    free: dict[Any, set[int]] = {}
    for group in work.groups:
        for axis, places in group.places.items():
            free.setdefault(axis, set()).update(places.ravel().tolist())
    found = total = 0
    for node in work.graph.graph:
        if node.op_type in PRODUCTS and weight_of(node) is not None:
            output = node.outputs[0]
            axis = 1 if node.op_type.startswith("Conv") else len(output.shape or ()) - 1
            total += int(output.shape[axis])  # type: ignore[index, arg-type]
            found += len(free.get((output, axis), ()))
    return found / total


@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_an_exported_network_pruned_computes_what_it_does_masked(
    name: str, exporter: Any, make_context: MakeContext, run_float: Any
) -> None:
    simple = simplified(name, exporter, make_context)
    shapes = {key: array.shape for key, array in feed_of(simple).items()}
    work = check_equal(simple, run_float, lambda work: taken(work, shapes))
    before, after = (Costs.of(graph, shapes).total("flops", {}) for graph in (work.exact, work.graph))
    assert after <= (SHARE + 1e-6) * before


@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_no_network_loses_groups_that_its_wiring_has(name: str, exporter: Any, make_context: MakeContext) -> None:
    expected: Expected = EXPECTED[name]
    work = Work.of(simplified(name, exporter, make_context).graph)
    unforeseen = {
        layer: why for layer, why in work.found.kept.items() if not any(word in why for word in expected.stays)
    }
    assert not unforeseen
    assert (len(work.groups), round(100 * free_share(work))) == (expected.groups, expected.share)


def test_what_is_expected_is_of_the_networks_that_are_there() -> None:
    assert EXPECTED.keys() == ARCHITECTURES.keys()
    assert np.mean([expected.share for expected in EXPECTED.values()]) > 75
