"""OpenVINO's packed sparse weights: which layers can have them, what the runtime does, and what the report says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantized_product import product

import infopt
from infopt.cpu import machine_isa
from infopt.model import save
from infopt.targets.ov_sparse import RATE, packable

if TYPE_CHECKING:
    from conftest import Build


def test_a_large_int8_product_with_many_zeros_can_be_packed(tmp_path: Path) -> None:
    assert packable(product(tmp_path, (128, 64), 0.75)) == {"product": 0.75}


@pytest.mark.parametrize(
    ("shape", "zeros", "wide", "data"),
    [
        ((128, 64), 0.5, np.int8, True),
        ((128, 96), 0.75, np.int8, True),
        ((96, 64), 0.75, np.int8, True),
        ((128, 64), 0.75, np.uint8, True),
        ((128, 64), 0.75, np.int8, False),
    ],
    ids=["few zeros", "outputs", "inputs", "unsigned", "float data"],
)
def test_other_products_cannot(tmp_path: Path, shape: tuple[int, int], zeros: float, wide: type, data: bool) -> None:
    assert not packable(product(tmp_path, shape, zeros, wide, data))


def test_the_runtime_takes_the_property_and_without_amx_it_changes_nothing(tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino")
    core, path = ov.Core(), product(tmp_path, (256, 128), 0.8)
    assert RATE in map(str, core.get_property("CPU", "SUPPORTED_PROPERTIES"))
    assert core.get_property("CPU", RATE) == 1, "by default nothing is packed"
    common = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = [core.compile_model(path, "CPU", common | more) for more in ({}, {RATE: 0.5})]
    assert [each.get_property(RATE) for each in compiled] == [1, 0.5]
    feed = {"x": np.random.default_rng(1).standard_normal((16, 256)).astype(np.float32)}
    plain, packed = (each(feed)[0] for each in compiled)
    np.testing.assert_allclose(packed, plain, rtol=1e-5, atol=1e-4)
    if machine_isa() != "amx":
        assert kernels(compiled[0]) == kernels(compiled[1])
        assert np.array_equal(packed, plain)


def kernels(compiled: Any) -> list[str]:
    """The primitives of a compiled model."""
    infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    return [info["primitiveType"].astype(str) for info in infos if "primitiveType" in info]


@pytest.mark.parametrize("zeros", [0.8, 0.0])
def test_the_report_names_the_property_where_there_are_such_layers(build: Build, tmp_path: Path, zeros: float) -> None:
    pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64)).astype(np.float32) / 8
    weight[rng.random(weight.shape) < zeros] = 0
    model = build(
        "(float[N,64] x) => (float[N,64] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }", w=weight, v=(64, 64)
    )
    save(model.graph, tmp_path / "m.onnx")
    report = infopt.quantize(
        tmp_path / "m.onnx", target="openvino", output=tmp_path / "out", synthetic=True, method="fast", no_bench=True
    )
    said = [each for each in report.warnings if RATE in each]
    if not zeros:
        assert not said
        return
    (told,) = said
    share = packable(tmp_path / "out/model.onnx")["a"]
    assert told.startswith(f"OpenVINO: 1 of its layers have INT8 weights of which {share:.0%} to {share:.0%} are zero")
    assert "which is not set here" in told
