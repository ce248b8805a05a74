"""Runs a model and the one under way side by side, part by part: refitting all layers in order takes one run, not many.

What later parts read is spooled to disk between two sweeps; the next sweep starts from there, with the weights that
were refitted since. Where that would take too much room, a sweep starts again where the last spool was made.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, repeat
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import onnx_ir as ir

from infopt.passes import Context
from infopt.probe import opened
from infopt_passes.calibrate.segments import Segment, extracted, read_names
from infopt_passes.calibrate.spool import Spool, dropped, stored
from infopt_passes.calibrate.sweep import Streams, sweep

Array = npt.NDArray[Any]

SPOOLED = 2
"""Tensors of all samples that wait on disk may take so often the memory budget."""


def stages_of(graph: ir.Graph, wanted: Collection[ir.Node]) -> list[int]:
    """Stage of each node: how many wanted layers, itself among them, the longest way to its outputs passes.

    What a layer of stage ``k + 1`` reads is made by nodes of the stages up to ``k``.
    """
    ready: dict[str, int] = {}
    found = []
    for node in graph:
        stage = max((ready.get(name, 0) for name in read_names([node])), default=0) + (node in wanted)
        ready.update((value.name or "", stage) for value in node.outputs)
        found.append(stage)
    return found


class Twins(Protocol):
    """A model as it was, and the same one under way."""

    @property
    def exact(self) -> ir.Model:
        """The model as it was."""
        ...

    @property
    def graph(self) -> ir.Model:
        """The model under way, with the nodes and the names of ``exact``."""
        ...


@dataclass(slots=True)
class March:
    """Both models on their way through the samples.

    Attributes:
        work: The models.
        stages: Stage of each node, of both graphs alike.
        context: Brings samples and memory.
        share: How the processor is shared out.
        start: First stage whose outputs are not on disk.
    """

    work: Twins
    stages: Sequence[int]
    context: Context
    share: Streams
    start: int = 0
    _spools: tuple[dict[str, Spool], dict[str, Spool]] = field(default_factory=lambda: ({}, {}))
    _numbers: Iterator[int] = field(default_factory=count)

    def sweep(
        self, stage: int, names: Sequence[str], final: bool = True
    ) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
        """Run all samples up to the end of a stage; it counts once it is exhausted.

        Args:
            stage: The stage.
            names: Tensors that are handed out, made up to there.
            final: Whether the next sweep is of a later stage.

        Yields:
            For each run, tensors by name: in the model as it was, and as it is.
        """
        later = self._later(stage) if final else []
        news = self._new(later), self._new(later)
        graphs = self.work.exact, self.work.graph
        sides = [self._side(*each, stage, names) for each in zip(graphs, self._spools, news, strict=True)]
        with closing(sides[0]), closing(sides[1]):
            if self.work.exact is self.work.graph:
                yield from ((found, found) for found in sides[0])
            else:
                yield from zip(*sides, strict=True)
        if final and all(new is None or new.places for new in news):
            for spools, new in zip(self._spools, news, strict=True):
                spools.update(dict.fromkeys(new.names, new) if new else {})
                dropped(spools, set(self._later(stage)))
            self.start = stage + 1

    def close(self) -> None:
        """Remove what is on disk."""
        for spools in self._spools:
            dropped(spools, set())

    def _part(self, stage: int) -> list[int]:
        return [i for i, own in enumerate(self.stages) if self.start <= own <= stage]

    def _later(self, stage: int) -> list[str]:
        """What nodes behind a stage read of those up to it."""
        nodes = list(zip(self.work.exact.graph, self.stages, strict=True))
        made = {value.name for node, own in nodes if own <= stage for value in node.outputs}
        behind = read_names(node for node, own in nodes if own > stage)
        return [name for name in dict.fromkeys(behind) if name in made]

    def _new(self, later: Sequence[str]) -> Spool | None:
        """A spool for those tensors that are not in one already."""
        names = tuple(name for name in later if name not in self._spools[0])
        path = Path(self.context.workdir) / f"stage-{id(self)}-{next(self._numbers)}.bin"
        return Spool(path, names) if names else None

    def _side(
        self, graph: ir.Model, spools: dict[str, Spool], new: Spool | None, stage: int, names: Sequence[str]
    ) -> Generator[dict[str, Array], None, None]:
        """Tensors of one graph, run by run; what later stages need is put down on the way."""
        samples = self.context.need_calibration("fit")
        runs = samples.runs
        held = [name for name in names if name in spools]
        outside = [value.name for value in graph.graph.inputs if value.name in names]
        gives = [
            *dict.fromkeys([*(n for n in names if n not in held and n not in outside), *(new.names if new else ())])
        ]
        made = self._run(graph, spools, stage, gives) if gives else repeat(list[Array](), runs)
        spooled = new is not None
        for run, (feed, arrays) in enumerate(zip(samples.feeds(), made, strict=True)):
            found = dict(zip(gives, arrays, strict=True))
            if spooled and new is not None:
                spooled = run > 0 or _fits([found[name] for name in new.names], runs, self.context.memory)
                if spooled:
                    new.add([found[name] for name in new.names])
            found |= {name: feed[name] for name in outside if name} | stored(held, spools, run)
            yield {name: found[name] for name in names}
        if new is not None:
            new.close()

    def _run(
        self, graph: ir.Model, spools: dict[str, Spool], stage: int, gives: Sequence[str]
    ) -> Iterator[list[Array]]:
        """Run one part of a graph on all samples."""
        from infopt.targets.onnxruntime import EMULATE

        nodes, part = list(graph.graph), self._part(stage)
        takes = [name for name in dict.fromkeys(read_names(nodes[i] for i in part)) if name in spools]
        model = extracted(graph, Segment(part, tuple(takes), tuple(gives), ()))
        folder = Path(tempfile.mkdtemp(prefix="stage-", dir=self.context.workdir))
        session = opened(model, folder, {**self.share.settings, **EMULATE})
        shutil.rmtree(folder)  # the runtime has mapped or copied the weights
        asked = {value.name for value in model.graph.inputs}
        samples = self.context.need_calibration("fit")
        feeds = (
            {name: array for name, array in feed.items() if name in asked} | stored(takes, spools, run)
            for run, feed in enumerate(samples.feeds())
        )
        yield from sweep(session, feeds, self.share.count)


def _fits(arrays: Sequence[Array], runs: int, memory: int) -> bool:
    return 2 * runs * sum(array.nbytes for array in arrays) <= SPOOLED * memory
