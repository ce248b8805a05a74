"""Blame as tables, on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from infopt.blaming.report import LEAST_GAIN
from infopt.views.tables import Column, Table
from infopt.wording import MISSING, digits, metric, signed, visible

if TYPE_CHECKING:
    from rich.console import Console

    from infopt.blaming.report import BlamedLayer, BlameReport, Flips, Remedy

ROWS = 10
"""Layers and remedies that are shown unless all are wanted."""

CAUSES = 5
"""Layers whose causes are."""

_LAYERS = (
    Column("layer", "name"),
    Column("op", "text"),
    Column("SQNR dB"),
    Column("gain dB"),
    Column("price ms"),
    Column("metric"),
)
_CAUSES = (Column("layer", "name"), Column("why", "text"), Column("helps", "text"))
_REMEDIES = (
    Column("remedy", "name"),
    Column("gain dB"),
    Column("price ms"),
    Column("applied", "text"),
)


def headline(report: BlameReport) -> str:
    """The first line: how far the outputs are from float, and the layer that costs most, and what helps for real.

    What a layer gains in float is not promised: quantizing again with it in float may bring less, and was tried.
    """
    told = f"outputs at {decibels(report.output_sqnr_db)} dB SQNR" if report.output_sqnr_db is not None else "no error"
    worst = next((layer for layer in report.layers if (layer.gain_db or 0) > 0), None)
    if worst is not None:
        told += f"; {visible(worst.name)} costs most"
    if report.remedies:
        best = report.remedies[0]
        told += f"; {visible(best.option)} would bring {best.gain_db:+.1f} dB"
    elif report.useless:
        told += f"; tried {len(report.useless)} remedies, none brings {LEAST_GAIN:g} dB"
    if report.applied is not None:
        told += f"; {visible(report.applied.path)} has {decibels(report.applied.after_db)} dB"
    return f"BLAME  {visible(report.path)}: {told}"


def tables(report: BlameReport, details: bool = False) -> tuple[Table, ...]:
    """The tables of a blame; texts are raw.

    Args:
        report: What was found.
        details: All layers.
    """
    shown = report.layers if details else report.layers[:ROWS]
    notes = (
        f"SQNR of each layer's output on {report.samples} samples, errors before it included; gain of the outputs' "
        f"SQNR on {report.judged} samples with that layer in float, all that it reads included.",
        *_about_metric(report),
        *report.notes,
    )
    caused = [layer for layer in report.layers if layer.causes]
    told = caused if details else caused[:CAUSES]
    found = (*report.remedies, *report.useless) if details else report.remedies[:ROWS]
    made = (
        Table("Layers", _LAYERS, tuple(map(_layer, shown)), notes, more=len(report.layers) - len(shown)),
        Table("Why", _CAUSES, tuple(map(_cause, told)), more=len(caused) - len(told)),
        Table(
            "Remedies",
            _REMEDIES,
            tuple(_remedy(each, report) for each in found),
            more=max(0, len(report.remedies) - len(found)),
        ),
    )
    return tuple(table for table in made if table.rows)


def render(report: BlameReport, console: Console, details: bool = False) -> None:
    """Print a blame; its first line is the headline.

    Args:
        report: What was found.
        console: Where to print.
        details: All layers.
    """
    from rich.text import Text

    from infopt.views.console import print_table

    console.print(Text(headline(report)), soft_wrap=not console.is_terminal)
    for table in tables(report, details):
        print_table(table, console)


def markdown(report: BlameReport) -> str:
    """A blame as GitHub Flavored Markdown, all layers included; see :mod:`infopt.views.markdown`."""
    from infopt.views.markdown import section, text

    parts = [f"**{text(headline(report))}**", *map(section, tables(report, details=True))]
    return "\n\n".join(parts) + "\n"


def decibels(value: float | None) -> str:
    """A ratio in dB with one decimal; without a value there is no noise."""
    return "no noise" if value is None else f"{value:.1f}"


def _layer(layer: BlamedLayer) -> tuple[str, ...]:
    flips = layer.flips
    return (
        layer.name,
        layer.op,
        decibels(layer.sqnr_db) if layer.sqnr_db is not None else MISSING,
        MISSING if layer.gain_db is None else f"{layer.gain_db:+.1f}",
        MISSING if layer.price_ms is None else _signed_ms(layer.price_ms),
        MISSING if flips is None else signed(flips.change) + _counts(flips),
    )


def _counts(flips: Flips) -> str:
    return "" if flips.gained is None else f" ({flips.gained} gained, {flips.lost} lost)"


def _about_metric(report: BlameReport) -> Iterator[str]:
    flips = next((layer.flips for layer in report.layers if layer.flips), None)
    if flips is None:
        return
    one = "" if flips.gained is None else f", where one flip is {metric(1 / flips.samples)}"
    told = f"metric: what {flips.metric or 'it'} gains on {flips.samples} evaluation samples"
    yield f"{told} with that layer in float{one}."


def _cause(layer: BlamedLayer) -> tuple[str, ...]:
    remedy = layer.remedy or ""
    return layer.name, layer.why or "", remedy


def _remedy(each: Remedy, report: BlameReport) -> tuple[str, ...]:
    price = "0" if each.price_ms == 0 else MISSING if each.price_ms is None else _signed_ms(each.price_ms)
    done = "yes" if report.applied and each.option in report.applied.options else "--apply" if each.chosen else ""
    return each.option, f"{each.gain_db:+.1f}", price, done


def _signed_ms(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{digits(abs(value), 2)}"
