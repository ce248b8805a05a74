"""What it costs in latency that layers stay in float, measured in the target's own runtime."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from infopt.bench import alternate
from infopt.errors import RuntimeRefused
from infopt.model import save
from infopt.passes import Context
from infopt.target import CompileOptions, Target

if TYPE_CHECKING:
    from infopt.data import Feed

Opener = Callable[[], AbstractContextManager[Callable[[], object]]]

SECONDS = 1.5
"""Time for calls, of both together."""


def prices(
    spared: ir.Model, whole: ir.Model, shares: Mapping[str, float], feed: Feed, context: Context
) -> dict[str, str]:
    """What each layer in float costs, in words; empty where the target cannot be run here.

    The two artifacts are measured in turns; what the layers cost together is divided by their parts of the work, since
    one layer's part is often too small to be measured alone.

    Args:
        spared: The quantized model with layers in float.
        whole: The same without.
        shares: Part of the model's work of each layer that was left in float.
        feed: What one call takes.
        context: Brings the target and a folder.
    """
    target = context.need_target("quantize")
    if not shares or target.available() or target.runnable():
        return {}
    folder = Path(tempfile.mkdtemp(prefix="price-", dir=context.workdir))
    try:
        openers = {name: _opener(target, graph, folder / name, feed) for name, graph in _named(spared, whole)}
        seconds = alternate(openers, seconds=SECONDS, rounds=6, seed=context.seed)
    except RuntimeRefused:
        return {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    left, all_integer = (float(np.median(seconds[name])) * 1e3 for name in ("spared", "whole"))
    extra, total = max(left - all_integer, 0.0), sum(shares.values())
    told = f"of {left:.3g} ms, measured together" if len(shares) > 1 else f"of {left:.3g} ms"
    return {name: f"its price is {extra * share / total:.2g} {told}" for name, share in shares.items()}


def _named(spared: ir.Model, whole: ir.Model) -> tuple[tuple[str, ir.Model], ...]:
    return ("spared", spared), ("whole", whole)


def _opener(target: Target, graph: ir.Model, folder: Path, feed: Feed) -> Opener:
    folder.mkdir()
    save(graph, folder / "model.onnx")
    settings = next(iter(target.settings("int8").values()))
    artifact = target.compile(folder / "model.onnx", folder, CompileOptions(settings))

    @contextmanager
    def opened() -> Iterator[Callable[[], object]]:
        with target.open(artifact) as session:
            yield lambda: session.run(feed)

    return opened
