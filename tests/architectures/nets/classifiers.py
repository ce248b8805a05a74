"""Convolutional classifiers of the larger kind; ``w`` is the width of the first stage."""

from __future__ import annotations

import torch
from architectures.nets.blocks import Gate, Joined, LinearGate, Sum, cba, head
from torch import Tensor, nn


def _basic(width: int, out: int, stride: int) -> nn.Sequential:
    body = nn.Sequential(cba(width, out, 3, stride), cba(out, out, act=None))
    short = nn.Identity() if width == out and stride == 1 else cba(width, out, 1, stride, act=None)
    return nn.Sequential(Sum(body, short), nn.ReLU())


def resnet18(w: int) -> nn.Module:
    """Residual blocks of two convolutions (He 2016)."""
    stem = nn.Sequential(cba(3, w, 7, 2), nn.MaxPool2d(3, 2, 1))
    stages = [_basic(w, w, 1), _basic(w, w, 1), _basic(w, 2 * w, 2), _basic(2 * w, 2 * w, 1)]
    return nn.Sequential(stem, *stages, _basic(2 * w, 4 * w, 2), _basic(4 * w, 4 * w, 1), head(4 * w))


def _bottleneck(width: int, inner: int, stride: int = 1, groups: int = 1, gate: bool = False) -> nn.Sequential:
    out = 4 * inner
    body = [cba(width, inner, 1), cba(inner, inner, 3, stride, groups=groups), cba(inner, out, 1, act=None)]
    if gate:
        body.append(LinearGate(out, out // 4))
    short = nn.Identity() if width == out and stride == 1 else cba(width, out, 1, stride, act=None)
    return nn.Sequential(Sum(nn.Sequential(*body), short), nn.ReLU())


def resnet50(w: int) -> nn.Module:
    """Residual bottlenecks (He 2016)."""
    stem = nn.Sequential(cba(3, w, 7, 2), nn.MaxPool2d(3, 2, 1))
    stages = [_bottleneck(w, w), _bottleneck(4 * w, w), _bottleneck(4 * w, 2 * w, 2), _bottleneck(8 * w, 2 * w)]
    return nn.Sequential(stem, *stages, head(8 * w))


def resnext(w: int) -> nn.Module:
    """Bottlenecks with grouped convolutions (Xie 2017)."""
    return nn.Sequential(cba(3, w, 3, 2), _bottleneck(w, w, groups=4), _bottleneck(4 * w, w, groups=4), head(4 * w))


def se_resnet(w: int) -> nn.Module:
    """Bottlenecks scaled by what Linear layers make of their mean (Hu 2018)."""
    return nn.Sequential(cba(3, w, 3, 2), _bottleneck(w, w, gate=True), _bottleneck(4 * w, w, gate=True), head(4 * w))


def preact_resnet(w: int) -> nn.Module:
    """Norm and activation in front of each convolution (He 2016b)."""

    def layer(width: int, out: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, out, 3, 1, 1, bias=False)]

    blocks = [Sum(nn.Sequential(*layer(w, w), *layer(w, w)), nn.Identity()) for _ in range(2)]
    return nn.Sequential(nn.Conv2d(3, w, 3, 2, 1), *blocks, nn.BatchNorm2d(w), nn.ReLU(), head(w))


def groupnorm_resnet(w: int) -> nn.Module:
    """GroupNorm in the place of BatchNorm (Wu 2018), as in Big Transfer."""

    def layer(width: int, out: int) -> list[nn.Module]:
        return [nn.GroupNorm(4, width), nn.ReLU(), nn.Conv2d(width, out, 3, 1, 1, bias=False)]

    blocks = [Sum(nn.Sequential(*layer(w, 2 * w), *layer(2 * w, w)), nn.Identity()) for _ in range(2)]
    return nn.Sequential(nn.Conv2d(3, w, 3, 2, 1), *blocks, nn.GroupNorm(4, w), nn.ReLU(), head(w))


def regnet(w: int) -> nn.Module:
    """Groups of constant width and gates (Radosavovic 2020, RegNetY)."""

    def block(width: int, out: int, stride: int) -> nn.Sequential:
        inner = [cba(width, out, 1), cba(out, out, 3, stride, groups=out // 8), Gate(out, width // 4)]
        body = nn.Sequential(*inner, cba(out, out, 1, act=None))
        short = nn.Identity() if width == out and stride == 1 else cba(width, out, 1, stride, act=None)
        return nn.Sequential(Sum(body, short), nn.ReLU())

    return nn.Sequential(cba(3, w, 3, 2), block(w, 2 * w, 2), block(2 * w, 2 * w, 1), head(2 * w))


def vgg(w: int) -> nn.Module:
    """Plain convolutions, a flattened map, large Linear layers (Simonyan 2015)."""
    convs = [nn.Conv2d(3, w, 3, 1, 1), nn.ReLU(), nn.Conv2d(w, w, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
    convs += [nn.Conv2d(w, 2 * w, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d((4, 4))]
    linear = [nn.Flatten(), nn.Linear(32 * w, 8 * w), nn.ReLU(), nn.Dropout(), nn.Linear(8 * w, 8 * w), nn.ReLU()]
    return nn.Sequential(*convs, *linear, nn.Dropout(), nn.Linear(8 * w, 5))


def squeezenet(w: int) -> nn.Module:
    """Fire modules and a convolution as the classifier (Iandola 2016)."""

    def fire(width: int, inner: int, out: int) -> nn.Sequential:
        branches = (nn.Conv2d(inner, out, 1), nn.Conv2d(inner, out, 3, 1, 1))
        each = [nn.Sequential(branch, nn.ReLU()) for branch in branches]
        return nn.Sequential(nn.Conv2d(width, inner, 1), nn.ReLU(), Joined(*each))

    stem = [nn.Conv2d(3, w, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    last = [nn.Conv2d(4 * w, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*stem, fire(w, w // 2, w), fire(2 * w, w // 2, 2 * w), *last)


def _inception(width: int, w: int) -> nn.Sequential:
    pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), cba(width, w, 1))
    wide = nn.Sequential(cba(width, w, 1), cba(w, 2 * w, (1, 3)), cba(2 * w, w, (3, 1)))
    return nn.Sequential(Joined(cba(width, w, 1), nn.Sequential(cba(width, w, 1), cba(w, 2 * w)), wide, pooled))


def googlenet(w: int) -> nn.Module:
    """Four branches side by side (Szegedy 2015), one of them with long and flat kernels (Inception v3)."""
    return nn.Sequential(cba(3, w, 3, 2), _inception(w, w), nn.MaxPool2d(2), _inception(5 * w, w), head(5 * w))


class _Dense(nn.Module):
    def __init__(self, width: int, growth: int, layers: int) -> None:
        super().__init__()
        each = [(width + i * growth) for i in range(layers)]
        inner = 4 * growth
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(nn.BatchNorm2d(size), nn.ReLU(), nn.Conv2d(size, inner, 1, bias=False)),
                *(nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, growth, 3, 1, 1, bias=False)),
            )
            for size in each
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, 1)))
        return torch.cat(seen, 1)


def densenet(w: int) -> nn.Module:
    """Each layer reads all before it (Huang 2017)."""
    middle = 4 * w
    turn = [nn.BatchNorm2d(middle), nn.ReLU(), nn.Conv2d(middle, 2 * w, 1, bias=False), nn.AvgPool2d(2)]
    stages = [nn.Conv2d(3, w, 3, 2, 1, bias=False), _Dense(w, w, 3), *turn, _Dense(2 * w, w, 2)]
    return nn.Sequential(*stages, nn.BatchNorm2d(4 * w), nn.ReLU(), head(4 * w))


class _Scales(nn.Module):
    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        each = width // parts
        self.parts, self.each = parts, each
        self.into, self.out = cba(width, width, 1), cba(width, width, 1, act=None)
        self.convs = nn.ModuleList(cba(each, each) for _ in range(parts - 1))

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = torch.split(self.into(x), self.each, 1)
        made, last = [first], torch.zeros_like(first)
        for conv, part in zip(self.convs, rest, strict=True):
            last = conv(part + last)
            made.append(last)
        return torch.relu(self.out(torch.cat(made, 1)) + x)


def res2net(w: int) -> nn.Module:
    """Channels split into parts, each convolved with the last one's result (Gao 2019)."""
    return nn.Sequential(cba(3, 2 * w, 3, 2), _Scales(2 * w, 4), _Scales(2 * w, 4), head(2 * w))


def repvgg(w: int) -> nn.Module:
    """Three branches, one of them a BatchNorm alone (Ding 2021)."""

    def block(width: int) -> nn.Sequential:
        return nn.Sequential(
            Sum(cba(width, width, act=None), cba(width, width, 1, act=None), nn.BatchNorm2d(width)), nn.ReLU()
        )

    return nn.Sequential(cba(3, w, 3, 2), block(w), cba(w, 2 * w, 3, 2), block(2 * w), head(2 * w))


def resnet3d(w: int) -> nn.Module:
    """Video: residual blocks of convolutions in space and in time (Tran 2018, R(2+1)D)."""

    def layer(width: int, out: int, act: bool = True) -> list[nn.Module]:
        space = nn.Conv3d(width, out, (1, 3, 3), 1, (0, 1, 1), bias=False)
        time = nn.Conv3d(out, out, (3, 1, 1), 1, (1, 0, 0), bias=False)
        return [space, nn.BatchNorm3d(out), nn.ReLU(), time, nn.BatchNorm3d(out), *([nn.ReLU()] if act else [])]

    blocks = [Sum(nn.Sequential(*layer(w, w), *layer(w, w, False)), nn.Identity()), nn.ReLU()]
    return nn.Sequential(*layer(3, w), *blocks, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(w, 5))
