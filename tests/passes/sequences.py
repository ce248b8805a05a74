"""Small networks over sequences: recurrent ones, and transformers with the wiring of well-known ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from passes.architectures import Net

from infopt.model import Model

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TOKENS, WIDTH = 9, 16


class Sequence(Net):
    """Writes a graph over (batch, tokens, features), or (tokens, batch, features) for recurrent layers."""

    def __init__(self, *shape: int | str, width: int, dtype: int = TensorProto.FLOAT, opset: int = 20) -> None:
        super().__init__(*shape, width=width, dtype=dtype)
        self.inputs, self.opset = [self.input], opset

    def state(self, name: str, *shape: int | str) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.width[name] = int(shape[-1])
        return name

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def recurrent(self, kind: str, x: str, units: int, ways: int = 1, extra: Any = (), **attributes: Any) -> Any:
        """Y, Y_h and, of an LSTM, Y_c; ``extra`` are the inputs from sequence_lens on."""
        rows = GATES[kind] * units
        weights = [self.weight(ways, rows, self.width[x]), self.weight(ways, rows, units), self.weight(ways, 2 * rows)]
        direction = {1: "forward", 2: "bidirectional"}[ways]
        settings = {"direction": direction, **attributes}
        outputs = 3 if kind == "LSTM" else 2
        return self.op(kind, x, *weights, *extra, width=units, outputs=outputs, hidden_size=units, **settings)

    def flat(self, y: str, ways: int = 1) -> str:
        """States of all steps as (tokens, batch, features)."""
        if ways == 1:
            return str(self.op("Squeeze", y, self.ints(1)))
        units = self.width[y]
        return self.reshape(self.turn(y, 0, 2, 1, 3), 0, 0, ways * units, width=ways * units)

    def heads(self, x: str, heads: int, out: int, tokens: int = TOKENS) -> str:
        """A product of its own, as (batch, heads, tokens, features)."""
        return self.turn(self.reshape(self.linear(x, out), -1, tokens, heads, out // heads, width=out), 0, 2, 1, 3)

    def mixed(self, q: str, k: str, v: str, out: int, bias: str = "", tokens: int = TOKENS) -> str:
        scores = self.op("MatMul", q, self.turn(k, 0, 1, 3, 2))
        scores = self.op("Add", scores, bias) if bias else scores
        mixed = self.turn(self.op("MatMul", self.op("Softmax", scores, axis=-1), v), 0, 2, 1, 3)
        return self.linear(self.reshape(mixed, -1, tokens, out, width=out), self.width["x"])

    def fused(self, kind: str, *inputs: str, width: int, outputs: int = 1, **attributes: Any) -> Any:
        return self.op(kind, *inputs, width=width, outputs=outputs, domain="com.microsoft", **attributes)

    def model(self, *outputs: str) -> Model:
        sized = dict.fromkeys(outputs, ("N", TOKENS, None)) if any(node.domain for node in self.nodes) else {}
        made = [helper.make_empty_tensor_value_info(name) for name in outputs if name not in sized]
        made += [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sized.items()]
        graph = helper.make_graph(self.nodes, "g", self.inputs, made, self.weights)
        sets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        proto = helper.make_model(graph, ir_version=11, opset_imports=sets)
        proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        onnx.checker.check_model(proto)
        return Model(ir.from_proto(proto), Path("model.onnx"))


def steps(width: int = 8) -> Sequence:
    return Sequence(TOKENS, "N", width, width=width)


def tokens(opset: int = 20) -> Sequence:
    return Sequence("N", TOKENS, WIDTH, width=WIDTH, opset=opset)


def stacked_lstm() -> Model:
    """Two layers, as an exporter writes them; each unit of the first is read by the second alone."""
    net = steps()
    one = net.flat(net.recurrent("LSTM", "x", 12)[0])
    return net.model(net.linear(net.flat(net.recurrent("LSTM", one, 10)[0]), 3))


def bidirectional_gru() -> Model:
    net = steps()
    one = net.flat(net.recurrent("GRU", "x", 12, 2, linear_before_reset=1)[0], 2)
    return net.model(net.linear(net.flat(net.recurrent("GRU", one, 10, 2)[0], 2), 3))


def rnn_of_last_states() -> Model:
    """The last states of both directions side by side."""
    net = steps()
    last = net.recurrent("RNN", "x", 12, 2)[1]
    parts = [net.op("Gather", last, net.constant(np.int64(i)), axis=0) for i in (0, 1)]
    return net.model(net.gemm(net.concat(*parts), 3))


def lstm_with_peepholes() -> Model:
    """Peepholes, lengths, and initial states that are made of a shape as exporters do."""
    net = steps()
    batch = net.op("Gather", net.op("Shape", "x"), net.ints(1), axis=0)
    half = numpy_helper.from_array(np.array([0.5], np.float32))
    begun = net.op("ConstantOfShape", net.op("Concat", net.ints(1), batch, net.ints(12), axis=0), value=half)
    lengths = net.op("Expand", net.constant(np.array([5], np.int32)), batch)
    y, _, cells = net.recurrent("LSTM", "x", 12, 1, [lengths, begun, begun, net.weight(1, 36)], clip=2.0)
    both = net.op("Add", net.flat(y), net.op("Expand", cells, net.ints(TOKENS, 1, 12)))
    return net.model(net.linear(both, 3))


def residual_lstm() -> Model:
    net = steps()
    x = net.linear("x", 12)
    for _ in range(2):
        x = net.op("Add", x, net.flat(net.recurrent("LSTM", x, 12)[0]))
    return net.model(net.linear(x, 3))


def encoder_decoder() -> Model:
    """The states of one layer begin those of another."""
    net = steps()
    _, hidden, cell = net.recurrent("LSTM", "x", 12)
    y = net.recurrent("LSTM", "x", 12, 1, ["", hidden, cell])[0]
    return net.model(net.linear(net.flat(y), 3))


def conv_recurrent() -> Model:
    """Convolutions before and behind a recurrent layer, as in speech and text recognition."""
    net = Sequence("N", 3, 6, TOKENS, width=3)
    x = net.act(net.conv("x", 8))
    x = net.turn(net.reshape(x, -1, 48, TOKENS, width=48), 2, 0, 1)
    y = net.turn(net.flat(net.recurrent("LSTM", x, 12, 2)[0], 2), 1, 2, 0)
    return net.model(net.op("Conv", net.act(y), net.weight(4, 24, 3), kernel_shape=[3]))


def grouped_query() -> Model:
    """Two query heads to each head of keys and values, repeated by Expand; one of both by an index."""
    net = tokens()
    q, k, v = net.heads("x", 8, 32), net.heads("x", 4, WIDTH), net.heads("x", 4, WIDTH)
    wide = net.op("Expand", net.op("Unsqueeze", k, net.ints(2)), net.ints(1, 1, 2, 1, 1))
    k = net.reshape(wide, -1, 8, TOKENS, 4, width=32)
    v = net.op("Gather", v, net.ints(*np.repeat(np.arange(4), 2)), axis=1)
    return net.model(net.op("Add", "x", net.mixed(q, k, v, 32)))


def tiled_query() -> Model:
    net = tokens()
    q = net.heads("x", 8, 32)
    k, v = (net.op("Tile", net.heads("x", 4, WIDTH), net.ints(1, 2, 1, 1)) for _ in range(2))
    return net.model(net.op("Add", "x", net.mixed(q, k, v, 32)))


def multi_query() -> Model:
    """All heads share the same keys and values: one copied by Tile, one by broadcasting."""
    net = tokens()
    q, k, v = net.heads("x", 8, 32), net.heads("x", 1, 4), net.heads("x", 1, 4)
    return net.model(net.op("Add", "x", net.mixed(q, net.op("Tile", k, net.ints(1, 8, 1, 1)), v, 32)))


def llama() -> Model:
    """RMS normalization as exporters write it, queries and keys turned by halves, a gated MLP of one product."""
    net = tokens()
    x = net.op("Add", "x", rotated_attention(net, rms(net, "x")))
    gate, up = net.split(net.op("MatMul", rms(net, x), net.weight(WIDTH, 48), width=48), 2, axis=2)
    return net.model(net.op("Add", x, net.linear(net.op("Mul", net.act(gate, "Silu"), up), WIDTH)))


def rms(net: Sequence, x: str) -> str:
    square = net.op("ReduceMean", net.op("Pow", x, net.constant(np.float32(2))), net.ints(-1), keepdims=1)
    root = net.op("Sqrt", net.op("Add", square, net.constant(np.float32(1e-5))))
    return str(net.op("Mul", net.vector(WIDTH), net.op("Mul", x, net.op("Reciprocal", root))))


def rotated_attention(net: Sequence, x: str) -> str:
    cosines = net.constant(np.cos(np.arange(TOKENS * 4, dtype=np.float32)).reshape(1, 1, TOKENS, 4))
    mask = net.constant(np.tril(np.ones((1, 1, TOKENS, TOKENS), bool)))

    def turned(y: str) -> str:
        halves = [
            net.op("Slice", y, *(net.ints(n) for n in (a, b, 3, 1))) for a, b in ((0, 2), (2, np.iinfo(np.int64).max))
        ]
        other = net.op("Concat", net.op("Neg", halves[1]), halves[0], axis=-1)
        return str(net.op("Add", net.op("Mul", y, cosines), net.op("Mul", other, cosines)))

    packed = net.op("MatMul", x, net.weight(WIDTH, 48), width=48)
    parts = [net.op("Slice", packed, *(net.ints(n) for n in (a, a + 16, 2)), width=16) for a in (0, 16, 32)]
    q, k, v = (net.turn(net.reshape(part, -1, TOKENS, 4, 4, width=16), 0, 2, 1, 3) for part in parts)
    scores = net.op("MatMul", turned(q), net.turn(turned(k), 0, 1, 3, 2))
    hidden = net.op("Where", mask, scores, net.constant(np.float32(-1e9)))
    y = net.turn(net.op("MatMul", net.op("Softmax", hidden, axis=-1), v), 0, 2, 1, 3)
    return net.linear(net.reshape(y, -1, TOKENS, 16, width=16), WIDTH)


def gpt_per_head() -> Model:
    """Queries, keys and values side by side in each head, and a mask cut out of a longer one."""
    net = tokens()
    packed = net.turn(net.reshape(net.linear("x", 48), -1, TOKENS, 4, 12, width=16), 0, 2, 1, 3)
    q, k, v = net.op("Split", packed, net.ints(4, 4, 4), outputs=3, axis=-1, width=16)
    full = net.constant(np.triu(np.full((1, 1, 12, 12), -1e4, np.float32), 1))
    mask = net.op("Slice", full, net.ints(0, 0), net.ints(TOKENS, TOKENS), net.ints(2, 3))
    return net.model(net.op("Add", "x", net.mixed(q, k, v, WIDTH, mask)))


def cross_attention() -> Model:
    net = tokens()
    memory = net.state("memory", "N", 5, 12)
    q, k, v = net.heads("x", 4, 16), net.heads(memory, 4, 16, 5), net.heads(memory, 4, 16, 5)
    return net.model(net.op("Add", "x", net.mixed(q, k, v, 16)))


def swin_bias() -> Model:
    """Windows of shifted maps, with a mask for each window and a table of biases by relative position."""
    net = Sequence("N", 8, 8, 16, width=16)
    windows = net.turn(net.reshape(net.norm("x"), -1, 2, 4, 2, 4, 16), 0, 1, 3, 2, 4, 5)
    x = net.reshape(windows, -1, 16, 16, width=16)
    q, k, v = (net.heads(x, 4, 16, 16) for _ in range(3))
    places = net.constant(np.random.default_rng(0).integers(0, 49, 256))
    table = net.turn(net.reshape(net.op("Gather", net.weight(49, 4), places, axis=0), 16, 16, 4), 2, 0, 1)
    scores = net.op("Add", net.op("MatMul", q, net.turn(k, 0, 1, 3, 2)), net.op("Unsqueeze", table, net.ints(0)))
    mask = net.constant(np.where(np.random.default_rng(1).random((1, 4, 1, 16, 16)) < 0.3, -1e2, 0).astype(np.float32))
    scores = net.op("Add", net.reshape(scores, -1, 4, 4, 16, 16), mask)
    scores = net.op("Softmax", net.reshape(scores, -1, 4, 16, 16), axis=-1)
    y = net.linear(net.reshape(net.turn(net.op("MatMul", scores, v), 0, 2, 1, 3), -1, 16, 16, width=16), 16)
    back = net.turn(net.reshape(y, -1, 2, 2, 4, 4, 16), 0, 1, 3, 2, 4, 5)
    return net.model(net.op("Add", "x", net.reshape(back, -1, 8, 8, 16, width=16)))


def einsum_attention() -> Model:
    net = tokens()
    q, k, v = (net.reshape(net.linear("x", 16), -1, TOKENS, 4, 4, width=16) for _ in range(3))
    scores = net.op("Softmax", net.op("Einsum", q, k, equation="bqhd,bkhd->bhqk"), axis=-1)
    y = net.op("Einsum", scores, v, equation="bhqk,bkhd->bqhd")
    return net.model(net.op("Einsum", y, net.weight(4, 4, 16), equation="bqhd,hdo->bqo"))


def geglu() -> Model:
    """Halves cut out by Slice, in a product of a flattened batch as GPT-2 has it."""
    net = tokens()
    wide = net.reshape(net.gemm(net.reshape("x", -1, 16, width=16), 48), -1, TOKENS, 48, width=48)
    ends = ((0, 24), (24, np.iinfo(np.int64).max))
    up, gate = (net.op("Slice", wide, *(net.ints(n) for n in (a, b, -1)), width=24) for a, b in ends)
    inner = net.op("Mul", up, net.act(gate, "Gelu"))
    return net.model(net.op("Add", "x", net.linear(inner, 16)))


def attention_of_three_axes() -> Model:
    """Tokens first, the batch free and joined with the heads, as PyTorch's own multi-head attention is exported."""
    net = Sequence(TOKENS, "N", WIDTH, width=WIDTH)
    batch = net.op("Gather", net.op("Shape", "x"), net.ints(1), axis=0)
    joined = net.op("Concat", net.ints(TOKENS), net.op("Mul", batch, net.ints(4)), net.ints(4), axis=0)
    apart = net.op("Concat", batch, net.ints(4, TOKENS, 4), axis=0)
    q, k, v = (net.turn(net.op("Reshape", net.linear("x", 16), joined, width=16), 1, 0, 2) for _ in range(3))
    q, k, v = (net.op("Reshape", part, apart, width=16) for part in (q, k, v))
    scores = net.op("Softmax", net.op("MatMul", q, net.turn(k, 0, 1, 3, 2)), axis=-1)
    y = net.turn(net.op("MatMul", scores, v), 2, 0, 1, 3)
    return net.model(net.gemm(net.reshape(y, -1, 16, width=16), 16))


def single_head() -> Model:
    net = tokens()
    q, k, v = (net.op("MatMul", "x", net.weight(16, 16), width=16) for _ in range(3))
    scores = net.op("Softmax", net.op("MatMul", q, net.turn(k, 0, 2, 1)), axis=-1)
    return net.model(net.linear(net.op("MatMul", scores, v), 16))


def operator_attention() -> Model:
    """Attention and normalization of operator set 23, of three axes, keys and values shared by two heads each."""
    net = tokens(23)
    x = net.op("RMSNormalization", "x", net.vector(16), axis=-1)
    q, k, v = net.linear(x, 32), net.linear(x, 16), net.linear(x, 16)
    caches = [net.constant(np.cos(np.arange(18, dtype=np.float32)).reshape(1, 9, 2).repeat(1, 0)) for _ in range(2)]
    batched = [net.op("Expand", c, net.op("Concat", batch_of(net), net.ints(1, 1), axis=0)) for c in caches]
    q, k = (net.op("RotaryEmbedding", y, *batched, num_heads=n) for y, n in ((q, 8), (k, 4)))
    y = net.op("Attention", q, k, v, q_num_heads=8, kv_num_heads=4, is_causal=1, width=32)
    return net.model(net.op("Add", "x", net.linear(y, 16)))


def batch_of(net: Sequence) -> str:
    return str(net.op("Gather", net.op("Shape", "x"), net.ints(0), axis=0))


def operator_attention_of_heads() -> Model:
    """The same of four axes; all heads share keys and values, and have a mask each."""
    net = tokens(23)
    q, k, v = net.heads("x", 8, 32), net.heads("x", 1, 4), net.heads("x", 1, 4)
    y = net.turn(net.op("Attention", q, k, v, net.weight(8, TOKENS, TOKENS)), 0, 2, 1, 3)
    return net.model(net.op("Add", "x", net.linear(net.reshape(y, -1, TOKENS, 32, width=32), 16)))


def fused_bert() -> Model:
    """As ONNX Runtime writes a layer of BERT."""
    net = tokens()
    inner = net.fused("FusedMatMul", "x", net.weight(24, WIDTH), width=24, transB=1)
    x = net.linear(net.fused("BiasGelu", inner, net.weight(24), width=24), 20)
    y = net.fused("Attention", x, net.weight(20, 48), net.weight(48), width=16, num_heads=4)
    norm = [net.vector(16), net.vector(16)]
    z = net.fused("SkipLayerNormalization", net.linear(y, 16), "x", *norm, width=16)
    z = net.fused("SkipLayerNormalization", net.linear(net.act(net.linear(z, 24), "Gelu"), 16), z, *norm, width=16)
    return net.model(net.linear(z, 3))


def fused_multi_head() -> Model:
    """MultiHeadAttention with a bias for all of queries, keys and values, and one of the scores for each head."""
    net = tokens()
    q, k, v = (net.op("MatMul", "x", net.weight(16, n), width=n) for n in (16, 16, 24))
    bias, scores = net.weight(56), net.weight(1, 4, TOKENS, TOKENS)
    y = net.fused("MultiHeadAttention", q, k, v, bias, "", scores, width=24, num_heads=4)
    x = net.linear(y, 16)
    k, v = net.heads(x, 4, 16), net.heads(x, 4, 16)
    y = net.fused("MultiHeadAttention", net.linear(x, 16), k, v, width=16, num_heads=4)
    return net.model(net.linear(y, 16))


def fused_grouped_query() -> Model:
    """GroupQueryAttention with what it reads packed into one product, and rotary embeddings of its own."""
    net = tokens()
    lengths = net.op("Expand", net.constant(np.array([TOKENS - 1], np.int32)), batch_of(net))
    caches = [net.constant(np.cos(np.arange(72, dtype=np.float32)).reshape(TOKENS, 8)) for _ in range(2)]
    rest = [lengths, net.constant(np.array(TOKENS, np.int32)), *caches]
    settings = {"num_heads": 8, "kv_num_heads": 4, "do_rotary": 1}
    y = net.fused("GroupQueryAttention", net.linear("x", 256), "", "", "", "", *rest, width=128, outputs=3, **settings)
    return net.model(net.linear(y[0], 16))


SEQUENCES: dict[str, Callable[[], Model]] = {
    function.__name__: function
    for function in (
        *(stacked_lstm, bidirectional_gru, rnn_of_last_states, lstm_with_peepholes, residual_lstm, encoder_decoder),
        *(conv_recurrent, grouped_query, tiled_query, multi_query, llama, gpt_per_head, cross_attention, swin_bias),
        *(
            attention_of_three_axes,
            einsum_attention,
            geglu,
            single_head,
            operator_attention,
            operator_attention_of_heads,
            fused_bert,
        ),
        *(fused_multi_head, fused_grouped_query),
    )
}
