"""What every pass promises, whoever wrote it: all that the registry knows are held to it on the same small graphs."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt import registry
from infopt.errors import InputError
from infopt.options import fields
from infopt.passes import interface, run
from infopt.recipe import Job, Recipe, parse, to_toml

if TYPE_CHECKING:
    from infopt.model import Model
    from infopt.passes import Context, Pass

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"


@dataclass(frozen=True)
class Case:
    """A small graph."""

    text: str
    weights: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)


CASES = {
    "residual": Case(
        f"""(float[N,3,6,6] x) => (float[N,5] y) {{
            a = {CONV}(x, w1, b1)  r = Relu(a)  c = {CONV}(r, w2, b2)  s = Add(c, r)  t = Relu(s)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t)  g = GlobalAveragePool(p)  f = Flatten(g)
            y = Gemm<transB=1>(f, w3, b3) }}""",
        {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (5, 8), "b3": (5,)},
    ),
    "batch norm, fixed batch": Case(
        f"""(float[2,3,6,6] x) => (float[2,4,6,6] y) {{
            a = {CONV}(x, w)  n = BatchNormalization(a, s, b, m, v)  k = Mul(n, h)  y = Clip(k, lo, hi) }}""",
        {"w": (4, 3, 3, 3), "s": (4,), "b": (4,), "m": (4,), "v": np.float32([1, 2, 3, 4]), "h": np.float32(0.5)}
        | {"lo": np.float32(0), "hi": np.float32(1)},
    ),
    "nodes without names": Case(
        f"""(float[N,3,6,6] x) => (float[N,4,6,6] y) {{
            _a = {CONV}(x, w1)  _b = Add(_a, k1)  _c = Relu(_b)  _d = {CONV}(_c, w2)  _e = Add(_d, k2)
            _f = Identity(_e)  y = Relu(_f) }}""",
        {"w1": (4, 3, 3, 3), "k1": (1, 4, 1, 1), "w2": (4, 4, 3, 3), "k2": (1, 4, 1, 1)},
    ),
    "shared weight, two outputs": Case(
        """(float[N,8] x) => (float[N,8] h, float[N,8] y) {
            h = Gemm(x, w, b)  r = Relu(h)  m = MatMul(r, w)  y = Add(m, b) }""",
        {"w": (8, 8), "b": (8,)},
    ),
    "attention": Case(
        """(float[N,5,8] x) => (float[N,5,8] y) {
            q = MatMul(x, wq)  k = MatMul(x, wk)  t = Transpose<perm=[0,2,1]>(k)  a = MatMul(q, t)
            s = Softmax<axis=-1>(a)  v = MatMul(x, wv)  o = MatMul(s, v)  y = MatMul(o, wo) }""",
        {"wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "wo": (8, 8)},
    ),
    "embedding": Case(
        """(int64[N,7] ids) => (float[N,7,4] y) {
            e = Gather(table, ids)  h = MatMul(e, w)  one = Constant<value = float {1.0}>()  y = Add(h, one) }""",
        {"table": (9, 8), "w": (8, 4)},
    ),
    "branches": Case(
        """(bool c, float[N,4] x) => (float[N,2] y) {
            h = MatMul(x, w)
            y = If (c) <
                then_branch = t () => (float[N,2] u)
                    <float[4,2] v = {1., 2., 3., 4., 5., 6., 7., 8.}> { u = MatMul(h, v) },
                else_branch = e () => (float[N,2] z) { z = MatMul(x, k) }>
        }""",
        {"w": (4, 4), "k": (4, 2)},
    ),
    "old": Case(
        f"""(float[N,3,6,6] x) => (float[N,4] y) {{
            a = {CONV}(x, w, b)  r = Clip<min=0.0, max=6.0>(a)  g = GlobalAveragePool(r)
            s = Squeeze<axes=[2,3]>(g)  y = MatMul(s, k) }}""",
        {"w": (4, 3, 3, 3), "b": (4,), "k": (4, 4)},
        {"opset": 9, "ir_version": 3},
    ),
    "half precision, no shapes": Case(
        f"""(float16[N,3,6,6] x) => (float16[N,4,6,6] y) {{ a = {CONV}(x, w, b)  r = Relu(a)  y = {CONV}(r, v, b) }}""",
        {"w": np.float16(np.linspace(-1, 1, 108)).reshape(4, 3, 3, 3), "b": np.float16([0, 1, 2, 3])}
        | {"v": np.float16(np.linspace(-1, 1, 144)).reshape(4, 4, 3, 3)},
        {"infer": False},
    ),
    "nothing to do": Case("(float[N,4] x) => (float[N,4] y) { y = Identity(x) }", {}),
}

PASSES = list(registry.names("passes"))
TARGETS = {registry.target(name).table: name for name in reversed(registry.names("targets"))}.values()
"""One target a table."""

PAIRS = [
    pytest.param((case, name, target), id=f"{title}-{name}-{target}")
    for name in PASSES
    for target in (TARGETS if registry.pass_class(name)().calibrated else ["onnxruntime"])
    for title, case in CASES.items()
]


@dataclass(frozen=True)
class Applied:
    """A pass that has run.

    Attributes:
        step: The pass.
        context: What it was given.
        before: The model as bytes before it ran.
        model: The model after it ran.
        result: What the pass gave back.
    """

    step: Pass
    context: Context
    before: bytes
    model: Model
    result: Model


@pytest.fixture(scope="module", params=PAIRS)
def applied(request: pytest.FixtureRequest, build: Any, make_context: Any) -> Applied:
    """Each pass on each graph, with its default options."""
    case, name, target = request.param
    model: Model = build(case.text, **case.settings, **case.weights)
    step, context, before = instance(name), make_context(model, target), frozen(model)
    return Applied(step, context, before, model, run(model, (step,), context))


def instance(name: str) -> Pass:
    return registry.pass_class(name)()


def frozen(model: Model) -> bytes:
    """A model as bytes.

    The name of the tensor inside a Constant is no part of a graph; onnx_ir sets it when it writes the tensor elsewhere.
    """
    proto = ir.to_proto(model.graph)
    for node in proto.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            attribute.t.ClearField("name")
    return proto.SerializeToString(deterministic=True)


def shape_of(graph: ir.Graph, known: dict[ir.Value, str]) -> list[Any]:
    """A graph up to the names of nodes and inner values: each node with what it reads, constants by content."""

    def read(value: ir.Value | None) -> str:
        if value is None:
            return "absent"
        if value not in known and value.const_value is not None:
            tensor = value.const_value
            return f"{tensor.dtype} {list(tensor.shape)} {tensor.tobytes()!r}"
        return known[value]

    known |= {value: f"input {value.name}" for value in graph.inputs}
    nodes: list[Any] = []
    for number, node in enumerate(graph):
        branches = [shape_of(a.as_graph(), known) for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
        plain = sorted(f"{a.name}={a.value}" for a in node.attributes.values() if a.type != ir.AttributeType.GRAPH)
        nodes.append((node.domain, node.op_type, plain, [read(value) for value in node.inputs], branches))
        known |= {value: f"{number}.{index} of {id(graph)}" for index, value in enumerate(node.outputs)}
    names = {f"of {id(graph)}": "here"}
    return _renamed([*nodes, [(value.name, read(value)) for value in graph.outputs]], names)


def _renamed(item: Any, names: dict[str, str]) -> Any:
    if isinstance(item, str):
        for old, new in names.items():
            item = item.replace(old, new)
        return item
    return type(item)(_renamed(each, names) for each in item) if isinstance(item, (list, tuple)) else item


def test_a_pass_leaves_its_input_as_it_was(applied: Applied) -> None:
    assert frozen(applied.model) == applied.before
    assert (applied.model.notes, applied.model.steps) == ((), ())


def test_the_result_of_a_pass_is_valid_onnx(applied: Applied) -> None:
    onnx.checker.check_model(ir.to_proto(applied.result.graph), full_check=True)


def test_a_pass_keeps_the_interface_that_it_promises(applied: Applied) -> None:
    assert applied.step.interface in ("same", "declared")
    assert applied.step.interface == "declared" or interface(applied.result) == interface(applied.model)
    assert [done.name for done in applied.result.steps] == [applied.step.name]


def test_a_second_run_does_what_the_pass_promises(applied: Applied) -> None:
    step, once = applied.step, applied.result
    if step.repeat == "refused" and once.quantized_nodes():
        with pytest.raises(InputError):
            step(once, applied.context)
        return
    twice = step(once, applied.context)
    onnx.checker.check_model(ir.to_proto(twice.graph))
    assert step.repeat in ("unchanged", "again", "refused")
    if step.repeat == "unchanged":
        assert shape_of(twice.graph.graph, {}) == shape_of(once.graph.graph, {})


def test_outputs_move_no_further_than_promised(applied: Applied, run_float: Any) -> None:
    assert applied.context.calibration is not None
    for feed in applied.context.calibration.feeds():
        before, after = run_float(applied.model, feed), run_float(applied.result, feed)
        assert list(before) == list(after)
        for wanted, found in zip(before.values(), after.values(), strict=True):
            _check(wanted, found, applied.step.tolerance)


def _check(wanted: np.ndarray, found: np.ndarray, tolerance: str | float) -> None:
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert np.isfinite(found).all()
    if tolerance == "exact":
        np.testing.assert_array_equal(found, wanted)
    elif tolerance != "measured":
        assert np.abs(found - wanted).max() <= float(tolerance) * np.abs(wanted).max()


@pytest.mark.parametrize("name", PASSES)
def test_options_of_a_pass_survive_a_recipe(name: str) -> None:
    recipe = Recipe(Job(Path("m.onnx")), passes=(instance(name),))
    assert parse(tomllib.loads(to_toml(recipe, Path())), "again").passes == recipe.passes


@pytest.mark.parametrize("name", PASSES)
def test_every_field_of_a_pass_is_an_option(name: str) -> None:
    cls = registry.pass_class(name)
    assert {option.name for option in fields(cls)} == {field.name for field in dataclasses.fields(cls)}


def test_graphs_are_compared_by_what_they_compute(build: Any) -> None:
    text = "(float[N,4] x) => (float[N,4] y) {{ {0} = MatMul(x, w)  y = Add({0}, {1}) }}"
    one = build(text.format("a", "b"), w=(4, 4), b=np.float32(1))
    same = build(text.format("other", "b"), w=(4, 4), b=np.float32(1))
    wired = build(text.format("a", "a"), w=(4, 4))
    valued = build(text.format("a", "b"), w=(4, 4), b=np.float32(2))
    shapes = [shape_of(model.graph.graph, {}) for model in (one, same, wired, valued)]
    assert shapes[0] == shapes[1]
    assert shapes[0] not in shapes[2:]
