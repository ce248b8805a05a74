"""The report as tables of words, before any view dresses them: what is shown is decided here once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from infopt.labelling import unlabelled, why_unlabelled
from infopt.views import pruning as pruned_rows
from infopt.wording import MISSING, UNKNOWN, digits, megabytes, metric, percent, signed, span, times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infopt.accuracy import Accuracy
    from infopt.bench import Times
    from infopt.model import Step
    from infopt.report import Criterion, Report

MAX_ROWS = 15


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``name`` holds what users and files are called, ``number`` is aligned to the right."""

    title: str
    kind: Literal["name", "text", "number"] = "number"


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; texts are raw, a view escapes them.

    Attributes:
        title: Heading.
        columns: What the cells are.
        rows: Cells; there may be none.
        notes: Sentences under the heading.
        more: Rows that were left out.
        detail: Only of interest to those who ask for more.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    more: int = 0
    detail: bool = False


def tables(report: Report) -> tuple[Table, ...]:
    """All tables of a report in reading order; empty ones are left out."""
    made = (
        *(
            budget(report),
            _accuracy(report),
            _latency(report),
            _size(report),
            *pruning(report),
            _kernels(report),
            _choices(report),
            _data(report),
        ),
        *(_fidelity(report), _classes(report), _samples(report), _steps(report), _model(report), _environment(report)),
    )
    return tuple(table for table in made if table.rows or table.notes)


def warnings(report: Report) -> tuple[str, ...]:
    """Reasons of the verdict and the warnings that do not repeat them."""
    return tuple(dict.fromkeys((*report.verdict.reasons, *report.warnings)))


def budget(report: Report) -> Table:
    """The limits that were demanded, one a row, with what was measured and the answer."""
    columns = (
        Column("limit", "name"),
        Column("demanded"),
        Column("measured"),
        Column("interval"),
        Column("answer", "text"),
    )
    return Table("Budget", columns, tuple(_criterion(item) for item in report.verdict.budgets))


def _criterion(item: Criterion) -> tuple[str, ...]:
    interval = MISSING if item.interval is None else "..".join(_limit(item.name, end) for end in item.interval)
    return item.name, _limit(item.name, item.limit), _limit(item.name, item.value), interval, item.status


def _limit(name: str, value: float | None) -> str:
    if name.endswith("bytes") and value is not None:
        return f"{value:,.0f}"
    return metric(value) if name.endswith("drop") else digits(value, 4)


def _accuracy(report: Report) -> Table:
    columns = (
        *(
            Column("metric", "name"),
            Column("before"),
            Column("after"),
            Column("delta"),
            Column("95 % interval"),
        ),
        *(Column("samples"), Column("gained"), Column("lost")),
    )
    found = report.accuracy
    if found is None:
        return Table("Accuracy", columns, (), (f"Accuracy was NOT measured: {report.accuracy_reason or UNKNOWN}.",))
    rows = tuple(_score(item) for item in (found, *found.others))
    return Table("Accuracy", columns, rows, tuple(_accuracy_notes(report)))


def _score(item: Accuracy) -> tuple[str, ...]:
    flips = (str(item.flips.gained), str(item.flips.lost)) if item.flips else (MISSING, MISSING)
    scores = (metric(item.baseline), metric(item.candidate), signed(item.delta), span(item.ci95))
    return (item.metric, *scores, str(item.n), *flips)


def _accuracy_notes(report: Report) -> Iterator[str]:
    found = report.accuracy
    if found is None:
        return
    if unlabelled(report):
        yield f"Accuracy was NOT measured: {why_unlabelled(report)}, so this only compares with the original model."
    if not found.higher_is_better:
        yield "Lower is better."
    if found.where == "emulated":
        yield "Emulated in ONNX Runtime, not measured on the target."
    if found.ci95 is None:
        yield f"No interval: {found.ci95_reason or UNKNOWN}."


def _latency(report: Report) -> Table:
    found, rows = report.latency, []
    columns = (
        Column("", "text"),
        Column("setting", "name"),
        *map(Column, ("p50 ms", "p90 ms", "p99 ms", "accuracy")),
    )
    if found.baseline_float:
        base = found.baseline_float
        rows.append(("best float", base.setting, *_times(base.ms), metric(base.accuracy)))
    if found.candidate:
        accuracy = report.accuracy.candidate if report.accuracy else None
        rows.append(("artifact", found.candidate.setting, *_times(found.candidate.ms), metric(accuracy)))
    notes = []
    if found.speedup is not None:
        within = f" (95 % {times(found.speedup_ci95[0])}..{times(found.speedup_ci95[1])})" if found.speedup_ci95 else ""
        notes.append(f"Speedup at the median {times(found.speedup)}{within}.")
    if found.reason:
        notes.append(f"Not measured: {found.reason}.")
    under = (("batch", found.batch), ("threads", found.threads), ("rounds", found.runs))
    notes.append(", ".join(f"{name} {value}" for name, value in under if value is not None).capitalize())
    return Table("Latency", columns, tuple(rows), tuple(filter(None, notes)))


def _times(ms: Times | None) -> tuple[str, str, str]:
    return (digits(ms.p50), digits(ms.p90), digits(ms.p99)) if ms else (MISSING,) * 3


def _size(report: Report) -> Table:
    size, memory = report.size, report.memory
    before, after = size.baseline_bytes, size.candidate_bytes
    ratio = times(before / after) if before and after else MISSING
    columns = (Column("original"), Column("artifact"), Column("ratio"), Column("peak memory"))
    missing = "Not measured" if report.command == "compare" else "No artifact"
    notes = [f"{missing}: {size.reason or UNKNOWN}."] if after is None else []
    if packed := pruned_rows.compressed(report):
        notes.append(f"As an archive holds it: {packed}.")
    if memory.peak_bytes is None and memory.reason:
        notes.append(f"Memory was not measured: {memory.reason}.")
    return Table(
        "Size",
        columns,
        ((megabytes(before or None), megabytes(after), ratio, megabytes(memory.peak_bytes)),),
        tuple(notes),
    )


def pruning(report: Report, most: int = MAX_ROWS) -> tuple[Table, Table]:
    """What shrank, the most first, and what was left alone and why; at most so many rows of either."""
    columns = (Column("group", "name"), Column("of", "text"), *map(Column, ("before", "after", "left")))
    rows, alone = pruned_rows.shrunk(report), pruned_rows.left_alone(report)
    remarks = (Column("", "text"),) if any(row[-1] for row in rows) else ()
    shown = tuple(row if remarks else row[:-1] for row in rows[:most])
    why = (Column("why", "text"), Column("layers"), Column("which", "name"))
    return (
        Table("Pruning", (*columns, *remarks), shown, tuple(pruned_rows.notes(report)), max(0, len(rows) - most)),
        Table("Left alone", why, alone[:most], more=max(0, len(alone) - most)),
    )


def _kernels(report: Report) -> Table:
    found = report.kernels
    columns = (Column("in float", "name"), Column("operator", "name"), Column("cost"), Column("why", "text"))
    shown = found.float_nodes[:MAX_ROWS]
    rows = tuple((node.name, node.op, percent(node.cost), node.why or UNKNOWN) for node in shown)
    if found.integer is None or found.total is None:
        notes = [f"Not known: {found.reason or UNKNOWN}."]
    else:
        notes = [f"{found.integer} of {found.total} compute layers run as integers."]
        if found.compressed:
            notes.append(f"{found.compressed} others read compressed weights, and compute in float.")
    return Table("Kernels", columns, rows, tuple(notes), _left_out(found.float_nodes))


def _data(report: Report) -> Table:
    columns = (
        Column("use", "text"),
        Column("path", "name"),
        Column("samples"),
        Column("sha256", "name"),
        Column("", "text"),
    )
    rows, calib, evaluation = [], report.data.calib, report.data.eval
    if calib:
        remark = "SYNTHETIC" if calib.synthetic else ""
        rows.append(("calibration", calib.path or MISSING, str(calib.samples), (calib.sha256 or MISSING)[:12], remark))
    if evaluation:
        remark = "labelled" if evaluation.labelled else "no labels"
        if evaluation.search:
            remark += f", {evaluation.search} others chose among candidates"
        sha = (evaluation.sha256 or MISSING)[:12]
        rows.append(("evaluation", evaluation.path or MISSING, str(evaluation.samples), sha, remark))
    return Table("Data", columns, tuple(rows))


def _fidelity(report: Report) -> Table:
    columns = (
        Column("output", "name"),
        *map(Column, ("top-1 agreement", "cosine", "rank correlation", "SQNR dB", "largest difference")),
    )
    rows = tuple(
        (
            *(item.output, percent(item.top1_agreement), metric(item.cosine_mean), metric(item.rank_correlation)),
            *("equal" if item.max_abs == 0 else digits(item.sqnr_db), digits(item.max_abs)),
        )
        for item in report.fidelity[:MAX_ROWS]
    )
    return Table("Fidelity", columns, rows, more=_left_out(report.fidelity), detail=True)


def _classes(report: Report) -> Table:
    columns = (Column("class", "name"), *map(Column, ("samples", "before", "after", "drop", "95 % interval of delta")))
    rows = tuple(
        (each.label, str(each.n), metric(each.baseline), metric(each.candidate), metric(each.drop), span(each.ci95))
        for each in report.classes[:MAX_ROWS]
    )
    return Table("Classes", columns, rows, more=_left_out(report.classes), detail=True)


def _samples(report: Report) -> Table:
    columns = (
        *(Column("sample", "name"), Column("before", "text"), Column("after", "text")),
        *(Column("label", "text"), Column("change"), Column("", "text")),
    )
    rows = tuple(
        (
            *(each.id or str(each.index), each.before, each.after, each.label or MISSING, digits(each.change)),
            "lost" if each.lost else "gained" if each.gained else "",
        )
        for each in report.samples[:MAX_ROWS]
    )
    return Table("Most changed samples", columns, rows, more=_left_out(report.samples), detail=True)


def _steps(report: Report) -> Table:
    columns = (
        Column("pass", "name"),
        *map(Column, ("seconds", "nodes", "weights")),
        Column("options", "text"),
    )
    rows = tuple(
        (
            *(step.name, digits(step.seconds), str(step.nodes), megabytes(step.bytes)),
            ", ".join(_options(step)) or MISSING,
        )
        for step in report.steps[:MAX_ROWS]
    )
    return Table("Steps", columns, rows, more=_left_out(report.steps), detail=True)


def _options(step: Step) -> Iterator[str]:
    """Options of a step; of those that it found itself, what was asked for as well."""
    asked = step.options if step.asked is None else step.asked
    for key, value in {**asked, **step.options}.items():
        before = asked.get(key, "none")
        if key not in step.options:
            yield f"{key}={before} (asked)"
        else:
            yield f"{key}={value}" + (f" (asked: {before})" if before != value else "")


def _choices(report: Report) -> Table:
    """What passes tried out and chose themselves."""
    told = [choice.partition(": ") for step in report.steps for choice in step.choices]
    rows = tuple((what, found) for what, _, found in told[:MAX_ROWS])
    return Table("Choices", (Column("tried", "text"), Column("result", "text")), rows, more=_left_out(told))


def _model(report: Report) -> Table:
    model, target = report.model, report.target
    rows = [
        *(("model", model.path), ("sha256", model.sha256), ("nodes", str(model.nodes))),
        *(("parameters", f"{model.parameters:,}"), ("weights", megabytes(model.bytes))),
    ]
    if model.flops is not None:
        rows.append(("FLOPs of a sample", f"{model.flops:,}"))
    if target is not None:
        rows += [
            ("target", target.name),
            ("runtime", f"{target.runtime} {target.version}"),
            ("device", target.device),
        ]
    return Table("Model and target", (Column("", "text"), Column("", "name")), tuple(rows), detail=True)


def _environment(report: Report) -> Table:
    rows = tuple(report.environment.items())
    return Table("Environment", (Column("", "name"), Column("", "name")), rows, detail=True)


def _left_out(items: Sequence[object]) -> int:
    return max(0, len(items) - MAX_ROWS)
