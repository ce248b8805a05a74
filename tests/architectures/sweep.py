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


def sweep(name: str, exporter: Any, folder: Path) -> tuple[int, list[str]]:
    """Quantize a network for ONNX Runtime, and check it as it came.

    Returns:
        Layers that run in integers, and the errors that checks find.
    """
    model = exported(name, exporter)
    file, data = folder / "model.onnx", folder / "calib.npz"
    save(model.graph, file)
    np.savez(data, **samples_of(model, 16))
    report = infopt.quantize(file, target="onnxruntime", calib=data, no_eval=True, output=folder / "out")
    checked = infopt.check(file, target=("onnxruntime", "openvino"))
    errors = [f"{each.node}: {each.reason}" for each in checked.findings if each.severity == "error"]
    return report.kernels.integer if report.kernels is not None else 0, errors
