"""What must hold before a model is distilled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from infopt.errors import OptionError
from infopt.passes import CalibrationSet
from infopt_passes.prune.distill.operators import refusal

SHOWN = 5
"""Operators that a message names, at most."""


def check_operators(graph: ir.Model) -> None:
    """Stop where the graph has operators that cannot be differentiated here.

    Raises:
        OptionError: It has; the message names them.
    """
    found = Counter(why for node in graph.graph if (why := refusal(node)))
    if found:
        told = [f"{why} ({count} nodes)" if count > 1 else why for why, count in found.most_common(SHOWN)]
        more = f" and {len(found) - SHOWN} others" if len(found) > SHOWN else ""
        raise OptionError(f"--recover distill does not know {', '.join(told)}{more}", "give --recover lsq")


def check_labels(graph: ir.Model, samples: CalibrationSet) -> None:
    """Stop where there is nothing to fine-tune with.

    Raises:
        OptionError: The calibration samples have no class labels, or the first output is no row of class scores.
    """
    labels = samples.samples.labels
    if labels is None or labels.dtype.kind not in "iu" or labels.ndim > 2:
        told = "have none" if labels is None else f"have {labels.dtype} labels of shape {labels.shape}"
        remedy = "give --calib samples with labels, or leave it out: distillation needs none"
        raise OptionError(f"--fine-tune needs whole numbers of classes, the calibration samples {told}", remedy)
    output = graph.graph.outputs[0]
    if output.shape is None or len(output.shape) != 2:
        raise OptionError(f"--fine-tune needs class scores, {output.name!r} is {output.shape}", "leave it out")
    if isinstance(classes := output.shape[1], int):
        check_classes(labels, classes)


def check_classes(labels: npt.NDArray[Any], classes: int) -> None:
    """Stop where labels are not classes of a model.

    Args:
        labels: Whole numbers; negative ones stand for no label.
        classes: How many scores the model gives.

    Raises:
        OptionError: No sample has a label, or one is beyond the classes.
    """
    highest = int(labels.max(initial=-1))
    if highest < 0:
        raise OptionError("--fine-tune needs labels, all of the calibration samples' are negative", "leave it out")
    if highest >= classes:
        told = f"--fine-tune: the calibration samples have a label {highest}, the model has {classes} classes"
        raise OptionError(told, "number the labels from 0, as the model's scores are")
