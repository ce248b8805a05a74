"""The smallest graph for each operator that a table has a row about.

An operator that follows, moves or joins stands between convolutions that give and take integers; it is the node ``s``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
PICTURE = "16,8,8"


@dataclass(frozen=True)
class Row:
    """An operator in its surroundings.

    Attributes:
        op: Operator type.
        variant: What is special about this graph.
        middle: The nodes between the first convolutions, which give ``a`` (and ``c``), and the last, which reads ``s``.
        weights: Weights of these nodes and of the last layer.
        shape: Shape of the output without the batch.
        first: Number of first convolutions.
        last: The last layer.
        whole: The graph, where it has no such surroundings.
        computed: Whether it is about products of two tensors that are computed at run time.
        opset: Version of the operator set.
    """

    op: str
    variant: str = ""
    middle: str = ""
    weights: dict[str, Any] = field(default_factory=dict)
    shape: str = PICTURE
    first: int = 1
    last: str = f"{CONV}(s, we, be)"
    whole: str = ""
    computed: bool = False
    opset: int = 17

    @property
    def name(self) -> str:
        """What test reports call it."""
        return f"{self.op} {self.variant}".strip()


END = {"we": (16, 16, 3, 3), "be": (16,)}
GEMM = "Gemm(s, we, be)"


def _int(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _layer(op: str, variant: str, shapes: str, call: str, **weights: Any) -> Row:
    return Row(op, variant, weights=weights, whole=f"{shapes} {{ y = {call} }}")


CHANNELS = "(float[N,16,8,8] x) => (float[N,16,8,8] y)"
VECTORS = "(float[N,32] x) => (float[N,16] y)"
TOKENS = "(float[N,16,16] x) => (float[N,16,16] y)"
ONE, TWO = np.float32(1), np.float32([1, 1, 2, 2])
VALUES = np.linspace(0.5, 1.5, 16, dtype=np.float32)
PER_CHANNEL = VALUES.reshape(1, 16, 1, 1)


def _norm(call: str, **weights: Any) -> Row:
    op = call.partition("(")[0].partition("<")[0]
    text = f"{TOKENS} {{ a = MatMul(x, wa)  s = {call}  y = MatMul(s, we) }}"
    return Row(op, whole=text, weights={"wa": (16, 16), "we": (16, 16), **weights}, opset=21)


def _recurrent(op: str, gates: int) -> Row:
    weights = {"w": (1, gates * 8, 16), "r": (1, gates * 8, 8), "b": (1, gates * 16)}
    call = f"s, _h{', _c' if op == 'LSTM' else ''} = {op}<hidden_size=8>(x, w, r, b)"
    return Row(op, whole=f"(float[5,N,16] x) => (float[5,1,N,8] y) {{ {call}  y = Tanh(s) }}", weights=weights)


ROWS = [
    _layer("Conv", "", CHANNELS, f"{CONV}(x, w, b)", w=(16, 16, 3, 3), b=(16,)),
    _layer("Conv", "without bias", CHANNELS, f"{CONV}(x, w)", w=(16, 16, 3, 3)),
    _layer(
        "Conv", "depthwise", CHANNELS, "Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=16>(x, w, b)",
        w=(16, 1, 3, 3), b=(16,),
    ),
    _layer("Conv", "pointwise", CHANNELS, "Conv<kernel_shape=[1,1]>(x, w, b)", w=(16, 16, 1, 1), b=(16,)),
    _layer(
        "Conv", "1D", "(float[N,16,9] x) => (float[N,16,9] y)", "Conv<kernel_shape=[3], pads=[1,1]>(x, w, b)",
        w=(16, 16, 3), b=(16,),
    ),
    _layer(
        "Conv", "3D", "(float[N,16,4,4,4] x) => (float[N,16,4,4,4] y)",
        "Conv<kernel_shape=[3,3,3], pads=[1,1,1,1,1,1]>(x, w, b)", w=(16, 16, 3, 3, 3), b=(16,),
    ),
    _layer(
        "Conv", "grouped", CHANNELS, "Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=2>(x, w, b)",
        w=(16, 8, 3, 3), b=(16,),
    ),
    _layer(
        "Conv", "dilated", CHANNELS, "Conv<kernel_shape=[3,3], pads=[2,2,2,2], dilations=[2,2]>(x, w, b)",
        w=(16, 16, 3, 3), b=(16,),
    ),
    _layer("Conv", "strided", "(float[N,16,8,8] x) => (float[N,16,4,4] y)",
        "Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(x, w, b)", w=(16, 16, 3, 3), b=(16,)),
    Row(
        "ConvTranspose", "", "s = ConvTranspose<kernel_shape=[2,2], strides=[2,2]>(a, wt, bt)",
        {"wt": (16, 16, 2, 2), "bt": (16,), **END}, "16,16,16",
    ),
    Row(
        "ConvTranspose", "without bias", "s = ConvTranspose<kernel_shape=[2,2], strides=[2,2]>(a, wt)",
        {"wt": (16, 16, 2, 2), **END}, "16,16,16",
    ),
    Row(
        "ConvTranspose", "grouped", "s = ConvTranspose<kernel_shape=[2,2], strides=[2,2], group=2>(a, wt, bt)",
        {"wt": (16, 8, 2, 2), "bt": (16,), **END}, "16,16,16",
    ),
    _layer("Gemm", "", VECTORS, "Gemm(x, w, b)", w=(32, 16), b=(16,)),
    _layer("Gemm", "transB", VECTORS, "Gemm<transB=1>(x, w, b)", w=(16, 32), b=(16,)),
    _layer("Gemm", "without bias", VECTORS, "Gemm<transB=1>(x, w)", w=(16, 32)),
    _layer("MatMul", "", VECTORS, "MatMul(x, w)", w=(32, 16)),
    _layer("MatMul", "of tokens", TOKENS, "MatMul(x, w)", w=(16, 16)),
    Row(
        "MatMul", "with a bias", weights={"w": (16, 16), "b": (16,)},
        whole="(float[N,5,16] x) => (float[N,5,16] z) { y = MatMul(x, w)  z = Add(y, b) }",
    ),
    Row(
        "MatMul", "of vectors with a bias", weights={"w": (16, 32), "b": (32,)},
        whole="(float[N,16] x) => (float[N,32] z) { y = MatMul(x, w)  z = Add(y, b) }",
    ),
    _layer(
        "MatMul", "by several matrices", "(float[N,3,5,16] x) => (float[N,3,5,32] y)", "MatMul(x, w)", w=(3, 16, 32),
    ),
    Row(
        "MatMul", "of computed tensors", weights=dict.fromkeys(["wa", "wc", "we"], (16, 16)), computed=True,
        whole="""(float[N,16,16] x) => (float[N,16,16] y) {
            a = MatMul(x, wa)  c = MatMul(x, wc)  t = Transpose<perm=[0,2,1]>(c)  s = MatMul(a, t)
            y = MatMul(s, we) }""",
    ),
    Row(
        "MatMul", "in attention", weights=dict.fromkeys(["wq", "wk", "wv", "we"], (16, 16)), computed=True,
        whole="""(float[N,16,16] x) => (float[N,16,16] y) {
            q = MatMul(x, wq)  k = MatMul(x, wk)  t = Transpose<perm=[0,2,1]>(k)  a = MatMul(q, t)
            p = Softmax<axis=-1>(a)  v = MatMul(x, wv)  s = MatMul(p, v)  y = MatMul(s, we) }""",
    ),
    Row("Einsum", weights={"wa": (16, 16), "we": (16, 16)}, whole=f"""{TOKENS} {{
        s = Einsum<equation="bij,jk->bik">(x, wa)  y = MatMul(s, we) }}"""),
    Row("Einsum", "of computed tensors", weights=dict.fromkeys(["wa", "wc", "we"], (16, 16)), computed=True,
        whole=f"""{TOKENS} {{ a = MatMul(x, wa)  c = MatMul(x, wc)
        s = Einsum<equation="bij,bkj->bik">(a, c)  y = MatMul(s, we) }}"""),
    _recurrent("LSTM", 4),
    _recurrent("GRU", 3),
    Row("Add", "", "s = Add(a, c)", END, first=2),
    Row("Add", "then Relu", "p = Add(a, c)  s = Relu(p)", END, first=2),
    Row("Add", "residual", f"d = {CONV}(a, wd, bd)  s = Add(d, a)", {"wd": (16, 16, 3, 3), "bd": (16,), **END}),
    Row("Add", "constant", "s = Add(a, k)", {"k": (1, 16, 8, 8), **END}),
    Row("Mul", "", "s = Mul(a, c)", END, first=2),
    Row("Mul", "constant", "s = Mul(a, k)", {"k": (1, 16, 8, 8), **END}),
    Row("Mul", "gate", "g = Sigmoid(a)  s = Mul(a, g)", END),
    Row("AveragePool", "", "s = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a)", END, "16,4,4"),
    Row("GlobalAveragePool", "", "s = GlobalAveragePool(a)", END, "16,1,1"),
    Row("LeakyRelu", "", "s = LeakyRelu<alpha=0.1>(a)", END),
    Row("Sigmoid", "", "s = Sigmoid(a)", END),
    Row("MaxPool", "", "s = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)", END, "16,4,4"),
    Row("Reshape", "", "s = Reshape(a, k)", {"k": _int(0, 16, 16, 4), **END}, "16,16,4"),
    Row("Transpose", "", "s = Transpose<perm=[0,1,3,2]>(a)", END),
    Row("Flatten", "", "s = Flatten(a)", {"we": (1024, 16), "be": (16,)}, "16", last=GEMM),
    Row(
        "Flatten", "after MaxPool", "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)  s = Flatten(p)",
        {"we": (256, 16), "be": (16,)}, "16", last=GEMM,
    ),
    Row(
        "Squeeze", "", "p = GlobalAveragePool(a)  s = Squeeze(p, k)",
        {"k": _int(2, 3), "we": (16, 16), "be": (16,)}, "16", last=GEMM,
    ),
    Row(
        "Unsqueeze", "", "r = Reshape(a, i)  s = Unsqueeze(r, k)",
        {"i": _int(0, 16, 64), "k": _int(3), **END}, "16,64,1",
    ),
    Row("Slice", "", "s = Slice(a, p, q, k)", {"p": _int(2), "q": _int(6), "k": _int(3), **END}, "16,8,4"),
    Row("Concat", "", "s = Concat<axis=1>(a, c)", {**END, "we": (16, 32, 3, 3)}, first=2),
    Row("Concat", "then Relu", "p = Concat<axis=1>(a, c)  s = Relu(p)", {**END, "we": (16, 32, 3, 3)}, first=2),
    Row("Sub", "", "s = Sub(a, c)", END, first=2),
    Row("Div", "constant", "s = Div(a, k)", {"k": PER_CHANNEL, **END}),
    Row("Mul", "per channel", "s = Mul(a, k)", {"k": PER_CHANNEL, **END}),
    Row("Max", "", "s = Max(a, c)", END, first=2),
    Row("PRelu", "", "s = PRelu(a, k)", {"k": VALUES.reshape(16, 1, 1) / 8, **END}),
    Row("Relu", "", "s = Relu(a)", END),
    Row("Clip", "", "s = Clip(a, k, l)", {"k": np.float32(0), "l": ONE, **END}),
    Row("HardSigmoid", "", "s = HardSigmoid(a)", END),
    Row("HardSwish", "", "s = HardSwish(a)", END),
    Row("Elu", "", "s = Elu(a)", END),
    Row("Tanh", "", "s = Tanh(a)", END),
    Row("Erf", "", "s = Erf(a)", END),
    Row("Gelu", "", "s = Gelu(a)", END, opset=21),
    Row("Mish", "", "s = Mish(a)", END, opset=21),
    Row("Softmax", "", "s = Softmax<axis=-1>(a)", END),
    _norm("LayerNormalization(a, g, h)", g=VALUES, h=VALUES),
    Row("InstanceNormalization", "", "s = InstanceNormalization(a, g, h)", {"g": VALUES, "h": VALUES, **END}),
    Row("ReduceMean", "", "s = ReduceMean<axes=[2,3], keepdims=1>(a)", END, "16,1,1"),
    Row("ReduceMax", "", "s = ReduceMax<axes=[2,3], keepdims=1>(a)", END, "16,1,1"),
    Row("GlobalMaxPool", "", "s = GlobalMaxPool(a)", END, "16,1,1"),
    Row("AveragePool", "padded", "s = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(a)", END),
    Row(
        "Resize", "nearest",
        """s = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(a, , k)""",
        {"k": TWO, **END}, "16,16,16",
    ),
    Row("Resize", "linear", """s = Resize<mode="linear">(a, , k)""", {"k": TWO, **END}, "16,16,16"),
    Row(
        "Split", "", "p, q = Split<axis=1>(a, k)  s = Concat<axis=1>(q, p)", {"k": _int(4, 12), **END},
    ),
    Row("Gather", "", "s = Gather<axis=1>(a, k)", {"k": _int(*range(15, -1, -1)), **END}),
    Row("Gather", "of an embedding", weights={"k": (9, 16), "we": (16, 16)},
        whole="(int64[N,6] x) => (float[N,6,16] y) { s = Gather(k, x)  y = MatMul(s, we) }"),
    Row("DepthToSpace", "", "s = DepthToSpace<blocksize=2>(a)", {**END, "we": (16, 4, 3, 3)}, "16,16,16"),
    Row("SpaceToDepth", "", "s = SpaceToDepth<blocksize=2>(a)", {**END, "we": (16, 64, 3, 3)}, "16,4,4"),
    Row("Pad", "", "s = Pad(a, k)", {"k": _int(0, 0, 1, 1, 0, 0, 1, 1), **END}, "16,10,10"),
    Row("Expand", "", "p = GlobalAveragePool(a)  s = Expand(p, k)", {"k": _int(1, 16, 8, 8), **END}),
    Row("Tile", "", "s = Tile(a, k)", {"k": _int(1, 1, 2, 1), **END}, "16,16,8"),
    Row(
        "Mul", "squeeze and excite",
        """g = GlobalAveragePool(a)  h = Conv<kernel_shape=[1,1]>(g, w1, b1)  r = Relu(h)
        j = Conv<kernel_shape=[1,1]>(r, w2, b2)  q = Sigmoid(j)  s = Mul(a, q)""",
        {"w1": (8, 16, 1, 1), "b1": (8,), "w2": (16, 8, 1, 1), "b2": (16,), **END},
    ),
]  # fmt: skip
