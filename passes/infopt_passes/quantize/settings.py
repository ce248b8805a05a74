"""What the options ask for, as settings: what is left to the method is plain, or one of the method's steps.

And back: settings that the method chose, as options that ask for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from infopt.options import plain
from infopt_passes.quantize.fitting.fitted import Wanted
from infopt_passes.quantize.static import Settings

if TYPE_CHECKING:
    from infopt_passes.quantize import Quantize


def plain_settings(options: Quantize) -> Settings:
    """The settings of ``--method fast``: what was asked for, and everything else plain."""
    return Settings(
        equalize="off" if options.equalize == "auto" else options.equalize,
        ranges="minmax" if options.ranges == "auto" else options.ranges,
        percentile=options.percentile,
        weights=Wanted(
            "mse" if options.weight_ranges == "mse" else "minmax",
            "least-squares" if options.rounding == "least-squares" else "nearest",
            options.bias_correction == "on",
        ),
        reconstruct=options.reconstruct == "on",
        keep_float=frozenset(options.keep_float),
    )


def decided(options: Quantize, settings: Settings) -> dict[str, Any]:
    """Options, as a recipe holds them, with which ``--method fast`` quantizes by given settings.

    Args:
        options: What the user asked for; they tell what settings do not hold.
        settings: What was chosen; :func:`plain_settings` makes them of the result.
    """
    kept = dict.fromkeys((*options.keep_float, *sorted(settings.keep_float)))
    return plain(replace(options, method="fast", time_limit=None)) | {
        "equalize": settings.equalize,
        "ranges": settings.ranges,
        "percentile": settings.percentile,
        "weight_ranges": settings.weights.ranges,
        "rounding": settings.weights.rounding,
        "bias_correction": "on" if settings.weights.bias else "off",
        "reconstruct": "on" if settings.reconstruct else "off",
        "keep_float": list(kept),
    }


@dataclass(frozen=True, slots=True)
class Step:
    """Something that ``--method auto`` tries on top of what proved itself before.

    Attributes:
        label: What it does, for the report.
        open: Whether the user left it to the method.
        apply: The settings with it.
        effort: How many times as long it may take as the settings that it is tried on top of.
    """

    label: str
    open: Callable[[Quantize], bool]
    apply: Callable[[Settings], Settings]
    effort: float = 1.0


def _fitted(settings: Settings) -> Settings:
    return replace(settings, weights=Wanted(settings.weights.ranges, "least-squares", bias=True))


FITTED = Step(
    "weights rounded by least squares, biases corrected",
    lambda options: options.rounding == "auto" and options.bias_correction == "auto",
    _fitted,
    effort=4,
)

FIRST_STEPS = (
    Step(
        "channels rescaled for even activations",
        lambda options: options.equalize == "auto",
        lambda settings: replace(settings, equalize="activations"),
    ),
    FITTED,
    Step(
        "activation ranges of least square error",
        lambda options: options.ranges == "auto",
        lambda settings: replace(settings, ranges="mse"),
    ),
)
"""In the order in which they are tried: what makes the float model easier first, since the others depend on it."""

LAST_STEPS = (
    replace(FITTED, label=f"{FITTED.label}, once more"),
    Step(
        "layers refitted to what they read in the quantized model",
        lambda options: options.reconstruct == options.rounding == options.bias_correction == "auto",
        lambda settings: replace(_fitted(settings), reconstruct=True),
        effort=1.5,
    ),
    Step(
        "weight ranges of least square error",
        lambda options: options.weight_ranges == "auto",
        lambda settings: replace(settings, weights=replace(settings.weights, ranges="mse")),
        effort=1.5,
    ),
)
"""Tried when it is known which layers stay in float, where there is time left.

What did not pay while activations made most of the error may pay now.
"""
