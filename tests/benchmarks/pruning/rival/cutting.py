"""Torch-Pruning's pruners, asked for a part of the operations."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import Any

import torch
import torch_pruning as tp
from torch.utils.flop_counter import FlopCounterMode
from tuning import Lesson

STEPS = 400
"""Steps of the progressive recipe, as its authors have it."""

Feed = dict[str, torch.Tensor]


def flops(net: torch.nn.Module, feed: Feed) -> int:
    """Operations of convolutions and products in one run."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*feed.values())
    return int(counter.get_total_flops())


def progressively(net: torch.nn.Module, lesson: Lesson, share: float) -> torch.nn.Module:
    """All groups ranked against each other by their norm, in small steps until few enough operations are left."""
    example = lesson.batch(slice(1))
    whole = flops(net, example)
    pruner = tp.pruner.GroupNormPruner(
        net,
        tuple(example.values()),
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        iterative_steps=STEPS,
        pruning_ratio=1.0,
        ignored_layers=_outputs(net, example),
    )
    for _ in range(STEPS):
        if flops(net, example) <= share * whole:
            break
        pruner.step()
    return net


def evenly(importance: Callable[[], Any], **given: Any) -> Callable[[torch.nn.Module, Lesson, float], torch.nn.Module]:
    """The same ratio in all layers; the smallest that leaves few enough operations."""

    def cut(net: torch.nn.Module, lesson: Lesson, share: float) -> torch.nn.Module:
        example = lesson.batch(slice(1))
        whole = flops(net, example)
        if isinstance(importance(), tp.importance.GroupTaylorImportance):
            _gradients(net, lesson)
        low, high, best = 0.0, 0.95, net
        for _ in range(7):
            ratio = (low + high) / 2
            tried = _even(net, example, importance(), ratio, given)
            if flops(tried, example) <= share * whole:
                high, best = ratio, tried
            else:
                low = ratio
        return best

    return cut


def _even(
    source: torch.nn.Module, example: Feed, importance: Any, ratio: float, given: dict[str, Any]
) -> torch.nn.Module:
    net = copy.deepcopy(source)
    for parameter, old in zip(net.parameters(), source.parameters(), strict=True):
        parameter.grad = old.grad  # a copy has none
    heads = {module: _heads(module) for module in net.modules() if _heads(module)}
    options = dict(given)
    left = _outputs(net, example)
    if options.pop("bottleneck", False):
        left += _writers(net)
    if heads:
        options["num_heads"] = {module.qkv: count for module, count in heads.items()}
    for module in heads:
        _spared(module)
    pruner = tp.pruner.BasePruner(
        net,
        tuple(example.values()),
        importance=importance,
        pruning_ratio=ratio,
        ignored_layers=left,
        **options,
    )
    for group in pruner.step(interactive=True):
        group.prune()
    for module in heads:
        module.h = pruner.num_heads[module.qkv]
    net.zero_grad()
    return net


def _gradients(net: torch.nn.Module, lesson: Lesson, batch: int = 64) -> None:
    net.zero_grad()
    for rows in torch.arange(len(lesson)).split(batch):
        out = net(*lesson.batch(rows).values())
        torch.nn.functional.cross_entropy(out, lesson.classes(rows)).backward()


def _outputs(net: torch.nn.Module, feed: Feed) -> list[torch.nn.Module]:
    """The layers that give the classes."""
    with torch.no_grad():
        width = net(*feed.values()).shape[-1]
    return [m for m in net.modules() if isinstance(m, torch.nn.Linear) and m.out_features == width]


def _writers(net: torch.nn.Module) -> list[torch.nn.Module]:
    """Layers that write to the residual stream of a transformer: all that gives as many channels as its norms have."""
    widths = {m.normalized_shape[0] for m in net.modules() if isinstance(m, torch.nn.LayerNorm)}
    linear = [m for m in net.modules() if isinstance(m, torch.nn.Linear) and m.out_features in widths]
    return linear + [m for m in net.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels in widths]


def _heads(module: torch.nn.Module) -> int:
    """Heads of an attention with one layer for queries, keys and values; 0 for other modules."""
    return int(module.h) if hasattr(module, "qkv") and hasattr(module, "h") else 0


def _spared(module: torch.nn.Module) -> None:
    """Let an attention have another width inside than outside, as Torch-Pruning's example does; the scale stays."""
    module.scale = (module.qkv.out_features // 3 // module.h) ** -0.5

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.h, -1).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q @ k.transpose(-2, -1)) * self.scale
        y = a.softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, -1))

    module.forward = types.MethodType(forward, module)
