"""What is measured, as the JSON file holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from infopt.codec import decode, encode
from infopt.manifest import sha256_source

ROOT = Path(__file__).resolve().parents[3]
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


Row = TypeVar("Row", Run, Peer, Stream)


@dataclass(frozen=True, slots=True)
class Measured:
    """The whole file.

    Attributes:
        date: When something was last measured.
        samples: Calibration samples.
        seed: Seed of everything.
        environment: Machine and versions.
        default: The variant that a user gets without asking.
    """

    date: str
    samples: int
    seed: int
    environment: dict[str, str]
    runs: tuple[Run, ...] = ()
    peers: tuple[Peer, ...] = ()
    streams: tuple[Stream, ...] = ()
    default: str = "method=fast"
    schema: str = SCHEMA

    def with_rows(self, rows: list[Row]) -> Measured:
        """The same with rows added; one replaces that of the same model, target and variant."""
        measured = self
        for row in rows:
            name = {Run: "runs", Peer: "peers", Stream: "streams"}[type(row)]
            known = {identity(old): old for old in getattr(measured, name)} | {identity(row): row}
            changed: dict[str, Any] = {name: tuple(known.values())}
            measured = replace(measured, **changed)
        return measured

    def find(self, row: Row) -> Row | None:
        """The row of the same model, target and variant."""
        rows: tuple[Any, ...] = (*self.runs, *self.peers, *self.streams)
        return next((old for old in rows if type(old) is type(row) and identity(old) == identity(row)), None)


def identity(row: Run | Peer | Stream) -> tuple[str, str, str]:
    """What a table has one number of."""
    return row.model, row.target, row.variant


def read(path: Path) -> Measured:
    """Read a file of raw numbers."""
    measured: Measured = decode(Measured, json.loads(path.read_text(encoding="utf-8")), "")
    return measured


@dataclass
class Store:
    """The file while it is being filled.

    Attributes:
        path: The file; ``None`` keeps nothing.
        measured: What is known.
        fresh: Measure what is known too.
    """

    path: Path | None
    measured: Measured
    fresh: bool = False

    def add(self, row: Row, measure: Callable[[Row], Row]) -> Row:
        """The row with its numbers: those that are known for its key, else measured and written down."""
        known = self.measured.find(row)
        if known is not None and known.key == row.key and not self.fresh:
            return known
        done = measure(row)
        self.measured = self.measured.with_rows([done])
        if self.path is not None:
            self.path.write_text(json.dumps(encode(asdict(self.measured)), indent=1) + "\n", encoding="utf-8")
        return done


def sources_sha256() -> str:
    """A hash of infopt's sources: numbers of other sources are not its own."""
    import hashlib

    files = sorted(file for folder in ("optimizer", "passes") for file in (ROOT / folder).rglob("*.py"))
    return hashlib.sha256("".join(map(sha256_source, files)).encode()).hexdigest()[:16]
