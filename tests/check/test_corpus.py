"""Broken models, each with the rule and node that must be found, and a sibling that must not be flagged for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from infopt.checks.rules import RULES
from infopt.checks.run import targets_named
from infopt.cpu import machine_isa
from infopt.errors import OptionError
from infopt.model import Model, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from check.conftest import Find
    from conftest import Build

BROKEN, FINE = True, False
I8, U8 = np.int8, np.uint8
SCALES = {"s": np.float32(0.05), "z": I8(0)}
CASES: list[Case] = []


@dataclass(frozen=True)
class Case:
    rule: str
    node: str | None
    target: str
    make: Callable[[Build, bool], Model]
    fixable: bool


def case(rule: str, node: str | None, target: str, fixable: bool = False) -> Callable[..., Any]:
    """Register a function that makes a broken model, and for False its sound sibling."""

    def register(make: Callable[[Build, bool], Model]) -> Callable[[Build, bool], Model]:
        CASES.append(Case(rule, node, target, make, fixable))
        return make

    return register


def integers(shape: tuple[int, ...], top: int = 127) -> np.ndarray:
    rng = np.random.default_rng(shape)
    array = rng.integers(-top, top + 1, shape)
    array.reshape(shape[0], -1)[:, 0] = top
    return array.astype(I8)


def weight(name: str = "w", shape: tuple[int, ...] = (16, 16, 3, 3), axis: int = 0, **other: Any) -> dict[str, Any]:
    """Constants ``{name}q``, ``{name}s``, ``{name}z`` of an int8 weight per channel."""
    count = shape[axis]
    default = {"q": integers(shape), "s": np.full(count, 0.01, np.float32), "z": np.zeros(count, I8)}
    return {f"{name}{key}": other.get(key, value) for key, value in default.items()}


def pair(name: str, source: str, scale: str = "s", zero: str = "z") -> str:
    return f"""{name}_q = QuantizeLinear({source}, {scale}, {zero})
        {name} = DequantizeLinear({name}_q, {scale}, {zero})"""


CONV = "Conv<pads=[1,1,1,1]>"
WEIGHT = "w = DequantizeLinear<axis=0>(wq, ws, wz)"


def chain(body: str, output: str = "float[a,b,c,d] y") -> str:
    return f"(float[1,16,8,8] x) => ({output}) {{ {body} }}"


def layer(build: Build, extra: str = "c", tail: str = "", zero: Any = None, opset: int = 17, **more: Any) -> Model:
    """x -> Q/DQ -> Conv -> Q/DQ, with the constants that it takes."""
    zero = I8(0) if zero is None else zero
    body = f"{pair('d', 'x')} {WEIGHT} c = {CONV}(d, w) {tail} {pair('y', extra)}"
    return build(chain(body), opset=opset, **{**SCALES, "z": zero, **weight(), **more})


# --- TensorRT


@case("int32-bias", "b", "tensorrt", fixable=True)
def bias(build: Build, broken: bool) -> Model:
    dq = "b = DequantizeLinear(bq, bs)" if broken else "b = Identity(bf)"
    text = chain(f"{pair('d', 'x')} {WEIGHT} {dq} c = {CONV}(d, w, b) {pair('y', 'c')}")
    more = {"bq": np.arange(16, dtype=np.int32), "bs": np.float32(0.0005)} if broken else {"bf": (16,)}
    return build(text, **SCALES, **weight(), **more)


@case("nonzero-zero-point", "d_q", "tensorrt-rtx")
def zero_point(build: Build, broken: bool) -> Model:
    return layer(build, zero=I8(3 if broken else 0))


@case("nonzero-zero-point", "d_q", "tensorrt", fixable=True)
def zero_point_in_the_middle(build: Build, broken: bool) -> Model:
    return layer(build, zero=U8(128) if broken else I8(0))


@case("nonzero-zero-point", "w", "tensorrt", fixable=True)
def weight_zero_point(build: Build, broken: bool) -> Model:
    shifted = {"wq": (integers((16, 16, 3, 3)).astype(int) + 128).astype(U8), "wz": np.full(16, 128, U8)}
    return layer(build, **(shifted if broken else {}))


@case("uint8-clipped", "d_q", "tensorrt")
def clipped(build: Build, broken: bool) -> Model:
    return layer(build, zero=U8(0) if broken else I8(0))


@case("wide-integer", "d", "tensorrt")
def sixteen_bits(build: Build, broken: bool) -> Model:
    return layer(build, zero=np.int16(0) if broken else I8(0), opset=21)


@case("integer-operator", "c", "tensorrt-rtx")
def qoperator(build: Build, broken: bool) -> Model:
    if not broken:
        return layer(build)
    text = chain("xq = QuantizeLinear(x, s, z) c = QLinearConv(xq, s, z, wq, s, z, s, z) y = DequantizeLinear(c, s, z)")
    return build(text, **SCALES, wq=integers((16, 16, 3, 3)))


@case("residual-main-quantized", "a", "tensorrt-rtx")
def residual(build: Build, broken: bool) -> Model:
    main = pair("m", "c") if broken else "m = Identity(c)"
    body = f"{pair('d', 'x')} {WEIGHT} c = {CONV}(d, w) {main} a = Add(m, d) y = Relu(a)"
    return build(chain(body), **SCALES, **weight())


@case("int64-range", "a", "openvino")
def long_integer(build: Build, broken: bool) -> Model:
    text = "(int64[4] x) => (int64[4] y) { a = Add(x, k) y = Mul(a, x) }"
    return build(text, k=np.array([2**40 if broken else 7]))


@case("dynamic-shape", "x", "tensorrt")
def dynamic(build: Build, broken: bool) -> Model:
    return build(f"(float[{'N' if broken else '2'},4] x) => (float[K,4] y) {{ y = Relu(x) }}")


# --- OpenVINO


@case("s8-asymmetric", "d_q", "openvino", fixable=True)
def signed_asymmetric(build: Build, broken: bool) -> Model:
    return layer(build, zero=I8(-10) if broken else U8(118))


@case("weight-zero-point", "w", "openvino", fixable=True)
def weight_not_symmetric(build: Build, broken: bool) -> Model:
    return weight_zero_point(build, broken)


@case("dynamic-quantized", "m", "openvino")
def dynamically(build: Build, broken: bool) -> Model:
    if not broken:
        return layer(build)
    text = """(float[4,16] x) => (float[4,8] y) {
        q, s, z = DynamicQuantizeLinear(x) m = MatMulInteger(q, wq, z) f = Cast<to=1>(m) y = Mul(f, s) }"""
    return build(text, wq=integers((16, 8)))


# --- ONNX Runtime


def branches(build: Build, zero: Any) -> Model:
    body = f"""x_q = QuantizeLinear(x, s, z) d = DequantizeLinear(x_q, s, z) e = DequantizeLinear(x_q, s, z) {WEIGHT}
        v = DequantizeLinear<axis=0>(vq, vs, vz) c = {CONV}(d, w) f = {CONV}(e, v) {pair("y", "c")} {pair("k", "f")}"""
    return build(chain(body, "float[a,b,c,d] y, float[e,f,g,h] k"), **{**SCALES, "z": zero}, **weight(), **weight("v"))


@case("s8-shared", "x_q", "onnxruntime", fixable=True)
def signed_branches(build: Build, broken: bool) -> Model:
    return branches(build, I8(0) if broken else U8(128))


@case("s8-activation", "d_q", "onnxruntime", fixable=True)
def signed(build: Build, broken: bool) -> Model:
    return layer(build, zero=I8(0) if broken else U8(128))


@case("u8s8-saturation", "c", "onnxruntime")
def saturating(build: Build, broken: bool) -> Model:
    return layer(build, zero=U8(128), wq=integers((16, 16, 3, 3), 127 if broken else 64))


@case("missing-output-q", "c", "onnxruntime")
def no_output(build: Build, broken: bool) -> Model:
    body = f"{pair('d', 'x')} {WEIGHT} c = {CONV}(d, w) r = Relu(c) {'y = Neg(r)' if broken else pair('y', 'r')}"
    return build(chain(body), **{**SCALES, "z": U8(9)}, **weight())


@case("half-quantized-add", "a", "onnxruntime")
def half_add(build: Build, broken: bool) -> Model:
    other = "e = Identity(x)" if broken else pair("e", "x")
    return build(chain(f"{pair('d', 'x')} {other} a = Add(d, e) {pair('y', 'a')}"), **{**SCALES, "z": U8(9)})


# --- placement


@case("half-quantized", "c", "openvino")
def half(build: Build, broken: bool) -> Model:
    data = "d = Identity(x)" if broken else pair("d", "x")
    return build(chain(f"{data} {WEIGHT} c = {CONV}(d, w) {pair('y', 'c')}"), **SCALES, **weight())


@case("half-quantized", "c", "openvino")
def half_weight(build: Build, broken: bool) -> Model:
    w = "w = Identity(wf)" if broken else WEIGHT
    more = {"wf": (16, 16, 3, 3)} if broken else weight()
    return build(chain(f"{pair('d', 'x')} {w} c = {CONV}(d, w) {pair('y', 'c')}"), **SCALES, **more)


@case("half-quantized-concat", "k", "tensorrt")
def half_concat(build: Build, broken: bool) -> Model:
    other = "e = Neg(x)" if broken else pair("e", "x")
    return build(chain(f"{pair('d', 'x')} {other} k = Concat<axis=1>(d, e) {pair('y', 'k')}"), **SCALES)


@case("mixed-concat", "k", "openvino")
def mixed(build: Build, broken: bool) -> Model:
    body = f"{pair('d', 'x')} {pair('e', 'x', 't')} k = Concat<axis=1>(d, e) {pair('y', 'k', 't')}"
    return build(chain(body), **SCALES, t=np.float32(4.0 if broken else 0.2))


@case("weight-axis", "c", "tensorrt-rtx")
def axis(build: Build, broken: bool) -> Model:
    body = f"{pair('d', 'x')} w = DequantizeLinear<axis={int(broken)}>(wq, ws, wz) c = {CONV}(d, w) {pair('y', 'c')}"
    return build(chain(body), **SCALES, **weight())


@case("weight-axis", "y", "openvino")
def matmul_axis(build: Build, broken: bool) -> Model:
    text = f"""(float[4,16] x) => (float[4,16] y) {{
        {pair("d", "x")} w = DequantizeLinear<axis={int(not broken)}>(wq, ws, wz) y = MatMul(d, w) }}"""
    return build(text, **SCALES, **weight(shape=(16, 16)))


@case("activation-per-channel", "d_q", "onnxruntime")
def channels(build: Build, broken: bool) -> Model:
    count = 16 if broken else 1
    return layer(
        build,
        s=np.full(count, 0.05, np.float32) if broken else np.float32(0.05),
        z=np.zeros(count, I8) if broken else I8(0),
    )


@case("q-before-activation", "r", "tensorrt-rtx")
def before_relu(build: Build, broken: bool) -> Model:
    middle = pair("m", "c") if broken else "m = Identity(c)"
    return layer(build, "r", f"{middle} r = Relu({'m' if broken else 'c'})")


@case("batchnorm-unfolded", "n", "onnxruntime")
def norm(build: Build, broken: bool) -> Model:
    ones = {name: np.ones(16, np.float32) for name in ("g", "h", "i", "j")}
    tail = "n = BatchNormalization(c, g, h, i, j)" if broken else "n = Relu(c)"
    return layer(build, "n", tail, **(ones if broken else {}))


@case("redundant-pair", "e_q", "openvino", fixable=True)
def redundant(build: Build, broken: bool) -> Model:
    again = pair("e", "d") if broken else pair("e", "m")
    body = f"{pair('d', 'x')} m = Sigmoid(d) {again} {WEIGHT} y = {CONV}(e, w)"
    return build(chain(body, "float[a,b,c,d] y, float[i,j,k,l] m"), **SCALES, **weight())


@case("requantized", "e_q", "tensorrt")
def requantized(build: Build, broken: bool) -> Model:
    body = f"{pair('d', 'x')} {pair('e', 'd', 't')} {WEIGHT} y = {CONV}(e, w)"
    return build(chain(body), **SCALES, t=np.float32(0.07 if broken else 0.05), **weight())


# --- validity


@case("bad-scale", "d_q", "openvino")
def zero_scale(build: Build, broken: bool) -> Model:
    return layer(build, s=np.float32(0.0 if broken else 0.1))


@case("bad-scale", "w", "onnxruntime")
def nan_scale(build: Build, broken: bool) -> Model:
    scales = np.full(16, 0.01, np.float32)
    scales[3] = np.nan if broken else 0.02
    return layer(build, ws=scales)


@case("tiny-scale", "d_q", "openvino")
def denormal(build: Build, broken: bool) -> Model:
    return layer(build, s=np.float32(1e-42 if broken else 1e-6))


@case("zero-point-dtype", "d", "onnxruntime")
def mixed_types(build: Build, broken: bool) -> Model:
    body = f"q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, v) {WEIGHT} y = {CONV}(d, w)"
    return build(chain(body), infer=False, **SCALES, v=U8(0) if broken else I8(0), **weight())


@case("quant-axis", "w", "tensorrt")
def axis_beyond(build: Build, broken: bool) -> Model:
    body = f"{pair('d', 'x')} w = DequantizeLinear<axis={5 if broken else -4}>(wq, ws, wz) y = {CONV}(d, w)"
    return build(chain(body), infer=False, **SCALES, **weight())


@case("scale-length", "w", "openvino")
def too_few_scales(build: Build, broken: bool) -> Model:
    few = {"ws": np.full(8, 0.01, np.float32), "wz": np.zeros(8, I8)}
    body = f"{pair('d', 'x')} {WEIGHT} y = {CONV}(d, w)"
    return build(chain(body), infer=False, **SCALES, **{**weight(), **(few if broken else {})})


@case("qdq-opset", "w", "onnxruntime")
def early_channels(build: Build, broken: bool) -> Model:
    model = layer(build)
    model.graph.opset_imports[""] = 12 if broken else 13
    return model


@case("computed-scale", "d_q", "tensorrt")
def computed(build: Build, broken: bool) -> Model:
    if not broken:
        return layer(build)
    text = """(float[4,16] x) => (float[4,16] y) {
        m = ReduceMax<keepdims=0>(x) d_q = QuantizeLinear(x, m, z) y = DequantizeLinear(d_q, m, z) }"""
    return build(text, z=I8(0))


# --- numbers


@case("nan-weight", "y", "onnxruntime")
def nan(build: Build, broken: bool) -> Model:
    text = "(float[4,16] x) => (float[4,16] y) { y = MatMul(x, w) }"
    return build(text, w=np.full((16, 16), np.nan if broken else 1.0, np.float32))


@case("infinite-weight", "y", "openvino")
def infinite(build: Build, broken: bool) -> Model:
    op = "MatMul" if broken else "Add"  # a mask may be infinite
    w = np.full((4, 4), -np.inf, np.float32)
    return build(f"(float[4,4] x) => (float[4,4] y) {{ y = {op}(x, w) }}", w=w)


@case("weight-per-tensor", "c", "onnxruntime")
def coarse(build: Build, broken: bool) -> Model:
    integral = integers((16, 16, 3, 3)).astype(float)
    integral[5] /= 30 if broken else 1
    return layer(build, wq=np.trunc(integral).astype(I8), ws=np.float32(0.01), wz=I8(0))


@case("double-compute", "m", "tensorrt")
def double(build: Build, broken: bool) -> Model:
    kind, dtype = ("double", np.float64) if broken else ("float", np.float32)
    text = f"({kind}[4,16] x) => ({kind}[4,16] y) {{ m = MatMul(x, w) y = Relu(m) }}"
    return build(text, w=np.ones((16, 16), dtype))


@case("float16-overflow", "y", "tensorrt-rtx")
def overflow(build: Build, broken: bool) -> Model:
    return build("(float[4] x) => (float[4] y) { y = Mul(x, k) }", k=np.float32(1e5 if broken else 6e4))


@case("dead-channel", "y", "onnxruntime")
def dead(build: Build, broken: bool) -> Model:
    w = np.ones((16, 16, 1, 1), np.float32)
    w[2] = 0 if broken else 0.1
    return build(chain("y = Conv(x, w)"), w=w)


# --- structure


@case("duplicate-name", "twin", "onnxruntime", fixable=True)
def twins(build: Build, broken: bool) -> Model:
    model = build("(float[4] x) => (float[4] y) { a = Relu(x) b = Neg(a) y = Abs(b) }")
    for node in list(model.graph.graph)[: 2 if broken else 1]:
        node.name = "twin"
    return model


@case("unnamed-node", "_a", "openvino", fixable=True)
def nameless(build: Build, broken: bool) -> Model:
    name = "_a" if broken else "a"
    return build(f"(float[4] x) => (float[4] y) {{ {name} = Relu(x) y = Neg({name}) }}")


@case("non-tensor-input", "x", "tensorrt")
def strings(build: Build, broken: bool) -> Model:
    kind = "string" if broken else "float"
    return build(f"({kind}[4] x) => ({kind}[4] y) {{ y = Identity(x) }}")


@case("sequence-operator", "q", "openvino")
def sequence(build: Build, broken: bool) -> Model:
    body = "q = SequenceConstruct(x, x) y = ConcatFromSequence<axis=0>(q)" if broken else "y = Concat<axis=0>(x, x)"
    return build(f"(float[4] x) => (float[8] y) {{ {body} }}")


@case("foreign-operator", "g", "tensorrt")
def foreign(build: Build, broken: bool) -> Model:
    g = "g = com.microsoft.FastGelu(x)" if broken else "g = Sigmoid(x)"
    return build(f"(float[4] x) => (float[4] y) {{ {g} y = Neg(g) }}")


@case("constant-output", "k", "tensorrt-rtx")
def constant(build: Build, broken: bool) -> Model:
    k = "" if broken else "k = Neg(x)"
    weights = {"k": np.ones(3, np.float32)} if broken else {}
    shape = 3 if broken else 4
    return build(f"(float[4] x) => (float[4] y, float[{shape}] k) {{ y = Relu(x) {k} }}", **weights)


@case("control-flow", "y", "openvino")
def branching(build: Build, broken: bool) -> Model:
    sides = "then_branch = t () => (float[4] a) { a = Relu(x) }, else_branch = e () => (float[4] b) { b = Neg(x) }"
    body = f"y = If(c) <{sides}>"
    return build(f"(float[4] x, bool c) => (float[4] y) {{ {body if broken else 'y = Relu(x)'} }}")


@case("old-opset", None, "onnxruntime")
def old(build: Build, broken: bool) -> Model:
    return build("(float[4] x) => (float[4] y) { y = Relu(x) }", opset=11 if broken else 13)


@case("fixed-batch", "x", "openvino")
def fixed(build: Build, broken: bool) -> Model:
    batch = 1 if broken else "N"
    return build(f"(float[{batch},4] x) => (float[{batch},4] y) {{ y = Relu(x) }}")


@case("stays-float", "y", "onnxruntime")
def kept(build: Build, broken: bool) -> Model:
    fed, known = (", float[16,16,3,3] w", {}) if broken else ("", {"w": (16, 16, 3, 3)})
    return build(f"(float[1,16,8,8] x{fed}) => (float[a,b,c,d] y) {{ y = Conv(x, w) }}", **known)


IN_FILES = {"external-data", "invalid-onnx"}
"""Rules about files; tested below."""

RUNTIME = {rule.id for rule in RULES if rule.find is None}
"""What only a runtime can tell; tested in test_runtimes.py."""


@pytest.mark.parametrize("each", CASES, ids=lambda case: f"{case.rule}-{case.make.__name__}")
def test_a_planted_defect_is_found_and_its_sibling_is_not(each: Case, build: Build, find: Find) -> None:
    found = find(each.make(build, BROKEN), each.target).get(each.rule, [])
    assert [(f.node, f.fixable) for f in found if f.node == each.node] == [(each.node, each.fixable)]
    assert all(f.targets == (each.target,) and f.reason and f.remedy for f in found)
    assert find(each.make(build, FINE), each.target).get(each.rule, []) == []


def test_every_rule_has_a_defect() -> None:
    assert {rule.id for rule in RULES} - RUNTIME - IN_FILES == {each.rule for each in CASES}
    assert len(CASES) >= 25


def test_rules_have_unique_ids_and_complete_rows() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.id == rule.id.lower().replace("_", "-")
        assert rule.what.endswith("."), rule.id
        assert rule.remedy[0].islower(), rule.id
        assert not rule.remedy.endswith("."), rule.id


def test_external_data_are_listed(build: Build, find: Find, tmp_path: Path) -> None:
    model = build("(float[4,16] x) => (float[4,64] y) { y = MatMul(x, w) }", w=(16, 64))
    ir.save(model.graph, tmp_path / "m.onnx", external_data="m.data")
    found = find(load(tmp_path / "m.onnx"), "openvino")["external-data"]
    assert found[0].reason == "weights lie in m.data"
    ir.save(build("(float[4] x) => (float[4] y) { y = Relu(x) }").graph, tmp_path / "n.onnx")
    assert "external-data" not in find(load(tmp_path / "n.onnx"), "openvino")


def test_what_the_onnx_checker_says_is_told(find: Find, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    unshaped = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    for op, out, wrong in (
        ("Blorp", y, True),
        ("Blorp", unshaped, True),
        ("Relu", y, False),
        ("Relu", unshaped, False),
    ):
        graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], "n")], "g", [x], [out])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
        found = find(load(tmp_path / "m.onnx"), "onnxruntime").get("invalid-onnx", [])
        assert bool(found) is wrong
        assert not wrong or "Blorp" in found[0].reason


def test_advice_about_signedness_depends_on_the_processor(build: Build, find: Find) -> None:
    rules = {"s8-shared", "s8-activation", "u8s8-saturation"}
    signed, unsigned = layer(build), saturating(build, BROKEN)
    for isa in ("avx2", "vnni", "amx", "arm"):
        assert rules & set(find(signed, "onnxruntime", isa=isa)) == (set() if isa == "arm" else {"s8-activation"})
        assert rules & set(find(unsigned, "onnxruntime", isa=isa)) == ({"u8s8-saturation"} if isa == "avx2" else set())


def test_a_target_without_tables_by_instruction_set_refuses_one() -> None:
    other = "arm" if machine_isa() != "arm" else "avx2"
    assert [target.name for target in targets_named((), other) if "tensorrt" in target.name] == []
    assert targets_named(("onnxruntime",), other)[0].isa == other  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match="by instruction set"):
        targets_named(("tensorrt",), other)


def test_a_weight_in_blocks_is_compressed_and_not_quantized_by_half(build: Build, find: Find) -> None:
    def half_done(block: int) -> bool:
        blocks = f"<axis=0, block_size={block}>" if block else "<axis=1>"
        text = f"(float[4,16] x) => (float[4,16] y) {{ w = DequantizeLinear{blocks}(wq, ws) y = MatMul(x, w) }}"
        scales = np.full((4, 16) if block else 16, 0.1, np.float32)
        return "half-quantized" in find(build(text, opset=21, ir_version=10, wq=integers((16, 16)), ws=scales))

    assert not half_done(4)
    assert half_done(0)


def test_a_weight_that_is_quantized_in_the_graph_is_no_activation(build: Build, find: Find) -> None:
    body = f"""{pair("d", "x")} wq = QuantizeLinear<axis=0>(wf, ws, wz) {WEIGHT} c = {CONV}(d, w) {pair("y", "c")}"""
    constants = {key: value for key, value in weight().items() if key != "wq"}
    found = find(build(chain(body), **SCALES, **constants, wf=(16, 16, 3, 3)))
    assert not {"activation-per-channel", "weight-axis", "half-quantized", "s8-shared"} & set(found)


def test_a_bias_and_a_wide_activation_are_told_apart(build: Build, find: Find) -> None:
    assert "wide-integer" not in find(bias(build, BROKEN), "tensorrt")
    assert "int32-bias" not in find(sixteen_bits(build, BROKEN), "tensorrt")


def test_one_finding_speaks_for_the_targets_that_it_is_about(build: Build, find: Find) -> None:
    found = find(clipped(build, BROKEN))["uint8-clipped"]
    assert {each.targets for each in found} == {("tensorrt", "tensorrt-rtx")}


def test_what_a_table_leaves_in_float_comes_with_the_tables_own_reason(build: Build, find: Find) -> None:
    found = find(build("(float[8,16] x) => (float[8,10] y) { y = MatMul(x, w) }", w=(16, 10)))["stays-float"]
    assert [(each.targets, each.node) for each in found] == [(("tensorrt", "tensorrt-rtx"), "y")]
    assert "less than 16" in found[0].reason
