"""Latency of networks exported from PyTorch before and after three tenths of their operations are pruned.

``-k NAME`` measures some of them; widths are those at which most take more than 3 ms. Ratios are of models that take
turns in one process, so that they mean something on a machine that does other things as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="torch is not installed: networks are exported from it (pip install infopt[dev])")

from architectures.exported import ARCHITECTURES, exported, feed

from infopt import registry
from infopt.bench import interleave, speedup, times
from infopt.passes import Context, run
from infopt.target import Artifact, CompileOptions
from infopt_passes.prune import Prune
from infopt_passes.prune.cutting.prepare import prepared
from infopt_passes.prune.ranking.cost import Costs
from infopt_passes.simplify import Simplify

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.model import Model

SHARE = 0.7
SECONDS = 6.0
HEAVY_MS = 3.0
"""Float models that take longer have to follow the operations."""

SETTINGS = {"onnxruntime": "float32", "openvino": "f32 static"}


def operations(model: Model, inputs: Feed) -> float:
    shapes = {name: array.shape for name, array in inputs.items()}
    return Costs.of(prepared(model.graph), shapes).total("flops", {})


def compiled(model: Model, context: Context, folder: Path) -> Artifact:
    target = context.need_target("prune")
    folder.mkdir()
    options = CompileOptions(target.settings("float")[SETTINGS[target.name]])
    return target.compile(context.on_disk(model), folder, options)


@pytest.mark.slow
@pytest.mark.parametrize("target", SETTINGS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_latency_follows_the_operations(name: str, target: str, tmp_path: Path) -> None:
    """It never rises, and falls by at least half of the part of the operations that is gone."""
    context = Context(tmp_path, registry.target(target))
    inputs = feed(name, large=True)
    whole = run(exported(name, "script", large=True), [Simplify()], context)
    left = run(whole, [Prune(flops=SHARE, importance="magnitude", recover="none")], context)
    fewer = 1 - operations(left, inputs) / operations(whole, inputs)
    artifacts = [compiled(model, context, tmp_path / part) for part, model in (("whole", whole), ("left", left))]
    runtime = context.need_target("prune")
    with runtime.open(artifacts[0]) as one, runtime.open(artifacts[1]) as other:
        runs = {"whole": lambda: one.run(inputs), "left": lambda: other.run(inputs)}
        seconds = interleave(runs, seconds=SECONDS)
    before, after = (times(seconds[part]).p50 for part in ("whole", "left"))
    ratio, interval = speedup(seconds["whole"], seconds["left"])
    low, high = interval or (ratio, ratio)
    shorter = 1 - 1 / ratio
    print(
        f"\n{name:18} {target:12} {before:8.2f} -> {after:8.2f} ms, x{ratio:.3f} [{low:.3f}, {high:.3f}], "
        f"{fewer:.1%} fewer operations, {shorter:.1%} less time"
    )
    assert ratio >= 1, "latency rose"
    assert before <= HEAVY_MS or shorter >= fewer / 2, "latency did not follow"
