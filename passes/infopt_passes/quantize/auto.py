"""``--method auto``: what reduces the error of the outputs on samples that were not calibrated with stays.

Algorithms are tried one on top of the other, judged by the signal-to-noise ratio of the outputs. Layers that cost much
for little arithmetic are then left in float. No labels are looked at.

What was built in the end is said as options of ``--method fast`` (see :attr:`infopt.model.Model.settled`), so that the
recipe of the run makes the same again, on any machine and at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from infopt.model import Model, Note
from infopt.noise import OutputJudge, decibels, output_judge
from infopt.passes import CalibrationSet
from infopt_passes.calibrate.calibration import WEIGHTS_SHARE
from infopt_passes.quantize.price import prices
from infopt_passes.quantize.settings import FIRST_STEPS, LAST_STEPS, Step, decided, plain_settings
from infopt_passes.quantize.spare import Spared, spared
from infopt_passes.quantize.static import Settings, Static

if TYPE_CHECKING:
    from infopt_passes.quantize import Quantize

FEWEST = 16
"""Samples with which some can be set apart to judge by."""

APART = 4
"""One of so many samples judges, and is not calibrated with while choosing."""

MOST_JUDGES = 32

MOST_TRIED_WITH = 64
"""Samples that candidates are calibrated with, at most; what is chosen is built with all samples."""

USUAL_LIMIT = 60.0
"""Seconds for choosing where nobody says how many, and candidates are quick."""

CANDIDATES = 12
"""So many candidates that are not quick shall find the time all the same."""

LONGEST = 600.0

GAIN = 0.2
"""An algorithm has to be better by so many dB: less may be the samples' doing."""

LAST = 1.25
"""The last builds, the plain one among them, take so many times as long as one while choosing with as many samples."""

MOST_LAST = 3.0
"""The last build grows with the samples up to so much: weights are fitted to no more than some of them."""

ENOUGH = 40.0
"""SQNR in dB of the outputs that leaves nothing to gain."""


@dataclass(slots=True)
class Search:
    """One search under way.

    Attributes:
        static: Builds candidates from the samples that do not judge.
        judge: Judges them.
        limit: Seconds for all of it, the last build included.
        best: The settings that proved best so far, with the noise of their outputs.
        started: When the search began.
        last: How many times as many samples the last build has.
        times: Seconds that steps took, by what they do to settings.
        took: The last build, in seconds.
        kept: The longest build among those that proved themselves: the last build takes as long.
        notes: What was chosen and why.
    """

    static: Static
    judge: OutputJudge
    limit: float
    best: tuple[Settings, float]
    started: float
    last: float
    times: dict[Callable[[Settings], Settings], float] = field(default_factory=dict)
    took: float = 0.0
    kept: float = 0.0
    notes: list[Note] = field(default_factory=list)

    def noise(self, settings: Settings) -> float:
        """Build and judge."""
        begun = time.perf_counter()
        result = self.judge.noise(self.static.build(settings).graph)
        self.took = time.perf_counter() - begun
        return result

    def keep(self, settings: Settings, noise: float) -> None:
        """Take the settings that were judged last for the best."""
        self.best, self.kept = (settings, noise), max(self.kept, self.took)

    def late(self, what: str, seconds: float = 0.0, built: bool = False) -> bool:
        """Whether there is no time for something, and for the last build after it; noted.

        Args:
            what: What it is.
            seconds: How long its build may take; nothing where it is many small steps.
            built: Whether the last build is done.
        """
        reserve = 0.0 if built else LAST * self.last * max(seconds, self.kept)
        if time.perf_counter() - self.started + seconds + reserve <= self.limit:
            return False
        why = f"the time limit of {self.limit:.3g} s was reached before it was tried: the result depends on the machine"
        self.notes.append(Note("warning", what, why))
        return True

    def steps(self, steps: Sequence[Step], options: Quantize) -> None:
        """Try algorithms in order and keep what proves itself."""
        for step in steps:
            settings, noise = self.best
            if not step.open(options) or step.apply(settings) == settings:
                continue
            # What was tried before takes as long again.
            likely = self.times.get(step.apply, step.effort * self.kept)
            if decibels(noise) >= ENOUGH or self.late(step.label, likely):
                continue
            found = self.noise(step.apply(settings))
            self.times[step.apply] = self.took
            gain = decibels(found) - decibels(noise)
            if gain >= GAIN:
                self.keep(step.apply(settings), found)
            told = f"{gain:+.1f} dB on samples set apart: {'used' if gain >= GAIN else 'left out'}"
            self.notes.append(Note("choice", step.label, told))

    def spare(self) -> list[Spared]:
        """Leave layers in float that cost much for little."""
        settings, before = self.best
        left, noise = spared(self.static, settings, self.judge, before, self.late)
        if left:
            self.keep(replace(settings, keep_float=settings.keep_float | {each.name for each in left}), noise)
        return left


def chosen(static: Static, options: Quantize) -> Model:
    """The model, quantized with what proves best for it.

    Args:
        static: Builds from all samples.
        options: What the user has decided, and the time limit.
    """
    started, samples = time.perf_counter(), static.context.need_calibration("quantize")
    plain = plain_settings(options)
    why = _hindrance(static, samples)
    if why:
        told = Note("warning", "method auto", f"{why}: quantized by --method fast")
        return _noted(static.build(plain), [told], decided(options, plain))
    apart, rest = _split(samples)
    some = rest.thinned(MOST_TRIED_WITH)
    own = Static(static.model, static.table, replace(static.context, calibration=some), rough=True)
    judges = output_judge(static.model.graph, apart, static.context.workdir)
    limit = options.time_limit or USUAL_LIMIT
    search = Search(own, judges, limit, (plain, 0.0), started, min(len(samples) / len(some), MOST_LAST))
    search.keep(plain, search.noise(plain))
    if options.time_limit is None:
        search.limit = max(USUAL_LIMIT, min(LONGEST, CANDIDATES * search.took))
    search.steps(FIRST_STEPS, options)
    left = search.spare()
    search.steps(LAST_STEPS, options)
    return _final(static, search, options, left)


def _hindrance(static: Static, samples: CalibrationSet) -> str | None:
    """Why nothing can be tried out."""
    if len(samples) < FEWEST:
        return f"it needs {FEWEST} samples to choose by"
    if static.model.bytes > static.context.memory // WEIGHTS_SHARE:
        return "the model is too large for --memory to run whole"
    return None


def _final(static: Static, search: Search, options: Quantize, left: Sequence[Spared]) -> Model:
    """What was chosen, with all samples; the plain way, should that turn out better after all."""
    (settings, noise), plain = search.best, plain_settings(options)
    result = static.build(settings)
    if settings == plain:
        told = f"output SQNR {decibels(noise):.1f} dB on samples set apart with --method fast: left at that"
        search.notes.append(Note("choice", "method auto", told))
    else:
        # Every sample was calibrated with now, so that none is worth more than others.
        samples = static.context.need_calibration("quantize").thinned(MOST_JUDGES)
        # Nothing was fitted to layers that were left in float.
        bare = replace(static, _fits={}).build(plain)
        judges = output_judge(static.model.graph, samples, static.context.workdir)
        before, after = judges.noise(bare.graph), judges.noise(result.graph)
        if after > before:
            why = f"{decibels(after):.1f} dB with what was chosen, {decibels(before):.1f} dB without: left plain"
            # Calibrated by itself, as the recipe will: what else is observed changes how the runtime fuses.
            bare = Static(static.model, static.table, static.context).build(plain)
            return _noted(bare, [*search.notes, Note("choice", "all samples", why)], decided(options, plain))
        told = f"output SQNR {decibels(after):.1f} dB, {decibels(before):.1f} dB with --method fast"
        search.notes.append(Note("choice", "method auto", told))
    whys = _whys(static, search, result, left)
    notes = [replace(note, why=whys[note.node]) if note.node in whys else note for note in result.notes]
    return _noted(replace(result, notes=tuple(notes)), search.notes, decided(options, settings))


def _whys(static: Static, search: Search, result: Model, left: Sequence[Spared]) -> dict[str, str]:
    """Why each layer is left in float, with its price where that can be measured here."""
    whys = {each.name: each.why for each in left}
    settings, _ = search.best
    # What is refitted makes up for which layers are rounded: without some of them it is another model.
    seconds = search.last * search.kept if settings.reconstruct else 0.0
    if left and not search.late("measuring the price of layers in float", seconds, built=True):
        whole = static.build(replace(settings, keep_float=settings.keep_float.difference(whys)))
        shares = {each.name: each.price for each in left}
        costs = prices(result.graph, whole.graph, shares, search.judge.feeds[0], static.context)
        whys |= {name: f"{whys[name]}; {cost}" for name, cost in costs.items()}
    return whys


def _split(samples: CalibrationSet) -> tuple[CalibrationSet, CalibrationSet]:
    """Samples to judge by and samples to calibrate with, both spread over all of them."""
    indices = list(samples.indices)
    every = max(APART, len(indices) // MOST_JUDGES)
    apart = set(indices[every - 1 :: every])
    rest = tuple(index for index in indices if index not in apart)
    return replace(samples, indices=tuple(i for i in indices if i in apart)), replace(samples, indices=rest)


def _noted(model: Model, notes: Sequence[Note], settled: Mapping[str, Any]) -> Model:
    return replace(model, notes=(*model.notes, *notes), settled=settled)
