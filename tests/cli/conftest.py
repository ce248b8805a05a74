"""A folder with a tiny model and its data, and the command line, in this process or in its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from infopt.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLASSES = 4
START = (sys.executable, "-c", "from infopt.cli import main; main()")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Cli:
    """The command line in a folder; what it leaves there is looked at from outside."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *args: object) -> Result:
        """Run it in this process; what native code prints is captured too."""
        self.monkeypatch.setattr(sys, "argv", ["infopt", *map(str, args)])
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self.capfd.readouterr()
        return Result(ended.value.code or 0, captured.out, captured.err)

    def quantize(self, *args: object, quick: bool = True) -> Result:
        """Quantize the folder's model with its data, plainly; quick does without latency."""
        data = ("--calib", "calib.npz", "--eval", "eval.npz", "--method", "fast")
        return self("quantize", "model.onnx", *data, *(["--no-bench"] if quick else []), *args)

    def refuses(self, *args: object, code: int = 2, says: tuple[str, ...] = ()) -> str:
        """See it refuse: one line on stderr that says certain words, and nothing left behind."""
        before = self.listing()
        result = self(*args)
        assert result.code == code, result
        check_line(result, says)
        assert self.listing() == before
        return result.err

    def listing(self, below: str = ".") -> dict[str, tuple[int, int] | None]:
        """Every path below a folder, with size and time of change of files."""
        root = self.folder / below
        found = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
        return {name: None if path.is_dir() else _stamp(path) for name, path in sorted(found.items())}

    def start(self, *args: object) -> subprocess.Popen[str]:
        """Start it in a process of its own."""
        command, pipe = [*START, *map(str, args)], subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, stdout=pipe, stderr=pipe, text=True)

    def process(self, *args: object) -> Result:
        """Run it in a process of its own."""
        child = self.start(*args)
        out, err = child.communicate(timeout=120)
        return Result(child.returncode, out, err)


def check_line(result: Result, says: tuple[str, ...] = ()) -> None:
    assert "Traceback" not in result.err
    assert result.err.startswith("infopt: error: "), result.err
    assert result.err.count("\n") == 1, result.err
    assert result.err.endswith("\n")
    assert result.out == ""
    for words in says:
        assert words in result.err


def _stamp(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_size, status.st_mtime_ns


def tiny_model(seed: int = 0) -> onnx.ModelProto:
    """Two convolutions and a classifier: [N, 1, 8, 8] -> [N, 4]."""
    rng = np.random.default_rng(seed)
    shapes = {"w1": (8, 1, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (CLASSES, 8), "b3": (CLASSES,)}
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) * 0.4).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", **pads),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", strides=[2, 2], **pads),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], "gemm", transB=1),
    ]
    return make_model(nodes, weights)


def make_model(
    nodes: list[onnx.NodeProto], weights: list[TensorProto], domains: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """A model x [N, 1, 8, 8] -> logits [N, 4] of some nodes."""
    float32 = TensorProto.FLOAT
    x = helper.make_tensor_value_info("x", float32, ["N", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", float32, ["N", CLASSES])
    graph = helper.make_graph(nodes, "tiny", [x], [logits], weights)
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in ("", *domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def save_npz(path: Path, count: int, seed: int, labels: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
    x = np.random.default_rng(seed).standard_normal((count, 1, 8, 8)).astype(np.float32)
    np.savez(path, x=x, **({} if labels is None else {"labels": labels(x)}))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, calib.npz, and eval.npz labelled with what the model itself says."""
    import onnxruntime

    folder = tmp_path_factory.mktemp("made")
    model = tiny_model().SerializeToString()
    (folder / "model.onnx").write_bytes(model)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    save_npz(folder / "calib.npz", 16, 1)
    save_npz(folder / "eval.npz", 40, 2, lambda x: session.run(None, {"x": x})[0].argmax(axis=1))
    return folder


@pytest.fixture(scope="session")
def quantized(made: Path) -> Path:
    """The output directory of :meth:`Cli.quantize`, made once; tests copy it."""
    import infopt

    with contextlib.chdir(made):
        report = infopt.quantize("model.onnx", calib="calib.npz", eval="eval.npz", method="fast", no_bench=True)
    assert report.verdict.status == "pass"
    return made / "model.onnxruntime.infopt"


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory with the tiny model and data, and temporary files below it, where a test sees them."""
    for file in made.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "scratch"))
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(work: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    return Cli(work, monkeypatch, capfd)
