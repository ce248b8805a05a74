"""What PyTorch exports goes through the other verbs: quantized by the default method, and checked for targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: networks are exported from it (pip install infopt[dev])")

from architectures.exported import ARCHITECTURES, exported
from passes.silenced import samples_of

import infopt
from infopt.model import save

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

CASES = [pytest.param(name, ("script", "dynamo")[at % 2], id=name) for at, name in enumerate(ARCHITECTURES)]
"""Each network by one of the exporters in turn: both take twice the time, and write the same operators."""


@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_an_exported_network_is_quantized_and_found_fit(name: str, exporter: Any, tmp_path: Path) -> None:
    model = exported(name, exporter)
    file, data = tmp_path / "model.onnx", tmp_path / "calib.npz"
    save(model.graph, file)
    np.savez(data, **samples_of(model, 16))
    report = infopt.quantize(file, target="onnxruntime", calib=data, no_eval=True, output=tmp_path / "out")
    assert report.kernels is not None
    assert report.kernels.integer
    checked = infopt.check(file, target=("onnxruntime", "openvino"))
    assert checked.errors == 0, checked.to_json()
