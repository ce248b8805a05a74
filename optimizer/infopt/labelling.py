"""Whether labels went into what a report says of accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infopt.report import Report


def unlabelled(report: Report) -> bool:
    """Whether what stands for accuracy only compares the artifact with the original model."""
    if report.accuracy is None:
        return False
    return report.accuracy.reference or (report.data.eval is not None and not report.data.eval.labelled)


def why_unlabelled(report: Report) -> str:
    """Why no label went into what stands for accuracy."""
    labelled = report.data.eval is not None and report.data.eval.labelled
    return "the metric does not use the labels" if labelled else "there are no labels"
