"""LSTM, GRU and RNN, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch
from torch import Tensor

from infopt_passes.prune.distill.operators.call import Call, Function, Limit

Step = Callable[[Tensor, list[Tensor], Tensor, Tensor], list[Tensor]]
"""Takes what the inputs of one time give, the states, the recurrent weights and their biases; gives the new states, of
which the first is the output."""


def _lstm(call: Call, *inputs: Tensor | None) -> list[Tensor]:
    def step(given: Tensor, states: list[Tensor], recurrent: Tensor, bias: Tensor) -> list[Tensor]:
        i, o, f, g = (given + states[0] @ recurrent.t() + bias).chunk(4, -1)
        cell = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
        return [torch.sigmoid(o) * torch.tanh(cell), cell]

    return _run(call, inputs, 2, step)


def _gru(call: Call, *inputs: Tensor | None) -> list[Tensor]:
    linear = bool(call.get("linear_before_reset", 0))

    def step(given: Tensor, states: list[Tensor], recurrent: Tensor, bias: Tensor) -> list[Tensor]:
        state, size = states[0], recurrent.shape[-1]
        gates = given[..., : 2 * size] + state @ recurrent[: 2 * size].t() + bias[: 2 * size]
        z, reset = torch.sigmoid(gates).chunk(2, -1)
        last, own = recurrent[2 * size :].t(), bias[2 * size :]
        past = reset * (state @ last + own) if linear else (reset * state) @ last + own
        return [(1 - z) * torch.tanh(given[..., 2 * size :] + past) + z * state]

    return _run(call, inputs, 1, step)


def _rnn(call: Call, *inputs: Tensor | None) -> list[Tensor]:
    def step(given: Tensor, states: list[Tensor], recurrent: Tensor, bias: Tensor) -> list[Tensor]:
        return [torch.tanh(given + states[0] @ recurrent.t() + bias)]

    return _run(call, inputs, 1, step)


def _run(call: Call, inputs: Sequence[Tensor | None], kept: int, step: Step) -> list[Tensor]:
    """All times and directions: the outputs of shape (time, directions, batch, units), then the last states."""
    given = [*inputs, *[None] * (7 - len(inputs))]
    (x, w, r, b), starts = given[:4], given[5 : 5 + kept]
    assert x is not None
    assert w is not None
    assert r is not None
    width, shape = w.shape[1], (x.shape[1], r.shape[-1])
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    outputs, finals = [], []
    for number, backwards in enumerate(directions[call.get("direction", "forward")]):
        bias = w.new_zeros(2 * width) if b is None else b[number]
        products = x @ w[number].t() + bias[:width]
        states = [x.new_zeros(shape) if start is None else start[number] for start in starts]
        made: list[Tensor] = []
        for at in reversed(range(len(x))) if backwards else range(len(x)):
            states = step(products[at], states, r[number], bias[width:])
            made.append(states[0])
        outputs.append(torch.stack(made[::-1] if backwards else made))
        finals.append(states)
    return [torch.stack(outputs, 1), *(torch.stack(parts) for parts in zip(*finals, strict=True))]


def _limit(node: ir.Node) -> str | None:
    """What is not known: sequences of unequal length, other activations, clipping, peepholes, batch first."""
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        return "with sequence lengths"
    if len(node.inputs) > 7 and node.inputs[7] is not None:
        return "with peepholes"
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[node.op_type]
    given = node.attributes.get("activations")
    if given is not None and list(given.value) not in (usual, usual * 2):
        return f"with activations {', '.join(given.value)}"
    odd = [name for name in ("clip", "layout", "input_forget") if name in node.attributes]
    return next((f"with {name}" for name in odd if node.attributes[name].value), None)


RECURRENT: dict[str, Function] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}

LIMITS: dict[str, Limit] = dict.fromkeys(RECURRENT, _limit)
