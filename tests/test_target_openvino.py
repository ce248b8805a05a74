"""What OpenVINO does to the process that it is loaded into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[1] / "examples/fashion/fashion.onnx"

SCRIPT = """
import ctypes, os, pathlib, signal, sys, tempfile
from infopt.output import terminable
from infopt.target import Artifact, CompileOptions
from infopt.targets.openvino import OpenVINOTarget
from infopt.targets.sigstack import _Stack

path, target, stack = pathlib.Path(sys.argv[1]), OpenVINOTarget(), _Stack()
with tempfile.TemporaryDirectory() as folder:
    artifact = target.compile(path, pathlib.Path(folder), CompileOptions())
    with target.open(artifact):
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
        print("moved" if stack.sp else "kept", flush=True)
with terminable():
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_signals_are_handled_on_the_stack_that_they_had_before() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    command = [sys.executable, "-c", SCRIPT, str(MODEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "kept\n", done.stderr
    assert done.returncode == 143, done.stderr
