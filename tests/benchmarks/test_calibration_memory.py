"""KL calibration of a ResNet-18 at 224x224 with 500 pictures, as a whole process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

PICTURES = 500


class Net:
    """Builds a residual network layer by layer."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, value: str, channels: tuple[int, int], kernel: int, stride: int) -> str:
        shape = (channels[1], channels[0], kernel, kernel)
        weight = self.rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        names = [f"w{len(self.weights)}", f"b{len(self.weights)}"]
        for name, array in zip(names, (weight, np.zeros(channels[1], np.float32)), strict=True):
            self.weights.append(numpy_helper.from_array(array, name))
        pads = [kernel // 2] * 4
        return self.add("Conv", [value, *names], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def block(self, value: str, channels: tuple[int, int], stride: int) -> str:
        first = self.add("Relu", [self.conv(value, channels, 3, stride)])
        second = self.conv(first, (channels[1], channels[1]), 3, 1)
        skip = value if channels[0] == channels[1] else self.conv(value, channels, 1, stride)
        return self.add("Relu", [self.add("Add", [second, skip])])


def resnet18(path: Path) -> Path:
    """The layers of He et al. 2015 with made-up weights that keep activations at one magnitude."""
    net = Net()
    value = net.add("Relu", [net.conv("x", (3, 64), 7, 2)])
    value = net.add("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    before = 64
    for width in (64, 128, 256, 512):
        value = net.block(value, (before, width), 1 if width == 64 else 2)
        value = net.block(value, (width, width), 1)
        before = width
    value = net.add("Flatten", [net.add("GlobalAveragePool", [value])])
    net.weights.append(numpy_helper.from_array(net.rng.standard_normal((512, 1000), np.float32) / 22, "fc"))
    value = net.add("MatMul", [value, "fc"])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in (("x", (3, 224, 224)), (value, (1000,)))
    ]
    graph = helper.make_graph(net.nodes, "resnet18", ends[:1], ends[1:], net.weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def pictures(folder: Path) -> Path:
    """Smooth pictures of 256x256 with noise, as JPEG."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{number:03}.jpg", quality=90)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["entropy", "mse", "minmax"])
def test_resnet18_with_500_pictures_stays_under_a_gigabyte(tmp_path: Path, timed: Any, ranges: str) -> None:
    model, data = resnet18(tmp_path / "resnet18.onnx"), pictures(tmp_path / "calib")
    options = ["--preprocess", "imagenet", "--no-eval", "-q", "--ranges", ranges]
    seconds, peak = timed("quantize", model, "--calib", data, "--samples", PICTURES, *options, "-o", tmp_path / "out")
    print(f"\nResNet-18, {PICTURES} pictures, --ranges {ranges}: {seconds:.1f} s, peak {peak:.0f} MB (bar 1000 MB)")
    assert peak < 1000
