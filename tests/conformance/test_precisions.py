"""What the real runtimes make of each precision that their targets claim to run, and of each that they refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest

from infopt import registry
from infopt.errors import RuntimeRefused
from infopt.model import save
from infopt.passes import Context
from infopt.target import CompileOptions
from infopt.targets.onnxruntime import EMULATE, open_onnx
from infopt_passes.quantize import Quantize

if TYPE_CHECKING:
    from pathlib import Path

    from infopt.model import Model

pytest.importorskip("openvino")
pytest.importorskip("tensorrt_rtx")

TEXT = """(float[N,7,64] x) => (float[N,7,8] y) {
    m = MatMul(x, w)  r = Relu(m)  c = Reshape(r, s)  g = Gemm<transB=1>(c, v, b)  q = Relu(g)  h = MatMul(q, u)
    y = Reshape(h, t) }"""
WEIGHTS: dict[str, Any] = {
    "w": (64, 96), "s": np.int64([-1, 96]), "v": (32, 96), "b": (32,), "u": (32, 8), "t": np.int64([-1, 7, 8]),
}  # fmt: skip
COMPUTE = 3


@dataclass(frozen=True)
class Ran:
    """A graph that was quantized to a precision, compiled and run."""

    result: Model
    kernels: Any
    ops: list[str]
    size: int
    error: float


@pytest.fixture(scope="module")
def ran(build: Any, make_context: Any, run_float: Any) -> Any:
    """Quantize, compile and run; where a target does not run here, its graph is run as it is written."""

    def apply(target: str, precision: Any, text: str = TEXT, **weights: Any) -> Ran:
        chosen = registry.target(target)
        model = build(text, **(weights or WEIGHTS))
        step = Quantize(precision=precision, method="fast")
        context = make_context(model, chosen)
        feed = next(iter(context.calibration.feeds()))
        given = context if step.calibrated else Context(context.workdir, chosen)
        result = step(model, given)
        path = context.on_disk(result)
        artifact = chosen.compile(path, path.parent, CompileOptions(next(iter(chosen.settings("int8").values()))))
        if chosen.runnable():
            kernels, found = chosen.planned(artifact), open_onnx(path, EMULATE).run(feed)  # type: ignore[attr-defined]
        else:
            kernels = chosen.kernels(artifact)
            with chosen.open(artifact) as session:
                found = session.run(feed)
        wanted, *_ = run_float(model, feed).values()
        ops = [node.op_type for node in ir.load(artifact.main).graph] if target == "onnxruntime" else []
        size = sum(file.stat().st_size for file in artifact.files)
        return Ran(result, kernels, ops, size, float(np.linalg.norm(found[0] - wanted) / np.linalg.norm(wanted)))

    return apply


def kept(model: Model) -> list[str]:
    """The nodes that are named as left in float."""
    return [note.node for note in model.notes if note.kind == "float"]


CLOSE = {"int8-weights": 0.025, "dynamic-int8": 0.025, "int4-weights": 0.2, "fp8": 0.08}
"""How far each precision may be from float in the 2-norm, twice or so what was seen; untouched weights would be far
below the lower bound that the tests ask for, too."""

KERNELS = {
    ("onnxruntime", "int8-weights"): (3, 0), ("onnxruntime", "int4-weights"): (3, 0),
    ("onnxruntime", "dynamic-int8"): (3, 0), ("openvino", "int8-weights"): (0, 3), ("openvino", "int4-weights"): (0, 3),
    ("tensorrt-rtx", "int8-weights"): (0, 2), ("tensorrt-rtx", "int4-weights"): (0, 2),
}  # fmt: skip
"""Compute layers that run as integers, and those that read compressed weights."""


@pytest.mark.parametrize(("target", "precision"), KERNELS)
def test_a_precision_runs_in_the_kernels_that_it_is_for(ran: Any, target: str, precision: str) -> None:
    done = ran(target, precision)
    assert (done.kernels.integer, done.kernels.compressed) == KERNELS[target, precision]
    assert done.kernels.total == COMPUTE
    small = ["h"] if target == "tensorrt-rtx" else []  # its 8 columns do not pay there
    assert [node.name for node in done.kernels.float_nodes] == kept(done.result) == small
    assert CLOSE[precision] / 20 < done.error < CLOSE[precision]
    assert done.result.ranges == ()


def test_onnx_runtime_fuses_what_is_written_to_one_kernel_a_product(ran: Any) -> None:
    for precision in ("int8-weights", "int4-weights"):
        assert ran("onnxruntime", precision).ops == [
            "MatMulNBits", "Relu", "Reshape", "MatMulNBits", "Relu", "MatMulNBits", "Reshape",
        ]  # fmt: skip
    assert ran("onnxruntime", "dynamic-int8").ops == [
        "DynamicQuantizeMatMul", "Relu", "Reshape", "DynamicQuantizeMatMul", "Relu", "DynamicQuantizeMatMul", "Reshape",
    ]  # fmt: skip


def test_fp8_multiplies_in_fp8_where_sizes_allow(ran: Any) -> None:
    done = ran("tensorrt-rtx", "fp8")
    assert (done.kernels.integer, done.kernels.total) == (2, COMPUTE)
    assert [node.name for node in done.kernels.float_nodes] == ["h"]  # 8 columns do not pay
    assert CLOSE["fp8"] / 20 < done.error < CLOSE["fp8"]
    assert {known.dtype for _, known in done.result.ranges} == {"float8e4m3fn"}


@pytest.mark.parametrize(("gpu", "built"), [("SM86", False), ("SM89", True), ("SM120", True)])
def test_fp8_is_built_for_gpus_that_have_it(
    build: Any, make_context: Any, tmp_path: Path, gpu: str, built: bool
) -> None:
    target = registry.target("tensorrt-rtx")
    model = build("(float[N,64] x) => (float[N,32] y) { y = MatMul(x, w) }", w=(64, 32))
    save(Quantize(precision="fp8", method="fast")(model, make_context(model, target)).graph, tmp_path / "model.onnx")
    options = CompileOptions({"compute_capability": gpu})
    if built:
        assert target.compile(tmp_path / "model.onnx", tmp_path, options).main.stat().st_size > 0
        return
    with pytest.raises(RuntimeRefused, match="fp8"):
        target.compile(tmp_path / "model.onnx", tmp_path, options)


def test_a_relu_in_front_of_fp8_is_emulated_as_it_is_written(ran: Any) -> None:
    text = "(float[N,64] x) => (float[N,32] y) { m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, v) }"
    assert ran("tensorrt-rtx", "fp8", text, w=(64, 64), v=(64, 32)).error < CLOSE["fp8"]


LARGE = "(float[N,64] x) => (float[N,512] y) { m = MatMul(x, w)  y = MatMul(m, v) }"


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "tensorrt-rtx"])
def test_compressed_weights_stay_compressed_in_the_artifact(ran: Any, target: str) -> None:
    weights = {"w": (64, 512), "v": (512, 512)}
    count = 64 * 512 + 512 * 512
    eight, four = (ran(target, precision, LARGE, **weights).size for precision in ("int8-weights", "int4-weights"))
    assert count < eight < 1.25 * count
    assert four < eight - 0.3 * count


@pytest.mark.parametrize("precision", ["int8-weights", "int4-weights"])
def test_a_convolution_is_stored_small_where_it_is_turned_back_at_load(ran: Any, precision: str) -> None:
    text = "(float[N,32,6,6] x) => (float[N,32,6,6] y) { y = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w) }"
    done = ran("openvino", precision, text, w=(32, 32, 3, 3))
    assert 0.0005 < done.error < CLOSE["int8-weights"]
    assert done.size < 1.6 * 32 * 32 * 9
    for target in ("onnxruntime", "tensorrt-rtx"):
        left = ran(target, precision, text, w=(32, 32, 3, 3))
        assert not left.result.quantized_nodes()
        assert kept(left.result) == ["y"]


def sixteen(build: Any) -> Model:
    """A product of 16-bit data and 8-bit weights."""
    text = """(float[N,16] x) => (float[N,8] y) { q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
        e = DequantizeLinear<axis=1>(w, t)  y = MatMul(d, e) }"""
    w = np.ones((16, 8), np.int8)
    given = {"s": np.float32(1e-3), "z": np.uint16(32768), "w": w, "t": np.full(8, 0.1, np.float32)}
    model: Model = build(text, opset=21, ir_version=10, **given)
    return model


def test_no_runtime_multiplies_16_bit_data(build: Any, tmp_path: Path) -> None:
    save(sixteen(build).graph, tmp_path / "model.onnx")
    ort, vino, rtx = map(registry.target, ("onnxruntime", "openvino", "tensorrt-rtx"))
    done = ort.compile(tmp_path / "model.onnx", tmp_path, CompileOptions())
    ops = [node.op_type for node in ir.load(done.main).graph]
    assert ops == ["QuantizeLinear", "DequantizeLinear", "MatMulNBits"]  # the data are floats again
    setting = next(iter(vino.settings("int8").values()))
    found = vino.kernels(vino.compile(tmp_path / "model.onnx", tmp_path, CompileOptions(setting)))
    assert (found.integer, found.compressed) == (0, 1)
    with pytest.raises(RuntimeRefused, match="z"):
        rtx.compile(tmp_path / "model.onnx", tmp_path, CompileOptions())


def test_what_is_quantized_at_run_time_is_for_onnx_runtime_alone(build: Any, make_context: Any, tmp_path: Path) -> None:
    model = build("(float[N,64] x) => (float[N,32] y) { y = MatMul(x, w) }", w=(64, 32))
    result = Quantize(precision="dynamic-int8")(model, make_context(model, "onnxruntime"))
    save(result.graph, tmp_path / "model.onnx")
    vino, rtx = map(registry.target, ("openvino", "tensorrt-rtx"))
    setting = next(iter(vino.settings("int8").values()))
    found = vino.kernels(vino.compile(tmp_path / "model.onnx", tmp_path, CompileOptions(setting)))
    assert (found.integer, found.compressed) == (0, 0)
    with pytest.raises(RuntimeRefused, match="DynamicQuantizeLinear"):
        rtx.compile(tmp_path / "model.onnx", tmp_path, CompileOptions())


def test_a_weight_that_products_share_is_compressed_for_each(ran: Any) -> None:
    text = "(float[N,64] x) => (float[N,64] y) { m = MatMul(x, w)  y = MatMul(m, w) }"
    assert ran("onnxruntime", "int8-weights", text, w=(64, 64)).ops == ["MatMulNBits", "MatMulNBits"]


def test_data_that_products_share_are_quantized_once(ran: Any) -> None:
    text = "(float[N,64] x) => (float[N,32] y) { m = MatMul(x, w)  n = MatMul(x, v)  y = Add(m, n) }"
    done = ran("onnxruntime", "dynamic-int8", text, w=(64, 32), v=(64, 32))
    assert sum(node.op_type == "DynamicQuantizeLinear" for node in done.result.graph.graph) == 1
    assert done.kernels.integer == 2
    assert done.error < CLOSE["dynamic-int8"]


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_an_lstm_runs_with_integer_weights(ran: Any, direction: str) -> None:
    ways = 2 if direction == "bidirectional" else 1
    text = f"""(float[T,N,24] x) => (float[T,{ways},N,16] y, float[{ways},N,16] h) {{
        y, h = LSTM<hidden_size=16, direction="{direction}">(x, w, r, b) }}"""
    rng = np.random.default_rng(0)
    shapes = {"w": (ways, 64, 24), "r": (ways, 64, 16), "b": (ways, 128)}
    weights = {name: (rng.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}
    done = ran("onnxruntime", "dynamic-int8", text, **weights)
    assert done.ops == ["DynamicQuantizeLSTM"]
    assert (done.kernels.integer, done.kernels.total) == (1, 1)
    assert 0.001 < done.error < 0.05


def test_an_lstm_with_the_batch_first_or_a_computed_recurrence_stays_in_float(build: Any, tmp_path: Path) -> None:
    text = "(float[N,5,4] x, float[1,8,2] s) => (float[N,5,1,2] y, float[5,1,N,2] t) { y = L1  t = L2 }"
    text = text.replace("L1", "LSTM<hidden_size=2, layout=1>(x, w, r)")
    text = text.replace("L2", "LSTM<hidden_size=2>(z, w, s)").replace("{ y", "{ z = Transpose<perm=[1,0,2]>(x)  y")
    context = Context(tmp_path, registry.target("onnxruntime"))
    result = Quantize(precision="dynamic-int8")(build(text, w=(1, 8, 4), r=(1, 8, 2)), context)
    assert {note.node: note.why for note in result.notes} == {
        "y": "its layout has the batch first",
        "t": "the weights of its recurrence are computed at run time",
    }
    assert not result.quantized_nodes()


@pytest.mark.parametrize(("rows", "length"), [(256, 128), (192, 64), (96, 32), (1000, 128)])
def test_onnx_runtime_cuts_columns_into_the_longest_blocks_that_pad_little(
    build: Any, make_context: Any, rows: int, length: int
) -> None:
    model = build(f"(float[N,{rows}] x) => (float[N,8] y) {{ y = MatMul(x, w) }}", w=(rows, 8))
    target, context = registry.target("onnxruntime"), make_context(model, "onnxruntime")
    path = context.on_disk(Quantize(precision="int8-weights")(model, context))
    (node,) = ir.load(target.compile(path, path.parent, CompileOptions()).main).graph
    assert (node.op_type, node.attributes["block_size"].value) == ("MatMulNBits", length)
