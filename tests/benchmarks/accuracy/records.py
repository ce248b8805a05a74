"""What is measured, as the JSON file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..raw import Raw

SCHEMA = "infopt.accuracy/1"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of ``infopt.quantize`` on a model for a target.

    Attributes:
        model: Name of the model.
        target: Name of the target.
        variant: The options of the pass, in words.
        key: Changes with whatever may change the numbers.
        reason: Why there are no numbers.
        options: The options of the pass.
        unit: One over the distinct samples: the step in which the data can tell a score.
        score: Score of the artifact.
        baseline: Score of the original model in float32.
        drop: The worsening.
        interval: 95 % interval of the drop.
        n: Evaluation samples.
        where: ``deployed`` or ``emulated``.
        sqnr_db: Lowest ratio of signal to error of the outputs, on the evaluation samples.
        seconds: What the quantize pass took.
        quantized: Nodes that are quantized or quantize; with 0 the artifact is the float model.
        matrix_bytes: Bytes of the constant operands of matrix products, with their scales and zero points.
    """

    model: str
    target: str
    variant: str
    key: str = ""
    reason: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    unit: float | None = None
    score: float | None = None
    baseline: float | None = None
    drop: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    where: str | None = None
    sqnr_db: float | None = None
    seconds: float | None = None
    quantized: int | None = None
    matrix_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """What a peer's artifact loses in a runtime; ``variant`` is the peer with the runtime's setting.

    A peer that leaves the whole model in float has a reason and no drop: keeping the accuracy so is no feat.
    """

    model: str
    target: str
    variant: str
    key: str = ""
    reason: str | None = None
    drop: float | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A recurrent model over a stream, fed with its own state.

    Attributes:
        score: Score of the artifact.
        baseline: Score of the original model in float32.
        seconds: Length of the stream.
        drift: By second, the root mean square of the difference of the states.
        size: By second, the root mean square of the float model's state.
    """

    model: str
    target: str
    variant: str
    key: str = ""
    reason: str | None = None
    score: float | None = None
    baseline: float | None = None
    seconds: float | None = None
    drift: dict[str, float] = field(default_factory=dict)
    size: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured(Raw):
    """The whole file.

    Attributes:
        date: When something was last measured.
        samples: Calibration samples.
        seed: Seed of everything.
        environment: Machine and versions.
        default: The variant that a user gets without asking.
    """

    TABLES: ClassVar[Mapping[type, str]] = {Run: "runs", Peer: "peers", Stream: "streams"}

    date: str
    samples: int
    seed: int
    environment: dict[str, str]
    runs: tuple[Run, ...] = ()
    peers: tuple[Peer, ...] = ()
    streams: tuple[Stream, ...] = ()
    default: str = "method=fast"
    schema: str = SCHEMA
