"""Operators that compute each element by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from infopt_passes.prune.distill.operators.call import Call, Function, Limit, dtype_of, unknown_type


def plain(function: Callable[..., Tensor]) -> Function:
    """An operator that has no attributes and is a function of torch."""
    return lambda call, *inputs: function(*inputs)


def many(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """An operator of any number of inputs that is one of two."""
    return lambda call, *inputs: reduce(function, inputs)


def _leaky(call: Call, x: Tensor) -> Tensor:
    return F.leaky_relu(x, call.get("alpha", 0.01))


def _elu(call: Call, x: Tensor) -> Tensor:
    return F.elu(x, call.get("alpha", 1.0))


def _celu(call: Call, x: Tensor) -> Tensor:
    return F.celu(x, call.get("alpha", 1.0))


def _selu(call: Call, x: Tensor) -> Tensor:
    alpha, gamma = call.get("alpha", 1.67326319217681884765625), call.get("gamma", 1.05070102214813232421875)
    result: Tensor = gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))
    return result


def _hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    line: Tensor = call.get("alpha", 0.2) * x + call.get("beta", 0.5)
    return line.clamp(0, 1)


def _swish(call: Call, x: Tensor) -> Tensor:
    return x * torch.sigmoid(call.get("alpha", 1.0) * x)


def _thresholded(call: Call, x: Tensor) -> Tensor:
    return torch.where(x > call.get("alpha", 1.0), x, torch.zeros_like(x))


def _gelu(call: Call, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=call.get("approximate", "none"))


def _prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _clip(call: Call, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    lowest: Any = call.get("min") if low is None else low
    highest: Any = call.get("max") if high is None else high
    return x if lowest is None and highest is None else torch.clamp(x, lowest, highest)


def _divided(call: Call, x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


def _power(call: Call, x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y).to(x.dtype)


def _mod(call: Call, x: Tensor, y: Tensor) -> Tensor:
    return torch.fmod(x, y) if call.get("fmod", 0) else torch.remainder(x, y)


def _cast(call: Call, x: Tensor) -> Tensor:
    return x.to(dtype_of(call.get("to")))


def _mean(call: Call, *inputs: Tensor) -> Tensor:
    return reduce(torch.add, inputs) / len(inputs)


def _training(node: ir.Node) -> str | None:
    """A limit: a Dropout that is, or may be, in training mode."""
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = mode.const_value if mode is not None else None
    return None if mode is None or (tensor is not None and not tensor.numpy().any()) else "in training mode"


ELEMENTWISE: dict[str, Function] = {
    "Relu": plain(torch.relu),
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "Celu": _celu,
    "Selu": _selu,
    "Sigmoid": plain(torch.sigmoid),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": plain(F.hardswish),
    "Swish": _swish,
    "Mish": plain(F.mish),
    "Softplus": plain(F.softplus),
    "Softsign": plain(F.softsign),
    "ThresholdedRelu": _thresholded,
    "Gelu": _gelu,
    "PRelu": _prelu,
    "Tanh": plain(torch.tanh),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Log": plain(torch.log),
    "Sqrt": plain(torch.sqrt),
    "Reciprocal": plain(torch.reciprocal),
    "Neg": plain(torch.neg),
    "Abs": plain(torch.abs),
    "Floor": plain(torch.floor),
    "Ceil": plain(torch.ceil),
    "Round": plain(torch.round),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Cos": plain(torch.cos),
    "Not": plain(torch.logical_not),
    "IsNaN": plain(torch.isnan),
    "Identity": plain(lambda x: x),
    "Dropout": plain(lambda x, *rest: x),
    "Cast": _cast,
    "CastLike": plain(lambda x, like: x.to(like.dtype)),
    "Clip": _clip,
    "Add": plain(torch.add),
    "Sub": plain(torch.sub),
    "Mul": plain(torch.mul),
    "Div": _divided,
    "Pow": _power,
    "Mod": _mod,
    "Equal": plain(torch.eq),
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "And": plain(torch.logical_and),
    "Or": plain(torch.logical_or),
    "Xor": plain(torch.logical_xor),
    "Where": plain(torch.where),
    "Max": many(torch.maximum),
    "Min": many(torch.minimum),
    "Sum": many(torch.add),
    "Mean": _mean,
}

LIMITS: dict[str, Limit] = {
    "Cast": unknown_type,
    "Dropout": _training,
}
