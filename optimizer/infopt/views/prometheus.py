"""A drift report as metrics in the text format of Prometheus, for the node exporter's textfile collector.

Format: Prometheus documentation, "Exposition formats", text-based format 0.0.4.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infopt.drifting.report import DriftReport, Statistic

Rows = Iterable[tuple[Mapping[str, str], float]]
"""Labels and value of each sample of a metric."""

_ESCAPED = {"\\": r"\\", '"': r"\"", "\n": r"\n"}


def metrics(report: DriftReport, now: float | None = None) -> str:
    """The metrics of a drift report.

    Args:
        report: The report.
        now: Time of the check, seconds since 1970; the present by default.

    Returns:
        The text; the label ``model`` is the first 12 digits of the graph's sha256, ``path`` where the profile lies.
    """
    base = {"model": (report.graph or report.model)[:12], "path": report.reference.path}
    states = ({**base, "verdict": each.replace(" ", "_")} for each in ("drift", "no drift", "undecided"))
    verdict = report.verdict.replace(" ", "_")
    tested = [each for each in report.statistics if each.q is not None and each.of != "tensor"]
    tensors = [({**base, "tensor": each.name}, each) for each in report.clipping]
    return "".join(
        (
            _metric("drift_verdict", "1 for the verdict of the last check, 0 for the others.",
                    ((labels, float(labels["verdict"] == verdict)) for labels in states)),
            _metric("drift_checked_timestamp_seconds", "When the data were checked.",
                    [(base, time.time() if now is None else now)]),
            _metric("drift_samples", "Samples that were looked at.", [(base, report.data.samples)]),
            _metric("drift_statistics", "Statistics that were tested.", [(base, report.tests)]),
            _metric("drift_statistics_drifted", "Statistics that drifted.",
                    [(base, sum(each.drifted for each in report.statistics))]),
            _metric("drift_psi", "Population stability index of a statistic.",
                    [(_labels(base, each), each.psi) for each in tested]),
            _metric("drift_ks_distance", "Kolmogorov-Smirnov distance of a statistic.",
                    [(_labels(base, each), each.ks) for each in tested]),
            _metric("drift_js_divergence", "Jensen-Shannon divergence of a statistic, in bits.",
                    [(_labels(base, each), each.js) for each in tested]),
            _metric("drift_q_value", "Adjusted probability of such a difference by chance.",
                    [(_labels(base, each), each.q or 0.0) for each in tested]),
            _metric("clipping_ratio", "Share of a quantized tensor's values outside its range.",
                    [(labels, each.data) for labels, each in tensors]),
            _metric("clipping_calibrated_ratio", "The same in calibration.",
                    [(labels, each.calibrated) for labels, each in tensors]),
            _metric("clipping_drifted", "1 where a tensor's clipping rose by more than chance and the limit.",
                    [(labels, float(each.drifted)) for labels, each in tensors]),
        )
    )  # fmt: skip


def _labels(base: Mapping[str, str], statistic: Statistic) -> dict[str, str]:
    told = {"of": statistic.of, "name": statistic.name, "part": statistic.part, "statistic": statistic.what}
    return {**base, **told}


def _metric(name: str, told: str, rows: Rows) -> str:
    lines = [f"infopt_{name}{_braced(labels)} {value!r}\n" for labels, value in rows]
    if not lines:
        return ""
    return f"# HELP infopt_{name} {told}\n# TYPE infopt_{name} gauge\n" + "".join(lines)


def _braced(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in value)
