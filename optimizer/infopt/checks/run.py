"""The verb ``check``: rules, runtimes, repairs, one report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from onnx_ir.passes.common import ShapeInferencePass

from infopt import __version__
from infopt.checks.ask import Answer, ask
from infopt.checks.mend import Mended, mended
from infopt.checks.merge import merged
from infopt.checks.options import CheckOptions
from infopt.checks.report import CheckReport, Finding, Fixed, ModelState, State, TargetState, sorted_findings
from infopt.checks.rules import RULES
from infopt.checks.rules.precision import float_nodes
from infopt.checks.sarif import write_sarif
from infopt.checks.subject import Subject, label
from infopt.data import InputSpec, infer_batch_axes
from infopt.errors import InfoptError, ModelError, OptionError, OutputError
from infopt.model import Model, blamed_on, input_specs, load, save
from infopt.options import parsed
from infopt.output import check_file as check_output
from infopt.output import staged_file
from infopt.proof import largest_difference_where_it_runs
from infopt.shapes import ShapeRange, complete, parse_shape
from infopt.ui import Listener, Silent

if TYPE_CHECKING:
    from infopt.checks.rule import LintRule, Spot
    from infopt.cpu import Isa
    from infopt.target import Target

TOLERANCE = 1e-6
"""Repairs are exact; this is what one more or less rounding of a float32 may do to an output."""


@dataclass(frozen=True, slots=True)
class Job:
    """A check as it is carried out.

    Attributes:
        targets: What to check for.
        shapes: Ranges of dynamic inputs.
        options: The user's options.
        listener: Hears of the progress.
    """

    targets: tuple[Target, ...]
    shapes: tuple[ShapeRange, ...]
    options: CheckOptions
    listener: Listener


def check_file(path: Path, options: CheckOptions, listener: Listener | None = None) -> CheckReport:
    """Check an ONNX file, and repair it where that is wanted.

    Args:
        path: The model.
        options: What to check, and how.
        listener: Hears of the progress.

    Returns:
        What was found; where something was repaired, what is left in the repaired model.

    Raises:
        InputError: The model, an option or an output cannot be used.
        InfoptError: A repaired model computes something else; nothing is written.
    """
    job = _job(options, listener or Silent())
    model = load(path)
    complete(_specs(model), job.shapes)  # what does not fit the inputs is refused here
    place = _place(options.sarif, model) if options.sarif else None
    with blamed_on(path):
        report = _fixed(model, job, options.output) if options.output else _checked(model, job)
    if place is not None:
        write_sarif(report, place)
    return report


def _job(options: CheckOptions, listener: Listener) -> Job:
    output = options.output
    if options.fix and output is None:
        raise OptionError("--fix writes a model and is not told where", "give -o OUT.onnx")
    if output is not None and not options.fix:
        raise OptionError("-o says where a repaired model goes, but none is asked for", "give --fix too")
    if output is not None and output.suffix != ".onnx":
        raise OptionError(f"{output} is not the name of an ONNX file", "give -o OUT.onnx")
    targets = targets_named(options.target, options.isa)
    if options.fix and len(targets) != 1:
        raise OptionError(
            "a repair is for one target: what one wants can be wrong for another", "give --target once with --fix"
        )
    return Job(targets, tuple(parsed(parse_shape, text, "--shape") for text in options.shape), options, listener)


def _place(path: Path, model: Model) -> Path:
    """Where the SARIF file goes, seen to before any work."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: {path.parent} is not a directory", "give another path to --sarif")
    return check_output(path, overwrite=True, protect=model.files)


def findings(subject: Subject) -> tuple[Finding, ...]:
    """What the rules find in a model; nothing is run and no runtime is asked."""
    names = [target.name for target in subject.targets]
    found: list[Finding] = []
    for rule in RULES:
        about = tuple(name for name in names if rule.targets is None or name in rule.targets)
        if rule.find is not None and about:
            found += [_finding(rule, spot, about) for spot in rule.find(subject)]
    return sorted_findings(found)


def _finding(rule: LintRule, spot: Spot, about: tuple[str, ...]) -> Finding:
    return Finding(
        rule.id,
        rule.severity,
        tuple(name for name in about if spot.targets is None or name in spot.targets),
        label(spot.node) if spot.node is not None else spot.place,
        spot.node.op_type if spot.node is not None else None,
        spot.reason,
        spot.remedy or rule.remedy,
        spot.fixable,
    )


def _checked(model: Model, job: Job) -> CheckReport:
    job.listener.stage("Reading the graph")
    subject = Subject(_inferred(model), job.targets, job.shapes)
    found = findings(subject)
    states: list[TargetState] = []
    for target in job.targets:
        job.listener.stage(f"Asking {target.runtime}")
        answer = _answer(target, subject, job)
        found = merged(found, target.name, answer, subject)
        states.append(_state(target, answer, subject))
    return CheckReport(__version__, _model_state(model), tuple(states), sorted_findings(found))


def _answer(target: Target, subject: Subject, job: Job) -> Answer:
    if job.options.no_build:
        return Answer(reason="not asked for (--no-build)")
    return ask(target, subject.model.path, job.shapes, kernels=bool(subject.model.quantized_nodes()))


def _fixed(model: Model, job: Job, output: Path) -> CheckReport:
    force = job.options.force
    with staged_file(output, overwrite=force, protect=() if force else model.files) as staged:
        job.listener.stage("Repairing")
        result = mended(model, job.targets, job.shapes)
        written = staged / output.name
        save(result.model.graph, written)
        job.listener.stage("Comparing with the original")
        difference, unproven = largest_difference_where_it_runs(model, written, job.options.seed)
        if difference is not None and not difference <= TOLERANCE:  # NaN is no proof
            raise InfoptError(
                f"the repaired model differs by {difference:.2g} (relative)", "please report it; nothing was written"
            )
        report = _checked(load(written), job)
    state = replace(report.model, path=model.path.as_posix())
    return replace(report, model=state, fixed=_told(result, output, difference, unproven))


def _told(result: Mended, output: Path, difference: float | None, unproven: str | None) -> Fixed:
    return Fixed(output.as_posix(), result.repairs, difference, unproven)


def _specs(model: Model) -> tuple[InputSpec, ...]:
    """The model's inputs; none where one is no tensor, of which a rule will tell."""
    try:
        return infer_batch_axes(input_specs(model.graph), {})
    except ModelError:
        return ()


def _inferred(model: Model) -> Model:
    """The model with the shapes that follow from its own; where inference fails, with those that it has."""
    graph = model.graph.clone()
    try:
        ShapeInferencePass()(graph)
    except Exception:  # of a broken model; what is wrong with it is for the rules to say
        return model
    return replace(model, graph=graph)


def _state(target: Target, answer: Answer, subject: Subject) -> TargetState:
    rows = compute = None
    if not subject.model.quantized_nodes():
        rows, left = float_nodes(subject, target)
        compute = rows + len(left)
    return TargetState(
        target.name,
        target.runtime,
        answer.version,
        _became(answer),
        answer.reason,
        answer.integer,
        answer.total,
        rows,
        compute,
    )


def _became(answer: Answer) -> State:
    stages = {each.stage for each in answer.refusals}
    if not stages:
        return "built" if answer.version else "not asked"
    return "crashed" if "crash" in stages else "parsed" if stages == {"guess"} else "refused"


def _model_state(model: Model) -> ModelState:
    return ModelState(
        model.path.as_posix(),
        model.nodes,
        model.parameters,
        model.bytes,
        model.opset,
        model.graph.ir_version,
        bool(model.quantized_nodes()),
    )


def targets_named(names: Sequence[str], isa: Isa | Literal["auto"] = "auto") -> tuple[Target, ...]:
    """The named targets, each once; all that there are when none is named.

    Args:
        names: Names of targets.
        isa: Instruction set of the machine that will run the model, for the targets that ask.

    Raises:
        OptionError: No such target, or one that was named has no table for the instruction set.
    """
    from infopt import registry

    if names:
        return tuple(registry.target(name, isa) for name in dict.fromkeys(names))
    found = []
    for name in registry.names("targets"):
        with suppress(OptionError):  # of all targets, those that there is a table for
            found.append(registry.target(name, isa))
    return tuple(found)
