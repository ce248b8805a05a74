"""One call or more of each operator that the differentiable executor knows."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray
Row = tuple[str, list[Any], int]
"""A node in ONNX text that reads ``a``, ``b`` ... and gives ``y``, its inputs, and the version of the operator set."""


def normal(*shape: int) -> Array:
    """Normal values that depend on the shape alone."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return np.abs(normal(*shape)) + np.float32(0.5)


def whole(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def number(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


X = normal(2, 4, 6, 6)
LINE = normal(2, 4, 9)
PLAIN = "Relu LeakyRelu LeakyRelu<alpha=0.3> Elu<alpha=0.7> Celu<alpha=0.7> Selu Sigmoid HardSigmoid HardSwish Mish"
MORE = (
    "Softplus Softsign ThresholdedRelu<alpha=0.4> Tanh Erf Exp Floor Ceil Round Sign Sin Cos Neg Abs Identity Dropout"
)
NORMS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp"


def _unary() -> list[Row]:
    rows: list[Row] = []
    for text in (*PLAIN.split(), *MORE.split()):
        name, _, rest = text.partition("<")
        rows.append((f"y = {name}{'<' + rest if rest else ''}(a)", [X], 22))
    rows += [(f"y = {name}(a)", [positive(3, 4)], 17) for name in ("Log", "Sqrt", "Reciprocal")]
    rows += [
        ("y = Gelu(a)", [X], 20),
        ('y = Gelu<approximate="tanh">(a)', [X], 20),
        ("y = Swish<alpha=1.5>(a)", [X], 24),
        ("y = PRelu(a, b)", [X, positive(4, 1, 1)], 17),
        ("y = Clip<min=-0.5, max=0.5>(a)", [X], 10),
        ("y = Clip(a, b, c)", [X, number(-0.5), number(0.5)], 17),
        ("y = Clip(a, , b)", [X, number(0.5)], 17),
        ("y = Cast<to=7>(a)", [X], 17),
        ("y = Cast<to=1>(a)", [whole(1, 2)], 17),
        ("y = CastLike(a, b)", [whole(1, 2), X], 17),
        ("y = Not(a)", [normal(3, 4) > 0], 17),
        ("y = IsNaN(a)", [np.float32([1, np.nan])], 17),
    ]
    return rows


def _binary() -> list[Row]:
    rows: list[Row] = [(f"y = {name}(a, b)", [X, normal(4, 1, 6)], 17) for name in ("Add", "Sub", "Mul", "Max", "Min")]
    rows += [(f"y = {name}(a, b)", [whole(1, 2, 3), whole(2, 2, 2)], 17) for name in ("Equal", "Div", "Mod")]
    compared = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    rows += [(f"y = {name}(a, b)", [X, np.zeros((1,), np.float32)], 17) for name in compared]
    rows += [(f"y = {name}(a, b)", [normal(3, 4) > 0, normal(4, 3).T > 0], 17) for name in ("And", "Or", "Xor")]
    rows += [(f"y = {name}(a, b, c)", [X, normal(6), normal(1, 6)], 17) for name in ("Sum", "Mean", "Max")]
    rows += [
        ("y = Div(a, b)", [X, positive(6)], 17),
        ("y = Div(a, b)", [whole(-7, 7), whole(2, 2)], 17),
        ("y = Pow(a, b)", [positive(3, 4), number(1.7)], 17),
        ("y = Mod<fmod=1>(a, b)", [X, positive(6)], 17),
        ("y = Where(a, b, c)", [X > 0, X, number(0.0)], 17),
    ]
    return rows


def _windows() -> list[Row]:
    weight, bias = normal(8, 4, 3, 3), normal(8)
    return [
        ("y = Conv<pads=[1,1,1,1]>(a, b, c)", [X, weight, bias], 17),
        ("y = Conv<pads=[0,1,2,1], strides=[2,1]>(a, b)", [X, weight], 17),
        ("y = Conv<group=2, dilations=[2,2]>(a, b)", [X, normal(8, 2, 3, 3)], 17),
        ('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(a, b)', [X, weight], 17),
        ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(a, b)', [X, weight], 17),
        ('y = Conv<auto_pad="VALID">(a, b)', [X, weight], 17),
        ("y = Conv<pads=[2,1]>(a, b)", [LINE, normal(3, 4, 5)], 17),
        ("y = Conv(a, b)", [normal(1, 2, 4, 4, 4), normal(3, 2, 2, 2, 2)], 17),
        ("y = ConvTranspose<strides=[2,2]>(a, b, c)", [X, normal(4, 3, 2, 2), normal(3)], 17),
        ("y = ConvTranspose<strides=[2,2], pads=[1,0,0,1], output_padding=[1,0]>(a, b)", [X, normal(4, 3, 3, 3)], 17),
        ("y = ConvTranspose<group=2, dilations=[2,1]>(a, b)", [X, normal(4, 3, 3, 3)], 17),
        ("y = ConvTranspose<strides=[2,2], output_shape=[12,12]>(a, b)", [X, normal(4, 3, 3, 3)], 17),
        ('y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(a, b)', [X, normal(4, 3, 3, 3)], 17),
        ("y = ConvTranspose<strides=[3]>(a, b)", [LINE, normal(4, 3, 3)], 17),
        ("y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(a)", [X], 17),
        ("y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[0,1,2,0], ceil_mode=1>(a)", [X], 17),
        ("y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(a)", [normal(1, 2, 5, 7)], 17),
        ("y = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(a)", [X], 17),
        ("y = MaxPool<kernel_shape=[3]>(a)", [LINE], 17),
        ("y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a)", [X], 17),
        ("y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(a)", [X], 17),
        ("y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(a)", [X], 17),
        ("y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[1,0,1,0]>(a)", [X], 19),
        ('y = AveragePool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(a)', [X], 17),
        ("y = GlobalAveragePool(a)", [X], 17),
        ("y = GlobalMaxPool(a)", [X], 17),
    ]


def _products() -> list[Row]:
    scale, bias = positive(4), normal(4)
    return [
        ("y = Gemm<transA=1, alpha=0.5, beta=2.0>(a, b, c)", [normal(5, 3), normal(5, 4), normal(4)], 17),
        ("y = Gemm<transB=1>(a, b)", [normal(3, 5), normal(4, 5)], 17),
        ("y = MatMul(a, b)", [normal(2, 1, 3, 5), normal(4, 5, 2)], 17),
        ('y = Einsum<equation="bij,bkj->bik">(a, b)', [normal(2, 3, 5), normal(2, 4, 5)], 17),
        ("y = BatchNormalization<epsilon=0.01>(a, b, c, d, e)", [X, scale, bias, normal(4), positive(4)], 17),
        ("y = BatchNormalization(a, b, c, d, e)", [normal(3, 4), scale, bias, normal(4), positive(4)], 17),
        ("y = InstanceNormalization(a, b, c)", [X, scale, bias], 17),
        ("y = GroupNormalization<num_groups=2>(a, b, c)", [X, scale, bias], 21),
        ("y = GroupNormalization<num_groups=2>(a, b, c)", [X, positive(2), normal(2)], 18),
        ("y = LayerNormalization<axis=-2>(a, b, c)", [X, normal(6, 6), normal(6, 6)], 17),
        ("y = LayerNormalization(a, b)", [X, normal(6)], 17),
        ("y = RMSNormalization(a, b)", [X, normal(6)], 23),
        ("y = LpNormalization<axis=1, p=1>(a)", [X], 22),
        ("y = LRN<size=3, alpha=0.1>(a)", [X], 17),
        ("y = Softmax<axis=1>(a)", [X], 17),
        ("y = Softmax(a)", [X], 11),
        ("y = LogSoftmax(a)", [X], 17),
        ("y = LogSoftmax<axis=2>(a)", [X], 11),
        *((f"y = {name}(a, b)", [positive(2, 4, 6), whole(1, -1)], 18) for name in (*NORMS.split(), "ReduceLogSum")),
        ("y = ReduceSum<keepdims=0>(a)", [X], 17),
        ("y = ReduceSum<noop_with_empty_axes=1>(a, b)", [X, whole()], 17),
        ("y = ReduceMean<axes=[2,3], keepdims=0>(a)", [X], 17),
        ("y = ReduceProd<axes=[1,3], keepdims=0>(a)", [X], 17),
        ("y = ReduceSum(a, b)", [np.int32([[1, 2], [3, 4]]), whole(1)], 17),
        ("y = ArgMax<axis=1, keepdims=0>(a)", [X], 17),
        ("y = ArgMin<axis=-1>(a)", [X], 17),
        ("y, z = TopK<axis=1, largest=0>(a, b)", [X, whole(3)], 17),
        ("y = CumSum<exclusive=1, reverse=1>(a, b)", [X, number(2, np.int64)], 17),
    ]


def _moving() -> list[Row]:
    places = np.array([[0, -1], [1, 0]], np.int64)
    return [
        ("y = Reshape(a, b)", [X, whole(0, -1, 3)], 17),
        ("y = Reshape<allowzero=1>(a, b)", [normal(0, 3), whole(3, 0)], 17),
        ("y = Flatten<axis=2>(a)", [X], 17),
        ("y = Flatten<axis=0>(a)", [X], 17),
        ("y = Flatten<axis=-1>(a)", [X], 17),
        ("y = Transpose<perm=[0,2,3,1]>(a)", [X], 17),
        ("y = Transpose(a)", [X], 17),
        ("y = Squeeze(a, b)", [normal(1, 3, 1), whole(0)], 17),
        ("y = Squeeze<axes=[0,2]>(a)", [normal(1, 3, 1)], 11),
        ("y = Squeeze(a)", [normal(1, 3, 1)], 17),
        ("y = Unsqueeze(a, b)", [normal(3, 4), whole(-1, 0)], 17),
        ("y = Unsqueeze<axes=[1]>(a)", [normal(3, 4)], 11),
        ("y = Concat<axis=1>(a, b)", [X, normal(2, 1, 6, 6)], 17),
        ("y, z = Split<axis=1>(a, b)", [X, whole(1, 3)], 17),
        ("y, z = Split<axis=1, split=[3,1]>(a)", [X], 11),
        ("y, z = Split<axis=2, num_outputs=2>(a)", [normal(2, 3, 5)], 18),
        ("y = Slice(a, b, c, d, e)", [X, whole(1, -1), whole(9, -7), whole(1, 3), whole(1, -2)], 17),
        ("y = Slice<starts=[1], ends=[-1], axes=[2]>(a)", [X], 9),
        ("y = Slice(a, b, c)", [X, whole(0, 1), whole(1, 3)], 17),
        ("y = Gather<axis=1>(a, b)", [X, places], 17),
        ("y = Gather<axis=1>(a, b)", [X, number(-2, np.int64)], 17),
        ("y = Gather(a, b)", [whole(4, 5), number(-1, np.int64)], 17),
        ("y = GatherElements<axis=1>(a, b)", [normal(2, 3), places], 17),
        ("y = GatherND(a, b)", [X, places], 17),
        ("y = ScatterND(a, b, c)", [normal(3, 4), places, normal(2)], 17),
        ("y = ScatterElements<axis=1>(a, b, c)", [normal(2, 3), places, normal(2, 2)], 17),
        ("y = Expand(a, b)", [normal(3, 1), whole(2, 1, 4)], 17),
        ("y = Tile(a, b)", [normal(2, 3), whole(2, 3)], 17),
        ("y = Pad(a, b, c)", [X, whole(0, 1, 2, 0, 0, 0, -1, 3), number(0.5)], 17),
        ("y = Pad(a, b, , c)", [X, whole(1, 2, 2, 1), whole(-1, 2)], 18),
        ('y = Pad<mode="reflect", pads=[0,0,1,2,0,0,3,0]>(a)', [X], 10),
        ('y = Pad<mode="edge">(a, b)', [X, whole(0, 1, 2, 0, 1, 0, 0, 3)], 17),
        ("y = Shape(a)", [X], 17),
        ("y = Shape<start=1, end=-1>(a)", [X], 17),
        ("y = Size(a)", [X], 17),
        ("y = ConstantOfShape<value=int64[1] {3}>(a)", [whole(2, 3)], 17),
        ("y = ConstantOfShape(a)", [whole(2, 3)], 17),
        ("y = Range(a, b, c)", [number(1, np.int64), number(9, np.int64), number(3, np.int64)], 17),
        ("y = Constant<value=float[2] {1, 2}>()", [], 17),
        ("y = Constant<value_ints=[1,2]>()", [], 17),
        ("y = Constant<value_float=1.5>()", [], 17),
        ("y = DepthToSpace<blocksize=2>(a)", [normal(1, 8, 2, 3)], 17),
        ('y = DepthToSpace<blocksize=2, mode="CRD">(a)', [normal(1, 8, 2, 3)], 17),
        ("y = SpaceToDepth<blocksize=2>(a)", [X], 17),
        ("y = Trilu(a, b)", [normal(4, 5), number(1, np.int64)], 17),
        ("y = Trilu<upper=0>(a)", [normal(4, 5)], 17),
        ("y = NonZero(a)", [np.float32([[0, 1], [2, 0]])], 17),
    ]


def _resizing() -> list[Row]:
    up, down = np.float32([1, 1, 2, 1.5]), np.float32([1, 1, 0.5, 0.7])
    modes = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    rows: list[Row] = []
    for mode in modes:
        where = f'coordinate_transformation_mode="{mode}"'
        rows += [(f'y = Resize<mode="{kind}", {where}>(a, , b)', [X, up], 17) for kind in ("linear", "cubic")]
        rows.append((f'y = Resize<mode="linear", {where}>(a, , b)', [X, down], 17))
    for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        rows.append((f'y = Resize<nearest_mode="{mode}">(a, , b)', [X, up], 17))
    half = 'coordinate_transformation_mode="half_pixel_symmetric"'
    return [
        *rows,
        ('y = Resize<mode="linear">(a, , , b)', [X, whole(2, 4, 9, 4)], 17),
        (f'y = Resize<mode="linear", {half}>(a, , b)', [X, np.float32([1, 1, 1.3, 1.3])], 19),
        ('y = Resize<mode="linear", axes=[2,3]>(a, , b)', [X, np.float32([2, 2])], 18),
        ("y = Resize(a, b)", [X, np.float32([1, 1, 2, 2])], 10),
        ("y = Upsample(a, b)", [X, np.float32([1, 1, 2, 2])], 9),
    ]


def _recurrent() -> list[Row]:
    x = normal(5, 2, 3)

    def weights(gates: int, directions: int) -> list[Array]:
        return [normal(directions, gates * 4, 3), normal(directions, gates * 4, 4), normal(directions, gates * 8)]

    both = 'direction="bidirectional"'
    start = normal(2, 2, 4)
    return [
        ("y, z, q = LSTM<hidden_size=4>(a, b, c, d)", [x, *weights(4, 1)], 17),
        (
            f"y, z, q = LSTM<hidden_size=4, {both}>(a, b, c, d, , e, f)",
            [x, *weights(4, 2), start, normal(2, 2, 4)],
            17,
        ),
        ('y, z = GRU<hidden_size=4, direction="reverse">(a, b, c, d)', [x, *weights(3, 1)], 17),
        ("y, z = GRU<hidden_size=4, linear_before_reset=1>(a, b, c)", [x, *weights(3, 1)[:2]], 17),
        (
            f"y, z = GRU<hidden_size=4, linear_before_reset=1, {both}>(a, b, c, d, , e)",
            [x, *weights(3, 2), start],
            17,
        ),
        ("y, z = RNN<hidden_size=4>(a, b, c, d)", [x, *weights(1, 1)], 17),
    ]


ROWS: list[Row] = [
    *_unary(),
    *_binary(),
    *_windows(),
    *_products(),
    *_moving(),
    *_resizing(),
    *_recurrent(),
]
