"""The side of Torch-Pruning, as far as torch alone goes: the module behind an ONNX file, and training for a time."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from benchmarks.pruning.rivals import SCRIPT
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.last = torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))
"""


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the folder that is a program of its own."""
    monkeypatch.syspath_prepend(str(SCRIPT))
    return importlib.import_module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose exporter turned one weight and left its name to the bias."""
    rng = np.random.default_rng(0)
    shapes = {"val_1": (4, 8), "first.bias": (8,), "last.weight": (3, 8), "last.bias": (3,)}
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "val_1"], ["a"]),
        helper.make_node("Add", ["first.bias", "a"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "last.weight", "last.bias"], ["y"], transB=1),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "g", [image], [out], weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "model.py").write_text(NET)
    return tmp_path


def test_the_module_has_the_weights_of_the_onnx_file(rival: Any, folder: Path) -> None:
    models = rival("models")
    net = models.restored(folder)
    feed = {"x": torch.linspace(-1, 1, 20).reshape(5, 4)}
    assert models.difference(net, folder / "model.onnx", feed) < 1e-5
    with torch.no_grad():
        net.first.weight[0, 0] += 1
    assert models.difference(net, folder / "model.onnx", feed) > 1e-3


def test_training_goes_to_the_teacher_or_to_the_labels(rival: Any, folder: Path) -> None:
    models, tuning = rival("models"), rival("tuning")
    torch.manual_seed(0)
    teacher, data = models.restored(folder), {"x": torch.randn(64, 4)}
    schedule = tuning.Schedule(lambda given: torch.optim.SGD(given, lr=0.1), tuning.milestones, batch=16)
    with torch.no_grad():
        wanted = teacher(data["x"]).argmax(1)
    turned = (wanted + 1) % 3
    for labels, expected in ((None, wanted), (turned, turned)):
        net = models.restored(folder)
        with torch.no_grad():
            net.last.weight.zero_()
        lesson = tuning.Lesson(data, labels, teacher)
        assert (lesson.classes(slice(None)) == expected).all()
        before = (net(data["x"]).argmax(1) == expected).float().mean()
        assert tuning.tuned(net, lesson, schedule, (0.3, 0.1)) >= tuning.FEWEST
        assert (net(data["x"]).argmax(1) == expected).float().mean() > before + 0.2
        assert not net.training


def test_training_goes_on_until_wall_and_processor_time_are_both_over(rival: Any, folder: Path) -> None:
    models, tuning = rival("models"), rival("tuning")
    net = models.restored(folder)
    lesson = tuning.Lesson({"x": torch.randn(16, 4)}, None, models.restored(folder))
    schedule = tuning.Schedule(torch.optim.SGD, tuning.cosine, batch=16)
    for budget in ((0.2, 0.0), (0.0, 0.2)):
        start = time.perf_counter()
        tuning.tuned(net, lesson, schedule, budget)
        assert time.perf_counter() - start > 0.1


def test_the_rate_falls_with_the_time(rival: Any) -> None:
    tuning = rival("tuning")
    assert [round(tuning.milestones(gone), 3) for gone in (0.0, 0.59, 0.6, 0.8, 1.2)] == [1.0, 1.0, 0.1, 0.01, 0.01]
    assert tuning.cosine(0.0) == 1.0
    assert tuning.cosine(1.5) == pytest.approx(0.0)


def test_pictures_are_mirrored_and_moved_and_filled_with_the_darkest(rival: Any) -> None:
    tuning = rival("tuning")
    torch.manual_seed(0)
    images = torch.arange(1, 37, dtype=torch.float32).reshape(1, 1, 6, 6).repeat(32, 1, 1, 1)
    changed = tuning.changed(images, room=2)
    assert changed.shape == images.shape
    assert set(changed.unique().tolist()) <= set(range(1, 37))
    places = [(float(each[0, 2, 2]), float(each[0, 2, 3])) for each in changed]
    assert {right - left for left, right in places} == {1.0, -1.0}
    assert len(set(places)) > 8
