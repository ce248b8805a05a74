"""Networks of families that exporters write differently are quantized; all are in ``benchmarks/test_sweep.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: networks are exported from it (pip install infopt[dev])")

from architectures.exported import FOLLOWED
from architectures.sweep import sweep

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", FOLLOWED)
def test_an_exported_network_is_quantized_and_found_fit(name: str, exporter: Any, tmp_path: Path) -> None:
    integer, errors = sweep(name, exporter, tmp_path)
    assert integer
    assert errors == []
