"""What is measured, as the JSON file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..raw import Raw

SCHEMA = "infopt.pruning/1"
OURS, THEIRS = "infopt", "torch-pruning"
ALONE = "INT8 alone"
"""Name of the variant that was quantized and not pruned."""

INT8 = " + INT8"
"""Behind the name of a variant that was quantized."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """A pruned model.

    Attributes:
        model: Name of the model.
        target: Name of the target.
        variant: The options of the pass, in words; of others their name, recipe and share.
        key: Changes with whatever may change the numbers.
        reason: Why there are no numbers.
        tool: Whose work it is.
        options: The options of the pass; of others what was asked for.
        unit: One over the distinct samples: the step in which the data can tell a score.
        score: Score of the artifact.
        baseline: Score of the original model in float32.
        drop: The worsening.
        interval: 95 % interval of the drop.
        below: The worsening against the pruned model in float, of one that was quantized.
        below_interval: Its interval.
        n: Evaluation samples.
        setting: Name of the runtime's setting.
        flops: Part of the operations that is left.
        parameters: Part of the parameters that is left.
        units: Part of the heads and channels that is left, in the groups that can be pruned at all.
        compressed: Bytes of the artifact's files deflated, as a part of those of the float artifact.
        seconds: What pruning with recovery took; of others what they were given to recover.
        processor: Seconds of all processors in the whole process; of others what they were given to recover.
        wall: What the whole process took, in seconds.
        megabytes: Peak memory of that process.
        turns: Steps of training, of others.
    """

    model: str
    target: str
    variant: str
    key: str = ""
    reason: str | None = None
    tool: str = OURS
    options: dict[str, Any] = field(default_factory=dict)
    unit: float | None = None
    score: float | None = None
    baseline: float | None = None
    drop: float | None = None
    interval: tuple[float, float] | None = None
    below: float | None = None
    below_interval: tuple[float, float] | None = None
    n: int | None = None
    setting: str | None = None
    flops: float | None = None
    parameters: float | None = None
    units: dict[str, float] = field(default_factory=dict)
    compressed: float | None = None
    seconds: float | None = None
    processor: float | None = None
    wall: float | None = None
    megabytes: float | None = None
    turns: int | None = None

    @property
    def int8(self) -> bool:
        """Whether it was quantized."""
        return self.variant.endswith(INT8)


@dataclass(frozen=True, slots=True)
class Speed:
    """Latency of an artifact, measured in turns with all others of the model and the target.

    Attributes:
        variant: As in :class:`Pruned`.
        ratio: Its median latency as a part of that of the float model in its fastest setting.
        interval: 95 % interval of the ratio.
        ms: Its median.
        base_ms: That of the float model.
        load: The machine's load average when it ended: above the number of threads it was busy with other things.
    """

    model: str
    target: str
    variant: str
    key: str = ""
    reason: str | None = None
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    ms: float | None = None
    base_ms: float | None = None
    load: float | None = None


@dataclass(frozen=True, slots=True)
class Duel:
    """A model pruned by others, sample by sample against infopt's at the same part of the operations.

    Attributes:
        variant: Theirs.
        against: The variant of infopt.
        behind: What infopt's scores less than theirs; negative where it scores more.
        interval: 95 % interval of it.
    """

    model: str
    target: str
    variant: str
    key: str = ""
    against: str = ""
    behind: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Measured(Raw):
    """The whole file.

    Attributes:
        date: When something was last measured.
        seed: Seed of everything.
        environment: Machine and versions.
        rival: Versions in the interpreter of Torch-Pruning, if there was one.
    """

    TABLES: ClassVar[Mapping[type, str]] = {Pruned: "pruned", Speed: "speeds", Duel: "duels"}

    date: str
    seed: int
    environment: dict[str, str]
    rival: dict[str, str] = field(default_factory=dict)
    pruned: tuple[Pruned, ...] = ()
    speeds: tuple[Speed, ...] = ()
    duels: tuple[Duel, ...] = ()
    schema: str = SCHEMA

    def speed(self, row: Pruned) -> Speed | None:
        """Latency of a pruned model."""
        same = (row.model, row.target, row.variant)
        found = [each for each in self.speeds if (each.model, each.target, each.variant) == same]
        return found[0] if found and found[0].ratio is not None else None
