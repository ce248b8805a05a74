"""The verb ``drift``: a profile against new data."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from infopt import recipe as recipes
from infopt.data import InputSpec, Samples, infer_batch_axes, open_samples, subset
from infopt.drifting.judge import judge
from infopt.drifting.options import DriftOptions
from infopt.drifting.profile import FILE_NAME, Profile, read_profile
from infopt.drifting.report import DriftReport
from infopt.drifting.sketch import LARGEST
from infopt.drifting.sweep import Probe, probe, sweep
from infopt.errors import DataError, InputError, ModelError, OptionError
from infopt.manifest import NAME, read_manifest, sha256_files
from infopt.model import Model, input_specs, load
from infopt.options import build
from infopt.output import check_directory, check_file, recover, staged_file
from infopt.preprocess import Preprocess, load_preprocess
from infopt.ui import Listener, Silent


@dataclass(frozen=True, slots=True)
class Subject:
    """What data are compared with.

    Attributes:
        profile: What calibration saw.
        model: The graph that the profile is of, with its ranges; ``None`` compares inputs alone.
        directory: The output directory, where the profile lies in one.
        preprocess: What is done to pictures.
    """

    profile: Profile
    model: Model | None
    directory: Path | None
    preprocess: Preprocess | None

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs as the graph has them, or as the profile tells."""
        known = {spec.name: spec.batch_axis for spec in self.profile.inputs}
        if self.model is None:
            return self.profile.inputs
        return infer_batch_axes(input_specs(self.model.graph), known)


def check_drift(path: Path, data: Path, options: DriftOptions, listener: Listener | None = None) -> DriftReport:
    """Say whether data have left what calibration saw.

    Args:
        path: A ``profile.json`` or the output directory that holds one.
        data: Samples of any kind that ``--eval`` takes, or what a service captured of its inputs (``.npz``).
        options: What to compare, and when a difference counts; writes what they ask for.
        listener: Hears of the progress.

    Raises:
        InputError: The profile, the model or the data cannot be used, or do not fit each other.
        RuntimeRefused: The model does not run on the data.
    """
    listener = listener or Silent()
    subject = open_subject(path, options)
    _check_output(subject, path, data, options)
    seen = capture(subject, data, options, listener)
    report = judge(subject.profile, seen, options, (path.as_posix(), data.as_posix()))
    if options.recalibrate:
        report = replace(report, recalibrated=_recalibrated(subject, data, options, listener))
    _write(report, options)
    return report


def open_subject(path: Path, options: DriftOptions) -> Subject:
    """Read a profile and find the model that it is of.

    Raises:
        InputError: The profile cannot be used, or the model is another one.
    """
    if path.is_dir():
        recover(path)
    profile = read_profile(path)
    folder = path if path.is_dir() else path.parent
    directory = folder if (folder / NAME).exists() and (folder / FILE_NAME).exists() else None
    if not path.is_dir() and path.name != FILE_NAME:
        directory = None
    table = dict(profile.preprocess or {})
    given = load_preprocess(options.preprocess) if options.preprocess else None
    prepared = given or (build(Preprocess, table, f"{path}: preprocess") if table else None)
    return Subject(profile, _model(profile, directory, options), directory, prepared)


def capture(subject: Subject, data: Path, options: DriftOptions, listener: Listener | None = None) -> Profile:
    """A profile of new data; those of several processes can be merged (:func:`infopt.drifting.profile.merge`).

    Args:
        subject: Brings the model and how its samples are read.
        data: The new data.
        options: How many samples to look at.
        listener: Hears of the progress.
    """
    listener = listener or Silent()
    samples = _samples(data, subject)
    # With no more, sketches hold every number, and equal runs give equal answers.
    chosen = subset(samples, min(options.samples or len(samples), LARGEST), options.seed)
    listener.stage("Looking at the data")
    with tempfile.TemporaryDirectory(prefix="infopt-") as work:
        opened = _probe(subject, Path(work))
        told = partial(listener.progress, "samples")
        recorder = sweep(samples, subject.inputs, opened, chosen, options.seed, told)
    notes = samples.notes if opened else (*samples.notes, "the model was not run: inputs alone were compared")
    return recorder.into(replace(subject.profile, notes=notes))


def _samples(data: Path, subject: Subject) -> Samples:
    samples = open_samples(data, subject.inputs, subject.preprocess)
    if not len(samples):
        raise DataError(f"{data} holds no samples", "give data with at least one sample")
    return samples


def _probe(subject: Subject, workdir: Path) -> Probe | None:
    told = any(key.of != "input" for key in subject.profile.sketches or {})
    return probe(subject.model, workdir) if subject.model and told else None


def _model(profile: Profile, directory: Path | None, options: DriftOptions) -> Model | None:
    """The model that a profile is of: the one that was given, else the one of its directory."""
    if options.inputs_only:
        return None
    path = options.model or (directory / read_manifest(directory).graph if directory else None)
    if path is None:
        return None
    model = load(path)
    digest = sha256_files(model.files)
    if digest == profile.graph:
        return replace(model, ranges=tuple((profile.ranges or {}).items()))
    if digest == profile.model:
        raise ModelError(
            f"{path} is the model that infopt was given; the profile is of the one that was made of it",
            "give the model.onnx of the output directory",
        )
    raise ModelError(
        f"the profile is of another model than {path}: its graph has sha256 {(profile.graph or 'none')[:12]}, "
        f"this one {digest[:12]}",
        "give the profile.json and the model.onnx of one run",
    )


def _check_output(subject: Subject, source: Path, data: Path, options: DriftOptions) -> None:
    """See early that everything can be written, over nothing that is read, and a new artifact be made."""
    protect = [source, data, *_read(subject, options)]
    for path in (options.prometheus, options.markdown):
        if path is not None:
            inside = data.is_dir() and path.exists() and path.resolve().is_relative_to(data.resolve())
            check_file(path, overwrite=True, protect=[*protect, path] if inside else protect)
    if not options.recalibrate:
        if options.output:
            raise OptionError("--output is for the artifact that --recalibrate makes", "add --recalibrate")
        return
    if options.output is None:
        raise OptionError("--recalibrate needs a place for the new artifact", "add -o PATH")
    if subject.directory is None:
        raise InputError(
            "--recalibrate needs the output directory that the profile is in, with its recipe.toml",
            "give that directory instead of the profile alone",
        )
    check_directory(options.output, force=options.force, protect=[subject.directory, data])


def _read(subject: Subject, options: DriftOptions) -> list[Path]:
    """Files of the model and of the output directory, and what options name."""
    found = list(subject.model.files) if subject.model else []
    found += [path for path in (options.model, options.preprocess) if isinstance(path, Path)]
    if subject.directory:
        manifest = read_manifest(subject.directory)
        names = (NAME, FILE_NAME, *manifest.outputs, *manifest.record.files)
        found += [subject.directory / name for name in names]
    return found


def _recalibrated(subject: Subject, data: Path, options: DriftOptions, listener: Listener) -> str:
    """Run the recipe again with the data as calibration samples."""
    from infopt.pipeline import execute

    assert subject.directory is not None
    recipe = recipes.load(subject.directory / "recipe.toml")
    job = replace(recipe.job, output=options.output, force=options.force)
    prepared = options.preprocess or recipe.inputs.preprocess
    execute(
        replace(
            recipe,
            job=job,
            calibration=replace(recipe.calibration, data=data, synthetic=False),
            inputs=replace(recipe.inputs, preprocess=prepared),
        ),
        "drift",
        listener,
    )
    return str(options.output)


def _write(report: DriftReport, options: DriftOptions) -> None:
    from infopt.views.drift import drift_markdown
    from infopt.views.prometheus import metrics

    for path, text in ((options.prometheus, metrics), (options.markdown, drift_markdown)):
        if path is not None:
            with staged_file(path, overwrite=True) as staged:
                (staged / path.name).write_text(text(report), encoding="utf-8")
