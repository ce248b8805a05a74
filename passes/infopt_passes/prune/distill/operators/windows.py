"""Convolutions and pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from infopt_passes.prune.distill.operators.call import Call, Function, Limit, one_output, without

CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = x.dim() - 2
    strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
    begin, end = pads(call, list(x.shape[2:]), list(weight.shape[2:]), strides, dilations)
    even = list(begin) == list(end)
    data = x if even else padded(x, begin, end)
    padding = begin if even else [0] * rank
    result: Tensor = CONVS[rank](data, weight, bias, strides, padding, dilations, call.get("group", 1))
    return result


def _transposed(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = x.dim() - 2
    strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
    extra = call.get("output_padding", [0] * rank)
    whole: Tensor = TRANSPOSED[rank](x, weight, bias, strides, 0, extra, call.get("group", 1), dilations)
    wanted = call.get("output_shape")
    given = call.get("pads", [0] * (2 * rank))
    begin, end = given[:rank], given[rank:]
    automatic = call.get("auto_pad", "NOTSET")
    if wanted is None and automatic.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if wanted is not None:
        over = [size - want for size, want in zip(whole.shape[2:], wanted[-rank:], strict=True)]
        upper = automatic == "SAME_UPPER"
        begin = [each // 2 if upper else each - each // 2 for each in over]
        end = [each - first for each, first in zip(over, begin, strict=True)]
    return padded(whole, [-each for each in begin], [-each for each in end])


def _max_pool(call: Call, x: Tensor) -> Tensor:
    kernel, strides, dilations, begin, end = _window(call, x)
    result: Tensor = MAXIMA[len(kernel)](padded(x, begin, end, float("-inf")), kernel, strides, 0, dilations)
    return result


def _average_pool(call: Call, x: Tensor) -> Tensor:
    kernel, strides, _, begin, end = _window(call, x)
    pool = AVERAGES[len(kernel)]
    result: Tensor = pool(padded(x, begin, end), kernel, strides)
    if not any(begin) and not any(end):
        return result
    counted = x.new_ones((1, 1, *x.shape[2:]))
    if call.get("count_include_pad", 0):
        ones = [1] * len(kernel)
        before, after = pads(call, list(x.shape[2:]), kernel, strides, ones)
        counted = padded(counted, before, after, 1.0)
        begin = [0] * len(kernel)
        end = [whole - size for whole, size in zip(_sizes(x, *_window(call, x)[3:]), counted.shape[2:], strict=True)]
    share: Tensor = pool(padded(counted, begin, end), kernel, strides)
    return result / share


def _sizes(x: Tensor, begin: list[int], end: list[int]) -> list[int]:
    return [size + one + other for size, one, other in zip(x.shape[2:], begin, end, strict=True)]


def _window(call: Call, x: Tensor) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations and padding with which every window is whole."""
    kernel = call.get("kernel_shape")
    ones = [1] * len(kernel)
    strides, dilations = call.get("strides", ones), call.get("dilations", ones)
    sizes = list(x.shape[2:])
    begin, end = pads(call, sizes, kernel, strides, dilations)
    for axis, (size, width, stride, dilation) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        reach = dilation * (width - 1) + 1
        free = size + begin[axis] + end[axis] - reach
        count = (-(-free // stride) if call.get("ceil_mode", 0) else free // stride) + 1
        if (count - 1) * stride >= size + begin[axis]:
            count -= 1  # a window must not begin in the padding behind the data
        end[axis] = (count - 1) * stride + reach - size - begin[axis]
    return kernel, strides, dilations, begin, end


def pads(
    call: Call, sizes: list[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each axis."""
    rank, automatic = len(sizes), call.get("auto_pad", "NOTSET")
    if automatic in ("NOTSET", "VALID"):
        given = call.get("pads") if automatic == "NOTSET" else None
        given = given or [0] * (2 * rank)
        return list(given[:rank]), list(given[rank:])
    begin, end = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        whole = max(0, (-(-size // stride) - 1) * stride + dilation * (width - 1) + 1 - size)
        less, more = whole // 2, whole - whole // 2
        begin.append(less if automatic == "SAME_UPPER" else more)
        end.append(more if automatic == "SAME_UPPER" else less)
    return begin, end


def padded(x: Tensor, begin: list[int], end: list[int], value: float = 0.0) -> Tensor:
    """Data with so much more, or less, before and after each of its last axes."""
    if not any(begin) and not any(end):
        return x
    flat = [each for pair in zip(reversed(begin), reversed(end), strict=True) for each in pair]
    return F.pad(x, flat, value=value)


def _everywhere(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


WINDOWS: dict[str, Function] = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda call, x: x.mean(_everywhere(x), keepdim=True),
    "GlobalMaxPool": lambda call, x: torch.amax(x, _everywhere(x), keepdim=True),
}


LIMITS: dict[str, Limit] = {
    "MaxPool": one_output,
    "AveragePool": without(dilations=([1], [1, 1], [1, 1, 1])),
}
