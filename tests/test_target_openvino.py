"""What OpenVINO does to the process that it is loaded into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[1] / "examples/fashion/fashion.onnx"

SCRIPT = """
import os, signal, sys
import infopt
from infopt.output import terminable

infopt.quantize(sys.argv[1], target="openvino", output="out", synthetic=True, bench_seconds=0.5)
with terminable():
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_measuring_is_handled(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    command = [sys.executable, "-c", SCRIPT, str(MODEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 143, done.stderr
