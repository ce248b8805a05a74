"""The verb ``predict``: the outputs of a model or artifact over samples, as a file that can be compared elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infopt.comparing.options import PredictOptions
from infopt.comparing.sides import interface_of, open_data, with_batch_axes
from infopt.data import Samples
from infopt.errors import DataError, OptionError, TargetUnavailable
from infopt.evaluate import collect
from infopt.opened import subject
from infopt.output import check_file, staged_file
from infopt.outputs import OutputStore
from infopt.predictions import SIDE, SUFFIX, content_sha256
from infopt.recipe import Evaluation, Inputs
from infopt.ui import Listener, Silent


@dataclass(frozen=True, slots=True)
class Predicted:
    """What was written.

    Attributes:
        path: The file.
        samples: Number of samples.
        outputs: Names of the outputs in it.
        left_out: Outputs that say nothing about single samples.
    """

    path: Path
    samples: int
    outputs: tuple[str, ...]
    left_out: tuple[str, ...]


def predict_file(artifact: Path, options: PredictOptions, listener: Listener | None = None) -> Predicted:
    """Run a model or artifact over samples and write ``predictions.npz``; see :mod:`infopt.predictions`.

    Args:
        artifact: An ONNX file, an ORT file, an OpenVINO IR or an output directory of infopt.
        options: Samples and output.
        listener: Hears of the progress.

    Raises:
        InputError: A path or the samples cannot be used.
        TargetUnavailable: The artifact cannot run on this machine.
        RuntimeRefused: The runtime fails.
    """
    listener = listener or Silent()
    if options.output.suffix != SUFFIX:
        raise OptionError(f"{options.output} is not the name of an {SUFFIX} file", f"give -o FILE{SUFFIX}")
    side = subject(artifact)
    protect = (*side.artifact.files, options.data)
    check_file(options.output, overwrite=options.force, protect=protect)
    if side.emulated:
        raise TargetUnavailable(
            f"{artifact} cannot run here: {side.emulated}", "run this on the machine that it is for"
        )
    specs, names = interface_of(side)
    taken = sorted(set(names).intersection(SIDE))
    if taken:
        raise DataError(f"{artifact} has an output {taken[0]!r}, a name that {SUFFIX} files need", "rename that output")
    inputs = Inputs(preprocess=options.preprocess, batch_axis=options.batch_axis)
    specs = with_batch_axes(specs, inputs)
    samples = open_data(Evaluation(data=options.data), inputs, specs)
    listener.stage("Running")
    with OutputStore() as store, side.open() as session:
        outputs = collect(session, samples, specs, store, lambda done, total: listener.progress("samples", done, total))
        kept = {name: array for name, array in zip(names, outputs, strict=True) if _of_samples(array, len(samples))}
        if not kept:
            raise DataError(f"no output of {artifact} has rows for its {len(samples)} samples", "name --batch-axis")
        _write(options, kept, samples, protect)
    return Predicted(options.output, len(samples), tuple(kept), tuple(name for name in names if name not in kept))


def _of_samples(array: np.ndarray, count: int) -> bool:
    return len(array) > 0 and len(array) % count == 0


def _write(
    options: PredictOptions, outputs: dict[str, np.ndarray], samples: Samples, protect: tuple[Path, ...]
) -> None:
    arrays = {name: array.astype(str) if array.dtype.hasobject else array for name, array in outputs.items()}
    ids = samples.ids if samples.ids is not None else tuple(str(number) for number in range(len(samples)))
    arrays |= {"ids": np.array(ids), "sha256": np.array(content_sha256(samples.digests()))}
    with staged_file(options.output, overwrite=options.force, protect=protect) as staged:
        np.savez(staged / options.output.name, **arrays)  # type: ignore[arg-type]
