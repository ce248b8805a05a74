"""An output directory of a small model, and data for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infopt
from infopt.model import save

NET = """(float[N,3,8,8] x) => (float[N,4] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, b)  r = Relu(a)
    c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r, v, b)
    p = GlobalAveragePool(c)  y = Flatten(p) }"""
WEIGHTS = {"w": (4, 3, 3, 3), "b": np.zeros(4, np.float32), "v": (4, 4, 3, 3)}
COUNT = 300


def pictures(count: int, seed: int, change: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> np.ndarray:
    """Noise around a level of each picture; the channels have levels of their own."""
    rng = np.random.default_rng(seed)
    level = rng.standard_normal((count, 1, 1, 1)) + np.array([0.5, 0, -0.5]).reshape(1, 3, 1, 1)
    return change(level + 0.3 * rng.standard_normal((count, 3, 8, 8))).astype(np.float32)


@pytest.fixture(scope="session")
def made(build: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model.onnx``, ``calib.npz``, ``new.npz`` (not drifted) and the output directory ``out``."""
    folder = tmp_path_factory.mktemp("drift")
    save(build(NET, **WEIGHTS).graph, folder / "model.onnx")
    np.savez(folder / "calib.npz", x=pictures(COUNT, 1))
    np.savez(folder / "new.npz", x=pictures(COUNT, 2))
    infopt.quantize(
        folder / "model.onnx", output=folder / "out", calib=folder / "calib.npz", no_eval=True, method="fast"
    )
    return folder
