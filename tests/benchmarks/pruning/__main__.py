"""The command line: measures what is asked for and not known yet, then prints the tables and the bars."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from infopt.deliver import environment

from ..judging import evaluation_samples, judged
from ..raw import Store, read, today
from ..sheets import put
from ..subjects import found
from ..zoo import ROOT, ZooModel
from . import picture, readme
from .artifacts import Kept
from .bench import SEED, Bench
from .duels import Fight
from .labels import calibration_labels
from .making import Alone, Ours, Quantized
from .plans import MODELS, RIVAL_RECIPES, RIVAL_SHARES, TARGETS, VARIANTS
from .records import Measured, Pruned
from .rivals import Budget, Theirs, budget, ours_at, rival_versions
from .speed import speeds
from .tables import sheets

PARTS = ("prune", "int8", "rival", "latency")
KEPT = Path(__file__).with_name("measured.json")
MADE = ROOT / "out" / "pruning"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    given = parsed(arguments)
    console = Console(width=None if Console().is_terminal else 220)
    measured = read(Measured, given.source) if given.source else measure(given, console)
    for sheet in sheets(measured):
        console.print(sheet.rich())
    console.print(f"raw numbers: {given.source or given.json}")
    if given.readme:
        put(ROOT / "README.md", readme.MARK, readme.block(measured))
        picture.FILE.write_text(picture.svg(measured), encoding="utf-8")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pruning", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help=f"what to measure: {', '.join(PARTS)}; all")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument(
        "--only", nargs="+", metavar="PATTERN", help="rows of which the variant matches one: '^flops=0.5$'"
    )
    parser.add_argument(
        "--json", type=Path, default=KEPT, help="file of raw numbers; what is in it is not measured again"
    )
    parser.add_argument("--kept", type=Path, default=MADE, help="folder that keeps the artifacts for the next run")
    parser.add_argument("--from", type=Path, dest="source", help="measure nothing: print the tables of a file")
    parser.add_argument("--readme", action="store_true", help="put table and picture into README.md")
    parser.add_argument("--fresh", action="store_true", help="measure what is known, too")
    return parser.parse_args(arguments)


def measure(given: argparse.Namespace, console: Console) -> Measured:
    """Measure what is asked for."""
    known = read(Measured, given.json) if given.json.exists() else Measured("", SEED, {})
    versions = rival_versions()
    rival = known.rival if isinstance(versions, str) else versions
    store = Store(given.json, replace(known, date=today(), environment=environment(), rival=rival), given.fresh)
    zoo = Path(os.environ.get("INFOPT_ZOO", ROOT.parent / "shared" / "zoo"))
    with tempfile.TemporaryDirectory() as scratch:
        for model in found(zoo, given.models, Path(scratch)):
            for target in given.targets:
                with bench(model, target, given.kept) as place:
                    Run(place, store, given, versions, console).go()
    return store.measured


@contextmanager
def bench(model: ZooModel, target: str, kept: Path) -> Iterator[Bench]:
    """A model for a target, ready to be measured."""
    feed = next(evaluation_samples(model).batches(1)).feed
    with judged(model) as judge:
        yield Bench(model, target, Kept(kept / model.name, target), judge, feed)


@dataclass
class Run:
    """What is measured of a model for a target.

    Attributes:
        bench: The two.
        store: Takes the numbers.
        given: What was asked for.
        versions: Of Torch-Pruning, or why it is not there.
        console: Hears of the progress.
    """

    bench: Bench
    store: Store[Measured]
    given: argparse.Namespace
    versions: dict[str, str] | str
    console: Console

    def go(self) -> None:
        """Measure all parts."""
        ours = [Ours(self.bench, options) for options in VARIANTS[self.bench.target]]
        for each in ours:
            if self.wanted("prune", each.row()):
                self.add(each)
        pruned = [row for each in ours if (row := self.store.measured.find(each.row()))]
        for plan in (Alone(self.bench), *(Quantized(self.bench, row) for row in pruned if self.made(row))):
            if self.wanted("int8", plan.row()):
                self.add(plan)
        if self.bench.target == TARGETS[0] and "rival" in self.parts:
            self.rivals()
        if "latency" in self.parts:
            self.latency()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are asked for."""
        return tuple(self.given.parts) or PARTS

    def wanted(self, part: str, row: Pruned) -> bool:
        """Whether a row is asked for."""
        only = self.given.only
        return part in self.parts and (not only or any(re.search(pattern, row.variant) for pattern in only))

    def made(self, row: Pruned) -> bool:
        """Whether a row's artifact is there."""
        return self.bench.kept.there(row.variant)

    def add(self, plan: Any, stale: Callable[[Pruned], bool] = lambda row: False) -> Pruned:
        """A row with its numbers; measured again where its artifact is gone that others need."""
        row = plan.row()
        self.console.print(f"{row.model} {row.target} {row.variant}", style="dim")
        known = self.store.measured.find(row)
        gone = known is not None and known.reason is None and (stale(known) or not self.made(known))
        done: Pruned = self.store.add(row, plan.measure, again=gone)
        if done.reason:
            self.console.print(f"  {done.reason}", style="dim")
        return done

    def rivals(self) -> None:
        """Torch-Pruning in the same time as infopt's slowest variant of the same share, and sample by sample."""
        for share in RIVAL_SHARES:
            time = budget(self.store.measured, self.bench, share)
            ours = [row for row in ours_at(self.store.measured, self.bench, share) if self.made(row)]
            if time is None:
                continue
            for plan in self.recipes(share, time):
                if not self.wanted("rival", plan.row()):
                    continue
                row = self.add(plan, lambda old, time=time: not time.kept(old))
                if ours and row.reason is None:
                    fight = Fight(self.bench, row, max(ours, key=lambda each: each.score or 0.0))
                    self.store.add(fight.row(), fight.measure)

    def recipes(self, share: float, time: Budget) -> Iterator[Theirs]:
        """Their recipes, each without and with labels."""
        for recipe in RIVAL_RECIPES.get(self.bench.model.name, ()):
            for labels in (None, calibration_labels(self.bench.model)):
                yield Theirs(self.bench, recipe, share, labels, time, self.versions)

    def latency(self) -> None:
        """Latency of all artifacts that there are."""
        measured, target = self.store.measured, self.bench.target
        rows = [row for row in measured.pruned if (row.model, row.target) == (self.bench.model.name, target)]
        rows = [row for row in rows if row.reason is None and self.made(row) and self.wanted("latency", row)]
        old = [] if self.given.fresh else [measured.speed(row) for row in rows]
        self.console.print(f"{self.bench.model.name} {target} latency of {len(rows)} artifacts", style="dim")
        for speed in speeds(self.bench, rows, {each.variant: each.key for each in old if each}):
            self.store.add(speed, lambda row: row, again=True)


if __name__ == "__main__":
    main()
