"""Products, normalizations and reductions."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from infopt_passes.prune.distill.operators.call import Call, Function, Limit, one_output, without


def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    left = a.t() if call.get("transA", 0) else a
    right = b.t() if call.get("transB", 0) else b
    product = left @ right
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


def _einsum(call: Call, *inputs: Tensor) -> Tensor:
    return torch.einsum(call.get("equation"), *inputs)


def _batch_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    # By hand: torch's own wants no gradient-free running statistics of another type, and x may have any rank.
    shape = (1, -1) + (1,) * (x.dim() - 2)
    factor = scale * torch.rsqrt(var + call.get("epsilon", 1e-5))
    return x * factor.view(shape) + (bias - mean * factor).view(shape)


def _per_channel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return x * scale.view(shape) + bias.view(shape)


def _instance_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, tuple(range(2, x.dim())), unbiased=False, keepdim=True)
    return _per_channel((x - mean) * torch.rsqrt(var + call.get("epsilon", 1e-5)), scale, bias)


def _group_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = call.get("num_groups")
    normal = F.group_norm(x, groups, eps=call.get("epsilon", 1e-5))
    each = 1 if call.opset >= 21 else x.shape[1] // groups
    return _per_channel(normal, scale.repeat_interleave(each), bias.repeat_interleave(each))


def _layer_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape, eps = x.shape[call.get("axis", -1) :], call.get("epsilon", 1e-5)
    if scale.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, shape, scale, bias, eps)
    normal = F.layer_norm(x, shape, eps=eps) * scale
    return normal if bias is None else normal + bias


def _rms_norm(call: Call, x: Tensor, scale: Tensor) -> Tensor:
    axis = call.get("axis", -1)
    axes = tuple(range(axis % x.dim(), x.dim()))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + call.get("epsilon", 1e-5)) * scale


def _lp_norm(call: Call, x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, call.get("p", 2), call.get("axis", -1), keepdim=True)
    return x / norm


def _lrn(call: Call, x: Tensor) -> Tensor:
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    return F.local_response_norm(x, call.get("size"), alpha, beta, bias)


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Function:
    def result(call: Call, x: Tensor) -> Tensor:
        if call.opset >= 13:
            return function(x, call.get("axis", -1))
        axis = call.get("axis", 1) % max(x.dim(), 1)
        return function(x.flatten(axis), -1).view(x.shape)

    return result


def _reduced(function: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Function:
    def result(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
        wanted = call.numbers("axes", axes)
        if not wanted and call.get("noop_with_empty_axes", 0):
            return x
        every = tuple(axis % x.dim() for axis in wanted) if wanted else tuple(range(x.dim()))
        return function(x, every, bool(call.get("keepdims", 1))) if every else x

    return result


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _place(function: Callable[..., Tensor]) -> Function:
    def result(call: Call, x: Tensor) -> Tensor:
        return function(x, call.get("axis", 0), keepdim=bool(call.get("keepdims", 1)))

    return result


def _top(call: Call, x: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
    wanted = call.get("k") if count is None else int(count)
    values, places = torch.topk(
        x, wanted, call.get("axis", -1), bool(call.get("largest", 1)), bool(call.get("sorted", 1))
    )
    return values, places


def _cumulated(call: Call, x: Tensor, axis: Tensor) -> Tensor:
    along = int(axis)
    data = x.flip(along) if call.get("reverse", 0) else x
    total = torch.cumsum(data, along)
    total = total - data if call.get("exclusive", 0) else total
    return (total.flip(along) if call.get("reverse", 0) else total).to(x.dtype)


PRODUCTS: dict[str, Function] = {
    "Gemm": _gemm,
    "MatMul": lambda call, a, b: torch.matmul(a, b),
    "Einsum": _einsum,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "LpNormalization": _lp_norm,
    "LRN": _lrn,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keepdim=keep).to(x.dtype)),
    "ReduceMax": _reduced(lambda x, axes, keep: torch.amax(x, axes, keepdim=keep)),
    "ReduceMin": _reduced(lambda x, axes, keep: torch.amin(x, axes, keepdim=keep)),
    "ReduceProd": _reduced(_product),
    "ReduceL1": _reduced(lambda x, axes, keep: x.abs().sum(axes, keepdim=keep)),
    "ReduceL2": _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep)),
    "ReduceSumSquare": _reduced(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
    "ReduceLogSum": _reduced(lambda x, axes, keep: x.sum(axes, keepdim=keep).log()),
    "ReduceLogSumExp": _reduced(lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep)),
    "ArgMax": _place(torch.argmax),
    "ArgMin": _place(torch.argmin),
    "TopK": _top,
    "CumSum": _cumulated,
}


def _even(node: ir.Node) -> str | None:
    size = node.attributes.get_int("size", 1) or 1
    return f"of {size} channels, an even number" if size % 2 == 0 else None


LIMITS: dict[str, Limit] = {
    "BatchNormalization": without(training_mode=0, spatial=1),
    "LayerNormalization": one_output,
    "LRN": _even,
    "ArgMax": without(select_last_index=0),
    "ArgMin": without(select_last_index=0),
}
