"""Networks whose result is a map or a set of boxes; ``w`` is the width of the first stage."""

from __future__ import annotations

import torch
from architectures.nets.blocks import Joined, Sum, cba
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    """Down and up again with skips that are joined (Ronneberger 2015)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.one = nn.Sequential(cba(3, w), cba(w, w))
        self.two = nn.Sequential(nn.MaxPool2d(2), cba(w, 2 * w), cba(2 * w, 2 * w))
        self.three = nn.Sequential(nn.MaxPool2d(2), cba(2 * w, 4 * w))
        self.up_two, self.up_one = nn.ConvTranspose2d(4 * w, 2 * w, 2, 2), nn.ConvTranspose2d(2 * w, w, 2, 2)
        self.back_two, self.back_one = cba(4 * w, 2 * w), cba(2 * w, w)
        self.out = nn.Conv2d(w, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(one)
        x = self.back_two(torch.cat([two, self.up_two(self.three(two))], 1))
        return self.out(self.back_one(torch.cat([one, self.up_one(x)], 1)))


class _Pooled(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, out, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.body(x), x.shape[2:], mode="bilinear", align_corners=False)


class DeepLab(nn.Module):
    """Dilated convolutions side by side with the mean of the map, resized to the picture (Chen 2017)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.body = nn.Sequential(cba(3, w, 3, 2), cba(w, 2 * w, 3, 2), cba(2 * w, 2 * w, dilation=2))
        rates = [cba(2 * w, w, 3, dilation=rate) for rate in (1, 2, 3)]
        self.context = nn.Sequential(Joined(cba(2 * w, w, 1), *rates, _Pooled(2 * w, w)), cba(5 * w, 2 * w, 1))
        self.out = nn.Conv2d(2 * w, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(self.context(self.body(x)))
        return functional.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)


class HRNet(nn.Module):
    """Two resolutions that go on side by side and exchange what they know (Wang 2019)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.stem, self.lower = cba(3, w, 3, 2), cba(w, 2 * w, 3, 2)
        self.keep = nn.ModuleList([cba(w, w), cba(w, w)])
        self.deep = nn.ModuleList([cba(2 * w, 2 * w), cba(2 * w, 2 * w)])
        self.down = nn.ModuleList([cba(w, 2 * w, 3, 2, None) for _ in range(2)])
        self.up = nn.ModuleList(
            [nn.Sequential(cba(2 * w, w, 1, act=None), nn.Upsample(scale_factor=2)) for _ in range(2)]
        )
        self.out = nn.Conv2d(3 * w, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.stem(x)
        low = self.lower(high)
        for keep, deep, down, up in zip(self.keep, self.deep, self.down, self.up, strict=True):
            high, low = keep(high), deep(low)
            high, low = torch.relu(high + up(low)), torch.relu(low + down(high))
        return self.out(torch.cat([high, functional.interpolate(low, scale_factor=2.0)], 1))


class RetinaNet(nn.Module):
    """A feature pyramid (Lin 2017) and one head whose weights all levels share (Lin 2018)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.one, self.two = nn.Sequential(cba(3, w, 3, 2), cba(w, w)), cba(w, 2 * w, 3, 2)
        self.three = cba(2 * w, 4 * w, 3, 2)
        self.sides = nn.ModuleList(nn.Conv2d(width, w, 1) for width in (w, 2 * w, 4 * w))
        self.smooth = nn.ModuleList(nn.Conv2d(w, w, 3, 1, 1) for _ in range(3))
        head = [layer for _ in range(2) for layer in (nn.Conv2d(w, w, 3, 1, 1), nn.ReLU())]
        self.scores = nn.Sequential(*head, nn.Conv2d(w, 6, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(one)
        sides = [side(level) for side, level in zip(self.sides, (one, two, self.three(two)), strict=True)]
        for level in (1, 0):
            sides[level] = sides[level] + functional.interpolate(sides[level + 1], scale_factor=2.0)
        found = []
        for smooth, side in zip(self.smooth, sides, strict=True):
            scores = self.scores(smooth(side))
            found.append(scores.reshape(scores.shape[0], 2, 3, -1).permute(0, 3, 1, 2).flatten(1, 2))
        return torch.cat(found, 1)


def _repeat(width: int, out: int, act: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    return nn.Sequential(cba(width, out, 1, act=act), cba(out, out, act=act))


class _Csp(nn.Module):
    """Cross-stage partial block of YOLOv5: two ways through, one of them with residual blocks."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        half = out // 2
        self.one, self.two = cba(width, half, 1, act=nn.SiLU), cba(width, half, 1, act=nn.SiLU)
        self.body, self.out = Sum(_repeat(half, half), nn.Identity()), cba(out, out, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([self.body(self.one(x)), self.two(x)], 1))


class _Pyramid(nn.Module):
    """Maxima over ever larger windows, side by side (SPPF)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into, self.out = cba(width, width // 2, 1, act=nn.SiLU), cba(2 * width, width, 1, act=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.into(x)]
        for _ in range(3):
            seen.append(self.pool(seen[-1]))
        return self.out(torch.cat(seen, 1))


class YoloCsp(nn.Module):
    """CSP backbone, two levels and anchors with their grids (as YOLOv5)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.one = nn.Sequential(cba(3, w, 6, 2, nn.SiLU, padding=2), cba(w, 2 * w, 3, 2, nn.SiLU), _Csp(2 * w, 2 * w))
        self.two = nn.Sequential(cba(2 * w, 4 * w, 3, 2, nn.SiLU), _Csp(4 * w, 4 * w), _Pyramid(4 * w))
        self.side = cba(4 * w, 2 * w, 1, act=nn.SiLU)
        self.high, self.down = _Csp(4 * w, 2 * w), cba(2 * w, 2 * w, 3, 2, nn.SiLU)
        self.low = _Csp(4 * w, 4 * w)
        self.heads = nn.ModuleList(nn.Conv2d(width, 3 * 7, 1) for width in (2 * w, 4 * w))
        self.grids = nn.ParameterList(torch.randn(1, 3, 1, 1, 2) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        side = self.side(self.two(one))
        high = self.high(torch.cat([functional.interpolate(side, scale_factor=2.0), one], 1))
        low = self.low(torch.cat([self.down(high), side], 1))
        return torch.cat([self._boxes(level, found) for level, found in enumerate((high, low))], 1)

    def _boxes(self, level: int, x: Tensor) -> Tensor:
        y = self.heads[level](x)
        batch, _, rows, columns = y.shape
        place, size, rest = y.reshape(batch, 3, 7, rows, columns).permute(0, 1, 3, 4, 2).sigmoid().split((2, 2, 3), 4)
        boxes = torch.cat([place * 2 - self.grids[level], (size * 2) ** 2, rest], 4)
        return boxes.reshape(batch, 3 * rows * columns, 7)


class _Chunks(nn.Module):
    """Two halves and what each further block makes of the last one (C2f)."""

    def __init__(self, width: int, out: int, count: int) -> None:
        super().__init__()
        half = out // 2
        self.into, self.out = cba(width, out, 1, act=nn.SiLU), cba((2 + count) * half, out, 1, act=nn.SiLU)
        blocks = (nn.Sequential(cba(half, half, act=nn.SiLU), cba(half, half, act=nn.SiLU)) for _ in range(count))
        self.blocks = nn.ModuleList(Sum(block, nn.Identity()) for block in blocks)

    def forward(self, x: Tensor) -> Tensor:
        seen = list(self.into(x).chunk(2, 1))
        for block in self.blocks:
            seen.append(block(seen[-1]))
        return self.out(torch.cat(seen, 1))


class YoloChunks(nn.Module):
    """Chunked blocks and boxes as expected distances over bins (as YOLOv8)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.bins = 4
        self.one = nn.Sequential(cba(3, w, 3, 2, nn.SiLU), cba(w, 2 * w, 3, 2, nn.SiLU), _Chunks(2 * w, 2 * w, 2))
        self.two = nn.Sequential(cba(2 * w, 4 * w, 3, 2, nn.SiLU), _Chunks(4 * w, 4 * w, 1), _Pyramid(4 * w))
        self.merge = _Chunks(6 * w, 2 * w, 1)
        self.places = nn.ModuleList(
            nn.Sequential(cba(width, w, act=nn.SiLU), nn.Conv2d(w, 4 * self.bins, 1)) for width in (2 * w, 4 * w)
        )
        self.classes = nn.ModuleList(
            nn.Sequential(cba(width, w, act=nn.SiLU), nn.Conv2d(w, 5, 1)) for width in (2 * w, 4 * w)
        )
        self.expected = nn.Conv2d(self.bins, 1, 1, bias=False)
        self.expected.weight.data = torch.arange(self.bins, dtype=torch.float32).reshape(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(one)
        one = self.merge(torch.cat([functional.interpolate(two, scale_factor=2.0), one], 1))
        both = [torch.cat([self.places[i](y), self.classes[i](y)], 1).flatten(2) for i, y in enumerate((one, two))]
        places, classes = torch.cat(both, 2).split((4 * self.bins, 5), 1)
        batch, _, anchors = places.shape
        bins = places.reshape(batch, 4, self.bins, anchors).transpose(2, 1).softmax(1)
        return torch.cat([self.expected(bins).reshape(batch, 4, anchors), classes.sigmoid()], 1)


class SSD(nn.Module):
    """Heads on several levels, flattened with channels last and joined (Liu 2016)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList([nn.Sequential(cba(3, w, 3, 2), cba(w, 2 * w)), cba(2 * w, 4 * w, 3, 2)])
        self.extra = nn.Sequential(cba(4 * w, w, 1), cba(w, 2 * w, 3, 2))
        widths = (2 * w, 4 * w, 2 * w)
        self.places = nn.ModuleList(nn.Conv2d(width, 3 * 4, 3, 1, 1) for width in widths)
        self.classes = nn.ModuleList(nn.Conv2d(width, 3 * 5, 3, 1, 1) for width in widths)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = [self.levels[0](x)]
        seen.append(self.levels[1](functional.max_pool2d(seen[0], 2)))
        seen.append(self.extra(seen[1]))
        found = []
        for heads, size in ((self.places, 4), (self.classes, 5)):
            made = [head(level).permute(0, 2, 3, 1) for head, level in zip(heads, seen, strict=True)]
            found.append(torch.cat([y.reshape(y.shape[0], -1, size) for y in made], 1))
        return found[0], found[1].softmax(-1)


def super_resolution(w: int) -> nn.Module:
    """A trunk with PReLU and channels turned into pixels (Shi 2016)."""
    trunk = [Sum(nn.Sequential(nn.Conv2d(w, w, 3, 1, 1), nn.PReLU(w), nn.Conv2d(w, w, 3, 1, 1)), nn.Identity())]
    up = [nn.Conv2d(w, 4 * w, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU()]
    return nn.Sequential(nn.Conv2d(3, w, 5, 1, 2), nn.PReLU(), *trunk, *up, nn.Conv2d(w, 3, 3, 1, 1))


def style_transfer(w: int) -> nn.Module:
    """Reflected borders, instance norms, nearest neighbours on the way up (Johnson 2016)."""

    def layer(width: int, out: int, k: int, stride: int = 1) -> nn.Sequential:
        conv = nn.Conv2d(width, out, k, stride)
        return nn.Sequential(nn.ReflectionPad2d(k // 2), conv, nn.InstanceNorm2d(out, affine=True), nn.ReLU())

    body = [Sum(nn.Sequential(layer(2 * w, 2 * w, 3), layer(2 * w, 2 * w, 3)), nn.Identity()) for _ in range(2)]
    up = [nn.Upsample(scale_factor=2), layer(2 * w, w, 3), nn.ReflectionPad2d(2), nn.Conv2d(w, 3, 5)]
    return nn.Sequential(layer(3, w, 5), layer(w, 2 * w, 3, 2), *body, *up)


def autoencoder(w: int) -> nn.Module:
    """Strided convolutions, a narrow Linear layer, transposed convolutions."""
    down = [nn.Conv2d(3, w, 4, 2, 1), nn.ReLU(), nn.Conv2d(w, 2 * w, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    code = [nn.Linear(128 * w, 2 * w), nn.Linear(2 * w, 128 * w), nn.ReLU(), nn.Unflatten(1, (2 * w, 8, 8))]
    up = [
        nn.ConvTranspose2d(2 * w, w, 4, 2, 1),
        nn.BatchNorm2d(w),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(w, 3, 4, 2, 1),
    ]
    return nn.Sequential(*down, *code, *up, nn.Sigmoid())


class Siamese(nn.Module):
    """One trunk for two pictures, compared."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(cba(3, w, 3, 2), cba(w, 2 * w, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.out = nn.Linear(4 * w, 1)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        first, second = self.trunk(one), self.trunk(other)
        return self.out(torch.cat([(first - second).abs(), first * second], 1))
