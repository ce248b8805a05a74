"""README's tables of accuracy, from raw numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..sheets import in_markdown, points
from ..subjects import TARGETS
from ..variants import label
from .bars import best_peer, own_bar, peer_bar
from .tables import streams, weights, with_interval
from .variants import ABLATION, FAST

if TYPE_CHECKING:
    from .records import Measured, Run

MARK = "accuracy"

ABLATED = "Each algorithm alone and together, ONNX Runtime: drop in points and SQNR of the worst output"


def block(measured: Measured) -> str:
    """What stands between README's markers."""
    there = measured.environment
    names = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt-rtx-cu13": "TensorRT-RTX"}
    runtimes = ", ".join(f"{names[name]} {there[name]}" for name in names if name in there)
    said = f"Measured {measured.date} on {there.get('cpu', 'an unknown CPU')}, {runtimes}; "
    said += f"{measured.samples} calibration samples or all there are, the same for everybody; drops in points."
    parts = [said, in_markdown(*_accuracy(measured))]
    for sheet in (streams(measured), weights(measured)):
        if sheet.rows:
            parts += [f"{sheet.title}:", in_markdown(sheet.head, sheet.rows)]
    rows = _ablation(measured)
    if rows:
        parts += [f"{ABLATED}:", in_markdown(("options", *_ablated_models(measured)), rows)]
    return "\n\n".join(parts)


def _ablated_models(measured: Measured) -> tuple[str, ...]:
    """Models of which more than the methods was measured."""
    alone = {run.model for run in _variants(measured) if run.variant not in (label(FAST), measured.default)}
    return tuple(dict.fromkeys(run.model for run in _variants(measured) if run.model in alone))


def _variants(measured: Measured) -> list[Run]:
    names = {label(options) for options in ABLATION}
    return [run for run in measured.runs if run.target == TARGETS[0] and run.variant in names]


def _ablation(measured: Measured) -> list[tuple[str, ...]]:
    """Drop and SQNR of each variant, a column a model."""
    found = {(run.variant, run.model): run for run in _variants(measured)}
    models, rows = _ablated_models(measured), []
    for variant in map(label, ABLATION):
        cells = [_cell(found.get((variant, model))) for model in models]
        if any(cell != "-" for cell in cells):
            rows.append((f"`{variant}`", *cells))
    return rows


def _cell(run: Run | None) -> str:
    if run is None or run.drop is None or run.sqnr_db is None:
        return "-"
    return f"{points(run.drop)}, {run.sqnr_db:.1f} dB"


def _accuracy(measured: Measured) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The defaults against the best peer, and the plain method beside them where it is another."""
    plain = {(run.model, run.target): run for run in measured.runs if run.variant == label(FAST)}
    both = measured.default != label(FAST)
    rows = []
    for run in measured.runs:
        if run.variant == measured.default:
            other = plain.get((run.model, run.target))
            rows.append(_row(measured, run, (other,) if both else ()))
    fast = ("plain method",) if both else ()
    head = (
        "model",
        "target",
        "float32",
        "drop of infopt [95 %]",
        *fast,
        "best peer",
        "half a point",
        "best peer + 0.2",
    )
    return head, rows


def _row(measured: Measured, run: Run, others: tuple[Run | None, ...]) -> tuple[str, ...]:
    best = best_peer(measured, run.model, run.target)
    rival = peer_bar(run, best)
    return (
        run.model,
        f"{run.target} (emulated)" if run.where == "emulated" else run.target,
        "-" if run.baseline is None else f"{run.baseline:.4f}",
        with_interval(run),
        *("-" if other is None else points(other.drop) for other in others),
        f"{best.variant} {points(best.drop)}" if best else "none",
        _word(own_bar(run)),
        _word(rival),
    )


def _word(bar: object | None) -> str:
    return "-" if bar is None else str(bar)
