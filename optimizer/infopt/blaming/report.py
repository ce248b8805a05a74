"""What blame found: the record behind the tables and the JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from infopt.codec import encode

SCHEMA = "infopt.blame/1"

LEAST_GAIN = 0.5
"""A remedy has to bring so many dB."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason for a layer's error.

    Attributes:
        kind: ``outlier range``, ``clipping``, ``mixed-magnitude Concat``, ``tiny channels``, ``few levels``,
            ``bias shift``, ``weight rounding``, or ``rounding`` where none of them stands out.
        tensor: The tensor that it is about.
        told: In words, with its numbers.
        numbers: The numbers by name.
    """

    kind: str
    tensor: str
    told: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flips:
    """What restoring a layer does to the metric, on some of the evaluation samples.

    Attributes:
        samples: How many.
        change: Of the metric, in its own unit.
        gained: Samples that became right.
        lost: Samples that became wrong.
        metric: Its name.
    """

    samples: int
    change: float
    gained: int | None
    lost: int | None
    metric: str = ""


@dataclass(frozen=True, slots=True)
class BlamedLayer:
    """One quantized layer.

    Attributes:
        name: Name of the node.
        op: Its operator.
        sqnr_db: How far its output is from the float model's, everything before it included; ``None`` when nothing
            moved.
        reads_db: The same of the worst tensor that it reads, as it is before its pair.
        output_sqnr_db: SQNR of the model's outputs with this layer in float.
        gain_db: By how much that is more than with all layers quantized.
        price_ms: What it costs in latency that it is in float, in the target's runtime.
        causes: Why, the weightiest first.
        remedy: The cheapest thing that helps, as an option of ``quantize``.
        flips: What it does to the metric, where there are labels and time.
    """

    name: str
    op: str
    sqnr_db: float | None
    reads_db: float | None = None
    output_sqnr_db: float | None = None
    gain_db: float | None = None
    price_ms: float | None = None
    causes: tuple[Cause, ...] = ()
    remedy: str | None = None
    flips: Flips | None = None

    @property
    def why(self) -> str | None:
        """The causes in words."""
        return "; ".join(cause.told for cause in self.causes) or None


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that was tried.

    Attributes:
        option: As ``quantize`` takes it: ``--keep-float conv1``, ``--ranges mse``.
        changes: The same as options of the quantize pass.
        gain_db: What the outputs' SQNR gains: the model was quantized with it.
        price_ms: What a call takes longer; 0 for what changes numbers only, ``None`` where it was not measured.
        chosen: Whether ``--apply`` takes it.
    """

    option: str
    changes: dict[str, str | tuple[str, ...]]
    gain_db: float
    price_ms: float | None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What ``--apply`` made.

    Attributes:
        path: The new output directory.
        options: What was changed.
        before_db: SQNR of the outputs before.
        after_db: SQNR of the new graph's outputs, on the same samples.
    """

    path: str
    options: tuple[str, ...]
    before_db: float | None
    after_db: float | None


@dataclass(frozen=True, slots=True)
class BlameReport:
    """The result of ``infopt blame``.

    Attributes:
        infopt: Version of infopt.
        path: The output directory that was looked at.
        target: Its target.
        model: The float model.
        samples: Samples that layers were compared on.
        judged: Samples that judged the outputs.
        output_sqnr_db: SQNR of the outputs with everything quantized.
        layers: The layers, the worst first.
        remedies: What was tried and helps, the best first.
        seconds: How long it took.
        notes: What the reader should know, such as what there was no time for.
        applied: What ``--apply`` made; ``None`` when that was not asked for, or nothing helps.
        useless: What was tried and brings less than :data:`LEAST_GAIN`, the best first.
    """

    infopt: str
    path: str
    target: str
    model: str
    samples: int
    judged: int
    output_sqnr_db: float | None
    layers: tuple[BlamedLayer, ...]
    remedies: tuple[Remedy, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    applied: Applied | None = None
    useless: tuple[Remedy, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, ``schema`` first; numbers that are not finite become null."""
        return {"schema": SCHEMA, **encode(self)}

    def text(self) -> str:
        """The report as the text of a JSON file."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
