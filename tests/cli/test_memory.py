"""Peak memory of whole runs: it follows the largest tensor, not depth or number of samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 768
"""A weight takes 2.25 MiB."""


def chain(folder: Path, depth: int) -> Path:
    """A chain of products with external weights."""
    block = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5
    names = ["x", *(f"m{i}" for i in range(depth))]
    weights = [numpy_helper.from_array(block + np.float32(i * 1e-6), f"w{i}") for i in range(depth)]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=names[i + 1]) for i in range(depth)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in (names[0], names[-1])]
    model = helper.make_model(
        helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = folder / f"chain{depth}.onnx"
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return path


def test_neither_depth_nor_samples_cost_memory(tmp_path: Path, timed: Any) -> None:
    def peak(depth: int, samples: int) -> float:
        data = tmp_path / f"calib{samples}.npz"
        np.savez(data, x=np.random.default_rng(0).standard_normal((samples, WIDTH), np.float32))
        options = ["--no-eval", "-q", "--force", "--samples", samples, "-o", tmp_path / "out"]
        options += ["--memory", "10MB", "--ranges", "percentile", "--method", "fast"]
        return float(timed("quantize", chain(tmp_path, depth), "--calib", data, "--target", "tensorrt", *options)[1])

    small, deep, many = peak(4, 10), peak(48, 10), peak(4, 300)
    # 44 more weights take 99 MiB in float32. The 25 MiB of the result are read once more, for the shapes of its inputs.
    assert deep - small < 70
    assert many - small < 15
