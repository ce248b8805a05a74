"""What the page shows, section by section; the template only places it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infopt.findings import quantizes
from infopt.views.html.charts.latency import latency_notes
from infopt.views.tables import Column, Table, pruning, tables
from infopt.wording import MISSING, UNKNOWN, digits, metric, span

if TYPE_CHECKING:
    from infopt.report import ClassChange, Layer, Report, SampleChange

MAX_ROWS = 200
"""Rows of layers and of classes; report.json has them all."""

MAX_SAMPLES = 24
"""Samples with their pictures."""

MAX_PICTURES = 1_000_000
"""Characters of all thumbnails together: the page stays below two megabytes."""

_PICTURE = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")
_OWN = ("Layers", "Pruning", "Left alone", "Classes", "Samples", "Most changed samples", "Budget")
"""Tables of other views that this page shows in its own way."""

_METHODS = {"tango": "Tango's score interval", "bca": "BCa bootstrap", "bootstrap": "percentile bootstrap"}


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page.

    Attributes:
        key: Its anchor, and the chart that it shows.
        title: Its heading.
        tables: Its tables.
        missing: Why there is nothing to show; empty when there is.
        notes: Sentences under the chart.
        samples: Cards of samples.
    """

    key: str
    title: str
    tables: tuple[Table, ...] = ()
    missing: str = ""
    notes: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample with the picture that may be shown."""

    change: SampleChange
    picture: str | None = field(default=None)


def sections(report: Report) -> list[Section]:
    """The sections of a report in reading order."""
    known = {table.title: table for table in tables(report)}
    taken = {name: known.pop(name, None) for name in (*_OWN, "Accuracy", "Latency", "Size", "Kernels")}

    def of(*names: str) -> tuple[Table, ...]:
        return tuple(table for name in names if (table := taken.get(name) or known.pop(name, None)))

    return [
        Section("accuracy", "Accuracy", of("Accuracy", "Fidelity"), notes=tuple(_accuracy_notes(report))),
        Section("latency", "Latency", of("Latency"), notes=tuple(latency_notes(report.latency))),
        Section("size", "Size and memory", of("Size")),
        _pruning(report),
        Section("kernels", "What runs as integers", of("Kernels")),
        _layers(report),
        _classes(report),
        _samples(report),
        Section("steps", "How it was made", of("Steps", "Choices")),
        Section("data", "Data", of("Data")),
        Section(
            "environment", "Model, target and environment", (*of("Model and target", "Environment"), *known.values())
        ),
    ]


def _accuracy_notes(report: Report) -> Iterator[str]:
    found = report.accuracy
    if found is None:
        return
    if found.interval:
        method = _METHODS.get(found.interval.removeprefix("cluster-"), found.interval)
        groups = f", by {found.groups} groups of samples" if found.groups else ""
        yield f"95 % interval of the paired difference: {method}{groups}."
    if found.mcnemar_p is not None:
        yield f"Exact McNemar test: p = {found.mcnemar_p:.2g}."
    evaluated = report.data.eval
    if evaluated and evaluated.search:
        told = f"{evaluated.search} others chose among candidates and are not in this number"
        yield f"Confirmed on {evaluated.samples} samples; {told}."


def _pruning(report: Report) -> Section:
    found = tuple(table for table in pruning(report, MAX_ROWS) if table.rows or table.notes)
    missing = "" if found else "nothing was pruned"
    return Section("pruning", "What was pruned", found, missing)


def _layers(report: Report) -> Section:
    found = report.layers
    if not found:
        return Section("layers", "Layer by layer", missing=_no_layers(report))
    ordered = sorted(found, key=_loudness)
    columns = [
        ("layer", "name"),
        ("operator", "name"),
        ("SQNR dB", "number"),
        ("outputs with it in float, dB", "number"),
    ]
    columns += [("why", "text"), ("remedy", "text"), ("gain dB", "number"), ("price ms", "number")]
    rows = tuple(_layer(each) for each in ordered[:MAX_ROWS])
    more = max(0, len(found) - MAX_ROWS)
    note = (
        "SQNR is the power of a layer's output over that of its error: 20 dB is 10 % error, 40 dB is 1 %; low is bad."
    )
    return Section("layers", "Layer by layer", (_table("Layers", columns, rows, more),), notes=(note,))


def _no_layers(report: Report) -> str:
    if report.command == "compare":
        return "not measured: compare looks at outputs, of models that need not have layers in common"
    if not quantizes(report):
        return "nothing was quantized"
    return "not measured: it takes real calibration samples; infopt blame DIR --calib DATA looks into the layers"


def _loudness(layer: Layer) -> float:
    return layer.sqnr_db if layer.sqnr_db is not None else float("inf")


def _layer(each: Layer) -> tuple[str, ...]:
    return (
        *(each.name, each.op, digits(each.sqnr_db), digits(each.output_sqnr_db)),
        *(each.why or MISSING, each.remedy or MISSING, digits(each.gain_db), digits(each.price_ms)),
    )


def _classes(report: Report) -> Section:
    title = "Class by class"
    if not report.classes:
        missing = _no_classes(report)
        return Section("classes", title, missing=missing)
    columns = [("class", "name"), ("samples", "number"), ("before", "number"), ("after", "number"), ("drop", "number")]
    columns += [("95 % interval of the change", "number")]
    rows = tuple(_class(each) for each in report.classes[:MAX_ROWS])
    more = max(0, len(report.classes) - MAX_ROWS)
    return Section("classes", title, (_table("Classes", columns, rows, more),))


def _no_classes(report: Report) -> str:
    evaluated = report.data.eval
    if report.accuracy is None:
        return f"not measured: {report.accuracy_reason or UNKNOWN}"
    if evaluated is None or not evaluated.labelled:
        return "not measured: there are no labels"
    return "not measured: labels are not classes, or the metric does not score single samples"


def _class(each: ClassChange) -> tuple[str, ...]:
    return (
        *(each.label, str(each.n), metric(each.baseline), metric(each.candidate)),
        *(metric(each.drop), span(each.ci95)),
    )


def _samples(report: Report) -> Section:
    title = "Samples that changed most"
    if not report.samples:
        why = (report.accuracy_reason or UNKNOWN) if report.accuracy is None else "no answer moved"
        return Section("samples", title, missing=why)
    note = "Samples whose answer flipped come first, then the others; both by how far their outputs moved."
    return Section("samples", title, notes=(note,), samples=tuple(_pictured(report.samples)))


def _pictured(samples: Sequence[SampleChange]) -> Iterator[Sample]:
    """Samples with their pictures, as long as these are pictures and fit into the page."""
    room = MAX_PICTURES
    for each in samples[:MAX_SAMPLES]:
        picture = each.thumbnail
        if picture is None or len(picture) > room or not _PICTURE.fullmatch(picture):
            yield Sample(each)
            continue
        room -= len(picture)
        yield Sample(each, picture)


def _table(title: str, columns: Sequence[tuple[str, str]], rows: tuple[tuple[str, ...], ...], more: int) -> Table:
    """A table without the columns that say nothing."""
    told = [index for index in range(len(columns)) if index == 0 or any(row[index] != MISSING for row in rows)]
    kept = tuple(Column(columns[index][0], columns[index][1]) for index in told)  # type: ignore[arg-type]
    return Table(title, kept, tuple(tuple(row[index] for index in told) for row in rows), more=more)
