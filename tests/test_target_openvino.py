"""What OpenVINO does to the process that it is loaded into, and its sessions for one shape."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from infopt import registry
from infopt.errors import OptionError, RuntimeRefused
from infopt.model import save
from infopt.target import CompileOptions
from infopt.targets.ov_session import FIRST, STATIC

if TYPE_CHECKING:
    from infopt.target import Artifact

pytest.importorskip("openvino", reason="OpenVINO is not installed")

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
    command = [sys.executable, "-c", SCRIPT, str(MODEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 143, done.stderr


@pytest.fixture
def artifact(build: Any, tmp_path: Path) -> Artifact:
    conv = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
    model = build(f"(float[N,3,H,8] x) => (float[N,4,H,8] y) {{ y = {conv}(x, w, b) }}", w=(4, 3, 3, 3), b=(4,))
    save(model.graph, tmp_path / "m.onnx")
    target = registry.target("openvino")
    return target.compile(tmp_path / "m.onnx", tmp_path, CompileOptions(target.settings("float")["f32"]))


def feed(*shape: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)}


def test_a_static_artifact_computes_the_same_for_its_first_shape_and_for_others(artifact: Artifact) -> None:
    target, static = registry.target("openvino"), {**artifact.settings, STATIC: FIRST}
    with target.open(artifact) as anyhow, target.open(replace(artifact, settings=static)) as session:
        for shape in ((2, 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8), (2, 3, 5, 8)):
            np.testing.assert_allclose(session.run(feed(*shape))[0], anyhow.run(feed(*shape))[0], atol=1e-5)


def test_a_first_shape_that_does_not_fit_is_refused(artifact: Artifact) -> None:
    static = {**artifact.settings, STATIC: FIRST}
    with registry.target("openvino").open(replace(artifact, settings=static)) as session, pytest.raises(RuntimeRefused):
        session.run(feed(2, 5, 8, 8))


def test_each_precision_is_tried_for_any_shape_and_for_one() -> None:
    for kind in ("float", "int8"):
        settings = registry.target("openvino").settings(kind)  # type: ignore[arg-type]
        names = [name for name in settings if not name.endswith(" static")]
        assert sorted(settings) == sorted([*names, *(f"{name} static" for name in names)])
        assert all((STATIC in given) == name.endswith(" static") for name, given in settings.items())


def test_instruction_sets_are_those_of_x86() -> None:
    assert registry.target("openvino", "avx2").table.weight.reduced
    with pytest.raises(OptionError, match="no table for arm"):
        registry.target("openvino", "arm")
