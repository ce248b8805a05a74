"""Transformers and their kin; ``w`` is the width of a token."""

from __future__ import annotations

import torch
from architectures.nets.blocks import Sum, Turned, cba
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Heads of one fused projection, or of three."""

    def __init__(self, width: int, heads: int, fused: bool = True, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal, self.fused = heads, causal, fused
        self.into = nn.ModuleList(
            [nn.Linear(width, 3 * width)] if fused else [nn.Linear(width, width) for _ in range(3)]
        )
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        batch, count, width = x.shape
        each = width // self.heads
        if self.fused:
            q, k, v = self.into[0](x).reshape(batch, count, 3, self.heads, each).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            read = x if memory is None else memory
            parts = (layer(y) for layer, y in zip(self.into, (x, read, read), strict=True))
            q, k, v = (part.reshape(batch, part.shape[1], self.heads, each).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, bias, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))


class Layer(nn.Module):
    """Attention and neurons, each with its norm in front (or behind) and its sum."""

    def __init__(self, width: int, heads: int, first: bool = True, **options: bool) -> None:
        super().__init__()
        self.first = first
        self.attention, self.norms = (
            Attention(width, heads, **options),
            nn.ModuleList(nn.LayerNorm(width) for _ in "ab"),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self.attention(self.norms[0](x))
            return x + self.mlp(self.norms[1](x))
        x = self.norms[0](x + self.attention(x))
        return self.norms[1](x + self.mlp(x))


class ViT(nn.Module):
    """Patches, a class token and places that are learned (Dosovitskiy 2021)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, w, 8, 8)
        self.first, self.places = nn.Parameter(torch.randn(1, 1, w)), nn.Parameter(torch.randn(1, 17, w))
        self.layers, self.norm = nn.Sequential(Layer(w, 4), Layer(w, 4)), nn.LayerNorm(w)
        self.out = nn.Linear(w, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], 1) + self.places
        return self.out(self.norm(self.layers(tokens))[:, 0])


class _Windows(nn.Module):
    """Attention in windows of four by four that may be shifted by half of one, with a bias by relative place."""

    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.shift, self.attention = shift, Attention(width, 4)
        self.bias = nn.Parameter(torch.randn(49, 4))
        places = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        apart = places[:, :, None] - places[:, None] + 3
        self.register_buffer("index", (apart[0] * 7 + apart[1]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        batch, rows, columns, width = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.reshape(batch, rows // 4, 4, columns // 4, 4, width).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, width)
        x = self.attention(x, bias=self.bias[self.index].reshape(16, 16, 4).permute(2, 0, 1))
        x = x.reshape(batch, rows // 4, columns // 4, 4, 4, width).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, rows, columns, width)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class _SwinLayer(nn.Module):
    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.norms, self.windows = nn.ModuleList(nn.LayerNorm(width) for _ in "ab"), _Windows(width, shift)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.windows(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class _Merge(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduce(self.norm(torch.cat(parts, -1)))


class Swin(nn.Module):
    """Windows, shifted windows, and four neighbours merged into one (Liu 2021)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, w, 4, 4), nn.LayerNorm(w)
        self.layers = nn.Sequential(_SwinLayer(w, 0), _SwinLayer(w, 2), _Merge(w), _SwinLayer(2 * w, 0))
        self.last, self.out = nn.LayerNorm(2 * w), nn.Linear(2 * w, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.norm(self.patches(x).permute(0, 2, 3, 1)))
        return self.out(self.last(x).mean((1, 2)))


class Bert(nn.Module):
    """Words, places and kinds summed up, norms behind the sums, a pooler on the first token (Devlin 2019)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, w), nn.Embedding(32, w)
        self.norm = nn.LayerNorm(w)
        self.layers = nn.Sequential(Layer(w, 4, first=False, fused=False), Layer(w, 4, first=False, fused=False))
        self.pool, self.out = nn.Linear(w, w), nn.Linear(w, 3)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.layers(self.norm(self.words(ids) + self.places(places)))
        return self.out(torch.tanh(self.pool(x[:, 0])))


class Gpt(nn.Module):
    """Causal attention, and the words' table once more as the last layer (Radford 2019)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, w), nn.Embedding(32, w)
        self.layers, self.norm = nn.Sequential(Layer(w, 4, causal=True), Layer(w, 4, causal=True)), nn.LayerNorm(w)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places.weight[: ids.shape[1]]
        return functional.linear(self.norm(self.layers(x)), self.words.weight)


class Detr(nn.Module):
    """A convolutional map as memory that learned queries look at (Carion 2020)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.trunk, self.encoder = nn.Sequential(cba(3, w, 3, 2), cba(w, w, 3, 2), nn.Conv2d(w, w, 1)), Layer(w, 4)
        self.queries, self.look = nn.Parameter(torch.randn(1, 6, w)), Attention(w, 4, fused=False)
        self.norm, self.mlp = nn.LayerNorm(w), nn.Sequential(nn.Linear(w, 2 * w), nn.ReLU(), nn.Linear(2 * w, w))
        self.classes, self.boxes = nn.Linear(w, 5), nn.Sequential(nn.Linear(w, w), nn.ReLU(), nn.Linear(w, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.encoder(self.trunk(x).flatten(2).transpose(1, 2))
        queries = self.queries.expand(x.shape[0], -1, -1)
        found = self.norm(queries + self.look(queries, memory))
        found = found + self.mlp(found)
        return self.classes(found), self.boxes(found).sigmoid()


class _Across(nn.Module):
    def __init__(self, tokens: int, w: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(w) for _ in "ab")
        self.tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.channels = nn.Sequential(nn.Linear(w, 4 * w), nn.GELU(), nn.Linear(4 * w, w))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norms[1](x))


def mlp_mixer(w: int) -> nn.Module:
    """Neurons across tokens and neurons across channels in turn (Tolstikhin 2021)."""
    into = [nn.Conv2d(3, w, 8, 8), nn.Flatten(2), Turned(0, 2, 1)]
    return nn.Sequential(*into, _Across(16, w), _Across(16, w), nn.LayerNorm(w), Mean(1), nn.Linear(w, 5))


class Mean(nn.Module):
    """Mean over axes."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dims)


class _MobileVit(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.near = nn.Sequential(cba(width, width, act=nn.SiLU), nn.Conv2d(width, inner, 1, bias=False))
        self.layer, self.norm = Layer(inner, 4), nn.LayerNorm(inner)
        self.back, self.out = cba(inner, width, 1, act=nn.SiLU), cba(2 * width, width, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        y = self.near(x)
        batch, width, rows, columns = y.shape
        y = y.reshape(batch * width * (rows // 2), 2, columns // 2, 2).transpose(1, 2)
        y = (
            y.reshape(batch, width, rows * columns // 4, 4)
            .transpose(1, 3)
            .reshape(batch * 4, rows * columns // 4, width)
        )
        y = self.norm(self.layer(y)).reshape(batch, 4, rows * columns // 4, width).transpose(1, 3)
        y = y.reshape(batch * width * (rows // 2), columns // 2, 2, 2).transpose(1, 2)
        return self.out(torch.cat([x, self.back(y.reshape(batch, width, rows, columns))], 1))


def mobilevit(w: int) -> nn.Module:
    """Convolutions, and attention over a map taken apart into patches and put together again (Mehta 2022)."""
    last = [cba(w, 2 * w, 1, act=nn.SiLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * w, 5)]
    return nn.Sequential(cba(3, w, 3, 2, nn.SiLU), cba(w, w, 3, 2, nn.SiLU), _MobileVit(w, w), *last)


def poolformer(w: int) -> nn.Module:
    """Mean pooling in the place of attention, channels mixed by pointwise convolutions (Yu 2022)."""

    def block() -> list[nn.Module]:
        mixed = nn.Sequential(nn.GroupNorm(1, w), nn.AvgPool2d(3, 1, 1, count_include_pad=False))
        mlp = nn.Sequential(nn.GroupNorm(1, w), nn.Conv2d(w, 4 * w, 1), nn.GELU(), nn.Conv2d(4 * w, w, 1))
        return [Sum(nn.Identity(), mixed), Sum(nn.Identity(), mlp)]

    return nn.Sequential(nn.Conv2d(3, w, 4, 4), *block(), *block(), Mean(2, 3), nn.LayerNorm(w), nn.Linear(w, 5))
