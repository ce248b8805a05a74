"""Prunes, quantizes and evaluates, each in a process of its own, and takes down the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infopt.deliver import versions
from infopt_passes.prune import Prune

from ..judging import drop_interval
from ..processes import INFOPT, Done, flags, run
from ..raw import sources_sha256
from ..sheets import short
from ..subjects import unit
from ..variants import Options, absent, label
from .artifacts import Facts, settled
from .bench import SEED
from .records import ALONE, INT8, Pruned

if TYPE_CHECKING:
    from .bench import Bench


@dataclass(frozen=True)
class Ours:
    """infopt's pruner on a model; see :class:`.records.Pruned`."""

    bench: Bench
    options: Options

    def row(self) -> Pruned:
        """The row without its numbers."""
        key = self.bench.key(dict(self.options), versions(), sources_sha256())
        reason = absent(Prune, self.options)
        return Pruned(
            self.bench.model.name, self.bench.target, label(self.options), key, reason, options=dict(self.options)
        )

    def measure(self, row: Pruned) -> Pruned:
        """The row with its numbers, or with the reason why there are none."""
        if row.reason:
            return row
        options = {**self.options, "force": True} if self.options.get("kind") == "2:4" else self.options
        done = _verb(self.bench, "prune", self.bench.model.path, options, row.variant)
        if done.error is not None:
            return replace(row, reason=failure(done.error))
        report = json.loads(done.out)
        steps = [step for step in report["steps"] if step["pass"] == "prune"]
        row = replace(
            row,
            seconds=sum(step["seconds"] for step in steps),
            processor=done.cost.processor,
            wall=done.cost.seconds,
            megabytes=done.cost.megabytes,
            units=_units(report["pruned"]),
        )
        return scored(self.bench, row)


@dataclass(frozen=True)
class Quantized:
    """A pruned model in INT8, by the method that a user gets without asking."""

    bench: Bench
    pruned: Pruned

    def row(self) -> Pruned:
        """The row without its numbers."""
        old = self.pruned
        reason = f"there is no pruned model: {old.reason}" if old.reason else None
        variant, key = old.variant + INT8, self.bench.key(old.key, "int8", versions(), sources_sha256())
        return Pruned(old.model, old.target, variant, key, reason, old.tool, dict(old.options))

    def measure(self, row: Pruned) -> Pruned:
        """The row with its numbers, or with the reason why there are none."""
        if row.reason:
            return row
        before = self.bench.kept.path(self.pruned.variant)
        done = _verb(self.bench, "quantize", before / "model.onnx", {}, row.variant)
        if done.error is not None:
            return replace(row, reason=failure(done.error))
        row = replace(row, wall=done.cost.seconds, megabytes=done.cost.megabytes, units=self.pruned.units)
        row = scored(self.bench, row)
        side, _ = settled(before, self.bench.feed, self.pruned.setting)
        after = self.bench.seen[self.bench.kept.path(row.variant)]
        accuracy = self.bench.compared(self.bench.outputs(before, side), after)
        return replace(row, below=accuracy.drop, below_interval=drop_interval(accuracy), flops=self.pruned.flops)


@dataclass(frozen=True)
class Alone:
    """The model in INT8 without pruning, which pruning has to be worth more than."""

    bench: Bench

    def row(self) -> Pruned:
        """The row without its numbers."""
        key = self.bench.key("int8", versions(), sources_sha256())
        return Pruned(self.bench.model.name, self.bench.target, ALONE, key)

    def measure(self, row: Pruned) -> Pruned:
        """The row with its numbers, or with the reason why there are none."""
        done = _verb(self.bench, "quantize", self.bench.model.path, {}, row.variant)
        if done.error is not None:
            return replace(row, reason=failure(done.error))
        row = replace(row, wall=done.cost.seconds, megabytes=done.cost.megabytes)
        return replace(scored(self.bench, row), flops=1.0)


def scored(bench: Bench, row: Pruned) -> Pruned:
    """Add what is measured and counted of an artifact that was made."""
    path = bench.kept.path(row.variant)
    bench.seen.pop(path, None)
    side, setting = settled(path, bench.feed)
    accuracy = bench.compared(bench.judge.baseline, bench.outputs(path, side))
    whole, left = Facts.of(bench.base()[0], bench.feed), Facts.of(side, bench.feed)
    return replace(
        row,
        unit=unit(bench.model),
        score=accuracy.candidate,
        baseline=accuracy.baseline,
        drop=accuracy.drop,
        interval=drop_interval(accuracy),
        n=accuracy.n,
        setting=setting,
        flops=left.flops / whole.flops if left.flops and whole.flops else None,
        parameters=left.parameters / whole.parameters,
        compressed=left.compressed / whole.compressed,
    )


def failure(stderr: str) -> str:
    """What a process that failed said last."""
    return short((stderr.strip().splitlines() or ["it crashed"])[-1])


def _verb(bench: Bench, verb: str, model: Path, options: Mapping[str, Any], variant: str) -> Done:
    """Run a verb of infopt on the calibration samples; its time is that of a first run."""
    given = {**bench.model.calibration, **options, "target": bench.target, "seed": SEED}
    given |= {"no_eval": True, "json": True, "output": bench.kept.path(variant)}
    return run([*INFOPT, verb, str(model), *flags(given)], INFOPT_CACHE="off")


def _units(groups: list[dict[str, Any]]) -> dict[str, float]:
    """The part of heads and of single channels that is left, as the report's groups tell."""
    counted: dict[str, list[int]] = {}
    for group in (each for each in groups if each["unit"].startswith(("channels", "units"))):
        whole = counted.setdefault("channels" if group["unit"] == "channels" else "heads", [0, 0])
        whole[0] += group["before"]
        whole[1] += group["after"]
    return {name: after / before for name, (before, after) in counted.items()}
