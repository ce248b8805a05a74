"""The variants of the quantize pass that are compared, as data."""

from __future__ import annotations

from infopt_passes.quantize import Quantize

from ..variants import Options

FAST: Options = {"method": "fast"}

ABLATION: tuple[Options, ...] = (
    FAST,
    *({**FAST, "ranges": ranges} for ranges in ("mean-minmax", "percentile", "entropy", "mse")),
    {**FAST, "weight_ranges": "mse"},
    {**FAST, "rounding": "least-squares"},
    {**FAST, "bias_correction": "on"},
    {**FAST, "reconstruct": "on"},
    {**FAST, "equalize": "weights"},
    {**FAST, "equalize": "activations"},
    {"method": "auto"},
    {"method": "auto", "weight_ranges": "minmax"},
    {"method": "auto", "rounding": "nearest"},
    {"method": "auto", "bias_correction": "off"},
    {"method": "auto", "reconstruct": "off"},
    {"method": "auto", "equalize": "off"},
)
"""Each algorithm alone on top of the plain method, and the automatic method without each of them."""

WEIGHTS: tuple[Options, ...] = ({"precision": "int8-weights"}, {"precision": "int4-weights"})


def defaults() -> Options:
    """The method that a user gets without asking."""
    return {"method": Quantize().method}


def methods() -> tuple[Options, ...]:
    """The defaults, and the plain method where that is another."""
    return (defaults(),) if defaults() == FAST else (defaults(), FAST)
