"""What OpenVINO does to the process that it is loaded into."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_signal_is_survived_after_openvino_has_compiled(precision: str) -> None:
    """OpenVINO moves the stack of signal handlers, to a place that it frees."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    script = f"""
import os, pathlib, signal, sys, tempfile
from onnx import helper, save
from infopt.output import terminable
from infopt.target import Artifact, CompileOptions
from infopt.targets.openvino import OpenVINOTarget
floats = lambda name: helper.make_tensor_value_info(name, 1, [1, 8])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [floats("x")], [floats("y")])
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    target = OpenVINOTarget()
    target.compile(path, pathlib.Path(folder), CompileOptions({{"INFERENCE_PRECISION_HINT": {precision!r}}}))
    with target.open(Artifact("openvino", path, (path,), path, {{}})):
        pass
import ctypes
from infopt.targets.sigstack import _Stack
stack = _Stack()
ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
assert not stack.sp, "the stack of signal handlers was moved"
with terminable():
    os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143, done.stderr
