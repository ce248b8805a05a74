"""What OpenVINO's packed sparse weights gain on this processor: two compilations of each product, measured in turns."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantized_product import product

from infopt.bench import interleave, speedup, times
from infopt.cpu import cpu_name
from infopt.targets.ov_sparse import RATE

SIZES = ((256, 256), (1024, 1024), (1024, 4096), (4096, 4096))
BATCHES = (1, 16, 128)
ZEROS = 0.8
SECONDS = 2.0
COMMON = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def test_packed_weights_give_the_same_outputs_and_this_gain(tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino")
    core = ov.Core()
    print(f"\nOpenVINO {ov.__version__}, {cpu_name()}, {ZEROS:.0%} zeros")
    print("inputs x outputs, batch | ms | packed, times as fast | the same twice, times as fast | kernel when packed")
    for shape in SIZES:
        model = core.read_model(product(tmp_path, shape, ZEROS))
        for batch in BATCHES:
            model.reshape({"x": [batch, shape[0]]})
            row, plain, packed = _row(core, model, (batch, shape[0]))
            print(f"{shape[0]} x {shape[1]}, {batch}", *row, sep=" | ")
            np.testing.assert_allclose(packed, plain, rtol=1e-5, atol=1e-3)


def _row(core: Any, model: Any, shape: tuple[int, int]) -> tuple[list[str], Any, Any]:
    """What is printed of a product, and its outputs without and with packed weights."""
    settings = {"plain": {}, "packed": {RATE: 0.5}, "again": {}}
    compiled = {name: core.compile_model(model, "CPU", COMMON | more) for name, more in settings.items()}
    feed = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    requests = {name: each.create_infer_request() for name, each in compiled.items()}
    plain, packed = (requests[name].infer(feed)[0].copy() for name in ("plain", "packed"))
    seen = interleave({name: partial(each.infer, feed) for name, each in requests.items()}, seconds=SECONDS)
    gains = []
    for name in ("packed", "again"):
        gain, interval = speedup(seen["plain"], seen[name])
        gains.append(f"{gain:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""))
    infos = [op.get_rt_info() for op in compiled["packed"].get_runtime_model().get_ops()]
    kernel = [i["primitiveType"].astype(str) for i in infos if i["layerType"].astype(str) == "FullyConnected"]
    return [f"{times(seen['plain']).p50:.3f}", *gains, *kernel], plain, packed
