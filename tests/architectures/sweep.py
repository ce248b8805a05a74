"""What PyTorch exports goes through the other verbs: quantized by the default method, and checked for targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from architectures.exported import exported
from passes.silenced import samples_of

import infopt
from infopt.model import save

if TYPE_CHECKING:
    from pathlib import Path


def sweep(name: str, exporter: Any, folder: Path) -> None:
    """Hold that a network is quantized with integer kernels, and that checks find no error in it."""
    model = exported(name, exporter)
    file, data = folder / "model.onnx", folder / "calib.npz"
    save(model.graph, file)
    np.savez(data, **samples_of(model, 16))
    report = infopt.quantize(file, target="onnxruntime", calib=data, no_eval=True, output=folder / "out")
    assert report.kernels is not None
    assert report.kernels.integer
    checked = infopt.check(file, target=("onnxruntime", "openvino"))
    assert checked.errors == 0, checked.to_json()
