"""Convolutional classifiers made for small devices, and ConvNeXt; ``w`` is the width of the first stage."""

from __future__ import annotations

import torch
from architectures.nets.blocks import Activation, Gate, Joined, Sum, cba, head
from torch import Tensor, nn


def _inverted(
    width: int,
    inner: int,
    out: int,
    k: int = 3,
    stride: int = 1,
    act: Activation = nn.ReLU6,
    gate: nn.Module | None = None,
) -> nn.Module:
    """Wide inside, depthwise, without an activation at the end (Sandler 2018)."""
    deep = cba(inner, inner, k, stride, act, groups=inner)
    body = nn.Sequential(cba(width, inner, 1, act=act), deep, *([gate] if gate else []), cba(inner, out, 1, act=None))
    return Sum(body, nn.Identity()) if stride == 1 and width == out else body


def mobilenet_v1(w: int) -> nn.Module:
    """Depthwise and pointwise convolutions one after the other (Howard 2017)."""

    def layer(width: int, out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(cba(width, width, 3, stride, groups=width), cba(width, out, 1))

    return nn.Sequential(
        cba(3, w, 3, 2), layer(w, 2 * w, 1), layer(2 * w, 2 * w, 2), layer(2 * w, 4 * w, 1), head(4 * w)
    )


def mobilenet_v2(w: int) -> nn.Module:
    """Inverted residuals (Sandler 2018)."""
    blocks = [_inverted(w, 4 * w, w), _inverted(w, 4 * w, 2 * w, stride=2), _inverted(2 * w, 8 * w, 2 * w)]
    return nn.Sequential(cba(3, w, 3, 2, nn.ReLU6), *blocks, cba(2 * w, 8 * w, 1, act=nn.ReLU6), head(8 * w))


def mobilenet_v3(w: int) -> nn.Module:
    """Hard swish, hard sigmoid and gates (Howard 2019)."""

    def gate(inner: int) -> Gate:
        return Gate(inner, inner // 4, gate=nn.Hardsigmoid)

    act = nn.Hardswish
    blocks = [_inverted(w, 4 * w, w, 3, 1, nn.ReLU, gate(4 * w)), _inverted(w, 4 * w, 2 * w, 5, 2, act, gate(4 * w))]
    blocks.append(_inverted(2 * w, 6 * w, 2 * w, 5, 1, act, gate(6 * w)))
    last = [cba(2 * w, 6 * w, 1, act=act), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6 * w, 8 * w), act()]
    return nn.Sequential(cba(3, w, 3, 2, act), *blocks, *last, nn.Dropout(), nn.Linear(8 * w, 5))


def efficientnet(w: int) -> nn.Module:
    """Inverted residuals with SiLU and gates (Tan 2019)."""

    def gate(inner: int) -> Gate:
        return Gate(inner, inner // 8, nn.SiLU)

    blocks = [
        _inverted(w, 4 * w, w, 3, 1, nn.SiLU, gate(4 * w)),
        _inverted(w, 4 * w, 2 * w, 5, 2, nn.SiLU, gate(4 * w)),
    ]
    blocks.append(_inverted(2 * w, 8 * w, 2 * w, 5, 1, nn.SiLU, gate(8 * w)))
    return nn.Sequential(cba(3, w, 3, 2, nn.SiLU), *blocks, cba(2 * w, 8 * w, 1, act=nn.SiLU), head(8 * w))


def efficientnet_v2(w: int) -> nn.Module:
    """Fused inverted residuals: one full convolution for the pointwise and the depthwise one (Tan 2021)."""

    def fused(width: int, out: int, stride: int) -> nn.Module:
        body = nn.Sequential(cba(width, 4 * width, 3, stride, nn.SiLU), cba(4 * width, out, 1, act=None))
        return Sum(body, nn.Identity()) if stride == 1 and width == out else body

    return nn.Sequential(
        cba(3, w, 3, 2, nn.SiLU), fused(w, w, 1), fused(w, 2 * w, 2), fused(2 * w, 2 * w, 1), head(2 * w)
    )


class Shuffle(nn.Module):
    """Channels of several groups dealt out in turn (Zhang 2018)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        batch, width, rows, columns = x.shape
        apart = x.reshape(batch, self.groups, width // self.groups, rows, columns)
        return apart.transpose(1, 2).reshape(batch, width, rows, columns)


def shufflenet_v1(w: int) -> nn.Module:
    """Grouped pointwise convolutions, shuffled (Zhang 2018)."""

    def block() -> nn.Sequential:
        into = nn.Sequential(cba(4 * w, 2 * w, 1, groups=2), Shuffle(2))
        deep = cba(2 * w, 2 * w, act=None, groups=2 * w)
        body = nn.Sequential(into, deep, cba(2 * w, 4 * w, 1, act=None, groups=2))
        return nn.Sequential(Sum(body, nn.Identity()), nn.ReLU())

    return nn.Sequential(cba(3, 4 * w, 3, 2), block(), block(), head(4 * w))


class _Halves(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        deep = cba(half, half, act=None, groups=half)
        self.body = nn.Sequential(cba(half, half, 1), deep, cba(half, half, 1))
        self.shuffle = Shuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        keep, change = x.chunk(2, 1)
        return self.shuffle(torch.cat([keep, self.body(change)], 1))


def shufflenet_v2(w: int) -> nn.Module:
    """One half of the channels convolved, both shuffled (Ma 2018)."""
    left = nn.Sequential(cba(2 * w, 2 * w, 3, 2, None, groups=2 * w), cba(2 * w, 2 * w, 1))
    deep = cba(2 * w, 2 * w, 3, 2, None, groups=2 * w)
    right = nn.Sequential(cba(2 * w, 2 * w, 1), deep, cba(2 * w, 2 * w, 1))
    down = nn.Sequential(Joined(left, right), Shuffle(2))
    return nn.Sequential(cba(3, 2 * w, 3, 2), down, _Halves(4 * w), _Halves(4 * w), cba(4 * w, 8 * w, 1), head(8 * w))


class _Ghost(nn.Module):
    def __init__(self, width: int, out: int, act: Activation | None = nn.ReLU) -> None:
        super().__init__()
        half = out // 2
        self.primary, self.cheap = cba(width, half, 1, act=act), cba(half, half, 3, act=act, groups=half)
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        one = self.primary(x)
        return torch.cat([one, self.cheap(one)], 1)[:, : self.out]


def ghostnet(w: int) -> nn.Module:
    """Half of the channels made from the other half by depthwise convolutions (Han 2020)."""
    blocks = [Sum(nn.Sequential(_Ghost(w, 4 * w), _Ghost(4 * w, w, None)), nn.Identity()) for _ in range(2)]
    return nn.Sequential(cba(3, w, 3, 2), *blocks, head(w))


class _ConvNext(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(width, width, 7, 1, 3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(nn.functional.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of a map that has them second, written out as papers' code does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = (x - mean).pow(2).mean(1, keepdim=True)
        return self.weight[:, None, None] * ((x - mean) / torch.sqrt(spread + 1e-6)) + self.bias[:, None, None]


def convnext(w: int) -> nn.Module:
    """Large depthwise kernels, LayerNorm and a neuron layer with channels last (Liu 2022)."""
    stem = nn.Sequential(nn.Conv2d(3, w, 4, 4), ChannelNorm(w))
    down = nn.Sequential(ChannelNorm(w), nn.Conv2d(w, 2 * w, 2, 2))
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(2 * w), nn.Linear(2 * w, 5)]
    return nn.Sequential(stem, _ConvNext(w), down, _ConvNext(2 * w), *last)
