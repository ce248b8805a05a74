"""Small networks with the wiring of well-known ones, written node by node."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from infopt.model import Model


class Net:
    """Writes a graph; tensors are names, and each has a width: its channels, or features."""

    def __init__(self, *shape: int | str, width: int | None = None, dtype: int = TensorProto.FLOAT) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.width: dict[str, int] = {"x": int(width or shape[1])}
        self.input = helper.make_tensor_value_info("x", dtype, shape)

    def op(self, kind: str, *inputs: str, width: int | None = None, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, names[0], **attributes))
        known = width or next((self.width[name] for name in inputs if name in self.width), 0)
        self.width.update(dict.fromkeys(names, known))
        return names[0] if outputs == 1 else names

    def constant(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        rng = np.random.default_rng(zlib.crc32(f"{len(self.weights)}{shape}".encode()))
        fan = max(1, int(np.prod(shape[1:])))
        return self.constant((scale * rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def vector(self, size: int) -> str:
        return self.constant(np.random.default_rng(len(self.weights)).uniform(0.5, 1.5, size).astype(np.float32))

    def conv(self, x: str, out: int, k: int = 3, stride: int = 1, group: int = 1, bias: bool = True) -> str:
        pads = [k // 2] * 4
        inputs = [x, self.weight(out, self.width[x] // group, k, k)] + ([self.weight(out)] if bias else [])
        return self.op("Conv", *inputs, width=out, kernel_shape=[k, k], strides=[stride] * 2, pads=pads, group=group)

    def bn(self, x: str) -> str:
        size = self.width[x]
        return self.op("BatchNormalization", x, *(self.vector(size) for _ in range(4)))

    def cbr(self, x: str, out: int, k: int = 3, stride: int = 1, group: int = 1, act: str = "Relu") -> str:
        return self.act(self.bn(self.conv(x, out, k, stride, group, bias=False)), act)

    def act(self, x: str, kind: str = "Relu") -> str:
        if kind == "Silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        return self.op(kind, x) if kind else x

    def gemm(self, x: str, out: int) -> str:
        return self.op("Gemm", x, self.weight(out, self.width[x]), self.weight(out), width=out, transB=1)

    def linear(self, x: str, out: int) -> str:
        product = self.op("MatMul", x, self.weight(self.width[x], out, scale=0.3), width=out)
        return self.op("Add", product, self.weight(out))

    def norm(self, x: str) -> str:
        return self.op("LayerNormalization", x, self.vector(self.width[x]), self.vector(self.width[x]), axis=-1)

    def reshape(self, x: str, *shape: int, width: int | None = None) -> str:
        return self.op("Reshape", x, self.constant(np.array(shape, np.int64)), width=width)

    def turn(self, x: str, *perm: int) -> str:
        return self.op("Transpose", x, perm=perm)

    def concat(self, *parts: str, axis: int = 1) -> str:
        return self.op("Concat", *parts, axis=axis, width=sum(self.width[part] for part in parts))

    def split(self, x: str, parts: int, axis: int = 1) -> Any:
        size = self.width[x] // parts
        sizes = self.constant(np.array([size] * parts, np.int64))
        return self.op("Split", x, sizes, outputs=parts, width=size, axis=axis)

    def head(self, x: str, classes: int = 5) -> str:
        return self.gemm(self.op("Flatten", self.op("GlobalAveragePool", x)), classes)

    def gate(self, x: str, inner: int) -> str:
        pooled = self.act(self.conv(self.op("GlobalAveragePool", x), inner, 1))
        return self.op("Mul", x, self.op("Sigmoid", self.conv(pooled, self.width[x], 1)))

    def attention(self, x: str, heads: int, tokens: int, causal: bool = False) -> str:
        size = self.width[x]
        parts = [self.reshape(self.linear(x, size), -1, tokens, heads, size // heads, width=size) for _ in range(3)]
        q, k, v = self.turn(parts[0], 0, 2, 1, 3), self.turn(parts[1], 0, 2, 3, 1), self.turn(parts[2], 0, 2, 1, 3)
        return self.joined(q, k, v, tokens, size, causal)

    def joined(self, q: str, k: str, v: str, tokens: int, size: int, causal: bool = False) -> str:
        scores = self.op("Mul", self.op("MatMul", q, k), self.constant(np.float32(0.3)))
        if causal:
            mask = np.triu(np.full((1, 1, tokens, tokens), -1e4, np.float32), 1)
            scores = self.op("Add", scores, self.constant(mask))
        mixed = self.turn(self.op("MatMul", self.op("Softmax", scores, axis=-1), v), 0, 2, 1, 3)
        return self.linear(self.reshape(mixed, -1, tokens, size, width=size), size)

    def mlp(self, x: str, inner: int, act: str = "Gelu") -> str:
        return self.linear(self.act(self.linear(x, inner), act), self.width[x])

    def tokens(self, x: str, count: int) -> str:
        return self.turn(self.reshape(x, -1, self.width[x], count), 0, 2, 1)

    def model(self, *outputs: str) -> Model:
        made = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", [self.input], made, self.weights)
        proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
        proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        onnx.checker.check_model(proto, full_check=True)
        return Model(ir.from_proto(proto), Path("model.onnx"))


def image(size: int = 12, channels: int = 3) -> Net:
    return Net("N", channels, size, size)


def resnet_basic() -> Model:
    net = image()
    x = net.cbr("x", 8)
    for width, stride in ((8, 1), (16, 2)):
        y = net.bn(net.conv(net.cbr(x, width, 3, stride), width))
        short = x if stride == 1 else net.bn(net.conv(x, width, 1, stride))
        x = net.act(net.op("Add", y, short))
    return net.model(net.head(x))


def resnet_bottleneck() -> Model:
    net = image()
    x = net.op("MaxPool", net.cbr("x", 16), kernel_shape=[2, 2], strides=[2, 2])
    for _ in range(2):
        y = net.bn(net.conv(net.cbr(net.cbr(x, 8, 1), 8), 16, 1))
        x = net.act(net.op("Add", y, x))
    return net.model(net.head(x))


def mobilenet_v2() -> Model:
    net = image()
    x = net.cbr("x", 8, act="Relu")
    for _ in range(2):
        wide = net.op("Clip", net.bn(net.conv(x, 24, 1)), net.constant(np.float32(0)), net.constant(np.float32(6)))
        deep = net.cbr(wide, 24, 3, 1, 24)
        x = net.op("Add", net.bn(net.conv(deep, 8, 1)), x)
    return net.model(net.head(x))


def mobilenet_v3() -> Model:
    net = image()
    x = net.cbr("x", 8, act="HardSwish")
    deep = net.gate(net.cbr(net.cbr(x, 24, 1, act="HardSwish"), 24, 3, 1, 24), 8)
    x = net.op("Add", net.bn(net.conv(deep, 8, 1)), x)
    return net.model(net.head(x))


def efficientnet() -> Model:
    net = image()
    x = net.cbr("x", 8, act="Silu")
    for stride in (1, 2):
        deep = net.gate(net.cbr(net.cbr(x, 16, 1, act="Silu"), 16, 5, stride, 16, act="Silu"), 4)
        x = net.bn(net.conv(deep, 8, 1))
    return net.model(net.head(net.cbr(x, 32, 1, act="Silu")))


def densenet() -> Model:
    net = image()
    x = net.conv("x", 8)
    for _ in range(3):
        y = net.conv(net.act(net.bn(net.conv(net.act(net.bn(x)), 16, 1))), 6)
        x = net.concat(x, y)
    x = net.op("AveragePool", net.conv(net.act(net.bn(x)), 10, 1), kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net.head(net.act(net.bn(x))))


def vgg() -> Model:
    net = image(8)
    x = net.act(net.conv(net.act(net.conv("x", 8)), 12))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    flat = net.op("Flatten", x, width=12 * 16)
    return net.model(net.gemm(net.act(net.gemm(flat, 24)), 5))


def googlenet() -> Model:
    net = image()
    x = net.cbr("x", 8)
    for _ in range(2):
        pooled = net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = net.concat(
            net.cbr(x, 6, 1), net.cbr(net.cbr(x, 6, 1), 8), net.cbr(net.cbr(x, 4, 1), 6, 5), net.cbr(pooled, 4, 1)
        )
    return net.model(net.head(x))


def shufflenet_v1() -> Model:
    net = image()
    x = net.cbr("x", 16)
    y = net.cbr(x, 16, 1, group=2)
    y = net.reshape(net.turn(net.reshape(y, -1, 2, 8, 12, 12), 0, 2, 1, 3, 4), -1, 16, 12, 12, width=16)
    y = net.bn(net.conv(net.cbr(y, 16, 3, 1, 16), 16, 1, group=2))
    return net.model(net.head(net.op("Add", x, y)))


def shufflenet_v2() -> Model:
    net = image()
    x = net.cbr("x", 16)
    keep, y = net.split(x, 2)
    y = net.cbr(net.bn(net.conv(net.cbr(y, 8, 1), 8, 3, 1, 8)), 8, 1)
    x = net.concat(keep, y)
    x = net.reshape(net.turn(net.reshape(x, -1, 2, 8, 12, 12), 0, 2, 1, 3, 4), -1, 16, 12, 12, width=16)
    return net.model(net.head(net.cbr(x, 24, 1)))


def regnet() -> Model:
    net = image()
    x = net.cbr("x", 16)
    y = net.gate(net.cbr(net.cbr(x, 24, 1), 24, 3, 1, 6), 6)
    return net.model(net.head(net.act(net.op("Add", net.bn(net.conv(y, 16, 1)), x))))


def convnext() -> Model:
    net = image()
    x = net.conv("x", 8, 3, 2)
    for _ in range(2):
        y = net.norm(net.turn(net.conv(x, 8, 7, 1, 8), 0, 2, 3, 1))
        y = net.op("Mul", net.mlp(y, 32), net.vector(8))
        x = net.op("Add", x, net.turn(y, 0, 3, 1, 2))
    return net.model(net.head(x))


def unet() -> Model:
    net = image()
    one = net.cbr("x", 8)
    two = net.cbr(net.op("MaxPool", one, kernel_shape=[2, 2], strides=[2, 2]), 16)
    up = net.op(
        "ConvTranspose", two, net.weight(16, 8, 2, 2), net.weight(8), width=8, kernel_shape=[2, 2], strides=[2, 2]
    )
    return net.model(net.conv(net.cbr(net.concat(one, up), 8), 2, 1))


def autoencoder() -> Model:
    net = image()
    x = net.act(net.conv(net.act(net.conv("x", 8, 3, 2)), 16, 3, 2))
    for out in (8, 3):
        weight, bias = net.weight(net.width[x], out, 2, 2), net.weight(out)
        x = net.act(net.op("ConvTranspose", x, weight, bias, width=out, kernel_shape=[2, 2], strides=[2, 2]), "Sigmoid")
    return net.model(x)


def yolo() -> Model:
    net = image()
    x = net.cbr("x", 16, act="Silu")
    parts = net.split(net.cbr(x, 16, 1, act="Silu"), 2)
    inner = net.cbr(net.cbr(parts[1], 8, act="Silu"), 8, act="Silu")
    x = net.cbr(net.concat(*parts, net.op("Add", inner, parts[1])), 16, 1, act="Silu")
    pooled = [x]
    for _ in range(2):
        pooled.append(net.op("MaxPool", pooled[-1], kernel_shape=[5, 5], pads=[2, 2, 2, 2]))
    x = net.cbr(net.concat(*pooled), 16, 1, act="Silu")
    return net.model(net.reshape(net.conv(x, 12, 1), -1, 12, 144))


def ssd() -> Model:
    net = image()
    one = net.cbr("x", 8)
    two = net.cbr(one, 16, 3, 2)
    heads = [net.reshape(net.turn(net.conv(x, 8), 0, 2, 3, 1), 1, -1, 4) for x in (one, two)]
    return net.model(net.op("Concat", *heads, axis=1))


def fpn() -> Model:
    net = image()
    one = net.cbr("x", 8)
    two = net.cbr(one, 16, 3, 2)
    top = net.conv(two, 8, 1)
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    merged = net.op("Add", net.conv(one, 8, 1), net.op("Resize", top, "", scales, mode="nearest"))
    return net.model(net.conv(net.act(net.conv(merged, 8)), 2, 1), net.conv(net.act(net.conv(top, 8)), 2, 1))


def vit() -> Model:
    net = image()
    x = net.tokens(net.conv("x", 16, 3, 1), 144)
    for _ in range(2):
        x = net.op("Add", x, net.attention(net.norm(x), 4, 144))
        x = net.op("Add", x, net.mlp(net.norm(x), 32))
    return net.model(net.gemm(net.op("ReduceMean", net.norm(x), net.constant(np.array([1])), keepdims=0), 5))


def vit_fused() -> Model:
    """Queries, keys and values of one product, taken apart along an axis of three."""
    net = Net("N", 9, 16, width=16)
    packed = net.linear(net.norm("x"), 48)
    parts = net.turn(net.reshape(packed, -1, 9, 3, 4, 4, width=16), 2, 0, 3, 1, 4)
    q, k, v = (net.op("Gather", parts, net.constant(np.int64(i)), axis=0, width=16) for i in range(3))
    return net.model(net.op("Add", "x", net.joined(q, net.turn(k, 0, 1, 3, 2), v, 9, 16)))


def swin() -> Model:
    net = Net("N", 8, 8, 16, width=16)
    windows = net.turn(net.reshape(net.norm("x"), -1, 2, 4, 2, 4, 16), 0, 1, 3, 2, 4, 5)
    mixed = net.attention(net.reshape(windows, -1, 16, 16, width=16), 4, 16)
    back = net.turn(net.reshape(mixed, -1, 2, 2, 4, 4, 16), 0, 1, 3, 2, 4, 5)
    x = net.op("Add", "x", net.reshape(back, -1, 8, 8, 16, width=16))
    return net.model(net.op("Add", x, net.mlp(net.norm(x), 32)))


def bert() -> Model:
    net = Net("N", 9, width=16, dtype=TensorProto.INT64)
    x = net.op("Gather", net.weight(30, 16), "x", width=16)
    x = net.norm(net.op("Add", x, net.weight(1, 9, 16)))
    for _ in range(2):
        x = net.norm(net.op("Add", x, net.attention(x, 4, 9)))
        x = net.norm(net.op("Add", x, net.mlp(x, 32)))
    return net.model(net.linear(x, 3))


def gpt() -> Model:
    net = Net("N", 9, 16, width=16)
    x = net.op("Add", "x", net.attention(net.norm("x"), 4, 9, causal=True))
    x = net.op("Add", x, net.mlp(net.norm(x), 32))
    return net.model(net.linear(net.norm(x), 11))


def gated_mlp() -> Model:
    net = Net("N", 9, 16, width=16)
    inner = net.op("Mul", net.act(net.linear("x", 24), "Silu"), net.linear("x", 24))
    return net.model(net.op("Add", "x", net.linear(inner, 16)))


def lstm() -> Model:
    net = Net(9, "N", 8, width=8)
    x = net.act(net.linear("x", 12))
    y = net.op("LSTM", x, net.weight(1, 40, 12), net.weight(1, 40, 10), outputs=1, width=10, hidden_size=10)
    return net.model(net.linear(net.op("Squeeze", y, net.constant(np.array([1])), width=10), 3))


def gru() -> Model:
    net = Net(9, "N", 8, width=8)
    x = net.act(net.linear("x", 12))
    y = net.op("GRU", x, net.weight(1, 30, 12), net.weight(1, 30, 10), outputs=1, width=10, hidden_size=10)
    z = net.act(net.linear(net.op("Squeeze", y, net.constant(np.array([1])), width=10), 16))
    return net.model(net.linear(z, 3))


def mixer() -> Model:
    net = Net("N", 9, 16, width=16)
    mixed = net.norm("x")
    turned = net.turn(mixed, 0, 2, 1)
    net.width[turned] = 9
    x = net.op("Add", "x", net.turn(net.mlp(turned, 20), 0, 2, 1))
    return net.model(net.op("Add", x, net.mlp(net.norm(x), 32)))


def mlp() -> Model:
    net = Net("N", 10)
    x = net.act(net.bn(net.gemm(net.act(net.bn(net.gemm("x", 24))), 16)))
    return net.model(net.gemm(x, 4))


def siamese() -> Model:
    net = Net("N", 6, 12, 12, width=6)
    one, two = net.split("x", 2)
    shared = [net.weight(8, 3, 3, 3), net.weight(8), net.weight(12, 8, 3, 3), net.weight(12)]
    found = []
    for x in (one, two):
        x = net.act(net.op("Conv", x, *shared[:2], width=8, kernel_shape=[3, 3]))
        found.append(net.act(net.op("Conv", x, *shared[2:], width=12, kernel_shape=[3, 3])))
    return net.model(net.head(net.op("Abs", net.op("Sub", *found))))


def super_resolution() -> Model:
    net = image()
    x = net.op("PRelu", net.conv("x", 8), net.constant(np.linspace(0, 1, 8, dtype=np.float32).reshape(8, 1, 1)))
    x = net.op("Add", net.op("InstanceNormalization", net.conv(x, 8), net.vector(8), net.vector(8)), x)
    return net.model(net.op("DepthToSpace", net.conv(x, 12), blocksize=2))


def nhwc_classifier() -> Model:
    """Flattened with channels last, as converters from TensorFlow write it."""
    net = image(6)
    x = net.turn(net.act(net.conv("x", 8)), 0, 2, 3, 1)
    return net.model(net.gemm(net.reshape(x, -1, 288, width=288), 5))


def sliced() -> Model:
    net = image()
    x = net.act(net.conv("x", 12))
    ends = ((0, 4), (4, 12))
    one, two = (net.op("Slice", x, *(net.constant(np.array([n])) for n in (a, b, 1)), width=b - a) for a, b in ends)
    return net.model(net.head(net.concat(net.cbr(one, 6), net.cbr(two, 6))))


ARCHITECTURES: dict[str, Callable[[], Model]] = {
    function.__name__: function
    for function in (
        *(resnet_basic, resnet_bottleneck, mobilenet_v2, mobilenet_v3, efficientnet, densenet, vgg, googlenet),
        *(shufflenet_v1, shufflenet_v2, regnet, convnext, unet, autoencoder, yolo, ssd, fpn, vit, vit_fused, swin),
        *(bert, gpt, gated_mlp, lstm, gru, mixer, mlp, siamese, super_resolution, nhwc_classifier, sliced),
    )
}
