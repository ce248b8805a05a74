"""Parts that several networks are built of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


class Sum(nn.Module):
    """What several branches make of one tensor, added up."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        total = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        return total


class Joined(nn.Module):
    """What several branches make of one tensor, side by side."""

    def __init__(self, *branches: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], self.dim)


class Turned(nn.Module):
    """Axes in another order."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(*self.order)


class Gate(nn.Module):
    """Squeeze and excitation (Hu 2018): channels scaled by what the whole map says of them."""

    def __init__(self, width: int, inner: int, act: Activation = nn.ReLU, gate: Activation = nn.Sigmoid) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, inner, 1), act(), nn.Conv2d(inner, width, 1), gate()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x)


class LinearGate(nn.Module):
    """Squeeze and excitation written with Linear layers on a flattened mean."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3))))))
        return x * scale[:, :, None, None]


def cba(
    width: int, out: int, k: Any = 3, stride: int = 1, act: Activation | None = nn.ReLU, **options: Any
) -> nn.Sequential:
    """Convolution, BatchNorm and, unless it is ``None``, an activation; the map keeps its size but for the stride."""
    usual = options.get("dilation", 1) * (k // 2) if isinstance(k, int) else tuple(size // 2 for size in k)
    pad = options.pop("padding", usual)
    conv = nn.Conv2d(width, out, k, stride, pad, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(out), *([act()] if act else []))


def head(width: int, classes: int = 5) -> nn.Sequential:
    """Mean over the map and a classifier."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def shaken(net: nn.Module, seed: int = 0) -> nn.Module:
    """A network in inference mode whose norms are not the identity, as they are before training: they hide mistakes."""
    made = torch.Generator().manual_seed(seed)
    for module in net.modules():
        affine = getattr(module, "weight", None)
        if isinstance(affine, nn.Parameter) and affine.dim() == 1 and not isinstance(module, nn.PReLU):
            nn.init.uniform_(affine, 0.5, 1.5, generator=made)
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                nn.init.normal_(module.bias, 0, 0.3, generator=made)  # type: ignore[arg-type]
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.3, generator=made)
            module.running_var.uniform_(0.5, 1.5, generator=made)  # type: ignore[union-attr]
    return net.eval()
