"""The profile of a run: what its calibration samples were like, seen through what was built."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infopt.drifting.profile import Profile, Recorder
from infopt.drifting.sweep import INSIDE, MOST, Probe, probe, sweep
from infopt.errors import InfoptError
from infopt.manifest import sha256_files
from infopt.model import Model, load
from infopt.options import plain
from infopt.preprocess import load_preprocess

if TYPE_CHECKING:
    from infopt.evidence import Build
    from infopt.passes import CalibrationSet
    from infopt.recipe import Recipe
    from infopt.report import CalibData
    from infopt.resolve import Resolved
    from infopt.ui import Listener


WEIGHTS = 4
"""A model that is run whole takes so many times the bytes of its weights: they become float, and are copied."""


def calibration_profile(
    resolved: Resolved, build: Build, calib: CalibData | None, workdir: Path, listener: Listener
) -> Profile:
    """Look at the calibration samples once more: at most :data:`infopt.drifting.sweep.MOST`, chosen by the seed.

    Args:
        resolved: What was asked for.
        build: What was built; its graph lies on disk.
        calib: The samples as the report tells of them.
        workdir: Folder for files that only live during the run.
        listener: Hears of the progress.

    Returns:
        The profile; where there are no samples, or the model cannot be run on them, a note says so.
    """
    profile = Profile(
        model=sha256_files(resolved.model.files),
        graph=sha256_files(load(build.graph).files),
        calib={"samples": calib.samples, "sha256": calib.sha256} if calib else None,
        ranges=dict(build.model.ranges),
        preprocess=_preprocess(resolved),
    )
    calibration = resolved.calibration
    if calibration is None:
        return replace(profile, notes=("no pass looked at samples",))
    profile = replace(profile, inputs=calibration.inputs)
    if resolved.synthetic:
        return replace(profile, notes=("calibration inputs are made up",))
    listener.stage("Profiling the calibration samples")
    recorder, notes = _recorded(calibration, build.model, resolved.recipe, workdir, listener)
    return recorder.into(replace(profile, notes=notes))


def _recorded(
    calibration: CalibrationSet, model: Model, recipe: Recipe, workdir: Path, listener: Listener
) -> tuple[Recorder, tuple[str, ...]]:
    """What the samples were like; inputs alone, with the reason, where the model does not run on them."""

    def look(opened: Probe | None) -> Recorder:
        chosen = np.asarray(calibration.thinned(MOST).indices)
        return sweep(
            calibration.samples,
            calibration.inputs,
            opened,
            chosen,
            recipe.job.seed,
            partial(listener.progress, "profile"),
        )

    if WEIGHTS * model.bytes > recipe.calibration.memory:
        return look(None), ("the profile tells of inputs alone: the model is too large for --memory to run whole",)
    try:
        return look(probe(model, Path(tempfile.mkdtemp(dir=workdir)), INSIDE)), ()
    except InfoptError as error:
        return look(None), (f"the profile tells of inputs alone: {error}",)


def _preprocess(resolved: Resolved) -> Mapping[str, Any] | None:
    name = resolved.recipe.inputs.preprocess
    return plain(load_preprocess(name)) if name else None
