"""Sequences, tables and points; ``w`` is the width of the first layer."""

from __future__ import annotations

import torch
from architectures.nets.attention import Attention
from architectures.nets.blocks import Joined, Sum, cba
from torch import Tensor, nn
from torch.nn import functional


class Recurrent(nn.Module):
    """Two recurrent layers between Linear ones."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], w: int, both: bool) -> None:
        super().__init__()
        self.into, self.body = nn.Linear(6, 2 * w), kind(2 * w, w, 2, batch_first=True, bidirectional=both)
        self.hidden, self.out = nn.Linear(w * (1 + both), 2 * w), nn.Linear(2 * w, 4)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.body(torch.relu(self.into(x)))[0]
        return self.out(torch.relu(self.hidden(seen[:, -1])))


def lstm(w: int) -> nn.Module:
    """Long short-term memory (Hochreiter 1997), one way."""
    return Recurrent(nn.LSTM, w, False)


def gru(w: int) -> nn.Module:
    """Gated recurrent units (Cho 2014), both ways."""
    return Recurrent(nn.GRU, w, True)


class Crnn(nn.Module):
    """Convolutions over a line of text, recurrent layers over its columns (Shi 2017)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(cba(3, w), nn.MaxPool2d(2), cba(w, 2 * w), nn.MaxPool2d(2), cba(2 * w, 2 * w))
        self.body = nn.LSTM(16 * w, w, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * w, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x).permute(0, 3, 1, 2).flatten(2)
        return functional.log_softmax(self.out(self.body(y)[0]), -1)


class _Gated(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.both = nn.Conv1d(width, 2 * width, 3, dilation=dilation)
        self.on, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, gate = self.both(functional.pad(x, (self.pad, 0))).chunk(2, 1)
        y = torch.tanh(value) * torch.sigmoid(gate)
        return x + self.on(y), self.skip(y)


class WaveNet(nn.Module):
    """Causal dilated convolutions with gates and skips (van den Oord 2016), made longer at the end."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.into, self.layers = nn.Conv1d(4, w, 1), nn.ModuleList(_Gated(w, dilation) for dilation in (1, 2, 4))
        self.out = nn.Sequential(nn.ReLU(), nn.ConvTranspose1d(w, w, 4, 2, 1), nn.ELU(), nn.Conv1d(w, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.into(x), 0.0
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        return self.out(total)


class Conformer(nn.Module):
    """Attention and convolutions with a linear gate over a spectrum (Gulati 2020)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.into = nn.Sequential(nn.Conv2d(1, w, 3, 2, 1), nn.ReLU(), nn.Conv2d(w, w, 3, 2, 1), nn.ReLU())
        self.flat = nn.Linear(4 * w, w)
        self.norms = nn.ModuleList(nn.LayerNorm(w) for _ in range(3))
        self.neurons = nn.Sequential(nn.Linear(w, 4 * w), nn.SiLU(), nn.Linear(4 * w, w))
        self.attention = Attention(w, 4, fused=False)
        deep = nn.Conv1d(w, w, 5, 1, 2, groups=w)
        self.conv = nn.Sequential(
            nn.Conv1d(w, 2 * w, 1), nn.GLU(1), deep, nn.BatchNorm1d(w), nn.SiLU(), nn.Conv1d(w, w, 1)
        )
        self.out = nn.Linear(w, 7)

    def forward(self, x: Tensor) -> Tensor:
        y = self.into(x[:, None]).transpose(1, 2)
        y = self.flat(y.flatten(2))
        y = y + 0.5 * self.neurons(self.norms[0](y))
        y = y + self.attention(self.norms[1](y))
        y = y + self.conv(self.norms[2](y).transpose(1, 2)).transpose(1, 2)
        return self.out(y)


class Speech(nn.Module):
    """Strided convolutions over samples with a GroupNorm of one channel a group (as wav2vec 2.0)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        first = [nn.Conv1d(1, w, 10, 5, bias=False), nn.GroupNorm(w, w), nn.GELU()]
        self.convs = nn.Sequential(
            *first, nn.Conv1d(w, w, 3, 2, bias=False), nn.GELU(), nn.Conv1d(w, w, 3, 2), nn.GELU()
        )
        self.norm, self.wide = nn.LayerNorm(w), nn.Linear(w, 2 * w)
        self.place = nn.Conv1d(2 * w, 2 * w, 4, padding=2, groups=4)
        self.out = nn.Linear(2 * w, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(self.norm(self.convs(x[:, None]).transpose(1, 2)))
        y = y + functional.gelu(self.place(y.transpose(1, 2))[:, :, :-1]).transpose(1, 2)
        return self.out(y.mean(1))


class Dlrm(nn.Module):
    """Tables of categories and a few numbers whose products with each other are features (Naumov 2019)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(30, w) for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(5, 4 * w), nn.ReLU(), nn.Linear(4 * w, w), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(16 + w, 4 * w), nn.ReLU(), nn.Linear(4 * w, 1))

    def forward(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        dense = self.bottom(numbers)
        rows = torch.stack([dense, *(table(kinds[:, i]) for i, table in enumerate(self.tables))], 1)
        return self.top(torch.cat([torch.einsum("bik,bjk->bij", rows, rows).flatten(1), dense], 1))


class PointNet(nn.Module):
    """One network for all points, their maximum beside each of them (Qi 2017)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        each = [layer for a, b in ((3, w), (w, 4 * w)) for layer in (nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU())]
        self.each = nn.Sequential(*each)
        self.out = nn.Sequential(nn.Conv1d(8 * w, 2 * w, 1), nn.ReLU(), nn.Conv1d(2 * w, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.each(x)
        whole = seen.max(2, keepdim=True)[0].expand_as(seen)
        return self.out(torch.cat([seen, whole], 1))


def tabular(w: int) -> nn.Module:
    """Residual Linear blocks with BatchNorm (Gorishniy 2021) beside a linear way."""
    block = nn.Sequential(nn.BatchNorm1d(w), nn.Linear(w, 2 * w), nn.ReLU(), nn.Dropout(), nn.Linear(2 * w, w))
    deep = nn.Sequential(nn.Linear(10, w), Sum(block, nn.Identity()), nn.BatchNorm1d(w), nn.ReLU(), nn.Linear(w, 4))
    return nn.Sequential(Joined(deep, nn.Linear(10, 2)), nn.Linear(6, 3))


class Nerf(nn.Module):
    """Points as waves, the input joined in once more half way (Mildenhall 2020)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(18, 4 * w), nn.ReLU(), nn.Linear(4 * w, 4 * w), nn.ReLU())
        self.two = nn.Sequential(nn.Linear(4 * w + 18, 4 * w), nn.ReLU())
        self.density, self.colour = (
            nn.Linear(4 * w, 1),
            nn.Sequential(nn.Linear(4 * w, 2 * w), nn.ReLU(), nn.Linear(2 * w, 3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.cat([f(x * 2.0**i) for i in range(3) for f in (torch.sin, torch.cos)], -1)
        y = self.two(torch.cat([self.one(waves), waves], -1))
        return torch.cat([torch.sigmoid(self.colour(y)), torch.relu(self.density(y))], -1)
