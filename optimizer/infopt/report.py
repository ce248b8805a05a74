"""The report: every number that a run has to say, as one frozen record.

``report.json`` is this record, Markdown and the console are views of it. What was not measured is ``None``
and has a reason beside it. Keys are public: fields may be added (with a default, which is what an older file
means), none is renamed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from infopt.accuracy import Accuracy, Fidelity
from infopt.bench import Latency
from infopt.codec import decode, encode
from infopt.errors import InputError
from infopt.files import write_text
from infopt.model import Pruned, Step

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = "infopt.report/1"
FILE_NAME = "report.json"

Status = Literal["pass", "fail", "undecided", "unmeasured"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One limit of the budget against what was measured.

    Attributes:
        name: Key of the budget: ``"max_drop"``.
        limit: What the user demands.
        value: What was measured.
        interval: Its limits, where there are any; each holds with the budget's confidence on its own.
        status: What follows.
        more_samples: How many further samples would probably decide what is undecided, where that is known.
    """

    name: str
    limit: float
    value: float | None
    interval: tuple[float, float] | None
    status: Status
    more_samples: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the artifact is what was asked for; :func:`infopt.verdict.judge` makes it.

    Attributes:
        status: The answer.
        reasons: Everything that speaks against the artifact or limits the answer, in words.
        budgets: The limits one by one.
    """

    status: Status
    reasons: tuple[str, ...] = ()
    budgets: tuple[Criterion, ...] = ()


UNJUDGED = Verdict("unmeasured", ("not judged",))
"""For a report on its way to :func:`infopt.verdict.judged`."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model that the user gave.

    Attributes:
        path: Its file.
        sha256: Hash of its contents.
        nodes: Nodes, subgraphs included.
        parameters: Weight elements.
        bytes: Bytes of the weights.
        flops: Floating-point operations of one sample, if they are known.
    """

    path: str
    sha256: str
    nodes: int
    parameters: int
    bytes: int
    flops: int | None


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """The graph that passes made of the model.

    Attributes:
        nodes: Nodes, subgraphs included.
        parameters: Weight elements.
        bytes: Bytes of the weights.
        flops: Floating-point operations of one sample, if they are known.
    """

    nodes: int
    parameters: int
    bytes: int
    flops: int | None


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """The runtime that the artifact is for.

    Attributes:
        name: infopt's name for it.
        runtime: Its own name.
        version: Its version.
        device: What it runs on.
        isa: Instruction set that the artifact is made for, where the target distinguishes.
    """

    name: str
    runtime: str
    version: str
    device: str
    isa: str | None = None


@dataclass(frozen=True, slots=True)
class CalibData:
    """What calibration saw.

    Attributes:
        path: Where it came from.
        samples: Samples that were used.
        sha256: Hash of their contents.
        synthetic: Made up by infopt; nothing measured on them says anything about accuracy.
    """

    path: str | None
    samples: int
    sha256: str | None
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class EvalData:
    """What was evaluated.

    Attributes:
        path: Where it came from.
        samples: Samples behind ``accuracy``.
        search: Other samples that chose among candidates; 0 when nothing was chosen by labels.
        sha256: Hash of their contents.
        labelled: Whether they have labels.
    """

    path: str | None
    samples: int
    search: int
    sha256: str | None
    labelled: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Samples that went in."""

    calib: CalibData | None
    eval: EvalData | None


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes on disk of what ships, before and after; no candidate when no artifact was built.

    Attributes:
        baseline_bytes: The original model with its external data; 0 where it is not known.
        candidate_bytes: All files of the artifact.
        reason: Why there is no artifact.
        candidate_compressed_bytes: The same files deflated, as an archive would hold them: what zeros save.
        baseline_compressed_bytes: The original model's files deflated, where pruning left zeros to compare with.
    """

    baseline_bytes: int
    candidate_bytes: int | None
    reason: str | None = None
    candidate_compressed_bytes: int | None = None
    baseline_compressed_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory while the artifact runs, in bytes, or why it is unknown."""

    peak_bytes: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FloatLayer:
    """A compute layer that runs in float.

    Attributes:
        name: Name of the node.
        op: Its operator.
        why: Why it was not quantized, or why the runtime did not follow.
        cost: Its share of the model's floating-point operations, 0 to 1, if known.
    """

    name: str
    op: str
    why: str | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class KernelCount:
    """What the runtime says that it runs.

    Attributes:
        integer: Compute layers that run as integers, or in FP8.
        total: Compute layers.
        float_nodes: The ones that neither run so nor read compressed weights.
        reason: Why the counts are missing.
        compressed: Those that compute in float with weights that the runtime keeps in 8 bits or less.
    """

    integer: int | None
    total: int | None
    float_nodes: tuple[FloatLayer, ...] = ()
    reason: str | None = None
    compressed: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """How far one layer's output moved.

    Attributes:
        name: Name of the node.
        op: Its operator.
        sqnr_db: Signal-to-quantization-noise ratio of its output in dB, errors before it included; ``None`` when
            nothing moved.
        output_sqnr_db: The same of the model's outputs with this layer in float; see ``infopt blame``.
        why: What makes its error, in words.
        remedy: What helps, as an option of ``quantize``.
        gain_db: What the outputs gain with this layer in float.
        price_ms: What a call takes longer with this layer in float.
    """

    name: str
    op: str
    sqnr_db: float | None
    output_sqnr_db: float | None = None
    why: str | None = None
    remedy: str | None = None
    gain_db: float | None = None
    price_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ClassChange:
    """What became of one class: a mean can hide a class that died.

    Attributes:
        label: The class: its folder's name, else its number.
        n: Samples of it, 0 for a class of the model that has none; one with several accepted classes counts for each.
        baseline: Mean of the metric over them before; not a number (null in JSON) without samples, as what follows.
        candidate: The same after.
        drop: The worsening, above 0 when the candidate is worse.
        ci95: 95 % interval of ``candidate - baseline`` for this class alone: Tango's where samples are right or wrong,
            else a bootstrap's by group (from older versions ``None``); ``None`` for one sample or group.
    """

    label: str
    n: int
    baseline: float
    candidate: float
    drop: float
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SampleChange:
    """A sample whose answer moved.

    Attributes:
        index: Its number in the evaluation data, from 0.
        id: Its name: a picture's file, an entry of the array ``ids``; ``None`` where it has none.
        change: Largest distance between an output before and after, over the root mean square norm of that output's
            rows before: 0 is no change, 1 as far as outputs are long.
        before: The baseline's answer as short text.
        after: The candidate's.
        label: What is right, as text.
        lost: Whether it was right before and is wrong now; ``None`` where no labels tell.
        gained: Whether it was wrong before and is right now; ``None`` likewise.
        thumbnail: A small picture of it, as a ``data:`` URI, where samples were asked for.
        text: Its text, where samples were asked for and a tokenizer was given.
    """

    index: int
    id: str | None
    change: float
    before: str
    after: str
    label: str | None = None
    lost: bool | None = None
    thumbnail: str | None = None
    text: str | None = None
    gained: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run with its evidence; the attributes are the keys of ``report.json``.

    Attributes:
        schema: Version of the format.
        infopt: Version of infopt.
        command: The verb that ran: ``"quantize"``.
        candidate: What was compared with the model, where that was named and not made: its path.
        verdict: The answer.
        model: What went in.
        result: What passes made of it; ``None`` where none ran.
        pruned: What pruning left of each group of units, or of each layer's weights, in the order of the graph; behind
            them the layers that were left alone.
        target: The runtime; ``None`` where a command has none.
        data: Samples that went in.
        accuracy: Before and after; ``None`` when it was not measured.
        accuracy_reason: Why it was not.
        fidelity: Closeness of the outputs, no labels needed.
        latency: Before and after.
        size: Before and after.
        memory: Of the artifact.
        kernels: What runs as integers.
        layers: Layer by layer, in the order of the graph.
        classes: Class by class, the largest drop first, where labels are classes.
        samples: The most changed samples, the most changed first; those whose answer flipped before all others.
        steps: Passes that ran.
        environment: Machine and versions.
        warnings: What the user should know.
    """

    schema: str = SCHEMA
    infopt: str
    command: str
    candidate: str | None = None
    verdict: Verdict
    model: ModelFacts
    result: ResultFacts | None = None
    pruned: tuple[Pruned, ...] = ()
    target: TargetFacts | None
    data: Data
    accuracy: Accuracy | None
    accuracy_reason: str | None = None
    fidelity: tuple[Fidelity, ...]
    latency: Latency
    size: Size
    memory: Memory
    kernels: KernelCount
    layers: tuple[Layer, ...]
    classes: tuple[ClassChange, ...] = ()
    samples: tuple[SampleChange, ...] = ()
    steps: tuple[Step, ...]
    environment: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as JSON holds it; numbers that are not finite become null."""
        result: dict[str, Any] = encode(self)
        return result

    def text(self) -> str:
        """The contents of ``report.json``."""
        return json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"

    def write_json(self, path: Path) -> None:
        """Write ``report.json``.

        Raises:
            OutputError: The file cannot be written.
        """
        write_text(path, self.text())


def read_report(path: Path) -> Report:
    """Read a report.

    Args:
        path: A ``report.json``, or the output directory that holds one.

    Returns:
        The report; keys that this version does not know are left out.

    Raises:
        InputError: There is no report, it is damaged, or its format is newer than this infopt.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError as error:
        raise InputError(f"there is no report at {file}", "give a report.json or an infopt output directory") from error
    except OSError as error:
        raise InputError(f"cannot read report {file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is truncated or not JSON ({error})", "run the command that wrote it again") from error
    _check_schema(content, file)
    try:
        report: Report = decode(Report, content, "")
    except InputError as error:
        raise InputError(f"{file} is not a whole report: {error}", "run the command that wrote it again") from error
    return report


def _check_schema(content: Any, file: Path) -> None:
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema == SCHEMA:
        return
    family, _, version = str(schema).partition("/")
    if family == SCHEMA.partition("/")[0] and version.isdecimal() and int(version) > 1:
        raise InputError(f"{file} has format {schema}, this infopt reads {SCHEMA}", "update infopt")
    raise InputError(f"{file} is not an infopt report (schema {schema!r})", f"a report says {SCHEMA!r}")
