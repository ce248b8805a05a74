"""What would help: options that fit a cause are tried on the whole model, layers are left in float one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infopt.blaming.judging import OutputJudge
from infopt.blaming.opened import Opened, changed
from infopt.blaming.report import BlamedLayer, Remedy
from infopt.errors import InfoptError
from infopt.model import Model
from infopt.passes import run

Change = tuple[str, object]
"""An option of the quantize pass with a value."""

FITTING: dict[str, tuple[Change, ...]] = {
    "outlier range": (("ranges", "mse"), ("equalize", "activations"), ("ranges", "percentile")),
    "clipping": (("ranges", "minmax"), ("ranges", "mse")),
    "mixed-magnitude Concat": (("equalize", "activations"), ("ranges", "mse")),
    "tiny channels": (("equalize", "activations"),),
    "few levels": (("ranges", "mse"),),
    "bias shift": (("bias_correction", "on"),),
    "weight rounding": (("weight_ranges", "mse"), ("rounding", "least-squares")),
}
"""Options that may help against a cause, the likeliest first."""

LEAST_GAIN = 0.5
"""A remedy has to bring so many dB."""

MOST_KEPT = 3
"""Layers that ``--apply`` leaves in float, at most: with more, another method is due."""

TRIED_WITH = 64
"""Calibration samples that an option is tried with."""


@dataclass(frozen=True, slots=True)
class Trials:
    """Tries options of the quantize pass.

    Attributes:
        opened: The output directory.
        model: The float model as it went into quantization.
        judge: Judges the results.
        workdir: Folder for files that only live during the run.
        deadline: When to stop, on the monotonic clock.
    """

    opened: Opened
    model: Model
    judge: OutputJudge
    workdir: Path
    deadline: float

    def noise(self, changes: dict[str, object]) -> float:
        """Noise of the outputs with other options, plainly: the method's own search is left out."""
        passes = changed(self.opened.recipe.passes, self.opened.quantizer, {"method": "fast", **changes})
        some = self.opened.samples.thinned(TRIED_WITH)
        made = run(self.model, passes[self.opened.quantizer :], self.opened.context(self.workdir, some))
        return self.judge.noise(made.graph)

    def gains(self, wanted: Iterable[Change], notes: list[str]) -> dict[Change, float]:
        """What each option gains in dB over the recipe's options; those that do not fit the recipe are left out."""
        changes = [change for change in dict.fromkeys(wanted) if self._open(change)]
        if not changes:
            return {}
        begun = time.monotonic()
        if begun >= self.deadline:
            notes.append("there was no time to try options: give a longer --time-limit")
            return {}
        plain = self.noise({})
        found: dict[Change, float] = {}
        for name, value in changes:
            if time.monotonic() + 1.5 * (time.monotonic() - begun) / (len(found) + 1) > self.deadline:
                notes.append(f"there was no time to try {flag((name, value))}: give a longer --time-limit")
                continue
            try:
                found[name, value] = gain(plain, self.noise({name: value}))
            except InfoptError as error:
                notes.append(f"{flag((name, value))} cannot be tried: {error}")
        return found

    def _open(self, change: Change) -> bool:
        """Whether an option exists, and is neither what it is now nor what the method has weighed itself."""
        name, value = change
        step = self.opened.recipe.passes[self.opened.quantizer]
        now = getattr(step, name, None)
        if now is None or now == value:
            return False
        if getattr(step, "method", "fast") == "auto":
            return bool(now != "auto")
        plain = {"ranges": "minmax", "equalize": "off", "bias_correction": "off", "rounding": "nearest"}
        return not (now == "auto" and plain.get(name, "minmax") == value)


def gain(before: float, after: float) -> float:
    """By how many dB noise went down, at most 100."""
    from math import isfinite, log10

    if not isfinite(before):
        return 100.0 if isfinite(after) else 0.0
    if not isfinite(after):
        return -100.0
    if before <= 0:
        return 0.0
    return min(10 * log10(before / after), 100.0) if after > 0 else 100.0


def flag(change: Change) -> str:
    """An option as the command line takes it."""
    return f"--{change[0].replace('_', '-')} {change[1]}"


def attached(layers: Sequence[BlamedLayer], gains: dict[Change, float]) -> list[BlamedLayer]:
    """Layers with the cheapest remedy that helps: an option that fits their causes costs no time, float does."""
    result = []
    for layer in layers:
        fitting = [change for cause in layer.causes for change in FITTING.get(cause.kind, ())]
        helping = {change: gains[change] for change in fitting if gains.get(change, 0.0) >= LEAST_GAIN}
        if helping:
            best = max(helping, key=lambda change: helping[change])
            result.append(replace(layer, remedy=f"{flag(best)} ({helping[best]:+.1f} dB)"))
        elif (layer.gain_db or 0.0) >= LEAST_GAIN:
            result.append(replace(layer, remedy=f"--keep-float {layer.name}"))
        else:
            result.append(layer)
    return result


def remedies(layers: Sequence[BlamedLayer], gains: dict[Change, float]) -> tuple[Remedy, ...]:
    """Everything that was tried and helps, the best first; what ``--apply`` takes is marked.

    It takes the option that gains most, then the layers that gain most in float, a few of them. That is decided by the
    outputs' SQNR on calibration samples: no labels are looked at, so nothing has to be held back for a confirmation.
    """
    options = [
        Remedy(flag(change), found, 0.0, "tried on the whole model with --method fast")
        for change, found in gains.items()
        if found >= LEAST_GAIN
    ]
    kept = [
        Remedy(f"--keep-float {layer.name}", layer.gain_db, layer.price_ms, "that layer in float")
        for layer in layers
        if layer.gain_db is not None and layer.gain_db >= LEAST_GAIN
    ]
    options.sort(key=lambda each: -each.gain_db)
    kept.sort(key=lambda each: -each.gain_db)
    chosen = {each.option for each in (*options[:1], *kept[:MOST_KEPT])}
    found = sorted((*options, *kept), key=lambda each: -each.gain_db)
    return tuple(replace(each, chosen=each.option in chosen) for each in found)


def changes_of(chosen: Iterable[Remedy], opened: Opened) -> dict[str, object]:
    """The options of the quantize pass with remedies."""
    step = opened.recipe.passes[opened.quantizer]
    kept = list(getattr(step, "keep_float", ()))
    changes: dict[str, object] = {}
    for remedy in chosen:
        name, value = remedy.option.removeprefix("--").split(" ", 1)
        if name == "keep-float":
            kept.append(value)
        else:
            changes[name.replace("-", "_")] = value
    return {**changes, "keep_float": tuple(dict.fromkeys(kept))} if kept else changes
