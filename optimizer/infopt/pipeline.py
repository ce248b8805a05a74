"""Runs a recipe: passes, compilation, evidence, and what is left in the output directory."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from infopt.advising import Advising
from infopt.deliver import assemble, deliver
from infopt.drifting.making import calibration_profile
from infopt.drifting.profile import FILE_NAME
from infopt.errors import RuntimeRefused, TargetUnavailable
from infopt.evidence import Build, gather
from infopt.model import Model, Note, blamed_on, save
from infopt.output import check_directory, staged_directory
from infopt.passes import Context, run
from infopt.recipe import Recipe, settled
from infopt.report import Report
from infopt.resolve import Resolved, needs_calibration, resolve
from infopt.selection import Parts, parted, selection
from infopt.shapes import ShapeRange, complete, joined, of_samples, show_shape
from infopt.target import Artifact, CompileOptions
from infopt.ui import Listener, Silent

FULL = 4096
"""A file system with fewer free bytes holds no further file."""

LOOKED_AT = 64
"""Calibration samples whose shapes are looked at."""


def execute(recipe: Recipe, command: str, listener: Listener | None = None) -> Report:
    """Run a recipe from model to report.

    Args:
        recipe: What to do.
        command: The verb, for the report.
        listener: Hears of the progress.

    Returns:
        The report that was also written to the output directory.

    Raises:
        InputError: Something that the recipe names cannot be used; nothing is written.
        TargetUnavailable: The artifact was required and cannot be built here.
        RuntimeRefused: The target runtime rejects the model.
    """
    listener = listener or Silent()
    final = output_directory(recipe)
    check_directory(final, force=recipe.job.force, protect=_sources(recipe))
    parts = parted(resolve(recipe, needs_calibration(recipe.passes)))
    resolved = parts.resolved
    missing = resolved.target.available()
    if missing and recipe.job.require_engine:
        raise TargetUnavailable(f"target {resolved.target.name!r} is not available: {missing}")
    for remark in resolved.remarks:
        listener.remark(remark)
    with (
        tempfile.TemporaryDirectory(prefix="infopt-") as scratch,
        staged_directory(final, force=recipe.job.force, protect=_sources(resolved.recipe)) as out,
        blamed_on(recipe.job.model),
    ):
        work = Path(scratch)
        model = _optimized(parts, work, listener)
        resolved = replace(resolved, recipe=settled(resolved.recipe, model.steps))
        build = _build(resolved, model, out, missing, listener)
        evidence = gather(resolved, build, work, listener)
        report = assemble(resolved, build, evidence, command)
        profile = calibration_profile(resolved, build, report.data.calib, work, listener)
        (out / FILE_NAME).write_text(profile.text(), encoding="utf-8")
        deliver(report, resolved, build, evidence, out, final)
    return report


def output_directory(recipe: Recipe) -> Path:
    """Where a recipe's output goes."""
    return recipe.job.output or Path(f"{recipe.job.model.stem}.{recipe.job.target}.infopt")


def _sources(recipe: Recipe) -> list[Path]:
    """What a run reads, and so must not lie in the directory that it replaces."""
    paths = (recipe.job.model, recipe.calibration.data, recipe.evaluation.data)
    return [path for path in paths if path is not None]


def _optimized(parts: Parts, work: Path, listener: Listener) -> Model:
    listener.stage("Optimizing")
    resolved, job = parts.resolved, parts.resolved.recipe.job
    context = Context(
        work,
        resolved.target,
        resolved.calibration,
        seed=job.seed,
        force=job.force,
        progress=listener.progress,
        memory=resolved.recipe.calibration.memory,
        inputs=resolved.inputs if resolved.shapes else (),
    )
    with selection(parts, listener) as chosen_by:
        return run(resolved.model, resolved.recipe.passes, replace(context, selection=chosen_by))


def _build(resolved: Resolved, model: Model, out: Path, missing: str | None, listener: Listener) -> Build:
    graph = out / "model.onnx"
    save(model.graph, graph)
    if missing:
        command = resolved.target.build_command(graph, resolved.shapes)
        return Build(graph, model, None, {}, f"{missing}; build it on a machine that can: {command}")
    listener.stage(f"Compiling for {resolved.target.runtime}")
    settings = resolved.target.settings("int8" if model.quantized_nodes() else "float")
    default = next(iter(settings.values()))
    try:
        artifact = _compiled(resolved, graph, out, CompileOptions(default, resolved.shapes))
    except RuntimeRefused:
        shapes = _as_calibrated(resolved)
        if set(shapes) <= set(resolved.shapes):
            raise
        artifact = _compiled(resolved, graph, out, CompileOptions(default, shapes))
        model = replace(model, notes=(*model.notes, _narrow(resolved, shapes)))
    advice = resolved.target.advice(graph) if isinstance(resolved.target, Advising) else None
    if advice:
        model = replace(model, notes=(*model.notes, Note("warning", resolved.target.runtime, advice)))
    return Build(graph, model, artifact, {name: replace(artifact, settings=s) for name, s in settings.items()})


def _as_calibrated(resolved: Resolved) -> tuple[ShapeRange, ...]:
    """Ranges of shapes as calibration samples have them; the user's where nothing else is known."""
    calibration = resolved.calibration
    if calibration is None or resolved.synthetic:
        return resolved.shapes
    feeds = calibration.thinned(LOOKED_AT).feeds()
    return of_samples(resolved.inputs, resolved.shapes, ({k: v.shape for k, v in feed.items()} for feed in feeds))


def _narrow(resolved: Resolved, shapes: Sequence[ShapeRange]) -> Note:
    shown = " ".join(f"--shape {show_shape(one)}" for one in shapes)
    why = f"{resolved.target.runtime} refused the usual ranges of shapes; built for those of the calibration samples"
    return Note("warning", "shapes", f"{why}, as with {shown}")


def _compiled(resolved: Resolved, graph: Path, out: Path, options: CompileOptions) -> Artifact:
    try:
        return resolved.target.compile(graph, out, options)
    except RuntimeRefused as error:
        error.remedy = _about_sizes(resolved, graph)
        # Runtimes write artifacts themselves, and tell of a full disk in words of their own.
        if shutil.disk_usage(out).free >= FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _about_sizes(resolved: Resolved, graph: Path) -> str:
    """What to do about a refusal, where the graph has Ifs that may ask for sizes that nobody has fixed."""
    import onnx_ir as ir

    open_inputs = [spec for spec in resolved.inputs if not all(isinstance(size, int) for size in spec.shape)]
    if not open_inputs or not any(node.op_type == "If" for node in ir.load(graph).graph.all_nodes()):
        return ""
    usual = {each.name: each.opt for each in complete(resolved.inputs, resolved.shapes)}
    shown = " ".join(f"--shape {spec.name}={joined(usual[spec.name])}" for spec in open_inputs)
    return f"it has If nodes: where they depend on sizes, fix these, as in {shown}, and they are decided"
