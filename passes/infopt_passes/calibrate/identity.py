"""What statistics depend on, as one key."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt import __version__
from infopt.manifest import sha256_source
from infopt.model import Model, weights
from infopt.passes import CalibrationSet
from infopt_passes.calibrate.histogram import BINS
from infopt_passes.calibrate.observers import Observer
from infopt_passes.calibrate.store import key_of

FORMAT = 1
"""Number of the files' format and of what the observers keep; a change of either makes older files useless."""


def identity(model: Model, observer: Observer, samples: CalibrationSet, axes: dict[str, int]) -> str:
    """A key that is equal for equal statistics.

    Observers that keep the same state share it: a second percentile of the same data needs no second sweep. Where the
    weights lie in the model's files, their hash is that of the files, which the manifest needs as well.
    """
    return key_of(
        {
            "format": [FORMAT, BINS],
            "versions": [__version__, version("onnxruntime"), np.__version__],
            "graph": graph_digest(model.graph),
            "state": observer.state,
            "axes": axes,
            **of_samples(samples),
        }
    )


def of_samples(samples: CalibrationSet) -> dict[str, Any]:
    """What tells calibration samples from others, as parts of a key."""
    source = samples.samples
    return {
        "samples": [source.sha256(), source.describe().replace(str(source.path), "")],
        "indices": list(samples.indices),
        "inputs": [[spec.name, str(spec), spec.batch_axis] for spec in samples.inputs],
    }


def graph_digest(graph: ir.Model) -> str:
    """Hash of a graph and of its weights."""
    clone = graph.clone()
    digest = hashlib.sha256()
    for tensor in weights(clone):
        digest.update(_content(tensor))
    for holder in (clone.graph, *clone.graph.subgraphs()):
        holder.initializers.clear()
    digest.update(ir.to_proto(clone).SerializeToString(deterministic=True))
    return digest.hexdigest()


def _content(tensor: Any) -> bytes:
    head = f"{tensor.name} {tensor.dtype} {tensor.shape}"
    if isinstance(tensor, ir.ExternalTensor):
        file = sha256_source(Path(tensor.path))
        return f"{head} {file} {tensor.offset} {tensor.length}".encode()
    return f"{head} {hashlib.sha256(tensor.tobytes()).hexdigest()}".encode()
