"""What would help: options that fit a cause, and layers in float. Each is tried by quantizing the model with it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import onnx_ir as ir

from infopt.blaming.graph import QuantizedLayer
from infopt.blaming.opened import Opened, changed
from infopt.blaming.report import LEAST_GAIN, BlamedLayer, Remedy
from infopt.errors import InfoptError
from infopt.model import Model
from infopt.noise import OutputJudge
from infopt.passes import run

Changes = dict[str, str | tuple[str, ...]]
"""Options of the quantize pass with their values."""

FITTING: dict[str, tuple[tuple[str, str], ...]] = {
    "outlier range": (("ranges", "mse"), ("equalize", "activations"), ("ranges", "percentile")),
    "clipping": (("ranges", "minmax"), ("ranges", "mse")),
    "mixed-magnitude Concat": (("equalize", "activations"), ("ranges", "mse")),
    "tiny channels": (("equalize", "activations"),),
    "few levels": (("ranges", "mse"),),
    "bias shift": (("bias_correction", "on"),),
    "weight rounding": (("weight_ranges", "mse"), ("rounding", "least-squares")),
}
"""Options that may help against a cause, the likeliest first."""

PLAIN = {
    "ranges": "minmax",
    "equalize": "off",
    "bias_correction": "off",
    "rounding": "nearest",
    "weight_ranges": "minmax",
}
"""What an option is that was left to ``--method fast``."""

REALIZED = 0.5
"""Part of what a layer in float gains that ``--keep-float`` has to bring; else the layers before it are kept, too."""

MOST_OPTIONS = 6
"""Options that are tried, at most."""

MOST_KEPT = 3
"""Layers that are tried in float, at most: with more, another method is due."""

ENOUGH = 30.0
"""SQNR in dB of the outputs from which on ``--apply`` leaves no further layer in float."""

TRIED_WITH = 64
"""Calibration samples that a remedy is tried with."""


@dataclass(slots=True)
class Trials:
    """Quantizes with other options, and remembers what came of it.

    Attributes:
        opened: The output directory.
        model: The float model as it went into quantization.
        judge: Judges the results.
        workdir: Folder for files that only live during the run.
        deadline: When to stop, on the monotonic clock.
        notes: What there was no time for.
        priced: Whether prices will be measured, which takes graphs.
        graphs: What became of each remedy that helps and may have a price, by its flags; without any, by nothing.
        longest: Seconds of the longest trial so far.
    """

    opened: Opened
    model: Model
    judge: OutputJudge
    workdir: Path
    deadline: float
    notes: list[str]
    priced: bool = True
    graphs: dict[str, ir.Model] = field(default_factory=dict)
    longest: float = 0.0
    _plain: float | None = None

    def gain(self, changes: Changes) -> float | None:
        """What changes gain in dB; ``None`` where they cannot be tried, or there is no time.

        Both sides are quantized with the recipe's options, which hold what a search chose: nothing is searched again.
        """
        try:
            if self._plain is None:
                self._plain = self._noise({})
            if time.monotonic() + self.longest > self.deadline:
                self.notes.append(f"there was no time to try {flags(changes)}: give a longer --time-limit")
                return None
            brought = gain(self._plain, self._noise(changes))
            if brought < LEAST_GAIN:
                self.graphs.pop(flags(changes), None)
            return brought
        except InfoptError as error:
            self.notes.append(f"{flags(changes) or 'quantizing again'} cannot be tried: {error}")
            return None

    @property
    def sqnr(self) -> float:
        """SQNR in dB of the outputs, quantized with the recipe's options alone."""
        noise = self._plain
        return -10 * math.log10(noise) if noise is not None and 0 < noise < math.inf else 0.0

    def _noise(self, changes: Changes) -> float:
        begun = time.monotonic()
        kept = tuple(getattr(self.opened.step, "keep_float", ()))
        asked = changes.get("keep_float", ())
        merged = {**changes, **({"keep_float": (*kept, *asked)} if asked else {})}
        passes = changed(self.opened.recipe.passes, self.opened.quantizer, {"method": "fast", **merged})
        some = self.opened.samples.thinned(TRIED_WITH)
        made = run(self.model, passes[self.opened.quantizer :], self.opened.context(self.workdir, some))
        noise = self.judge.noise(made.graph)
        if self.priced and (not changes or asked):
            self.graphs[flags(changes)] = made.graph
        self.longest = max(self.longest, time.monotonic() - begun)
        return noise


def tried(
    rows: Sequence[BlamedLayer], layers: Sequence[QuantizedLayer], trials: Trials
) -> tuple[list[Remedy], list[Remedy]]:
    """Try what fits the causes, those of the layers to blame first.

    Returns:
        What helps, and what does not, the best first.
    """
    guilty = [row for row in rows if (row.gain_db or 0.0) >= LEAST_GAIN]
    found: list[Remedy] = []
    for changes in islice(_fitting(guilty, rows, trials.opened), MOST_OPTIONS):
        found += _remedy(changes, trials)
    for row in guilty[:MOST_KEPT]:
        found += _in_float(row, layers, trials)
    ordered = sorted({each.option: each for each in found}.values(), key=lambda each: -each.gain_db)
    helping = [each for each in ordered if each.gain_db >= LEAST_GAIN]
    return helping, ordered[len(helping) :]


def chosen(remedies: Sequence[Remedy], trials: Trials) -> tuple[Remedy, ...]:
    """The remedies with those marked that go well together, cheap ones first.

    The option that gains most, then layers in float as long as each brings something on top, and the outputs are not
    close to float anyway. That is decided by the
    outputs' SQNR on calibration samples: no labels are looked at, so nothing is held back for a confirmation.
    """
    options = [each for each in remedies if "keep_float" not in each.changes][:1]
    marked, total = {each.option for each in options}, dict(options[0].changes) if options else {}
    reached = options[0].gain_db if options else 0.0
    for each in remedies:
        if "keep_float" not in each.changes or trials.sqnr + reached >= ENOUGH:
            continue
        kept = tuple(dict.fromkeys((*total.get("keep_float", ()), *each.changes["keep_float"])))
        both: Changes = {**total, "keep_float": kept}
        together = trials.gain(both) if total else each.gain_db
        if together is not None and together - reached >= LEAST_GAIN:
            total, reached = both, together
            marked.add(each.option)
    return tuple(replace(each, chosen=each.option in marked) for each in remedies)


def attached(rows: Sequence[BlamedLayer], remedies: Sequence[Remedy]) -> list[BlamedLayer]:
    """Layers with the cheapest remedy that helps: an option that fits their causes takes no time, float does."""
    result = []
    for row in rows:
        fitting = {change for cause in row.causes for change in FITTING.get(cause.kind, ())}
        options = [each for each in remedies if set(each.changes.items()) <= fitting]
        kept = [each for each in remedies if each.changes.get("keep_float", ())[-1:] == (row.name,)]
        best = next(iter((*options, *kept)), None)
        price = kept[0].price_ms if kept else None
        told = f"{best.option} ({best.gain_db:+.1f} dB)" if best else None
        result.append(replace(row, remedy=told, price_ms=price))
    return result


def merged(remedies: Sequence[Remedy], opened: Opened) -> dict[str, object]:
    """The options of the quantize pass with all chosen remedies."""
    changes: dict[str, object] = {}
    kept = list(getattr(opened.step, "keep_float", ()))
    for each in remedies:
        if each.chosen:
            kept += each.changes.get("keep_float", ())
            changes.update({name: value for name, value in each.changes.items() if name != "keep_float"})
    return {**changes, "keep_float": tuple(dict.fromkeys(kept))} if kept else changes


def gain(before: float, after: float) -> float:
    """By how many dB noise went down, at most 100 either way."""
    if before == after:
        return 0.0
    if not math.isfinite(before) or after <= 0:
        return 100.0
    if not math.isfinite(after) or before <= 0:
        return -100.0
    return max(min(10 * math.log10(before / after), 100.0), -100.0)


def flags(changes: Changes) -> str:
    """Options as the command line takes them."""
    parts = []
    for name, value in changes.items():
        each = (value,) if isinstance(value, str) else value
        parts += [f"--{name.replace('_', '-')} {one}" for one in each]
    return " ".join(parts)


def _fitting(guilty: Sequence[BlamedLayer], rows: Sequence[BlamedLayer], opened: Opened) -> Iterator[Changes]:
    """Options that fit causes, as far as they are open: the guilty layers' causes, then what is most frequent."""
    step, seen = opened.step, set[tuple[str, str]]()
    kinds = [cause.kind for row in guilty for cause in row.causes]
    kinds += [kind for kind, _ in Counter(cause.kind for row in rows for cause in row.causes).most_common()]
    for name, value in (change for kind in kinds for change in FITTING.get(kind, ())):
        now = getattr(step, name, None)
        if now is None or (name, value) in seen:
            continue
        seen.add((name, value))
        if getattr(step, "method", "fast") == "auto" and now == "auto":
            continue  # in a recipe of before what was chosen was written into it: the method has weighed it itself
        if value != (PLAIN.get(name) if now == "auto" else now):
            yield {name: value}


def _in_float(row: BlamedLayer, layers: Sequence[QuantizedLayer], trials: Trials) -> list[Remedy]:
    """A layer in float; with the layers before it where they would go on rounding what it reads."""
    found = _remedy({"keep_float": (row.name,)}, trials)
    if found and found[0].gain_db < REALIZED * (row.gain_db or 0.0):
        reads = {pair.name for layer in layers if layer.name == row.name for pair in layer.inputs}
        makers = [layer.name for layer in layers if layer.output in reads and layer.name != row.name]
        if makers:
            found += _remedy({"keep_float": (*makers, row.name)}, trials)
    return found


def _remedy(changes: Changes, trials: Trials) -> list[Remedy]:
    """A remedy with its gain, if it can be tried; what only changes numbers costs no time."""
    found = trials.gain(changes)
    price = None if "keep_float" in changes else 0.0
    return [] if found is None else [Remedy(flags(changes), changes, found, price)]
