"""How large activations are, and which of them are fetched together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import onnx_ir as ir

from infopt.probe import Spot, opened, values_by_name, with_sizes

if TYPE_CHECKING:
    from infopt.data import Feed

K = TypeVar("K", str, Spot, str | Spot)

ITEM = 4
"""Bytes of a float32: nothing else is quantized."""


def tensor_bytes(graph: ir.Model, names: Sequence[K], feed: Feed, workdir: Path) -> dict[K, int]:
    """Bytes of tensors when a model runs on a sample.

    They follow from the inferred shapes and the sizes that the sample gives to symbolic dimensions. Where that is not
    enough, the model runs once and tells.

    Args:
        graph: The model.
        names: The tensors. Of those that are looked at from within a body, what all its runs have counts together.
        feed: The sample.
        workdir: Folder for files that only live during the run.
    """
    values = values_by_name(graph.graph)
    bound = _bound(graph.graph, feed)
    known = {name: _elements(values.get(name) if isinstance(name, str) else None, bound) for name in names}
    missing = [name for name, elements in known.items() if elements is None]
    if missing:
        found = opened(with_sizes(graph, missing), workdir, {}).run(feed)
        known.update({name: int(size) for name, size in zip(missing, found, strict=True)})
    return {name: (elements or 0) * ITEM for name, elements in known.items()}


def grouped(names: Sequence[str], sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Split tensors into runs whose sizes add up to at most ``limit``, where single tensors allow it."""
    groups: list[list[str]] = []
    filled = 0
    for name in names:
        if not groups or filled + sizes[name] > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += sizes[name]
    return groups


def _bound(graph: ir.Graph, feed: Feed) -> dict[str, int]:
    """Sizes by symbolic name."""
    sizes = {}
    for value in graph.inputs:
        if value.name in feed and value.shape is not None:
            for dim, size in zip(value.shape, feed[value.name].shape, strict=False):
                if not isinstance(dim, int) and dim.value is not None:
                    sizes[dim.value] = size
    return sizes


def _elements(value: ir.Value | None, bound: Mapping[str, int]) -> int | None:
    if value is None or value.shape is None:
        return None
    dims = [dim if isinstance(dim, int) else bound.get(dim.value or "") for dim in value.shape]
    return math.prod(dim for dim in dims if dim is not None) if None not in dims else None
