from __future__ import annotations

import ctypes
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from infopt.errors import RuntimeRefused, Unmeasured
from infopt.target import Artifact, FloatNode, Kernels
from infopt.targets import cuda, trt
from infopt.targets.trt import TensorRTTarget, tensorrt, tensorrt_rtx
from infopt.targets.trt_kernels import inspected_kernels
from infopt.targets.trt_session import opened_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NO_GPU = "no GPU on this machine (no NVIDIA driver)"


def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "no_gpu", lambda: NO_GPU)


def test_rtx_builds_without_a_gpu_and_tensorrt_does_not(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("tensorrt_rtx")
    without_gpu(monkeypatch)
    rtx = tensorrt_rtx()
    full = replace(tensorrt(), module="tensorrt_rtx")
    assert (rtx.available(), rtx.runnable()) == (None, NO_GPU)
    assert (full.available(), full.runnable()) == (NO_GPU, NO_GPU)
    assert rtx.version().count(".") >= 2
    assert rtx.device() == NO_GPU


@pytest.mark.parametrize("make", [tensorrt, tensorrt_rtx])
def test_a_missing_library_comes_with_its_install_command(make: Callable[[], TensorRTTarget]):
    target = replace(make(), module="no_such_library")
    assert target.available() == f'{target.runtime} is not installed: pip install "infopt[{target.extra}]"'
    assert target.runnable() == target.available()


def test_a_library_that_does_not_load_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "half_a_library.py").write_text("raise OSError('libnvinfer.so.10: cannot open\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    reason = replace(tensorrt(), module="half_a_library").available()
    assert reason
    assert "cannot be loaded (libnvinfer.so.10: cannot open)" in reason


def test_running_and_inspecting_need_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_gpu(monkeypatch)
    artifact = Artifact("tensorrt-rtx", tmp_path, (), tmp_path)
    with pytest.raises(Unmeasured, match="no GPU"), tensorrt_rtx().open(artifact):
        pass
    with pytest.raises(Unmeasured, match="can only be inspected where it runs"):
        tensorrt_rtx().kernels(artifact)


def test_there_is_one_setting():
    assert tensorrt_rtx().settings("int8") == tensorrt().settings("float") == {"default": {}}


def test_the_inspectors_layers_are_counted_for_both_versions():
    ten = {
        "Name": "conv1 + relu1",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
        "Weights": {"Type": "Int8", "Count": 9},
        "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
    }
    eleven = {"Name": "fc", "LayerType": "gemm", "Inputs": [{"DataType": "Int8", "Format": "Row major"}]}
    left = ten | {"Weights": {"Type": "Half"}, "Metadata": "[ONNX Layer: conv2]"}
    reformat = {"Name": "reformat", "LayerType": "Reformat", "Inputs": [{"DataType": "Int8"}]}
    text = json.dumps({"Layers": [ten, eleven, left, reformat]})
    assert inspected_kernels(text) == Kernels(2, 3, (FloatNode("conv2", "Conv"),))


def test_an_inspector_without_details_counts_nothing():
    with pytest.raises(Unmeasured, match="no compute layers"):
        inspected_kernels(json.dumps({"Layers": ["{ForeignNode[a...b]}"]}))


class FakeDriver:
    """Device memory on the host."""

    def __init__(self) -> None:
        self.memory: dict[int, object] = {}
        self.live = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *args: 0

    def cuDevicePrimaryCtxRetain(self, context: object, device: int) -> int:  # noqa: N802
        self.live += 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: int) -> int:  # noqa: N802
        self.live -= 1
        return 0

    def cuMemAlloc_v2(self, pointer: object, size: ctypes.c_size_t) -> int:  # noqa: N802
        buffer = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(buffer)  # type: ignore[attr-defined]
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0 if size.value < 10_000 else 2

    def cuMemFree_v2(self, pointer: ctypes.c_void_p) -> int:  # noqa: N802
        del self.memory[pointer.value or 0]
        return 0

    def cuMemcpyHtoDAsync_v2(self, to: object, source: object, size: object, stream: object) -> int:  # noqa: N802
        held = [len(self.memory[each.value]) for each in (to, source) if each.value in self.memory]  # type: ignore[attr-defined]
        assert len(held) == 1
        assert size.value <= held[0], "beyond the end of the device memory"  # type: ignore[attr-defined]
        ctypes.memmove(to, source, size.value)  # type: ignore[arg-type, attr-defined]
        return 0

    cuMemcpyDtoHAsync_v2 = cuMemcpyHtoDAsync_v2  # noqa: N815


class FakeEngine:
    """Engine and context of ``y = 2 x`` for ``x`` [N, 3] with N up to 4."""

    num_io_tensors = 2

    def __init__(self, taken: str = "x") -> None:
        self.taken = taken
        self.shape: tuple[int, ...] = ()
        self.address: dict[str, int] = {}

    def get_tensor_name(self, index: int) -> str:
        return (self.taken, "y")[index]

    def get_tensor_mode(self, name: str) -> str:
        return {self.taken: "in", "y": "out"}[name]

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_location(self, name: str) -> str:
        return "device"

    def create_execution_context(self) -> FakeEngine:
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] <= 4

    def set_tensor_address(self, name: str, address: int) -> None:
        self.address[name] = address

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def execute_async_v3(self, stream: int) -> bool:
        kind = ctypes.c_float * int(np.prod(self.shape))
        source, to = (kind.from_address(self.address[name]) for name in (self.taken, "y"))
        to[:] = [2 * value for value in source]
        return True


def fake_binding(engine: FakeEngine | None) -> SimpleNamespace:
    class Logger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    return SimpleNamespace(
        ILogger=Logger,
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: engine),
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        TensorLocation=SimpleNamespace(HOST="host"),
    )


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    path = tmp_path / "model.engine"
    path.write_bytes(b"engine")
    return Artifact("tensorrt-rtx", path, (path,), path)


def test_a_session_runs_batches_of_changing_size_and_gives_its_memory_back(artifact: Artifact):
    driver = FakeDriver()
    with opened_session(fake_binding(FakeEngine()), driver, artifact) as session:
        for size in (2, 4, 1):
            x = np.arange(3 * size, dtype=np.float64).reshape(3, size).T
            (y,) = session.run({"x": x})
            assert y.dtype == np.float32
            np.testing.assert_array_equal(y, 2 * x)
        assert len(driver.memory) == 2
        with pytest.raises(RuntimeRefused, match="not what it was built for"):
            session.run({"x": np.zeros((5, 3), np.float32)})
    assert driver.memory == {}
    assert driver.live == 0


def test_an_input_that_is_an_output_too_is_fed_by_the_models_name(artifact: Artifact):
    """The parser has given it another one."""
    with opened_session(fake_binding(FakeEngine("__x")), FakeDriver(), artifact) as session:
        x = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(session.run({"x": x})[0], 2 * x)


def test_an_engine_that_cannot_be_loaded_is_refused(artifact: Artifact):
    driver = FakeDriver()
    with (
        pytest.raises(RuntimeRefused, match=r"model\.engine cannot be loaded"),
        opened_session(fake_binding(None), driver, artifact),
    ):
        pass
    assert driver.live == 0


def test_a_driver_that_refuses_is_told(artifact: Artifact):
    engine = FakeEngine()
    with (
        opened_session(fake_binding(engine), FakeDriver(), artifact) as session,
        pytest.raises(RuntimeRefused, match="cuMemAlloc_v2 failed with code 2"),
    ):
        session.run({"x": np.zeros((4, 3000), np.float32)})


@pytest.mark.parametrize(("code", "count", "usable"), [(0, 1, True), (0, 0, False), (100, 1, False)])
def test_a_gpu_is_there_when_the_driver_counts_one(
    code: int, count: int, usable: bool, monkeypatch: pytest.MonkeyPatch
):
    def counted(pointer: object) -> int:
        pointer._obj.value = count  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr(cuda, "driver", lambda: SimpleNamespace(cuInit=lambda flags: code, cuDeviceGetCount=counted))
    assert (cuda.no_gpu() is None) is usable
    monkeypatch.setattr(cuda, "driver", lambda: None)
    assert cuda.no_gpu() == NO_GPU
