"""Tables by instruction set, and what a machine can say about an artifact for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import infopt
from infopt import cpu, registry
from infopt.errors import OptionError
from infopt.precisions import plans
from infopt.target import Table
from infopt.targets.isa import adapted, foreign
from infopt.targets.onnxruntime import TABLE
from infopt_passes.quantize import Quantize

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
NET = f"(float[N,3,8,8] x) => (float[N,16,8,8] y) {{ a = {CONV}(x, w, b)  r = Relu(a)  y = {CONV}(r, v, c) }}"
WEIGHTS = {"w": (16, 3, 3, 3), "b": (16,), "v": (16, 16, 3, 3), "c": (16,)}


def integers(model: Any, kind: str) -> list[np.ndarray]:
    constants = model.graph.graph.initializers.values()
    return [c.const_value.numpy() for c in constants if c.dtype == ir.DataType[kind] and c.const_value.size > 1]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx2 avx512_vnni amx_int8", "amx"),
        ("flags : fpu avx2 avx512_vnni", "vnni"),
        ("flags : fpu avx2 avx_vnni", "vnni"),
        ("flags : fpu avx2", "avx2"),
        ("", "avx2"),
    ],
)
def test_the_machine_tells_its_instruction_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, expected: str
) -> None:
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")
    assert cpu.machine_isa() == expected


def test_arm_is_told_by_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    assert cpu.machine_isa() == "arm"


def test_weights_leave_a_bit_free_without_vnni(build: Any, make_context: Any) -> None:
    model = build(NET, **WEIGHTS)
    reduced, full = (
        integers(Quantize(method="fast")(model, make_context(model, registry.target("onnxruntime", isa))), "INT8")
        for isa in ("avx2", "vnni")
    )
    assert [np.abs(weight.astype(int)).max() for weight in reduced if weight.ndim > 1] == [63, 63]
    assert [np.abs(weight.astype(int)).max() for weight in full if weight.ndim > 1] == [127, 127]


def test_arm_gets_signed_activations_that_fuse_all_the_same(build: Any, run_float: Any, make_context: Any) -> None:
    from infopt.target import CompileOptions

    model, target = build(NET, **WEIGHTS), registry.target("onnxruntime", "arm")
    context = make_context(model, target)
    result = Quantize(method="fast")(model, context)
    path = context.on_disk(result)
    artifact = target.compile(path, path.parent, CompileOptions())
    nodes = list(ir.load(artifact.main).graph)
    assert [node.op_type for node in nodes] == ["QuantizeLinear", "QLinearConv", "QLinearConv", "DequantizeLinear"]
    assert nodes[1].inputs[0].dtype == ir.DataType.INT8
    feed = next(iter(context.calibration.feeds()))
    np.testing.assert_allclose(run_float(result, feed)["y"], run_float(model, feed)["y"], atol=0.1)


def test_tables_for_x86_with_vnni_are_the_ones_as_written() -> None:
    assert adapted(TABLE, "vnni") == adapted(TABLE, "amx") == TABLE


def test_channel_counts_fill_the_vectors_of_the_instruction_set() -> None:
    """16 floats with AVX-512, 8 with AVX2 and in the layouts of ARM."""
    assert [adapted(TABLE, isa).multiple for isa in ("amx", "vnni", "avx2", "arm")] == [16, 16, 8, 8]


def test_a_machine_with_amx_stands_for_one_with_vnni_and_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infopt.targets.isa.machine_isa", lambda: "amx")
    assert foreign("vnni") is None
    assert foreign("arm") == "made for --isa arm, and this machine has amx"
    assert foreign("avx2")


def test_a_target_on_gpus_has_no_instruction_sets() -> None:
    other = "arm" if cpu.machine_isa() != "arm" else "avx2"
    with pytest.raises(OptionError, match=r"tensorrt-rtx.*instruction set"):
        registry.target("tensorrt-rtx", other)
    assert registry.target("tensorrt-rtx", cpu.machine_isa()).name == "tensorrt-rtx"


def test_an_artifact_for_another_machine_is_not_timed_here(build: Any, tmp_path: Path) -> None:
    from infopt.model import save

    other = "arm" if cpu.machine_isa() != "arm" else "avx2"
    save(build(NET, **WEIGHTS).graph, tmp_path / "m.onnx")
    data = np.random.default_rng(0).standard_normal((24, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=data[:12])
    np.savez(tmp_path / "eval.npz", x=data[12:])
    report = infopt.quantize(
        tmp_path / "m.onnx",
        isa=other,
        calib=tmp_path / "calib.npz",
        eval=tmp_path / "eval.npz",
        output=tmp_path / "out",
    )
    assert report.target is not None
    assert report.target.isa == other
    assert report.accuracy is not None
    assert report.accuracy.where == "emulated"
    assert report.latency.speedup is None
    assert f"made for --isa {other}" in str(report.latency.reason)
    assert f'isa = "{other}"' in (tmp_path / "out" / "recipe.toml").read_text()


def test_what_is_quantized_at_run_time_has_7_bit_weights_without_vnni_and_unsigned_data_everywhere() -> None:
    for isa, reduced in (("avx2", True), ("vnni", False), ("arm", False)):
        table = plans(registry.target("onnxruntime", isa))["dynamic-int8"]  # type: ignore[arg-type]
        assert isinstance(table, Table)
        assert (table.weight.reduced, table.activation.dtype) == (reduced, "uint8")
