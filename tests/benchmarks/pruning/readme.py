"""README's part about what pruning loses and gains, from raw numbers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..sheets import in_markdown, points
from ..zoo import ROOT
from .bars import judgements
from .picture import FILE
from .records import INT8, OURS
from .tables import dropped, part, ratio, rivals, whole

if TYPE_CHECKING:
    from .records import Measured, Pruned

MARK = "pruning"

ALT = "Accuracy against latency: models as they came, in INT8, pruned by infopt, both, and pruned by Torch-Pruning"
ANSWERS = {
    "met": "met",
    "met, undecided": "met with the limit inside the interval",
    "NOT MET, undecided": "not met with the limit inside the interval",
    "NOT MET": "not met",
}
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def block(measured: Measured) -> str:
    """What stands between README's markers."""
    there = measured.environment
    runtimes = ", ".join(f"{RUNTIMES[name]} {there[name]}" for name in RUNTIMES if name in there)
    said = (
        f"Measured {measured.date} on {there.get('cpu', 'an unknown CPU')}, {runtimes}. Drops are in points with 95 % "
    )
    said += (
        "intervals; latency is the median as a part of the float model's, all artifacts of a model in turns; packed is "
    )
    said += "the deflated artifact as a part of the float one's; s is the time of pruning, MiB its peak memory."
    parts = [f"![{ALT}]({FILE.relative_to(ROOT).as_posix()})", said, in_markdown(_HEAD, _rows(measured))]
    others = rivals(measured)
    if others.rows:
        versions = ", ".join(f"{name} {version}" for name, version in measured.rival.items())
        parts += [f"{others.title} ({versions}):", in_markdown(others.head, others.rows)]
    parts.append(verdicts(measured))
    return "\n\n".join(parts)


_HEAD = ("model", "target", "variant", "FLOPs", "drop [95 %]", "latency", "packed", "+ INT8: drop", "latency", "packed")
_HEAD = (*_HEAD, "s", "MiB")


def _rows(measured: Measured) -> list[tuple[str, ...]]:
    rows = []
    for row in measured.pruned:
        if row.tool == OURS and not row.int8 and row.reason is None:
            name = (row.model, row.target, f"`{row.variant}`")
            plain = (part(row.flops), dropped(row.drop, row.interval), ratio(measured, row), part(row.compressed))
            rows.append((*name, *plain, *_quantized(measured, row), whole(row.seconds), whole(row.megabytes)))
    return rows


def _quantized(measured: Measured, row: Pruned) -> tuple[str, str, str]:
    found = measured.find(type(row)(row.model, row.target, row.variant + INT8))
    if found is None or found.reason is not None:
        return "-", "-", "-"
    return points(found.drop), ratio(measured, found), part(found.compressed)


def verdicts(measured: Measured) -> str:
    """How many bars are met, and which are not."""
    every = judgements(measured)
    counted = Counter(str(each.bar) for each in every)
    told = ", ".join(f"{counted[word]} {shown}" for word, shown in ANSWERS.items() if counted[word])
    lines = [f"Of {len(every)} bars: {told}. Not met:"]
    for each in every:
        if not each.bar.met:
            value, limit = (
                points(v) if each.unit == "points" else f"{v:,.2f}" for v in (each.bar.value, each.bar.limit)
            )
            where = f"{each.row.model}, {each.row.target}, `{each.row.variant}`"
            lines.append(f"- {where}: {each.what} {value} (limit {limit}){', undecided' if each.bar.undecided else ''}")
    return "\n".join([lines[0], "", *lines[1:]]) if len(lines) > 1 else lines[0].removesuffix(" Not met:")
