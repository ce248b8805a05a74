"""The verb ``blame``: compares, restores, explains, tries remedies, and applies them where that is asked for."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from infopt import __version__
from infopt.blaming.causes import causes, look
from infopt.blaming.graph import QuantizedLayer, quantized_layers, rescaled
from infopt.blaming.memory import Memo, memo
from infopt.blaming.metric import measured_flips
from infopt.blaming.opened import Opened, open_output
from infopt.blaming.options import BlameOptions
from infopt.blaming.prices import prices
from infopt.blaming.remedies import Trials, attached, chosen, gain, merged, tried
from infopt.blaming.report import Applied, BlamedLayer, BlameReport, Remedy
from infopt.blaming.restore import Restorer, restorer
from infopt.blaming.sweep import Moments, compare, decibels
from infopt.errors import OptionError
from infopt.manifest import sha256_files
from infopt.model import Model
from infopt.noise import OutputJudge, output_judge
from infopt.output import check_directory, staged_file
from infopt.passes import CalibrationSet
from infopt.recipe import Recipe
from infopt.ui import Listener, Silent

JUDGED = (8, 16, 32, 64)
"""Samples that judge the outputs of a model with a layer in float; more of them for a fast model."""

JUDGED_BYTES = 256_000_000
"""Bytes of inputs and outputs that are kept for that, about."""

MOST_TRIED = 32
"""Layers that are restored one by one, at most."""

MOST_PRICED = 4
"""Remedies whose price is measured, at most."""

APPLY_SECONDS = 30.0
"""Time for finding out which remedies go together, where they are to be applied."""

RESTORING, TRYING = 0.45, 0.75
"""Parts of the time limit after which restoring layers ends, and trying remedies; the rest is for prices and labels."""

WORST_EXPLAINED = 24
"""Layers whose causes are looked for."""


@dataclass(slots=True)
class Blame:
    """One run under way.

    Attributes:
        opened: The output directory.
        options: What the user wants.
        workdir: Folder for files that only live during the run.
        listener: Hears of the progress.
        started: When it began, on the monotonic clock.
        notes: What the reader should know.
        judged: The samples that judge the outputs.
    """

    opened: Opened
    options: BlameOptions
    workdir: Path
    listener: Listener
    started: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)
    judged: CalibrationSet | None = None

    @property
    def deadline(self) -> float:
        """When to stop trying, on the monotonic clock."""
        return self.started + self.options.time_limit

    def run(self) -> BlameReport:
        """All of it, but for what is written."""
        opened = self.opened
        graph, float_model = opened.graph.graph, opened.before(self.workdir)
        layers, memory = quantized_layers(graph.graph), opened.recipe.calibration.memory
        some = opened.samples.thinned(self.options.samples)
        self.listener.stage("Comparing layers")
        moments = compare(float_model.graph, graph, layers, some, memory, self.workdir)
        self.judged, judge = self._judge(float_model, some.thinned(JUDGED[0]), len(layers))
        rows = self._measured(layers, moments)
        restore = restorer(graph, float_model.graph)
        known = memo(self._key(self.judged))
        whole = known.get("", lambda: judge.noise(graph))
        rows = self._restored(rows, restore, judge, known, whole)
        rows = self._explained(rows, layers, moments, restore)
        self.listener.stage("Trying remedies")
        until = self.started + TRYING * self.options.time_limit
        trials = Trials(opened, float_model, judge, self.workdir, until, self.notes, not self.options.no_bench)
        helping, useless = tried(rows, layers, trials)
        found = self._priced(helping, trials)
        trials.priced = False
        trials.graphs.clear()
        if self.options.apply:
            trials.deadline = max(until, time.monotonic() + APPLY_SECONDS)
        found = list(chosen(found, trials))
        rows = attached(rows, found)
        self.listener.stage("Measuring the metric")
        # With Q/DQ as written, a model takes about twice as long as in float.
        affordable = int((self.deadline - time.monotonic()) / (2 * judge.seconds + 1e-6))
        rows = measured_flips(rows, restore, opened, self.workdir, affordable)
        return BlameReport(
            infopt=__version__,
            path=opened.path.as_posix(),
            target=opened.manifest.target,
            model=opened.resolved.model.path.as_posix(),
            samples=len(some),
            judged=len(judge.feeds),
            output_sqnr_db=decibels(whole),
            layers=tuple(rows),
            remedies=tuple(found),
            seconds=round(time.monotonic() - self.started, 2),
            notes=tuple(self.notes),
            useless=tuple(useless),
        )

    def _judge(self, reference: Model, few: CalibrationSet, layers: int) -> tuple[CalibrationSet, OutputJudge]:
        """What judges the outputs, and its samples: the few, or more of all where these are soon run."""
        judge = output_judge(reference.graph, few, self.workdir)
        most = self._affordable(judge, layers)
        if most <= len(few) or len(few) == len(self.opened.samples):
            return few, judge
        judged = self.opened.samples.thinned(most)
        return judged, output_judge(reference.graph, judged, self.workdir)

    def _affordable(self, judge: OutputJudge, layers: int) -> int:
        """How many samples can judge each layer in half of the time for that: what few tell is in part chance."""
        time_each = 2 * judge.seconds * max(min(layers, MOST_TRIED), 1)
        arrays = [*judge.feeds[0].values(), *judge.reference[0]]
        size = sum(getattr(array, "nbytes", 0) for array in arrays)
        most = min(RESTORING / 2 * self.options.time_limit / (time_each + 1e-9), JUDGED_BYTES / max(size, 1))
        return max((count for count in JUDGED if count <= most), default=JUDGED[0])

    def _key(self, judged: CalibrationSet) -> list[object]:
        files = [sha256_files(model.files) for model in (self.opened.graph, self.opened.resolved.model)]
        return [
            *files,
            judged.samples.sha256(),
            judged.indices,
            __version__,
            version("onnxruntime"),
        ]

    def _measured(self, layers: Sequence[QuantizedLayer], moments: Mapping[str, Moments]) -> list[BlamedLayer]:
        """The layers with their errors, the worst first; those without a counterpart in the float model are named."""
        factors = rescaled(self.opened.graph.graph.graph)
        noises = {name: each.noise(factors) for name, each in moments.items()}
        by_output = {layer.output: noises[layer.name] for layer in layers if layer.name in noises}
        rows = []
        for layer in layers:
            if layer.name not in noises:
                continue
            reads = [by_output[pair.name] for pair in layer.inputs if pair.name in by_output]
            worst = decibels(max(reads)) if reads else None
            rows.append(BlamedLayer(layer.name, layer.op, decibels(noises[layer.name]), worst))
        left = [layer.name for layer in layers if layer.name not in noises]
        if left:
            self.notes.append(
                f"{len(left)} layers have no counterpart of their name in the float model: {left[0]}, ..."
            )
        if factors:
            self.notes.append("channels were equalized: tensors are compared channel by channel, up to a factor")
        return sorted(rows, key=lambda row: -noises[row.name])

    def _restored(
        self, rows: list[BlamedLayer], restore: Restorer, judge: OutputJudge, known: Memo, whole: float
    ) -> list[BlamedLayer]:
        """Layers with what the outputs gain when each is in float alone, as far as time goes."""
        if not judge.judges:
            self.notes.append("the model has no float outputs: restoring layers cannot be judged by SQNR")
            return rows
        if decibels(whole) is None:
            return rows
        self.listener.stage("Restoring layers to float one by one")
        limit = self.started + RESTORING * self.options.time_limit
        order = sorted(rows, key=_added, reverse=True)[:MOST_TRIED]
        tried: dict[str, BlamedLayer] = {}
        for i, row in enumerate(order):
            if time.monotonic() > limit and row.name not in known.known:
                self.notes.append(f"time for {i} of {len(rows)} layers: give a longer --time-limit to restore more")
                break
            noise = known.get(row.name, lambda row=row: judge.noise(restore.without({row.name})))  # type: ignore[misc]
            tried[row.name] = replace(row, output_sqnr_db=decibels(noise), gain_db=gain(whole, noise))
            self.listener.progress(row.name, i + 1, len(order))
        return [tried.get(row.name, row) for row in rows]

    def _explained(
        self,
        rows: list[BlamedLayer],
        layers: Sequence[QuantizedLayer],
        moments: Mapping[str, Moments],
        restore: Restorer,
    ) -> list[BlamedLayer]:
        """The layers to blame first, with their causes."""
        rows = sorted(rows, key=lambda row: -(row.gain_db if row.gain_db is not None else -1e9))
        named = {row.name for row in (*rows[:WORST_EXPLAINED], *sorted(rows, key=_added)[-WORST_EXPLAINED:])}
        chosen = [layer for layer in layers if layer.name in named]
        self.listener.stage("Looking for causes")
        opened = self.opened
        some = opened.samples.thinned(self.options.samples)
        seen = look(opened.graph.graph, chosen, some, opened.recipe.calibration.memory, self.workdir)
        found = {layer.name: causes(layer, seen, moments.get(layer.name), restore) for layer in chosen}
        return [replace(row, causes=found.get(row.name, ())) for row in rows]

    def _priced(self, found: list[Remedy], trials: Trials) -> list[Remedy]:
        """Remedies with the price of those that leave layers in float, against the model of the recipe's options."""
        target, resolved = self.opened.resolved.target, self.opened.resolved
        worth = [each.option for each in found if each.price_ms is None][:MOST_PRICED]
        reason = "not asked for" if self.options.no_bench else target.available() or target.runnable()
        if not reason and time.monotonic() + trials.longest > self.deadline:
            reason = "there was no time"
        if not worth:
            return found
        if reason:
            self.notes.append(f"what it costs to leave layers in float was not measured: {reason}")
            return found
        self.listener.stage("Measuring prices")
        feed = resolved.one_batch(resolved.recipe.inputs.batch).feed
        rest = (self.opened.manifest.record.settings, resolved.shapes, self.workdir)
        known = prices(target, trials.graphs[""], {name: trials.graphs[name] for name in worth}, feed, rest)
        return [replace(each, price_ms=known.get(each.option, each.price_ms)) for each in found]


def blame_directory(path: Path, options: BlameOptions, listener: Listener | None = None) -> BlameReport:
    """Find out which layers of a quantized model make its error, why, and what helps.

    Nothing is written to ``path``; ``--apply`` writes another directory.

    Args:
        path: An output directory of ``infopt quantize``.
        options: What to look at, and how long.
        listener: Hears of the progress.

    Raises:
        InputError: The directory, its model or its data cannot be used.
        RuntimeRefused: The runtime fails on one of the graphs.
    """
    listener = listener or Silent()
    _check_options(path, options)
    with tempfile.TemporaryDirectory(prefix="infopt-") as scratch:
        opened = open_output(path, options)
        blame = Blame(opened, options, Path(scratch), listener)
        report = blame.run()
        if options.apply:
            report = _applied(report, blame)
    if options.markdown is not None:
        from infopt.views.blame import markdown

        with staged_file(options.markdown, overwrite=True, protect=[path]) as staged:
            (staged / options.markdown.name).write_text(markdown(report), encoding="utf-8")
    return report


def _check_options(path: Path, options: BlameOptions) -> None:
    if options.apply and options.output is None:
        raise OptionError("--apply writes a new output directory", "give -o PATH")
    if options.output is not None and not options.apply:
        raise OptionError("-o is where --apply writes to", "give --apply too")
    if options.output is not None and options.output.resolve() == path.resolve():
        raise OptionError(f"-o {options.output} is the directory that is looked at", "give another")


def _applied(report: BlameReport, blame: Blame) -> BlameReport:
    """Quantize again with the chosen remedies, and measure what became of the outputs."""
    if not any(each.chosen for each in report.remedies):
        return replace(report, notes=(*report.notes, "nothing that was tried helps: nothing was applied"))
    from infopt.pipeline import execute

    opened, options, judged = blame.opened, blame.options, blame.judged
    assert options.output is not None
    assert judged is not None
    check_directory(options.output, force=options.force, protect=[opened.path])
    execute(_recipe(opened, report.remedies, options), "quantize", blame.listener)
    judge = output_judge(opened.before(blame.workdir).graph, judged, blame.workdir)
    from infopt.model import load

    after = judge.noise(load(options.output / "model.onnx").graph)
    told = tuple(each.option for each in report.remedies if each.chosen)
    return replace(report, applied=Applied(options.output.as_posix(), told, report.output_sqnr_db, decibels(after)))


def _recipe(opened: Opened, found: Sequence[Remedy], options: BlameOptions) -> Recipe:
    recipe = opened.with_options(merged(found, opened))
    return replace(recipe, job=replace(recipe.job, output=options.output, force=options.force))


def _added(row: BlamedLayer) -> float:
    """Noise that a layer adds to that of what it reads."""

    def power(sqnr: float | None) -> float:
        return 0.0 if sqnr is None else float(10 ** (-max(sqnr, -99.0) / 10))

    return power(row.sqnr_db) - power(row.reads_db)
