"""The tables, of raw numbers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bars import Bar
from ..sheets import Cells, Sheet, brief, points
from ..variants import label
from .bars import INT4_BYTES, INT4_DROP, STREAM_DROP, best_peer, own_bar, peer_bar, peers_of
from .variants import ABLATION, FAST, WEIGHTS

if TYPE_CHECKING:
    from .records import Measured, Run


def sheets(measured: Measured) -> list[Sheet]:
    """All tables that there are numbers for."""
    every = [head_to_head(measured), peers(measured), ablation(measured), streams(measured), weights(measured)]
    return [sheet for sheet in every if sheet.rows]


def with_interval(run: Run) -> str:
    """A drop in points with its interval, or why there is none."""
    if run.reason:
        return brief(run.reason)
    inside = f" [{points(run.interval[0])}, {points(run.interval[1])}]" if run.interval else " [no interval]"
    return points(run.drop) + inside + (" all in float" if run.quantized == 0 else "")


def head_to_head(measured: Measured) -> Sheet:
    """infopt against the best peer in every runtime."""
    named = {measured.default, label(FAST)}
    rows = []
    for run in _runs(measured, named):
        best, bar = best_peer(measured, run.model, run.target), own_bar(run)
        rival = peer_bar(run, best)
        peer = f"{best.variant} {points(best.drop)}" if best else "none runs" if _asked(measured, run) else "not asked"
        limit = f" (limit {points(bar.limit, '')})" if bar else ""
        other = str(rival) if rival else "-" if run.drop is None else "no peer" if _asked(measured, run) else "-"
        score = "-" if run.baseline is None else f"{run.baseline:.4f}"
        cells = (score, with_interval(run), f"{bar or '-'}{limit}", peer, other, _seconds(run))
        rows.append((run.model, _target(run), run.variant, *cells))
    head = ("model", "target", "method", "float32", "drop, points [95 %]", "own bar", "best peer", "peer bar", "s")
    title = f"infopt against the peers; {measured.samples} calibration samples or all there are, the same for everybody"
    return Sheet(title, head, tuple(rows))


def peers(measured: Measured) -> Sheet:
    """Every peer's artifact in every runtime."""
    rows = [(row.model, row.target, row.variant, brief(row.reason or points(row.drop))) for row in measured.peers]
    return Sheet("The peers' artifacts", ("model", "target", "peer and setting", "drop, points"), tuple(rows))


def ablation(measured: Measured) -> Sheet:
    """Each algorithm alone, and the automatic method without each."""
    order = [label(options) for options in ABLATION]
    rows = [
        (run.model, _target(run), run.variant, *_ablated(run))
        for run in sorted(
            _runs(measured, set(order)), key=lambda run: (run.model, run.target, order.index(run.variant))
        )
    ]
    head = ("model", "target", "options", "score", "drop, points [95 %]", "SQNR, dB", "s")
    alone = {(row[0], row[1]) for row in rows if row[2] not in (label(FAST), measured.default)}
    return Sheet("Ablation", head, tuple(row for row in rows if (row[0], row[1]) in alone))


def streams(measured: Measured) -> Sheet:
    """A recurrent model fed with its own state."""
    rows = []
    for row in measured.streams:
        if row.reason or row.score is None or row.baseline is None:
            rows.append((row.model, row.target, row.variant, brief(row.reason or "-"), "", "", "", ""))
            continue
        bar = Bar(STREAM_DROP, row.baseline - row.score)
        drift = " ".join(f"{row.drift[mark]:.3f}" for mark in sorted(row.drift, key=int))
        shown = (f"{row.baseline:.4f}", f"{row.score:.4f}", points(bar.value), str(bar))
        rows.append((row.model, row.target, row.variant, *shown, drift))
    head = (
        "model",
        "target",
        "method",
        "float32",
        "score",
        "drop, points",
        "bar",
        "rms of the state's error, each 10 s",
    )
    return Sheet("60 s of a stream, fed with its own state", head, tuple(rows))


def weights(measured: Measured) -> Sheet:
    """Weights of fewer bits."""
    base, least = (label(options) for options in WEIGHTS)
    sizes = {(run.model, run.target): run.matrix_bytes for run in _runs(measured, {base})}
    rows = []
    for run in _runs(measured, {base, least}):
        size = sizes.get((run.model, run.target))
        ratio = run.matrix_bytes / size if run.matrix_bytes and size else None
        bars = (
            (Bar(INT4_DROP, run.drop, run.interval), Bar(INT4_BYTES, ratio)) if run.drop is not None and ratio else ()
        )
        shown = ("" if run.variant == base or not bars else f"drop {bars[0]}, bytes {bars[1]}") or "-"
        score = "-" if run.score is None else f"{run.score:.4f}"
        size_shown = "-" if run.matrix_bytes is None else f"{run.matrix_bytes:,}"
        cells = (score, with_interval(run), size_shown, "-" if ratio is None else f"{ratio:.3f}", shown)
        rows.append((run.model, run.target, run.variant, *cells))
    head = ("model", "target", "options", "score", "drop, points [95 %]", "bytes of matrices", "ratio", "bars")
    return Sheet("Weights alone, 4 bits against 8", head, tuple(rows))


def _ablated(run: Run) -> Cells:
    if run.drop is None:
        return "-", with_interval(run), "-", "-"
    return f"{run.score:.4f}", with_interval(run), "-" if run.sqnr_db is None else f"{run.sqnr_db:.1f}", _seconds(run)


def _runs(measured: Measured, variants: set[str]) -> list[Run]:
    return [run for run in measured.runs if run.variant in variants]


def _asked(measured: Measured, run: Run) -> bool:
    return any(True for _ in peers_of(measured, run.model, run.target))


def _target(run: Run) -> str:
    return f"{run.target} (emulated)" if run.where == "emulated" else run.target


def _seconds(run: Run) -> str:
    return "-" if run.seconds is None else f"{run.seconds:.1f}"
