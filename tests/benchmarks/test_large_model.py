"""A model with 3 GiB of external weights: simplified, against copying and hashing its files, and quantized."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

LAYERS, WIDTH = 48, 4096
"""48 matrices of 64 MiB: 3 GiB."""


def _large_model(folder: Path) -> Path:
    """A chain of MatMul and no-op arithmetic whose weights differ; written piece by piece."""
    nodes, weights, value = [], [], "x"
    data = folder / "large.onnx.data"
    block = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5
    with data.open("wb") as file:
        for i in range(LAYERS):
            block[0, 0] = i / WIDTH  # weights that differ, and activations that stay finite
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            tensor.data_location = TensorProto.EXTERNAL
            for key, entry in (("location", data.name), ("offset", file.tell()), ("length", block.nbytes)):
                tensor.external_data.add(key=key, value=str(entry))
            file.write(block.tobytes())
            weights.append(tensor)
            nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"m{i}"], name=f"matmul{i}"))
            nodes.append(helper.make_node("Identity", [f"m{i}"], [f"y{i}"], name=f"identity{i}"))
            value = f"y{i}"
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])]
    outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", WIDTH])]
    graph = helper.make_graph(nodes, "large", inputs, outputs, weights)
    path = folder / "large.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


def _copy_and_hash(source: Path, target: Path) -> float:
    start = time.perf_counter()
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(1 << 24):
            digest.update(block)
            writer.write(block)
        writer.flush()
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["minmax", "entropy"])
def test_three_gibibytes_are_quantized_in_little_memory(tmp_path: Path, timed: Any, ranges: str) -> None:
    model = _large_model(tmp_path)
    np.savez(tmp_path / "calib.npz", x=np.random.default_rng(0).standard_normal((16, WIDTH), np.float32))
    out = tmp_path / "out"
    options = ["--target", "tensorrt", "--no-eval", "--ranges", ranges, "-q", "-o", out]
    seconds, peak = timed("quantize", model, "--calib", tmp_path / "calib.npz", *options)
    graph = onnx.load(out / "model.onnx", load_external_data=False).graph
    assert sum(tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2 for tensor in graph.initializer) == LAYERS
    print(f"\n3 GiB quantize --ranges {ranges}: {seconds:.1f} s, peak {peak:.0f} MB (bar 900 MB)")
    assert peak < 900


@pytest.mark.slow
def test_three_gibibytes_take_little_more_than_copying_and_little_memory(tmp_path: Path, timed: Any) -> None:
    model = _large_model(tmp_path)
    data = model.with_name(model.name + ".data")
    _copy_and_hash(data, tmp_path / "warm-up")
    copies, runs, peaks = [], [], []
    for i in range(3):
        copies.append(_copy_and_hash(data, tmp_path / "copy"))
        out = tmp_path / f"small{i}.onnx"
        seconds, peak = timed("simplify", model, "-o", out, "--no-verify")
        runs.append(seconds)
        peaks.append(peak)
        assert len(onnx.load(out, load_external_data=False).graph.node) == LAYERS
        out.unlink()
        out.with_name(out.name + ".data").unlink()
    ratio = sorted(run / copy for run, copy in zip(runs, copies, strict=True))[1]
    print(f"\n3 GiB simplify: {[round(s, 1) for s in runs]} s, copy and hash {[round(s, 1) for s in copies]} s")
    print(f"median ratio {ratio:.2f} (bar 1.5), peak {max(peaks):.0f} MB (bar 300 MB)")
    assert ratio <= 1.5
    assert max(peaks) < 300
