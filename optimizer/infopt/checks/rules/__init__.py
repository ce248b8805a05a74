"""The registry of rules: every module holds the rows of its topic, and the order is that of the report."""

from __future__ import annotations

from infopt.checks.rule import LintRule
from infopt.checks.rules import (
    numbers,
    onnxruntime,
    openvino,
    placement,
    precision,
    runtime,
    structure,
    tensorrt,
    validity,
)

RULES: tuple[LintRule, ...] = (
    *runtime.ROWS,
    *structure.ROWS,
    *validity.ROWS,
    *tensorrt.ROWS,
    *openvino.ROWS,
    *onnxruntime.ROWS,
    *placement.ROWS,
    *precision.ROWS,
    *numbers.ROWS,
)
