"""Fixtures that build small models and what a pass is given."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.model import Model
    from infopt.passes import Context
    from infopt.target import Target

    class Build(Protocol):
        """Makes a model of a graph in ONNX text; see :func:`build`."""

        def __call__(
            self, text: str, opset: int = 17, ir_version: int = 8, infer: bool = True, **weights: Any
        ) -> Model: ...

    class MakeContext(Protocol):
        """Makes what a pass is given; see :func:`make_context`."""

        def __call__(self, model: Model, target: str | Target | None = None, count: int = 4) -> Context: ...

    class Timed(Protocol):
        """Runs the command line; see :func:`timed`."""

        def __call__(self, *arguments: object) -> tuple[float, float]: ...

    class RunFloat(Protocol):
        """Runs a model; see :func:`run_float`."""

        def __call__(self, model: Model, feed: Feed) -> dict[str, np.ndarray]: ...


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normal values that depend on name and shape alone and keep a layer's output at its input's magnitude."""
    rng = np.random.default_rng(zlib.crc32(f"{name}{shape}".encode()))
    fan_in = max(1, int(np.prod(shape[1:])))
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


@pytest.fixture(autouse=True, scope="session")
def settings_of_tests() -> Iterator[None]:
    """Keep statistics away from the user's own cache, and draw no charts, but in tests of either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFOPT_CACHE", "off")
        patch.setenv("INFOPT_CHARTS", "off")
        yield


@pytest.fixture(autouse=True, scope="session")
def reports_follow_their_schema() -> Iterator[None]:
    """Hold every report that a test makes in its own process to the published schema."""
    import json

    import jsonschema

    from infopt.report import Report
    from infopt.schema import schema_text

    validator = jsonschema.Draft202012Validator(json.loads(schema_text("report")))
    made = Report.to_json

    def to_json(report: Report) -> dict[str, Any]:
        result = made(report)
        validator.validate(result)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Report, "to_json", to_json)
        yield


COMMAND = """
import sys
from infopt.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print("peak", next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.fixture(scope="session")
def timed() -> Timed:
    """Run the command line in a process of its own; returns its seconds and its peak memory in MB.

    The kernel's account of a child begins with the memory of the process that it was forked from, so the process tells
    its own peak.
    """

    def run(*arguments: object) -> tuple[float, float]:
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-c", COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"INFOPT_CACHE": "off"},
        )
        seconds = time.perf_counter() - start
        assert result.returncode == 0, result.stderr
        return seconds, int(result.stdout.rsplit("peak ", 1)[1]) / 1024

    return run


@pytest.fixture(scope="session")
def build() -> Build:
    """Make a model of ``(inputs) => (outputs) { nodes }`` in ONNX text; nodes are named after their first output.

    A weight is an array, or a shape to be filled with normal values. Nodes whose output starts with ``_`` stay
    without a name.
    """
    import onnx
    import onnx_ir as ir
    from onnx import numpy_helper, parser, shape_inference

    from infopt.model import Model

    def make(text: str, opset: int = 17, ir_version: int = 8, infer: bool = True, **weights: Any) -> Model:
        head = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.microsoft" : 1]> g '
        proto = parser.parse_model(head + text)
        for name, value in weights.items():
            array = weight(name, value) if isinstance(value, tuple) else np.asarray(value)
            tensor = numpy_helper.from_array(array, name)
            proto.graph.initializer.append(tensor)
            if ir_version < 4:
                kind = onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
                proto.graph.input.append(kind)
        for node in proto.graph.node:
            node.name = node.name or ("" if node.output[0].startswith("_") else node.output[0])
        onnx.checker.check_model(proto)
        proto = shape_inference.infer_shapes(proto) if infer else proto
        return Model(ir.from_proto(proto), Path("model.onnx"))

    return make


@pytest.fixture(scope="session")
def make_context(tmp_path_factory: pytest.TempPathFactory) -> MakeContext:
    """Make a context with a target and some made-up calibration samples."""
    from infopt import registry
    from infopt.data import infer_batch_axes
    from infopt.model import input_specs
    from infopt.passes import CalibrationSet, Context
    from infopt.readers.synthetic import SyntheticSamples

    def make(model: Model, target: str | Target | None = None, count: int = 4) -> Context:
        inputs = infer_batch_axes(input_specs(model.graph), {})
        samples = CalibrationSet(SyntheticSamples(inputs, count, 0), tuple(range(count)), inputs)
        chosen = registry.target(target) if isinstance(target, str) else target
        return Context(tmp_path_factory.mktemp("work"), chosen, samples)

    return make


@pytest.fixture(scope="session")
def run_float(tmp_path_factory: pytest.TempPathFactory) -> RunFloat:
    """Run a model in ONNX Runtime as it is written: without optimizations, so that Q/DQ is computed in float."""
    from infopt.model import save
    from infopt.targets.onnxruntime import open_onnx

    def run(model: Model, feed: Feed) -> dict[str, np.ndarray]:
        path = tmp_path_factory.mktemp("float") / "model.onnx"
        save(model.graph, path)
        outputs = open_onnx(path, {"graph_optimization_level": "0"}).run(feed)
        return dict(zip(model.output_names, outputs, strict=True))

    return run
