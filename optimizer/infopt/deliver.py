"""What a run leaves: the report and its views, the resolved recipe, the profile, and the manifest, last."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from infopt import __version__
from infopt.cpu import cpu_name
from infopt.evidence import Build, Evidence
from infopt.flops import flops
from infopt.following import unfollowed
from infopt.manifest import Manifest, Record, sha256_file, sha256_files, write_manifest
from infopt.model import Model
from infopt.options import split_function
from infopt.recipe import Calibration, Recipe, to_table, to_toml, unplaced
from infopt.report import (
    UNJUDGED,
    CalibData,
    Data,
    EvalData,
    Memory,
    ModelFacts,
    Report,
    ResultFacts,
    Size,
    TargetFacts,
)
from infopt.resolve import Resolved
from infopt.sparsity import compressed_bytes
from infopt.target import ByIsa, Target
from infopt.verdict import judged
from infopt.views.html import html
from infopt.views.markdown import markdown

PACKAGES = (
    "numpy",
    "datasketches",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "tensorrt-rtx-cu13",
    "tensorrt",
)
REPRODUCIBLE = ("model.onnx", "model.onnx.data", "profile.json")
"""Files that an equal run writes again bit for bit; the paths in ``recipe.toml`` depend on where it lies."""


def assemble(resolved: Resolved, build: Build, evidence: Evidence, command: str) -> Report:
    """Put a report together and judge it against the recipe's budget."""
    target = resolved.target
    device = target.device() if build.artifact else "none"
    notes = [f"{note.node}: {note.why}" for note in build.model.notes if note.kind == "warning"]
    missing = [f"the {target.runtime} artifact was not built: {build.missing}"] if build.missing else []
    before, after = _operations(resolved, resolved.model), _operations(resolved, build.model)
    slow = unfollowed(before, after, evidence.latency, build.model.pruned, target.table.multiple)
    report = Report(
        infopt=__version__,
        command=command,
        verdict=UNJUDGED,
        model=_model(resolved, before),
        result=_result(build.model, after),
        pruned=build.model.pruned,
        target=target_facts(target, target.version() if build.artifact else "none", device),
        data=_data(resolved),
        accuracy=evidence.accuracy,
        accuracy_reason=evidence.accuracy_reason,
        fidelity=evidence.fidelity,
        latency=evidence.latency,
        size=_size(resolved, build),
        memory=Memory(None, "that takes a run of the artifact alone"),
        kernels=evidence.kernels,
        classes=evidence.changes.classes,
        samples=evidence.changes.samples,
        layers=evidence.layers,
        steps=build.model.steps,
        environment=environment(),
        warnings=(*missing, *slow, *resolved.warnings, *evidence.warnings, *notes),
    )
    return judged(report, resolved.recipe.budget)


def _size(resolved: Resolved, build: Build) -> Size:
    zeros = any(each.unit == "weights" for each in build.model.pruned)
    before = compressed_bytes(resolved.model.files) if zeros else None
    if build.artifact is None:
        return Size(_model_bytes(resolved), None, build.missing, None, before)
    files = build.artifact.files
    total = sum(path.stat().st_size for path in files)
    return Size(_model_bytes(resolved), total, build.missing, compressed_bytes(files), before)


def _result(model: Model, operations: int | None) -> ResultFacts:
    return ResultFacts(model.nodes, model.parameters, model.bytes, operations)


def deliver(report: Report, resolved: Resolved, build: Build, evidence: Evidence, out: Path, final: Path) -> None:
    """Write everything but the graph, the artifact and the profile, which are there already.

    Args:
        report: The report.
        resolved: What was asked for.
        build: What was built.
        evidence: Brings the artifact with its settings.
        out: The folder to write to.
        final: Where it will be; paths in the recipe are relative to it.
    """
    (out / "report.json").write_text(report.text(), encoding="utf-8")
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    recipe = to_toml(resolved.recipe, final)
    (out / "recipe.toml").write_text(recipe, encoding="utf-8")
    (out / "report.html").write_text(html(report, recipe), encoding="utf-8")
    artifact = evidence.artifact
    names = [name for name in REPRODUCIBLE if (out / name).exists()]
    manifest = Manifest(
        infopt=__version__,
        target=resolved.target.name,
        graph=build.graph.name,
        artifact=artifact.main.name if artifact else None,
        inputs=_inputs(report, resolved.recipe),
        outputs={name: sha256_file(out / name) for name in names},
        options=_options(resolved.recipe),
        versions=versions(),
        record=Record(
            timings={step.name: round(step.seconds, 3) for step in report.steps},
            environment=report.environment,
            settings=dict(artifact.settings) if artifact else {},
        ),
    )
    write_manifest(out, manifest)


def target_facts(target: Target, version: str, device: str) -> TargetFacts:
    """A target as the report tells of it."""
    isa = target.isa if isinstance(target, ByIsa) else None
    return TargetFacts(target.name, target.runtime, version, device, isa)


def versions() -> dict[str, str]:
    """Versions of the installed packages that shape the output."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """The machine and the versions, for the report."""
    machine = {"python": platform.python_version(), "system": platform.platform(), "cpu": cpu_name()}
    return machine | versions()


def _model(resolved: Resolved, operations: int | None) -> ModelFacts:
    model = resolved.model
    path = model.path.as_posix()
    return ModelFacts(path, sha256_files(model.files), model.nodes, model.parameters, model.bytes, operations)


def _operations(resolved: Resolved, model: Model) -> int | None:
    """Floating-point operations of one sample, if shapes tell."""
    batch = resolved.one_batch(1)
    total = flops(model.graph, {name: array.shape for name, array in batch.feed.items()})
    size = next((spec.fixed_batch for spec in resolved.inputs if spec.fixed_batch), None) or 1
    return None if total is None else total // size


def _model_bytes(resolved: Resolved) -> int:
    return sum(path.stat().st_size for path in resolved.model.files)


def _data(resolved: Resolved) -> Data:
    calib, evaluation = None, None
    chosen = resolved.calibration
    if chosen is not None:
        path = None if resolved.synthetic else chosen.samples.path.as_posix()
        digest = None if resolved.synthetic else chosen.samples.sha256()
        calib = CalibData(path, len(chosen), digest, resolved.synthetic)
    samples = resolved.evaluation
    if samples is not None:
        labelled = samples.labels is not None
        evaluation = EvalData(samples.path.as_posix(), len(samples), resolved.searched, samples.sha256(), labelled)
    return Data(calib, evaluation)


def _inputs(report: Report, recipe: Recipe) -> dict[str, str]:
    """Hash of everything that was read, by what it is for."""
    data = {"calib": report.data.calib, "eval": report.data.eval}
    files = {"preprocess": recipe.inputs.preprocess, "metric": recipe.evaluation.metric}
    paths = {name: Path(split_function(text)[0]) for name, text in files.items() if text}
    return {
        "model": report.model.sha256,
        **{name: used.sha256 for name, used in data.items() if used and used.sha256},
        **{name: sha256_file(path) for name, path in paths.items() if path.is_file()},
    }


def _options(recipe: Recipe) -> dict[str, object]:
    """The options that shape the output: not where anything lies, the names of what is hashed, or memory's limit."""
    bare = replace(
        recipe,
        calibration=replace(recipe.calibration, data=None, memory=Calibration().memory),
        evaluation=replace(recipe.evaluation, data=None),
    )
    table = to_table(unplaced(bare))
    return {key: value for key, value in table.items() if key not in ("output", "model")}
