"""The answer of ``infopt drift`` as one frozen record; its JSON has the schema ``infopt.drift/1``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from infopt.codec import encode

SCHEMA = "infopt.drift/1"

Status = Literal["drift", "no drift", "undecided"]
Size = Literal["none", "moderate", "major"]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One statistic of both sets of samples.

    Attributes:
        of: ``"input"``, ``"output"`` or ``"tensor"``.
        name: Name of the tensor.
        part: Which part of it, such as ``"channel 0"``; empty for the whole.
        what: The statistic.
        reference: Its mean over the profile's samples; ``None`` for counts.
        data: Its mean over the new samples; ``None`` for counts.
        psi: Population stability index.
        ks: Kolmogorov-Smirnov distance.
        js: Jensen-Shannon divergence in bits.
        p: Probability of such a difference by chance; ``None`` for what is shown only.
        q: The same, adjusted for the number of tests (Benjamini-Hochberg); ``None`` likewise.
        drifted: Whether chance is unlikely and the difference large enough.
        size: How large the difference is by its index.
    """

    of: str
    name: str
    part: str
    what: str
    reference: float | None
    data: float | None
    psi: float
    ks: float
    js: float
    p: float | None
    q: float | None
    drifted: bool
    size: Size


@dataclass(frozen=True, slots=True)
class Clipping:
    """How much of a quantized tensor lies outside its range.

    Attributes:
        name: Name of the tensor.
        calibrated: Share of the profile's samples' values, mean over samples.
        data: The same of the new samples.
        q: Adjusted probability of such a difference by chance.
        drifted: Whether it rose by more than chance and the limit.
    """

    name: str
    calibrated: float
    data: float
    q: float
    drifted: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """When a difference counts; see :class:`infopt.drifting.options.DriftOptions`."""

    psi: float
    psi_major: float
    clipping: float
    false_alarms: float


@dataclass(frozen=True, slots=True)
class Seen:
    """The samples of one side.

    Attributes:
        path: Where they come from.
        samples: How many.
        independent: How many groups they form, where groups are known.
    """

    path: str
    samples: int
    independent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """Whether data have left what calibration saw.

    Attributes:
        schema: Format of the JSON.
        infopt: Version.
        verdict: The answer.
        reasons: Why, in words; the worst first.
        model: Sha256 of the model that the profile is of.
        graph: Sha256 of its graph.
        reference: The profile's samples.
        data: The new samples.
        limits: When a difference counts.
        tests: Statistics that were tested.
        visible: Kolmogorov-Smirnov distance that a single statistic needs to be noticed with so many samples.
        more_samples: Further new samples that would decide an ``undecided``; ``None`` where no number would.
        statistics: Everything that was compared, the most drifted first.
        clipping: The quantized tensors, the most clipped first.
        recalibrated: The new artifact's directory, if one was made.
        warnings: What else there is to know.
    """

    schema: str = SCHEMA
    infopt: str
    verdict: Status
    reasons: tuple[str, ...]
    model: str
    graph: str | None
    reference: Seen
    data: Seen
    limits: Limits
    tests: int
    visible: float
    more_samples: int | None = None
    statistics: tuple[Statistic, ...] = ()
    clipping: tuple[Clipping, ...] = ()
    recalibrated: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether the answer is drift."""
        return self.verdict == "drift"

    def text(self) -> str:
        """The report as JSON."""
        return json.dumps(encode(self), indent=2, allow_nan=False) + "\n"
